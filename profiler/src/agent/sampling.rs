//! The sampling thread: the engine's rounds, the cuts, the governor.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use profiler_common::COUNTERS;

use super::governor::Governor;
use super::left_out::Verdict;
use super::memory::{MemoryGovernor, Relief};
use super::status::{Governed, Numbers, Status};
use super::{FIRST_INTERVAL, INTERVAL, Settings, usage};
use crate::engine::{Engine, EngineError, Interval, Precedence};
use crate::ledger::Ledger;

/// How often numbers are put together and the governor looks.
const LOOK: Duration = Duration::from_secs(2);

/// Samples until `stop` says so, and hands intervals on.
pub(super) fn sample(
    mut engine: Engine,
    settings: &Settings,
    status: &Status,
    intervals: SyncSender<Interval>,
    stop: &dyn Fn() -> bool,
) -> Result<(), EngineError> {
    engine.start()?;
    let _precedence = Precedence::take();
    let mut watch = Watch::new(settings);
    watch.look(&mut engine, status)?;
    let mut cuts = Cuts::begin(Instant::now());
    let stages = &status.stages;
    let result = loop {
        let (asked, asleep) = (engine.round(), Instant::now());
        std::thread::sleep(asked);
        stages.round_late.took(asleep.elapsed().saturating_sub(asked));
        status.sampler_beats();
        if let Err(error) = stages.round.of(|| engine.tick()) {
            break Err(error);
        }
        if cuts.is_due(Instant::now()) {
            match stages.cut.of(|| engine.cut()) {
                Ok(interval) => hand_on(interval, &intervals, &mut watch),
                Err(error) => break Err(error),
            }
        }
        if let Err(error) = watch.look(&mut engine, status) {
            break Err(error);
        }
        if stop() {
            break Ok(());
        }
    };
    if let Err(error) = &result {
        tracing::error!("sampling ends: {error}");
    }
    let recording = engine.finish()?;
    // The end may wait for names: nothing is sampled any more.
    let _ = intervals.send(recording.interval);
    result
}

/// When intervals end.
struct Cuts {
    next: Instant,
}

impl Cuts {
    fn begin(now: Instant) -> Cuts {
        Cuts { next: now + FIRST_INTERVAL }
    }

    /// Whether an interval ends now; the next one then begins.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            // From now, not from the last cut: a machine that stood still does not get empty intervals in a row.
            self.next = now + INTERVAL;
        }
        due
    }
}

fn hand_on(interval: Interval, intervals: &SyncSender<Interval>, watch: &mut Watch) {
    watch.intervals += 1;
    watch.ledger.add(&interval.batch.ledger);
    watch.last_processes = interval.batch.processes.len() as u64;
    if let Err(TrySendError::Full(interval) | TrySendError::Disconnected(interval)) = intervals.try_send(interval) {
        let samples = interval.batch.samples.len() as u64;
        watch.dropped.0 += 1;
        watch.dropped.1 += samples;
        tracing::warn!(samples, "an interval is dropped: naming and delivery are behind");
    }
}

struct Watch {
    governor: Governor,
    memory: MemoryGovernor,
    memory_limit: u64,
    governed: Governed,
    cgroups_left_out: (u64, u64),
    wanted_hz: u32,
    next: Instant,
    looked_at: Instant,
    used_ns: u64,
    ledger: Ledger,
    programs: [u64; COUNTERS],
    intervals: u64,
    dropped: (u64, u64),
    /// In the last interval.
    last_processes: u64,
}

impl Watch {
    fn new(settings: &Settings) -> Watch {
        let now = Instant::now();
        let hz = settings.engine.frequency_hz;
        Watch {
            governor: Governor::new(hz, settings.cpu_limit),
            memory: MemoryGovernor::new(hz, settings.memory_limit),
            memory_limit: settings.memory_limit,
            governed: Governed::default(),
            cgroups_left_out: (0, 0),
            wanted_hz: hz,
            next: now,
            looked_at: now,
            used_ns: usage::cpu_ns(),
            ledger: Ledger::default(),
            programs: [0; COUNTERS],
            intervals: 0,
            dropped: (0, 0),
            last_processes: 0,
        }
    }

