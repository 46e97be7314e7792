//! Processes of which nothing is wanted: the kernel is told, so that their hits cost neither a record nor a stack copy.
//!
//! A mark is a process entry that has [`ProcessEntry::UNWANTED`] for its table. The hooks in the kernel take it away at exec, at
//! exit and when a thread gets another name; the next hit then asks anew. So a process that becomes wanted loses no sample,
//! but for one that got its name within the tick that marked it: its own record of that takes the mark away.

use std::collections::HashMap;
use std::path::Path;

use profiler_common::ProcessEntry;

use super::run::Engine;
use super::timers::monotonic_ns;
use crate::sampler::object::PodProcessEntry;
use crate::sampler::perf_record::{Event, PerfRecord};

/// Most threads of one process whose names are read, about 10 µs each. The agent alone leaves out larger processes' samples.
const MAX_THREADS: usize = 512;
/// How long a process that could not be marked (a part of it is wanted) is not looked at again, ns.
const ASK_AGAIN_NS: u64 = 1_000_000_000;

/// Which processes were looked at.
#[derive(Debug, Default)]
pub(super) struct Unwanted {
    asked: HashMap<u32, Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    /// CLOCK_MONOTONIC when the mark was there, ns.
    time_ns: u64,
    marked: bool,
}

impl Unwanted {
    /// Whether a sample of `time_ns` that is not wanted is a reason to look at its process.
    fn is_open(&self, pid: u32, time_ns: u64) -> bool {
        self.asked.get(&pid).is_none_or(|asked| {
            // A record that was made after the mark tells that a hook took the mark away.
            let patience = if asked.marked { 0 } else { ASK_AGAIN_NS };
            time_ns > asked.time_ns.saturating_add(patience)
        })
    }

    /// Who was looked at and is not known any more.
    fn gone(&self, is_known: impl Fn(u32) -> bool) -> Vec<u32> {
        self.asked.keys().copied().filter(|pid| !is_known(*pid)).collect()
    }
}

impl Engine {
    /// A sample of this process was not wanted. If no other of its samples could be, the kernel is told.
    pub(super) fn mark_unwanted(&mut self, pid: u32, sample_ns: u64) {
        if !self.unwanted.is_open(pid, sample_ns) {
            return;
        }
        // No record would tell when an unknown process ends, and its pid would stay marked.
        let Some(process) = self.processes.get_mut(pid).filter(|process| process.ended_ns.is_none()) else { return };
        // At most half of the hash: the rest is for those that are wanted.
        let room = self.options.processes as usize / 2;
        if self.unwanted.asked.len() >= room && !self.unwanted.asked.contains_key(&pid) {
            return;
        }
        let target = &self.options.target;
        let names = || thread_names(&self.options.proc_root, pid);
        let mut marked = target.wants_none_of(pid, process.comm.as_bytes(), names);
        if marked {
            process.sampled = false;
            if let Some(old) = process.published.take() {
                self.retire(pid, old);
            }
            let entry = ProcessEntry { table: ProcessEntry::UNWANTED, tgid: pid, ..ProcessEntry::default() };
            marked = self.processes_map.insert(pid, PodProcessEntry(entry), 0).is_ok();
        }
        self.unwanted.asked.insert(pid, Asked { time_ns: monotonic_ns(), marked });
    }

    /// Whatever was decided of this process is open again.
    pub(super) fn forget_unwanted(&mut self, pid: u32) {
        if self.unwanted.asked.remove(&pid).is_some_and(|asked| asked.marked) {
            // The hooks were most likely faster: "not there" is the usual answer.
            let _ = self.processes_map.remove(&pid);
        }
    }

    /// Once a second or so: those that have ended unseen would take the others' room for ever.
    pub(super) fn forget_unwanted_gone(&mut self) {
        let processes = &self.processes;
        for pid in self.unwanted.gone(|pid| processes.get(pid).is_some()) {
            self.forget_unwanted(pid);
        }
    }

    /// What was told of a process may make it wanted, or another one of the same pid.
    pub(super) fn reconsider_unwanted(&mut self, perf: &PerfRecord) {
        let about_process = match &perf.event {
            Event::Fork { parent_pid } => *parent_pid != perf.pid,
            Event::Exit => perf.pid == perf.tid,
            Event::Comm { .. } => true,
            _ => false,
        };
        if about_process {
            self.forget_unwanted(perf.pid);
        }
    }
}

/// Names of all threads of a process; `None` if they can't be had, or are too many.
fn thread_names(proc_root: &Path, pid: u32) -> Option<Vec<Vec<u8>>> {
    let tasks = std::fs::read_dir(proc_root.join(format!("{pid}/task"))).ok()?;
    let mut names = Vec::new();
    for task in tasks {
        if names.len() == MAX_THREADS {
            return None;
        }
        // A thread that has just ended is not wanted any more.
        if let Ok(mut name) = std::fs::read(task.ok()?.path().join("comm")) {
            name.pop_if(|last| *last == b'\n');
            names.push(name);
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_looked_at_again_only_when_its_mark_is_gone_or_time_has_passed() {
        let mut unwanted = Unwanted::default();
        assert!(unwanted.is_open(7, 1));
        unwanted.asked.insert(7, Asked { time_ns: 100, marked: true });
        assert_eq!([99, 100, 101].map(|time| unwanted.is_open(7, time)), [false, false, true]);
        unwanted.asked.insert(7, Asked { time_ns: 100, marked: false });
        assert_eq!(
            [101, 100 + ASK_AGAIN_NS, 101 + ASK_AGAIN_NS].map(|time| unwanted.is_open(7, time)),
            [false, false, true]
        );
        assert!(unwanted.is_open(8, 1));
    }

    #[test]
    fn only_processes_that_are_known_keep_their_place() {
        let mut unwanted = Unwanted::default();
        for pid in [7, 8] {
            unwanted.asked.insert(pid, Asked { time_ns: 100, marked: pid == 7 });
        }
        assert_eq!(unwanted.gone(|pid| pid == 8), [7]);
        assert!(unwanted.gone(|_| true).is_empty());
    }

    #[test]
    fn thread_names_are_read_whole_and_not_at_all_when_there_are_too_many() {
        let root = tempfile::tempdir().unwrap();
        let add = |task: usize, name: &str| {
            let folder = root.path().join(format!("7/task/{task}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("comm"), name).unwrap();
        };
        assert_eq!(thread_names(root.path(), 7), None);
        add(7, "main\n");
        add(8, "a b\n\n");
        let mut names = thread_names(root.path(), 7).unwrap();
        names.sort_unstable();
        assert_eq!(names, [b"a b\n".to_vec(), b"main".to_vec()]);
        (9..9 + MAX_THREADS).for_each(|task| add(task, "x\n"));
        assert_eq!(thread_names(root.path(), 7), None);
    }
}
