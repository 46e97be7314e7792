//! The process table in the agent: what each process is and maps, at the moment up to which records were applied.
//!
//! Keyed by pid, replaced when a record says that the pid was forked anew; the start time tells the two apart for ever. State
//! outlives the process until its samples are dealt with.

use hashbrown::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbolizer::perf_map::locate::Place;

use super::mappings::Mapping;
use super::one_process::{Process, Published};
use super::proc_files::{has_other_threads, list, read_process};
use super::readings::Readings;
use super::rescan::{Rescan, clock_ns};
use crate::sampler::perf_record::{Event, Mmap, PerfRecord};

/// Most processes that are known at a time, live and just ended; about 300 bytes each, mappings apart.
pub const MAX_PROCESSES: usize = 65536;
/// Most processes without their leader that are looked at at a time: 8 µs each, 0.3 ms with thousands of threads.
const MAX_LEADERLESS_LOOKS: usize = 64;
/// How long a process that ended is still known, ns: its samples and copies may be a drain or two behind.
const KEEP_ENDED_NS: u64 = 5_000_000_000;

/// What was left out, for the user to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounters {
    /// Processes not kept because [`MAX_PROCESSES`] were known.
    pub too_many: u64,
    /// Mappings not kept because a process had too many.
    pub mappings_dropped: u64,
    /// Processes whose mappings were read from `/proc`, ever.
    pub maps_read: u64,
    /// Of those, how many because they had too many mappings to keep, or records of theirs were lost.
    pub maps_reread: u64,
    /// Readings that were given up after their deadline, were not begun since one of the same process still is, or found no room among
    /// those that wait.
    pub maps_not_read: u64,
    /// Looks at all of `/proc`, because records were lost or the table was full.
    pub rescans: u64,
    /// Processes that such a look found to have come, gone or changed unseen.
    pub found_by_rescan: u64,
    /// Processes of which neither records nor `/proc` told anything.
    pub unknown: u64,
}

/// All processes.
pub struct Processes {
    pub(super) all: HashMap<u32, Process>,
    pub(super) proc_root: PathBuf,
    pub(super) readings: Readings,
    pub(super) rescan: Rescan,
    /// Pid of the process without its leader that was looked at last.
    leaderless: u32,
    /// What was left out.
    pub counters: ProcessCounters,
}

impl Processes {
    /// None yet; `/proc` is at `proc_root`.
    pub fn new(proc_root: &Path) -> Processes {
        Processes {
            all: HashMap::new(),
            proc_root: proc_root.to_owned(),
            readings: Readings::new(),
            rescan: Rescan::default(),
            leaderless: 0,
            counters: ProcessCounters::default(),
        }
    }

    /// Where `/proc` is.
    pub fn proc_root(&self) -> &Path {
        &self.proc_root
    }

    /// Reads every process that is there, and waits a bounded time for their mappings. Call it once side-band records flow, so
    /// that none falls between.
    pub fn scan(&mut self) {
        for pid in list(&self.proc_root) {
            self.ensure(pid);
        }
        self.wait_for_readings();
    }

    /// The process, read from `/proc` if no record told of it; its mappings come later.
    pub fn ensure(&mut self, pid: u32) -> Option<&mut Process> {
        if !self.all.contains_key(&pid) {
            let Some(mut process) = read_process(&self.proc_root, pid) else {
                self.counters.unknown += 1;
                return None;
            };
            if process.leader_ended && !has_other_threads(&self.proc_root, pid) {
                // Its exit may have been told long ago: it still gives its memory up, or waits for its parent.
                process.ended_ns = Some(clock_ns(libc::CLOCK_MONOTONIC));
            }
            self.insert(process);
            self.read(pid, true);
        }
        self.all.get_mut(&pid)
    }

    /// The process, if it is known.
    pub fn get(&self, pid: u32) -> Option<&Process> {
        self.all.get(&pid)
    }

    /// The process, if it is known.
    pub fn get_mut(&mut self, pid: u32) -> Option<&mut Process> {
        self.all.get_mut(&pid)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.all.values()
    }

    /// Number of processes known.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Pids of the process's forebears, nearest first, as far as they are known: other places to look for its files.
    pub fn forebears(&self, pid: u32) -> Vec<u32> {
        const MOST: usize = 8;
        let mut found = Vec::new();
        let mut at = pid;
        while found.len() < MOST {
            match self.all.get(&at) {
                Some(process) if process.parent != 0 && !found.contains(&process.parent) => {
                    at = process.parent;
                    found.push(at);
                }
                _ => break,
            }
        }
        found
    }

