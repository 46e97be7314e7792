//! One round of the engine: what the kernel wrote is read, put in order and applied.

use std::time::Duration;

use hashbrown::HashMap;
use profiler_common::filter;

use super::options::EngineError;
use super::run::{Engine, Item};
use super::timers::{Ring, monotonic_ns, round};
use crate::process::mapping_of;
use crate::sampler::perf_record::{self, Event, PerfRecord};
use crate::sampler::record;

/// How long after an exec rounds are shorter, ns: whoever starts one program mostly starts another.
const NEW_PROGRAMS_NS: u64 = 1_000_000_000;
/// Between two looks at which CPUs are online, and two sweeps of ended processes, ns.
const SWEEP_NS: u64 = 1_000_000_000;

impl Engine {
    /// How long to wait between two calls of [`Engine::tick`]: 100 ms at 99 Hz, less at higher rates and while new programs
    /// appear.
    pub fn round(&self) -> Duration {
        let since_new_program = monotonic_ns().saturating_sub(self.new_program_ns);
        round(self.period_ns, since_new_program < NEW_PROGRAMS_NS)
    }

    /// One round: drain, apply in order, publish, finish. Call it each [`Engine::round`].
    pub fn tick(&mut self) -> Result<(), EngineError> {
        let began = monotonic_ns();
        self.drain();
        let items = self.order.release(began);
        self.handle(items)?;
        if began.saturating_sub(self.swept_ns) >= SWEEP_NS {
            self.swept_ns = began;
            self.follow_hotplug(began)?;
            self.forget(began);
        }
        Ok(())
    }

    pub(super) fn drain(&mut self) {
        while let Some(item) = self.ring.next() {
            match record::parse(&item) {
                Some(record) => self.order.push(Item::Record(record)),
                None => self.counters.malformed_records += 1,
            }
        }
        let (mut mapped, mut moved, mut has_new_program) = (Vec::new(), Vec::new(), false);
        let mut ended = HashMap::new();
        let (order, counters) = (&mut self.order, &mut self.counters);
        self.timers.drain(|ring, bytes| match perf_record::parse(bytes) {
            Ok(Some(PerfRecord { event: Event::Lost(count), .. })) if ring == Ring::Copies => {
                counters.copies_not_in_ring += count;
            }
            Ok(Some(record)) => {
                match &record.event {
                    Event::Mmap(mmap) => mapped.push((record.pid, record.time_ns, mapping_of(mmap))),
                    Event::Comm { exec: true, .. } => {
                        has_new_program = true;
                        moved.push(record.pid);
                    }
                    Event::Fork { parent_pid } if *parent_pid != record.pid => moved.push(record.pid),
                    Event::Exit if record.pid == record.tid => {
                        // One pid may have two: a leader's, and that of the thread that took its place by exec.
                        let last: &mut u64 = ended.entry(record.pid).or_default();
                        *last = record.time_ns.max(*last);
                    }
                    _ => {}
                }
                order.push(Item::Perf(record));
            }
            Ok(None) => {}
            Err(_) => counters.malformed_side_band += 1,
        });
        self.counters.late = self.order.late();
        let now = monotonic_ns();
        let only_pids = self.options.filter & filter::PIDS != 0;
        if has_new_program {
            self.new_program_ns = now;
        }
        for pid in moved {
            self.executables.moved(pid);
        }
        for (pid, time_ns, mapping) in mapped {
            if !only_pids || self.options.pids.contains(&pid) {
                // What comes after a leader's exit was mapped by a program that another thread put in its place.
                let has_ended = ended.get(&pid).is_some_and(|ended_ns| time_ns <= *ended_ns);
                self.executables.open_early(self.processes.proc_root(), (pid, has_ended), &mapping, now);
            }
        }
        self.executables.end_round(now);
    }
}
