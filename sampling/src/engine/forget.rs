//! What the engine lets go of: processes that have ended, seen or unseen, and executables that nobody uses any more.

use std::collections::HashSet;

use super::held::Held;
use super::run::Engine;
use super::settle::Unfinished;
use crate::process::{ExecutableIndex, Snapshot};

/// How long a sample waits for its copy. The kernel makes both within one interrupt, and both rings are read each round.
const COPY_PATIENCE_NS: u64 = 1_000_000_000;

/// Most processes whose files are looked for again at a time: each gets a new table.
const MAX_LOOKS: usize = 16;

impl Engine {
    /// Called about once a second.
    pub(super) fn forget(&mut self, now_ns: u64) {
        self.give_up_copies(now_ns);
        // Who is found to have ended only now is kept until the next call, however long ago that was: samples may be a drain behind.
        self.processes.forget_ended(now_ns);
        let mut ended = self.processes.end_leaderless();
        ended.extend(self.processes.rescan(now_ns));
        for (pid, published) in ended {
            self.retire(pid, published);
        }
        let processes = &self.processes;
        self.executables.forget_ended(now_ns, |pid| processes.get(pid).is_some());
        self.snapshots.retain(|pid, _| processes.get(*pid).is_some());
        self.announced.retain(|pid, _| processes.get(*pid).is_some());
        self.forget_unwanted_gone();
        self.look_for_files_again(now_ns);
        if self.executables.is_sweep_due(now_ns) {
            let in_use = self.executables_in_use();
            self.executables.forget_unused(now_ns, |index| in_use.contains(&index), &mut self.tables);
        }
    }

    /// Processes that were without some file for long are looked at again: nothing else would tell that it can be had.
    fn look_for_files_again(&mut self, now_ns: u64) {
        let processes = &self.processes;
        let is_due = |pid: u32, held: &Held| {
            processes.get(pid).is_some_and(|process| held.is_worth_another_look(process, now_ns))
        };
        let due = self.snapshots.iter().filter(|(pid, held)| is_due(**pid, held));
        let due: Vec<u32> = due.map(|(pid, _)| *pid).take(MAX_LOOKS).collect();
        for pid in due {
            self.processes.changed(pid);
            self.dirty.insert(pid);
        }
    }

    /// A CPU that asks for no further copy would keep the sample for ever.
    fn give_up_copies(&mut self, now_ns: u64) {
        let overdue =
            |unfinished: &Unfinished| now_ns.saturating_sub(unfinished.record.header.time_ns) > COPY_PATIENCE_NS;
        let cpus: Vec<u32> = self.awaiting.iter().filter(|(_, one)| overdue(one)).map(|(cpu, _)| *cpu).collect();
        for cpu in cpus {
            if let Some(unfinished) = self.awaiting.remove(&cpu) {
                self.counters.copies_lost += 1;
                self.wait_for_tables(unfinished);
            }
        }
    }

    /// What processes map, tables in the kernel name, samples wait for, and the batch shows.
    fn executables_in_use(&self) -> HashSet<ExecutableIndex> {
        let mut in_use: HashSet<ExecutableIndex> = self.executable_mappings.keys().copied().collect();
        let held = self.snapshots.values().map(|held| &held.snapshot);
        let waiting = self.waiting.iter().chain(self.awaiting.values()).map(|unfinished| &unfinished.snapshot);
        in_use.extend(held.chain(waiting).flat_map(Snapshot::executables));
        let published = self.processes.iter().filter_map(|process| process.published.as_ref());
        in_use.extend(published.flat_map(|published| &published.executables));
        in_use
    }
}