    fn insert(&mut self, process: Process) -> Option<Process> {
        if self.all.len() >= MAX_PROCESSES && !self.all.contains_key(&process.pid) {
            self.counters.too_many += 1;
            // Some of them may have ended unseen.
            self.rescan.want();
            return None;
        }
        self.all.insert(process.pid, process)
    }

    /// Where the process looks for its perf map: found out while it lives, if its root is known, and known as long as it is.
    pub fn place(&mut self, pid: u32, start_time_ns: u64, root: Option<Arc<File>>) -> Option<Arc<Place>> {
        let process = self.all.get_mut(&pid).filter(|process| process.start_time_ns == start_time_ns)?;
        if process.place.is_none() {
            process.place = Place::below(root?, &self.proc_root, pid).ok().map(Arc::new);
        }
        process.place.clone()
    }

    /// Something about a process is known better than before: what was made of it is to be made anew.
    pub fn changed(&mut self, pid: u32) {
        if let Some(process) = self.all.get_mut(&pid) {
            process.version += 1;
        }
    }

    /// Applies a side-band record. Gives back what the kernel still has of a process that is replaced or changed its program:
    /// the caller takes it out of the hash and frees it.
    pub fn apply(&mut self, record: &PerfRecord) -> Option<Published> {
        match &record.event {
            Event::Fork { parent_pid } if *parent_pid != record.pid => {
                self.ensure(*parent_pid);
                // A table of the pid's last owner may still be there: whatever is unwound with it is not this process's.
                let stale_before = self.all.get(&record.pid).map_or(0, |last| {
                    last.stale_before.max(last.published.as_ref().map_or(0, |published| published.generation + 1))
                });
                let mut child = Process::new(record.pid, *parent_pid, record.time_ns);
                child.stale_before = stale_before;
                let mut parent_is_read = true;
                if let Some(parent) = self.all.get(parent_pid) {
                    child.comm = parent.comm.clone();
                    child.executable = parent.executable.clone();
                    child.cgroup_id = parent.cgroup_id;
                    child.mappings = parent.mappings.clone();
                    parent_is_read = !parent.awaits_maps();
                }
                let replaced = self.insert(child).and_then(|old| old.published);
                if !parent_is_read {
                    self.read(record.pid, true);
                }
                return replaced;
            }
            Event::Comm { comm, exec } => {
                let process = self.ensure(record.pid)?;
                if *exec || record.pid == record.tid {
                    process.comm = String::from_utf8_lossy(comm).as_ref().into();
                }
                if *exec {
                    process.mappings = Arc::default();
                    process.version += 1;
                    process.program = process.program.wrapping_add(1);
                    process.exec_ns = record.time_ns;
                    // Records tell of everything from here on.
                    process.reading = None;
                    process.place = None;
                    process.awaiting_program = true;
                    // When another thread than the leader execs, the leader's exit is told first.
                    process.ended_ns = None;
                    process.leader_ended = false;
                    return process.published.take();
                }
            }
            Event::Mmap(mmap) => {
                let mapping = mapping_of(mmap);
                let process = self.ensure(record.pid)?;
                if process.awaiting_program && mmap.path.first() == Some(&b'/') {
                    process.executable = mapping.path.clone();
                    process.awaiting_program = false;
                }
                if let Some(reading) = &mut process.reading {
                    reading.tell(&mapping);
                }
                // The same mapping again (a scan that saw it first) is no change.
                if process.mappings.find(mapping.start).is_none_or(|(_, known)| *known != mapping) {
                    process.version += 1;
                    if process.mappings.displaces(&mapping) {
                        process.displaced();
                    }
                    if !Arc::make_mut(&mut process.mappings).insert(mapping) {
                        self.counters.mappings_dropped += 1;
                        self.read_again(record.pid, record.time_ns);
                    }
                }
            }
            Event::Exit if record.pid == record.tid => {
                let other_threads = has_other_threads(&self.proc_root, record.pid);
                let process = self.all.get_mut(&record.pid)?;
                process.leader_ended = other_threads;
                if other_threads {
                    // They may be about to end, and have told so before.
                    process.thread_ended_ns = Some(record.time_ns);
                    // Its hash entry went with the leader; the change of version has it published again.
                    process.version += 1;
                } else {
                    process.ended_ns = Some(record.time_ns);
                }
                return process.published.take();
            }
            Event::Exit => {
                if let Some(process) = self.all.get_mut(&record.pid).filter(|process| process.leader_ended) {
                    process.thread_ended_ns = Some(record.time_ns);
                }
            }
            _ => {}
        }
        None
    }

