//! Hits that a sleeping CPU left out: as many as the kernel's own accounting of idle time allows are idle, not lost.
//!
//! Counted for each CPU from a beginning: the start, a change of the rate, or the CPU's coming online. Of a CPU that goes, what
//! was counted is kept; since the kernel accounts only for those that are online, its sleep is known up to the last look.

use hashbrown::HashMap;

use profiler_common::Counter;

use super::options::EngineError;
use super::run::Engine;

impl Engine {
    /// Hits due on CPUs that slept and were never handed over: as many as the kernel's accounting of idle time allows.
    pub(super) fn idle_undelivered(&self) -> Result<u64, EngineError> {
        let now = self.idle_now()?;
        Ok(self.idle_before.sum(&now, self.period_ns))
    }

    /// From here on idle time is counted in periods of another length.
    pub(super) fn restart_idle(&mut self) -> Result<(), EngineError> {
        let now = self.idle_now()?;
        self.idle_before.restart(now, self.period_ns);
        Ok(())
    }

    /// Looks at how long each CPU has slept, for as long as the kernel still says so.
    pub(super) fn look_at_idle(&mut self) -> Result<(), EngineError> {
        let now = self.idle_now()?;
        self.idle_before.look(now);
        Ok(())
    }

    /// Keeps what is known of CPUs whose events are about to be closed.
    pub(super) fn idle_of_gone(&mut self, gone: &[u32]) -> Result<(), EngineError> {
        let now = self.idle_now()?;
        self.idle_before.leave(gone, &now, self.period_ns);
        Ok(())
    }

    /// Events were opened on these CPUs: their count begins now.
    pub(super) fn idle_of_come(&mut self, come: &[u32]) -> Result<(), EngineError> {
        let now = self.idle_now()?;
        self.idle_before.come(come, &now);
        Ok(())
    }

    fn idle_now(&self) -> Result<HashMap<u32, CpuIdle>, EngineError> {
        let (hits, idle) = (self.object.counter_by_cpu(Counter::Hits)?, self.object.counter_by_cpu(Counter::Idle)?);
        let accounted = self.idle_before.read(|| idle_by_cpu(&self.options.proc_root));
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
    /// The last look at each that told of no less sleep than the one before.
    seen: HashMap<u32, CpuIdle>,
    undelivered: u64,
}

impl IdleBefore {
    /// How long each CPU has slept, ns. Asked once more where that is less than was seen: the kernel reads idle and waiting time
    /// one after the other, and a sleep that turns from one into the other meanwhile is in neither (proc(5): iowait may decrease).
    fn read(&self, read: impl Fn() -> HashMap<u32, u64>) -> HashMap<u32, u64> {
        let first = read();
        let is_short = |(cpu, seen): (&u32, &CpuIdle)| first.get(cpu).is_none_or(|slept_ns| *slept_ns < seen.slept_ns);
        if !self.seen.iter().any(is_short) {
            return first;
        }
        let mut longest = read();
        for (cpu, slept_ns) in first {
            let longest_ns = longest.entry(cpu).or_default();
            *longest_ns = slept_ns.max(*longest_ns);
        }
        longest
    }

    fn look(&mut self, now: HashMap<u32, CpuIdle>) {
        for (cpu, now) in now {
            let seen = self.seen.entry(cpu).or_insert(now);
            if now.slept_ns >= seen.slept_ns {
                *seen = now;
            }
        }
    }

    fn restart(&mut self, mut now: HashMap<u32, CpuIdle>, period_ns: u64) {
        self.undelivered = self.sum(&now, period_ns);
        for (cpu, now) in &mut now {
            now.slept_ns = now.slept_ns.max(self.seen.get(cpu).map_or(0, |seen| seen.slept_ns));
        }
        self.by_cpu.clone_from(&now);
        self.seen = now;
    }

    fn sum(&self, now: &HashMap<u32, CpuIdle>, period_ns: u64) -> u64 {
        self.undelivered + now.iter().map(|(cpu, now)| self.undelivered_of(*cpu, now, period_ns)).sum::<u64>()
    }

    fn undelivered_of(&self, cpu: u32, now: &CpuIdle, period_ns: u64) -> u64 {
        let Some(before) = self.by_cpu.get(&cpu) else { return 0 };
        // Of one that is offline the kernel says nothing, and of one that was it may have begun from nothing.
        let Some(seen) = self.seen.get(&cpu).filter(|seen| seen.slept_ns > now.slept_ns) else {
            return now.undelivered_since(before, period_ns);
        };
        // Sleep since that look is unknown, so both tell of too few: hits that came in it take the place of those that did not.
        let since = CpuIdle { slept_ns: seen.slept_ns, ..*now };
        since.undelivered_since(before, period_ns).max(seen.undelivered_since(before, period_ns))
    }

