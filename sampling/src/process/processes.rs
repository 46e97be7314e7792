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
    /// From when on no record was lost, ns; never before [`Processes::scan`].
    pub(super) whole_since_ns: u64,
    /// Pid of the process without its leader that was looked at last.
    pub(super) leaderless: u32,
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
            whole_since_ns: u64::MAX,
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
        self.whole_since_ns = clock_ns(libc::CLOCK_MONOTONIC);
        for pid in list(&self.proc_root) {
            self.ensure(pid);
        }
        self.wait_for_readings();
    }

    /// The process, read from `/proc` if no record told of it; its mappings come later, if it still has any.
    pub fn ensure(&mut self, pid: u32) -> Option<&mut Process> {
        if !self.all.contains_key(&pid) {
            let Some(mut process) = read_process(&self.proc_root, pid) else {
                self.counters.unknown += 1;
                return None;
            };
            if process.leader_ended {
                // Its exit, and those of the threads that it has, may have been told long ago: they still give their memory up, or it
                // waits for its parent.
                let now_ns = Some(clock_ns(libc::CLOCK_MONOTONIC));
                match has_other_threads(&self.proc_root, pid) {
                    true => process.thread_ended_ns = now_ns,
                    false => process.ended_ns = now_ns,
                }
            }
            let has_ended = process.ended_ns.is_some();
            self.insert(process);
            if !has_ended {
                self.read(pid, true);
            }
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
                child.alone_since_ns = record.time_ns;
                let mut owed = None;
                if let Some(parent) = self.all.get(parent_pid) {
                    child.comm = parent.comm.clone();
                    child.executable = parent.executable.clone();
                    child.cgroup_id = parent.cgroup_id;
                    child.mappings = parent.mappings.clone();
                    owed = parent.awaits_maps().then_some(true).or_else(|| self.readings.owed(*parent_pid));
                }
                let replaced = self.insert(child).and_then(|old| old.published);
                if let Some(is_first) = owed {
                    self.read(record.pid, is_first);
                }
                return replaced;
            }
            Event::Fork { .. } => {
                if let Some(process) = self.all.get_mut(&record.pid) {
                    process.alone_since_ns = 0;
                }
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
                    process.alone_since_ns = record.time_ns;
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
                let process = self.all.get_mut(&record.pid)?;
                // A look costs 8 µs, of which a machine that starts programs all the time has one for each.
                let is_alone = process.alone_since_ns > self.whole_since_ns;
                let other_threads = !is_alone && has_other_threads(&self.proc_root, record.pid);
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