    /// Estimate of the memory that the table takes, bytes. Mappings that forked processes share count once.
    pub fn bytes(&self) -> usize {
        const PATH: usize = 64;
        let shared = |process: &Process| {
            let all = process.mappings.len() * (size_of::<Mapping>() + PATH);
            all / Arc::strong_count(&process.mappings).max(1)
        };
        self.all.values().map(|process| size_of::<Process>() + PATH + shared(process)).sum()
    }

    /// Ends processes whose last thread has ended after their leader. Asked once a second or so, since each exit of a thread would
    /// cost a look, and until the answer is that none is left: a thread is still there after its exit was told, for seconds if it
    /// gives up much memory. Gives what the kernel still has of them: the caller takes it out of the hash and frees it.
    pub fn end_leaderless(&mut self) -> Vec<(u32, Published)> {
        let is_open = |process: &&Process| process.leader_ended && process.ended_ns.is_none();
        let asked = self.all.values().filter(is_open).filter(|process| process.thread_ended_ns.is_some());
        let mut asked: Vec<u32> = asked.map(|process| process.pid).collect();
        // Round about by pid, so that each has its turn.
        let first = self.leaderless.wrapping_add(1);
        asked.sort_unstable_by_key(|pid| pid.wrapping_sub(first));
        asked.truncate(MAX_LEADERLESS_LOOKS);
        self.leaderless = asked.last().copied().unwrap_or_default();
        let mut retired = Vec::new();
        for pid in asked.into_iter().filter(|pid| !has_other_threads(&self.proc_root, *pid)) {
            let Some(process) = self.all.get_mut(&pid) else { continue };
            process.ended_ns = process.thread_ended_ns.take();
            retired.extend(process.published.take().map(|published| (pid, published)));
        }
        retired
    }

    /// Forgets processes that ended long enough before `now_ns`.
    pub fn forget_ended(&mut self, now_ns: u64) {
        self.all.retain(|_, process| process.ended_ns.is_none_or(|ended| now_ns.saturating_sub(ended) < KEEP_ENDED_NS));
    }
}