    fn leave(&mut self, gone: &[u32], now: &HashMap<u32, CpuIdle>, period_ns: u64) {
        for cpu in gone {
            self.undelivered += now.get(cpu).map_or(0, |now| self.undelivered_of(*cpu, now, period_ns));
            self.by_cpu.remove(cpu);
            self.seen.remove(cpu);
        }
    }

    fn come(&mut self, come: &[u32], now: &HashMap<u32, CpuIdle>) {
        let begin: Vec<(u32, CpuIdle)> = come.iter().filter_map(|cpu| Some((*cpu, *now.get(cpu)?))).collect();
        self.by_cpu.extend(begin.iter().copied());
        self.seen.extend(begin);
    }
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
    use std::cell::Cell;

    use super::*;

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
    fn what_a_cpu_slept_through_stays_counted_when_it_goes_and_begins_anew_when_it_returns() {
        let period = 10_000_000;
        let asleep = |due: u64, hits: u64, ticks: u64| CpuIdle { due, hits, idle: 0, slept_ns: ticks * TICK_NS };
        let of = |one: CpuIdle, other: CpuIdle| HashMap::from([(0, one), (1, other)]);
        let mut before = IdleBefore::default();
        before.come(&[0, 1], &of(asleep(0, 0, 500), asleep(0, 0, 500)));
        let busy = asleep(0, 0, 500);
        let seen = of(busy, asleep(1000, 0, 1499));
        assert_eq!(before.sum(&seen, period), 1000);
        before.look(seen);

        // Offline: `/proc/stat` has no line of it, or after its return one that began from nothing. Of the ten hits that were due
        // after the look, chance may explain nine.
        for ticks in [0, 3] {
            assert_eq!(before.sum(&of(busy, asleep(1010, 0, ticks)), period), 1009, "{ticks}");
        }
        before.leave(&[1], &of(busy, asleep(1010, 0, 0)), period);
        assert_eq!(before.sum(&HashMap::from([(0, busy)]), period), 1009);

        // Its new event begins with no hit due, its programs' counts and the kernel's go on.
        before.come(&[1], &of(busy, asleep(0, 0, 3)));
        assert_eq!(before.sum(&of(busy, asleep(0, 0, 3)), period), 1009);
        assert_eq!(before.sum(&of(busy, asleep(100, 0, 103)), period), 1109);
    }

    #[test]
    fn sleep_that_was_seen_is_not_unseen() {
        let period = 10_000_000;
        let of = |due: u64, hits: u64, idle: u64, ticks: u64| {
            HashMap::from([(0, CpuIdle { due, hits, idle, slept_ns: ticks * TICK_NS })])
        };
        let mut before = IdleBefore::default();
        before.come(&[0], &of(0, 0, 0, 500));
        before.look(of(1000, 0, 0, 1499));
        // Ten seconds later it steps back, or can't be read.
        for ticks in [1400, 0] {
            // Busy meanwhile: what is missing is so by chance.
            assert_eq!(before.sum(&of(2000, 950, 0, ticks), period), 1050, "{ticks}");
            // Asleep meanwhile: the hits that came do not make the others before them come.
            assert_eq!(before.sum(&of(2000, 500, 500, ticks), period), 1000, "{ticks}");
            before.look(of(2000, 500, 500, ticks));
            assert_eq!(before.sum(&of(2000, 500, 500, ticks), period), 1000, "{ticks}");
        }
        before.restart(of(2000, 500, 500, 0), period);
        assert_eq!(before.sum(&of(2100, 500, 500, 1499), period), 1000, "what is missing since was not missed asleep");
    }

    #[test]
    fn sleep_that_is_in_neither_column_is_read_again() {
        let mut before = IdleBefore::default();
        before.look(HashMap::from([(0, CpuIdle { slept_ns: 100, ..CpuIdle::default() })]));
        for (readings, slept, asked) in
            [([(100, 5), (200, 6)], [100, 5], 1), ([(90, 7), (110, 6)], [110, 7], 2), ([(90, 5), (80, 6)], [90, 6], 2)]
        {
            let times = Cell::new(0);
            let told = before.read(|| {
                let (one, other) = readings[times.replace(times.get() + 1)];
                HashMap::from([(0, one), (1, other)])
            });
            assert_eq!((told[&0], told[&1], times.get()), (slept[0], slept[1], asked), "{readings:?}");
        }
    }
}
