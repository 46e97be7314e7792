//! The end of a recording: what is left is read, waited for a bounded time, and handed over.

use std::time::{Duration, Instant};

use super::counters::EngineCounters;
use super::cut::Interval;
use super::options::EngineError;
use super::run::Engine;
use super::settle::{Capture, Unfinished};
use crate::process::{ExecutableCounters, ProcessCounters};
use crate::tables::TableCounters;

/// How long the end of a recording waits for rows that are being built.
const FINISH_PATIENCE: Duration = Duration::from_secs(5);

/// A finished recording.
pub struct Recording {
    /// The last interval: everything, if nothing was cut before.
    pub interval: Interval,
    /// What files could not be had.
    pub executable_counters: ExecutableCounters,
    /// What the engine saw.
    pub counters: EngineCounters,
    /// What the tables refused.
    pub table_counters: TableCounters,
    /// What the process table left out.
    pub process_counters: ProcessCounters,
    /// Copies that were kept, as many as [`keep_captures`](super::options::Options::keep_captures) asked for.
    pub captures: Vec<Capture>,
    /// CPUs that were sampled.
    pub cpus: u32,
    /// Bytes of BPF maps and perf rings.
    pub kernel_bytes: u64,
}

impl Engine {
    /// Stops the timers, reads what is left, waits a bounded time for rows, and hands everything over.
    pub fn finish(mut self) -> Result<Recording, EngineError> {
        self.timers.stop()?;
        // At once: what the kernel accounts as idle from here on is not ours to explain.
        let due = self.timers.due()?;
        let idle_undelivered = self.idle_undelivered()?;
        self.timers.stop_side_band()?;
        self.drain();
        let items = self.order.release_all();
        self.handle(items)?;
        self.counters.copies_unclaimed += self.early_copies.len() as u64;
        let left: Vec<Unfinished> = self.awaiting.drain().map(|(_, unfinished)| unfinished).collect();
        for unfinished in left {
            self.counters.copies_lost += 1;
            self.wait_for_tables(unfinished);
        }
        let patience = Instant::now() + FINISH_PATIENCE;
        self.finish_waiting(false);
        while !self.waiting.is_empty() && self.executables.working() > 0 && Instant::now() < patience {
            self.executables.wait(Duration::from_millis(100));
            self.take_finished()?;
            self.finish_waiting(false);
        }
        self.finish_waiting(true);

        let end = self.moment_of(due, idle_undelivered)?.last();
        let interval = self.cut_at(end);
        let kernel_bytes = self.kernel_bytes();
        Ok(Recording {
            interval,
            executable_counters: self.executables.counters,
            counters: self.counters,
            captures: self.captures,
            table_counters: self.tables.counters,
            process_counters: self.processes.counters,
            cpus: self.timers.len() as u32,
            kernel_bytes,
        })
    }
}