/// What a record says was mapped.
pub fn mapping_of(mmap: &Mmap) -> Mapping {
    let path = String::from_utf8_lossy(&mmap.path);
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    Mapping {
        start: mmap.start,
        end: mmap.start.saturating_add(mmap.length),
        file_offset: mmap.file_offset,
        device: mmap.device,
        inode: mmap.inode,
        path: if path == "//anon" { "".into() } else { path.into() },
        backing: Mapping::backing_of(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pid: u32, tid: u32, event: Event) -> PerfRecord {
        PerfRecord { time_ns: 100, cpu: 0, pid, tid, event }
    }

    fn mmap(start: u64, path: &str) -> Event {
        Event::Mmap(Mmap {
            start,
            length: 0x1000,
            file_offset: 0,
            device: (8, 1),
            inode: 4,
            protection: 5,
            path: path.as_bytes().to_vec(),
        })
    }

    fn paths(processes: &Processes, pid: u32) -> Vec<String> {
        processes.get(pid).unwrap().mappings.iter().map(|mapping| mapping.path.to_string()).collect()
    }

    #[test]
    fn a_child_inherits_and_an_exec_starts_anew() {
        let nowhere = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(nowhere.path());
        processes.apply(&record(10, 10, Event::Fork { parent_pid: 9 }));
        processes.apply(&record(10, 10, Event::Comm { comm: b"sh".to_vec(), exec: true }));
        processes.apply(&record(10, 10, mmap(0x1000, "/bin/sh")));
        processes.apply(&record(10, 10, mmap(0x8000, "/lib/libc.so")));
        processes.apply(&record(11, 11, Event::Fork { parent_pid: 10 }));
        assert_eq!(paths(&processes, 11), ["/bin/sh", "/lib/libc.so"]);
        let child = processes.get(11).unwrap();
        assert_eq!((&*child.comm, &*child.executable, child.parent), ("sh", "/bin/sh", 10));

        processes.apply(&record(11, 11, Event::Comm { comm: b"cc".to_vec(), exec: true }));
        processes.apply(&record(11, 11, mmap(0x1000, "/bin/cc")));
        let child = processes.get(11).unwrap();
        assert_eq!((&*child.comm, &*child.executable), ("cc", "/bin/cc"));
        assert_eq!(paths(&processes, 11), ["/bin/cc"]);
        assert_eq!(paths(&processes, 10), ["/bin/sh", "/lib/libc.so"]);
        assert_eq!(processes.forebears(11), [10, 9]);
    }

    #[test]
    fn an_exec_by_another_thread_than_the_leader_keeps_the_process_alive() {
        let nowhere = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(nowhere.path());
        processes.apply(&record(10, 10, Event::Fork { parent_pid: 9 }));
        processes.apply(&record(10, 10, Event::Exit));
        processes.apply(&record(10, 10, Event::Comm { comm: b"new".to_vec(), exec: true }));
        assert_eq!(processes.get(10).unwrap().ended_ns, None);
    }

    #[test]
    fn a_process_that_outlives_its_leader_ends_with_its_last_thread() {
        let root = tempfile::tempdir().unwrap();
        let tasks = root.path().join("10/task");
        for task in ["10", "11", "12"] {
            std::fs::create_dir_all(tasks.join(task)).unwrap();
        }
        let mut processes = Processes::new(root.path());
        processes.apply(&record(10, 10, Event::Fork { parent_pid: 9 }));
        let look = |processes: &mut Processes| {
            processes.end_leaderless();
            processes.get(10).unwrap().ended_ns
        };
        for tid in [10, 11, 12] {
            processes.apply(&record(10, tid, Event::Exit));
            assert_eq!(look(&mut processes), None);
        }
        // All have told of their exit; the last ones still give up the memory.
        std::fs::remove_dir(tasks.join("11")).unwrap();
        assert_eq!(look(&mut processes), None);
        std::fs::remove_dir(tasks.join("12")).unwrap();
        assert_eq!(look(&mut processes), Some(100));
    }

    #[test]
    fn of_very_many_processes_without_their_leader_each_has_its_turn() {
        let root = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(root.path());
        let pids = 10..10 + 3 * MAX_LEADERLESS_LOOKS as u32;
        let thread_of = |pid: u32| root.path().join(format!("{pid}/task/1"));
        for pid in pids.clone() {
            std::fs::create_dir_all(thread_of(pid)).unwrap();
            processes.apply(&record(pid, pid, Event::Fork { parent_pid: 9 }));
            processes.apply(&record(pid, pid, Event::Exit));
        }
        processes.end_leaderless();
        pids.clone().for_each(|pid| std::fs::remove_dir(thread_of(pid)).unwrap());
        let ended = |processes: &Processes| processes.iter().filter(|process| process.ended_ns.is_some()).count();
        for looks in 1..=3 {
            processes.end_leaderless();
            assert_eq!(ended(&processes), looks * MAX_LEADERLESS_LOOKS);
        }
    }

    #[test]
    fn a_process_that_is_met_while_it_dies_has_ended_unless_other_threads_live_on() {
        let root = tempfile::tempdir().unwrap();
        // Flags, field 9: the second has `PF_EXITING`.
        for (pid, flags, tasks, leader_ended, ended) in [
            (10, 0x40_0100, vec![10], false, false),
            (11, 0x40_0104, vec![11], true, true),
            (12, 0x40_0104, vec![12, 13], true, false),
        ] {
            for task in tasks {
                std::fs::create_dir_all(root.path().join(format!("{pid}/task/{task}"))).unwrap();
            }
            let stat = format!("{pid} (x) R 1 1 1 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 1 0 1000 100");
            std::fs::write(root.path().join(format!("{pid}/stat")), stat).unwrap();
            let mut processes = Processes::new(root.path());
            let process = processes.ensure(pid).unwrap();
            assert_eq!((process.leader_ended, process.ended_ns.is_some()), (leader_ended, ended), "{pid}");
        }
    }

    #[test]
    fn threads_are_not_processes_and_do_not_rename_them() {
        let nowhere = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(nowhere.path());
        processes.apply(&record(10, 10, Event::Fork { parent_pid: 9 }));
        processes.apply(&record(10, 12, Event::Fork { parent_pid: 10 }));
        processes.apply(&record(10, 12, Event::Comm { comm: b"worker".to_vec(), exec: false }));
        processes.apply(&record(10, 12, Event::Exit));
        assert_eq!(processes.len(), 1);
        assert_eq!(&*processes.get(10).unwrap().comm, "");
        assert_eq!(processes.get(10).unwrap().ended_ns, None);
        processes.apply(&record(10, 10, Event::Exit));
        assert_eq!(processes.get(10).unwrap().ended_ns, Some(100));
        processes.forget_ended(100 + KEEP_ENDED_NS);
        assert!(processes.is_empty());
    }
}
