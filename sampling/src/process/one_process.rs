//! One process, as far as it is known, and what the kernel has of it.

use std::sync::Arc;

use symbolizer::perf_map::locate::Place;

use super::executable::ExecutableIndex;
use super::mappings::{Mapping, Mappings};
use super::workers::Ticket;
use crate::tables::LoadedProcess;

/// A process table that the kernel has.
#[derive(Debug)]
pub struct Published {
    /// Its words.
    pub loaded: LoadedProcess,
    /// The generation that records made with it carry.
    pub generation: u32,
    /// Its tag in the rule caches' keys.
    pub tag: u32,
    /// [`Process::version`] when it was made.
    pub version: u64,
    /// CLOCK_MONOTONIC when it was made, ns.
    pub time_ns: u64,
    /// The executables whose descriptors it names.
    pub executables: Vec<ExecutableIndex>,
}

/// One process.
#[derive(Debug)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Its parent's pid when it was made, or as `/proc` said.
    pub parent: u32,
    /// When it was made, ns: CLOCK_MONOTONIC if a record told, CLOCK_BOOTTIME if `/proc` did.
    pub start_time_ns: u64,
    /// Name of the main thread.
    pub comm: Arc<str>,
    /// Path of the program.
    pub executable: Arc<str>,
    /// cgroup id, 0 until a sample or record told.
    pub cgroup_id: u64,
    /// Executable mappings.
    pub mappings: Arc<Mappings>,
    /// Counts up with each change of the mappings.
    pub version: u64,
    /// What the kernel has of it.
    pub published: Option<Published>,
    /// Generations that were made before the current version: their samples are stale if they come later.
    pub stale_before: u32,
    /// When it ended, ns; `None` while it lives.
    pub ended_ns: Option<u64>,
    /// Whether it was ever sampled: only then is it worth a table.
    pub sampled: bool,
    /// When it last changed its program, ns; 0 if no record told.
    pub exec_ns: u64,
    /// How many programs it has run: with each, all mappings are new ones.
    pub program: u32,
    /// How often a mapping took the place of other code.
    pub displacements: u32,
    /// Since when it has one thread only, as far as records tell, ns: it was made, or has thrown the others away by exec. 0 if it made
    /// another since, or no record told.
    pub(super) alone_since_ns: u64,
    /// Its leader has ended; other threads have not, unless [`Process::ended_ns`] says so.
    pub(super) leader_ended: bool,
    /// When a thread of it last ended since its leader did, ns: whether none is left is asked until it is so.
    pub(super) thread_ended_ns: Option<u64>,
    /// Set by exec until the first executable mapping names the program.
    pub(super) awaiting_program: bool,
    /// Where it looks for its perf map, once that was asked for.
    pub(super) place: Option<Arc<Place>>,
    /// A worker is reading what `/proc` says of it.
    pub(super) reading: Option<Reading>,
    /// CLOCK_MONOTONIC before which its maps are not read again, ns.
    pub(super) reread_after_ns: u64,
}

/// A process that a worker is reading about.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) ticket: Ticket,
    /// Whether nothing is known of its mappings before.
    pub(super) is_first: bool,
    /// What records told since: newer than what will be read.
    pub(super) since: Vec<Mapping>,
}

impl Process {
    /// A process of which no more is known than this.
    pub(super) fn new(pid: u32, parent: u32, start_time_ns: u64) -> Process {
        Process {
            pid,
            parent,
            start_time_ns,
            comm: "".into(),
            executable: "".into(),
            cgroup_id: 0,
            mappings: Arc::default(),
            version: 1,
            published: None,
            stale_before: 0,
            ended_ns: None,
            sampled: false,
            exec_ns: 0,
            program: 0,
            displacements: 0,
            alone_since_ns: 0,
            leader_ended: false,
            thread_ended_ns: None,
            awaiting_program: false,
            place: None,
            reading: None,
            reread_after_ns: 0,
        }
    }

    /// Whether its memory was being exchanged or given up at this time, as far as records tell. Exec tells its record after
    /// the exchange, and replaces the registers at its end. Exit tells it before the memory is given up since 6.16 and on stable
    /// kernels with that change, else after that; it takes longest of large processes, seconds.
    pub fn is_without_memory(&self, time_ns: u64) -> bool {
        const BEFORE_EXEC_NS: u64 = 20_000_000;
        const AFTER_EXEC_NS: u64 = 5_000_000;
        const BEFORE_EXIT_NS: u64 = 1_000_000_000;
        let in_exec = time_ns >= self.exec_ns.saturating_sub(BEFORE_EXEC_NS) && time_ns < self.exec_ns + AFTER_EXEC_NS;
        in_exec || self.ended_ns.is_some_and(|ended_ns| time_ns >= ended_ns.saturating_sub(BEFORE_EXIT_NS))
    }

    /// A sample of its main thread carries that thread's name. It is the only one that tells a forked process's: the child has the
    /// name of the thread that made it, which may not be its parent's main thread.
    pub fn take_name(&mut self, name: &[u8]) {
        if !name.is_empty() && self.comm.as_bytes() != name {
            self.comm = String::from_utf8_lossy(name).as_ref().into();
        }
    }

    /// Whether its mappings are still being read for the first time.
    pub fn awaits_maps(&self) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.is_first)
    }

    /// Whatever is unwound with the table that the kernel has now is stale from here on.
    pub(super) fn displaced(&mut self) {
        self.displacements = self.displacements.wrapping_add(1);
        let published = self.published.as_ref().map_or(0, |published| published.generation + 1);
        self.stale_before = self.stale_before.max(published);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_the_main_thread_names_its_process() {
        let mut process = Process { comm: "parent's main".into(), ..Process::new(7, 6, 1) };
        for (name, comm) in [(&b"worker"[..], "worker"), (b"", "worker"), (b"a\xffb", "a\u{fffd}b"), (b"x y", "x y")] {
            process.take_name(name);
            assert_eq!(&*process.comm, comm);
        }
    }
}
