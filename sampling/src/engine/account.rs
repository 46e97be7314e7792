//! The ledger: the events' own counts against what programs and agent counted, as the difference of two moments.

use hashbrown::HashMap;

use profiler_common::{COUNTERS, Counter};

use super::options::EngineError;
use super::run::Engine;
use profiles::ledger::{Drop, Ledger};

/// All counts since the start, read at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    totals: Ledger,
    /// Records that the programs wrote and that are not samples yet.
    in_flight: u64,
}

impl Moment {
    /// What happened since `before`. A hit whose record is still in flight is due in the interval that gets its sample.
    pub(super) fn since(&self, before: &Moment) -> Ledger {
        let (now, then) = (&self.totals, &before.totals);
        let less = |now: u64, then: u64| now.saturating_sub(then);
        let mut ledger = Ledger {
            due: less(now.due + before.in_flight, then.due + self.in_flight),
            recorded: less(now.recorded, then.recorded),
            idle: less(now.idle, then.idle),
            idle_undelivered: less(now.idle_undelivered, then.idle_undelivered),
            own: less(now.own, then.own),
            filtered: less(now.filtered, then.filtered),
            ..Ledger::default()
        };
        for (at, count) in ledger.dropped.iter_mut().enumerate() {
            *count = less(now.dropped[at], then.dropped[at]);
        }
        ledger.balance();
        ledger
    }

    /// Nothing more will come: what is still in flight is lost, and shows as undelivered.
    pub(super) fn last(self) -> Moment {
        Moment { in_flight: 0, ..self }
    }
}

impl Engine {
    /// The programs' counters so far, over all CPUs, in the order of [`Counter`].
    pub fn program_counters(&self) -> Result<[u64; COUNTERS], EngineError> {
        Ok(self.object.counters()?)
    }

    pub(super) fn moment(&self) -> Result<Moment, EngineError> {
        let due = self.timers.due()?;
        self.moment_of(due, self.idle_undelivered()?)
    }

    pub(super) fn moment_of(&self, due: u64, idle_undelivered: u64) -> Result<Moment, EngineError> {
        let counts = self.object.counters()?;
        let of = |counter: Counter| counts[counter as usize];
        let counters = &self.counters;
        let mut totals = Ledger {
            due,
            recorded: counters.samples,
            idle: of(Counter::Idle),
            own: of(Counter::Own),
            filtered: of(Counter::Filtered) + counters.filtered,
            idle_undelivered,
            ..Ledger::default()
        };
        for (reason, count) in Drop::ALL.into_iter().zip(&mut totals.dropped) {
            *count = match reason {
                Drop::RingFull => of(Counter::RingFull),
                Drop::NoScratch => of(Counter::NoScratch),
                Drop::QueueFull => counters.batch_full,
                Drop::Malformed => counters.malformed_records,
            };
        }
        let handled = counters.samples + counters.filtered + counters.batch_full + counters.malformed_records;
        Ok(Moment { totals, in_flight: of(Counter::Recorded).saturating_sub(handled) })
    }

    /// Hits due on CPUs that slept and were never handed over: as many as the kernel's accounting of idle time allows.
    pub(super) fn idle_undelivered(&self) -> Result<u64, EngineError> {
        let mut sum = self.idle_before.undelivered;
        for (cpu, now) in self.idle_now()? {
            // A CPU that came online meanwhile has no beginning to compare with.
            let Some(before) = self.idle_before.by_cpu.get(&cpu) else { continue };
            sum += now.undelivered_since(before, self.period_ns);
        }
        Ok(sum)
    }

    /// From here on idle time is counted in periods of another length.
    pub(super) fn restart_idle(&mut self) -> Result<(), EngineError> {
        let undelivered = self.idle_undelivered()?;
        self.idle_before = IdleBefore { by_cpu: self.idle_now()?, undelivered };
        Ok(())
    }

    fn idle_now(&self) -> Result<HashMap<u32, CpuIdle>, EngineError> {
        let (hits, idle) = (self.object.counter_by_cpu(Counter::Hits)?, self.object.counter_by_cpu(Counter::Idle)?);
        let accounted = idle_by_cpu(&self.options.proc_root);
        let at = |counts: &[u64], cpu: u32| counts.get(cpu as usize).copied().unwrap_or(0);
        let of = |(cpu, due): (u32, u64)| {
            let slept_ns = accounted.get(&cpu).copied().unwrap_or(0);
            (cpu, CpuIdle { due, hits: at(&hits, cpu), idle: at(&idle, cpu), slept_ns })
        };
        Ok(self.timers.due_by_cpu()?.into_iter().map(of).collect())
    }
}

