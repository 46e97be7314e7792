//! CPUs that come and go: their events are closed and opened, and the ledger keeps what was counted. What processes did there while
//! there were no events, or dead ones, no record tells: `/proc` is looked at.
//!
//! The kernel takes the events off a CPU that goes offline, and does not put them back when it returns (kernel/events/core.c,
//! `__perf_event_exit_context`). After suspend, or SMT switched off and on between two looks, the list of CPUs is as it was and
//! the events are dead: so their counts are looked at as well. A software clock's goes on while its CPU is idle.

use hashbrown::HashMap;

use super::options::EngineError;
use super::run::Engine;
use crate::sampler::cpus;

/// Between two looks at the events' counts, ns. Each interrupts every CPU.
const LOOK_NS: u64 = 1_000_000_000;
/// Between two looks at how long CPUs slept, ns: `/proc/stat` of a large machine takes milliseconds.
const LOOK_AT_IDLE_NS: u64 = 10_000_000_000;

/// When counts were looked at, and what they were.
#[derive(Debug, Default)]
pub(super) struct Looks {
    counted_ns: u64,
    counts: HashMap<u32, u64>,
    idle_ns: u64,
}

impl Looks {
    fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.counted_ns) >= LOOK_NS
    }

    /// Whose count stands where it stood at the last look.
    fn standing_still(&mut self, counts: Vec<(u32, u64)>, now_ns: u64) -> Vec<u32> {
        let before = std::mem::replace(&mut self.counts, counts.into_iter().collect());
        self.counted_ns = now_ns;
        let same = |(cpu, count): (&u32, &u64)| (before.get(cpu) == Some(count)).then_some(*cpu);
        self.counts.iter().filter_map(same).collect()
    }
}

/// The CPUs whose events are of no use any more: offline, or `still` though online.
fn gone(sampled: impl Iterator<Item = u32>, online: &[u32], still: &[u32]) -> Vec<u32> {
    sampled.filter(|cpu| !online.contains(cpu) || still.contains(cpu)).collect()
}

impl Engine {
    /// Follows CPUs that came online or went offline, or did both, since the last call.
    pub(super) fn follow_hotplug(&mut self, now_ns: u64) -> Result<(), EngineError> {
        let online = cpus::online()?;
        let still = match self.looks.is_due(now_ns).then(|| self.timers.counts()).transpose()?.flatten() {
            Some(counts) => self.looks.standing_still(counts, now_ns),
            None => Vec::new(),
        };
        let gone = gone(self.timers.numbers(), &online, &still);
        if !gone.is_empty() {
            // What the CPU wrote before it went.
            self.drain();
            self.idle_of_gone(&gone)?;
            self.timers.close(&gone);
            self.looks.counts.retain(|cpu, _| !gone.contains(cpu));
        }
        let come = self.timers.open_missing(&online)?;
        if !come.is_empty() {
            self.idle_of_come(&come)?;
        }
        if !gone.is_empty() || !come.is_empty() {
            self.counters.side_band_gaps += 1;
            self.processes.lost_records();
        }
        if now_ns.saturating_sub(self.looks.idle_ns) >= LOOK_AT_IDLE_NS {
            self.looks.idle_ns = now_ns;
            self.look_at_idle()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_counts_nothing_for_a_second_is_found_once_it_is_looked_at_again() {
        let mut looks = Looks::default();
        assert!(looks.is_due(LOOK_NS));
        assert!(looks.standing_still(vec![(0, 10), (1, 10)], LOOK_NS).is_empty(), "nothing to compare with");
        assert!(!looks.is_due(2 * LOOK_NS - 1) && looks.is_due(2 * LOOK_NS));
        assert_eq!(looks.standing_still(vec![(0, 11), (1, 10)], 2 * LOOK_NS), [1]);
        // Opened anew it counts from nothing; another one has come.
        looks.counts.remove(&1);
        assert!(looks.standing_still(vec![(0, 12), (1, 0), (2, 0)], 3 * LOOK_NS).is_empty());
        assert!(looks.standing_still(vec![(0, 13), (1, 1), (2, 1)], 4 * LOOK_NS).is_empty());
    }

    #[test]
    fn events_are_closed_where_a_cpu_is_offline_or_was_meanwhile() {
        for (sampled, online, still, closed) in [
            (vec![0, 1], vec![0, 1], vec![], vec![]),
            (vec![0, 1], vec![0], vec![], vec![1]),
            (vec![0, 1], vec![0], vec![1], vec![1]),
            (vec![0, 1, 2], vec![0, 1, 2, 3], vec![1, 2], vec![1, 2]),
            (vec![], vec![0], vec![], vec![]),
        ] {
            assert_eq!(gone(sampled.iter().copied(), &online, &still), closed, "{sampled:?} {online:?} {still:?}");
        }
    }
}