    fn look(&mut self, engine: &mut Engine, status: &Status) -> Result<(), EngineError> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        self.next = now + LOOK;
        self.leave_out(engine, status);
        let agent_cpu_ns = usage::cpu_ns().saturating_sub(status.answers.cpu_ns());
        let program_cpu_ns = engine.counters().program_ns;
        let used_ns = agent_cpu_ns + program_cpu_ns;
        let (elapsed, used) = (now - self.looked_at, Duration::from_nanos(used_ns.saturating_sub(self.used_ns)));
        // The first look, right at the start, has seen nothing yet.
        let observed = if elapsed >= LOOK { self.governor.observe(elapsed, used) } else { None };
        if let Some(hz) = observed {
            engine.set_frequency(hz)?;
            self.governed.rate_for_cpu += 1;
            let share = used.as_secs_f64() / elapsed.as_secs_f64() * 100.0;
            tracing::info!(
                hz,
                wanted = self.wanted_hz,
                "the rate changes to keep the processor limit ({share:.2} % of one CPU used)"
            );
        }
        if elapsed >= LOOK {
            self.looked_at = now;
            self.used_ns = used_ns;
        }
        let (resident_bytes, kernel_bytes) = (usage::resident_bytes(), engine.kernel_bytes());
        if elapsed >= LOOK {
            self.relieve(engine, status, resident_bytes + kernel_bytes)?;
        }
        // A map that can't be read is no reason to end here: the next cut, which needs it, will say so.
        self.programs = engine.program_counters().unwrap_or(self.programs);
        *status.numbers() = Numbers {
            ledger: self.ledger,
            engine: engine.counters().without_costs(),
            programs: self.programs,
            tables: *engine.table_counters(),
            table_sizes: engine.table_sizes(),
            processes: *engine.process_counters(),
            executables: *engine.executable_counters(),
            cpus: (engine.cpus() as u32, engine.online_cpus()),
            frequency_hz: (self.governor.frequency_hz(), self.wanted_hz),
            agent_cpu_ns,
            program_cpu_ns,
            resident_bytes,
            kernel_bytes,
            memory_limit: self.memory_limit,
            governed: self.governed,
            cgroups_left_out: self.cgroups_left_out,
            intervals: self.intervals,
            intervals_dropped: self.dropped,
            sampled_processes: self.last_processes.max(engine.sampled_processes() as u64),
        };
        Ok(())
    }

    /// Brings the kernel's set of cgroups up to date. What finds no room there is filtered by the agent, as before.
    fn leave_out(&mut self, engine: &mut Engine, status: &Status) {
        let (listed, refused) = &mut self.cgroups_left_out;
        for Verdict { cgroup_id, leave_out } in status.take_verdicts() {
            let set = engine.cgroup_filter();
            let changed = if leave_out { set.deny(cgroup_id) } else { set.forget(cgroup_id) };
            match changed {
                Ok(()) if leave_out => *listed += 1,
                Ok(()) => *listed = listed.saturating_sub(1),
                Err(error) => {
                    *refused += 1;
                    tracing::debug!(cgroup_id, "the kernel's set of cgroups stays as it is: {error}");
                }
            }
        }
    }

    /// Does what keeps memory within its limit, and says so.
    fn relieve(&mut self, engine: &mut Engine, status: &Status, used: u64) -> Result<(), EngineError> {
        let mib = |bytes: u64| bytes >> 20;
        let (used_mib, limit_mib) = (mib(used), mib(self.memory_limit));
        match self.memory.observe(used) {
            Relief::None => {}
            Relief::Rate(hz) => {
                self.governed.rate_for_memory += 1;
                tracing::info!(used_mib, limit_mib, "at most {hz} Hz, to keep the memory limit");
                if let Some(hz) = self.governor.cap(hz) {
                    engine.set_frequency(hz)?;
                }
            }
            Relief::Evict => {
                self.governed.evicted += 1;
                tracing::warn!(used_mib, limit_mib, "symbols are forgotten, to keep the memory limit");
                status.ask_for_eviction();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_interval_is_short_and_a_machine_that_stood_still_gets_no_empty_ones() {
        let start = Instant::now();
        let mut cuts = Cuts::begin(start);
        let after = |seconds| start + Duration::from_secs(seconds);
        let looks = [0, 2, 3, 4, 12, 13, 22, 23, 90, 91, 99, 100];
        let ends: Vec<u64> = looks.into_iter().filter(|seconds| cuts.is_due(after(*seconds))).collect();
        assert_eq!(ends, [3, 13, 23, 90, 100]);
    }
}