/// Where the count of idle time began, or began anew with another period.
#[derive(Debug, Default)]
pub(super) struct IdleBefore {
    by_cpu: HashMap<u32, CpuIdle>,
    undelivered: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct CpuIdle {
    due: u64,
    hits: u64,
    idle: u64,
    slept_ns: u64,
}

impl CpuIdle {
    /// Hits due since `before` that were never handed over, as many as may have been due in the CPU's sleep.
    ///
    /// Sleep is known to a tick, since `/proc/stat` counts whole ones: between two readings there may have been up to one more.
    /// How many hits were due in it is a matter of chance, since a CPU sleeps in many short stretches: n hits, a share p of the
    /// time asleep, give n·p and a standard deviation of √(n·p·(1−p)). What three of these explain is no loss. Without both, a
    /// simulated CPU that loses nothing, with bursts of 0.5 ms, showed up to 7 of 1,188 hits as lost when it was busy for 1 % of
    /// the time, and up to 35 when for 20 %.
    fn undelivered_since(&self, before: &CpuIdle, period_ns: u64) -> u64 {
        let due = self.due.saturating_sub(before.due);
        let undelivered = due.saturating_sub(self.hits.saturating_sub(before.hits));
        let slept_ns = match self.slept_ns.saturating_sub(before.slept_ns) {
            0 => return 0,
            counted => counted + TICK_NS,
        };
        let asleep = slept_ns.div_ceil(period_ns.max(1));
        let variance = u128::from(asleep) * u128::from(due.saturating_sub(asleep)) / u128::from(due.max(1));
        let error = (9 * variance).isqrt() as u64;
        undelivered.min((asleep + error).saturating_sub(self.idle.saturating_sub(before.idle)))
    }
}

/// What `/proc/stat` counts in (`USER_HZ` is 100 wherever Linux runs, time(7)).
const TICK_NS: u64 = 10_000_000;

/// Idle time of each CPU, ns, as `/proc/stat` accounts it (idle + iowait, proc(5)).
fn idle_by_cpu(proc_root: &std::path::Path) -> HashMap<u32, u64> {
    let stat = std::fs::read_to_string(proc_root.join("stat")).unwrap_or_default();
    let line = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
        let cpu: u32 = fields.next()?.parse().ok()?;
        let idle: u64 = fields.nth(3)?.parse().ok()?;
        let waiting: u64 = fields.next()?.parse().ok()?;
        Some((cpu, (idle + waiting) * TICK_NS))
    };
    stat.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(due: u64, recorded: u64, idle: u64, in_flight: u64) -> Moment {
        Moment { totals: Ledger { due, recorded, idle, ..Ledger::default() }, in_flight }
    }

    #[test]
    fn a_hit_is_due_in_the_interval_that_gets_its_sample() {
        let start = Moment::default();
        let first = moment(100, 80, 15, 5);
        let second = moment(200, 170, 30, 0);
        let whole = |ledger: Ledger| (ledger.due, ledger.recorded, ledger.idle, ledger.undelivered, ledger.surplus);
        assert_eq!(whole(first.since(&start)), (95, 80, 15, 0, 0));
        assert_eq!(whole(second.since(&first)), (105, 90, 15, 0, 0));
        assert_eq!(whole(second.since(&start)), (200, 170, 30, 0, 0));
    }

    #[test]
    fn hits_that_a_sleeping_cpu_left_out_are_idle_as_far_as_it_slept() {
        let period = 10_000_000;
        let before = CpuIdle { due: 100, hits: 90, idle: 80, slept_ns: 5_000_000_000 };
        // (due, hits, idle hits, ticks slept), and how many of the missing hits were due in sleep.
        for ((due, hits, idle, ticks), expected) in [
            ((1000, 1000, 900, 900), 0),
            // Asleep all the time, and the last tick not yet counted; the timer was left alone throughout.
            ((1000, 0, 0, 999), 1000),
            // Half asleep, 501 hits and three times 15.8: what is missing beyond that was lost while the CPU worked.
            ((1000, 0, 0, 500), 548),
            ((1000, 300, 200, 500), 348),
            // Busy for 1 %: the ten hits due in that time may all be asleep as well.
            ((1000, 100, 95, 990), 900),
            // Never asleep: everything that is missing was lost.
            ((1000, 990, 0, 0), 0),
        ] {
            let now = CpuIdle {
                due: before.due + due,
                hits: before.hits + hits,
                idle: before.idle + idle,
                slept_ns: before.slept_ns + ticks * TICK_NS,
            };
            assert_eq!(now.undelivered_since(&before, period), expected, "{due} {hits} {idle} {ticks}");
        }
    }

    #[test]
    fn what_is_in_flight_at_the_very_end_is_lost() {
        let end = moment(100, 80, 15, 5).last();
        assert_eq!(end.since(&Moment::default()).undelivered, 5);
    }
}
