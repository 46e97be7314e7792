//! Before the first sample: processes that are busy get their tables.
//!
//! Rows of a large program take up to a second, and until they are there each of its samples needs a copy of its stack, of which
//! there are a bounded number, of bounded depth. Beside a compiler that was half of the samples of a recording of one second.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use profiler_common::filter;

use super::options::EngineError;
use super::run::Engine;
use super::timers::monotonic_ns;
use crate::process::{Busy, Process, RowState};

/// Between the two looks that tell who is busy: ten ticks of the kernel's account.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at what workers have done.
const PAUSE: Duration = Duration::from_millis(5);
/// Most processes that get their tables before they were sampled.
const MAX_BUSY: usize = 256;

impl Engine {
    /// Publishes the tables of the processes that are busy, or were asked for, and waits until their rows are there, at most for
    /// `patience` or until `stop` says so. Call it before [`Engine::start`]; without it their first samples are finished from
    /// copies, as far as these reach.
    pub fn warm_up(&mut self, patience: Duration, stop: impl Fn() -> bool) -> Result<(), EngineError> {
        // Kernel frames need no rows.
        if self.options.filter & filter::KERNEL_ONLY != 0 {
            return Ok(());
        }
        let started = Instant::now();
        let only_pids = self.options.filter & filter::PIDS != 0;
        let pids = match only_pids {
            true => self.options.pids.clone(),
            false => {
                let busy = Busy::look(&self.options.proc_root);
                std::thread::sleep(LOOK);
                busy.since()
            }
        };
        let cgroups: HashSet<u64> = self.options.cgroups.iter().copied().collect();
        let wanted = pids.into_iter().filter(|pid| self.is_worth_a_table(*pid) && self.is_let_through(*pid, &cgroups));
        let wanted = wanted.take(MAX_BUSY);
        let wanted: Vec<u32> = wanted.collect();
        for pid in &wanted {
            if let Some(process) = self.processes.ensure(*pid) {
                process.sampled = true;
                self.dirty.insert(*pid);
            }
        }
        while started.elapsed() < patience && !stop() {
            let began = monotonic_ns();
            self.drain();
            let items = self.order.release(began);
            self.handle(items)?;
            if !wanted.iter().any(|pid| self.is_being_prepared(*pid)) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Whether samples of this process could be wanted, as far as it can be told before there are any.
    fn is_worth_a_table(&self, pid: u32) -> bool {
        let is_self = pid == std::process::id() && !self.options.include_self;
        !is_self && self.options.target.wants(&self.processes, pid, b"")
    }

    /// Whether the kernel lets samples of its cgroup through. Rows of others would only be in the way.
    fn is_let_through(&self, pid: u32, cgroups: &HashSet<u64>) -> bool {
        let id = || self.cgroup_hierarchy.as_ref()?.id_of(&self.options.proc_root, pid);
        if self.options.filter & filter::CGROUPS != 0 {
            return id().is_some_and(|id| cgroups.contains(&id));
        }
        self.options.filter & filter::CGROUPS_DENIED == 0 || id().is_none_or(|id| !cgroups.contains(&id))
    }

    /// Whether its mappings, files or rows are still to come. Kernel threads have none.
    fn is_being_prepared(&mut self, pid: u32) -> bool {
        let alive = self.processes.get(pid).filter(|process| process.ended_ns.is_none());
        let Some(awaits_maps) = alive.map(Process::awaits_maps) else { return false };
        let snapshot = self.snapshot(pid);
        let is_building = |executable| {
            let rows = self.executables.get(executable).map(|executable| &executable.rows);
            matches!(rows, Some(RowState::Building))
        };
        awaits_maps || snapshot.is_pending || snapshot.executables().any(is_building)
    }
}
