//! The ledger of a recording: the events' own counts against what programs and agent counted.

use std::collections::HashMap;

use profiler_common::Counter;

use super::options::EngineError;
use super::run::Engine;
use crate::ledger::{Drop, Ledger};

impl Engine {
    pub(super) fn ledger(&self, due: u64, idle_undelivered: u64) -> Result<Ledger, EngineError> {
        let counts = self.object.counters()?;
        let of = |counter: Counter| counts[counter as usize];
        let mut ledger = Ledger {
            due,
            recorded: self.builder.samples() as u64,
            idle: of(Counter::Idle),
            own: of(Counter::Own),
            filtered: of(Counter::Filtered) + self.counters.filtered,
            ..Ledger::default()
        };
        for (reason, count) in Drop::ALL.into_iter().zip(&mut ledger.dropped) {
            *count = match reason {
                Drop::RingFull => of(Counter::RingFull),
                Drop::NoScratch => of(Counter::NoScratch),
                Drop::QueueFull => self.counters.stacks_refused,
                Drop::Malformed => self.counters.malformed_records,
            };
        }
        ledger.idle_undelivered = idle_undelivered;
        ledger.balance();
        Ok(ledger)
    }

    /// Hits due on CPUs that slept and were never handed over: as many as the kernel's accounting of idle time allows.
    pub(super) fn idle_undelivered(&self) -> Result<u64, EngineError> {
        let (hits, idle) = (self.object.counter_by_cpu(Counter::Hits)?, self.object.counter_by_cpu(Counter::Idle)?);
        let accounted = idle_by_cpu(&self.options.proc_root);
        let at = |counts: &[u64], cpu: u32| counts.get(cpu as usize).copied().unwrap_or(0);
        let mut sum = 0;
        for (cpu, due) in self.timers.due_by_cpu()? {
            let undelivered = due.saturating_sub(at(&hits, cpu));
            let slept_ns = accounted
                .get(&cpu)
                .zip(self.started_idle.get(&cpu))
                .map_or(0, |(now, before)| now.saturating_sub(*before));
            sum += undelivered.min((slept_ns / self.period_ns).saturating_sub(at(&idle, cpu)));
        }
        Ok(sum)
    }
}

/// Idle time of each CPU, ns, as `/proc/stat` accounts it (idle + iowait, proc(5)).
pub(super) fn idle_by_cpu(proc_root: &std::path::Path) -> HashMap<u32, u64> {
    const TICK_NS: u64 = 10_000_000;
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
