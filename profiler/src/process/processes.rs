//! The process table in the agent: what each process is and maps, at the moment up to which records were applied.
//!
//! Keyed by pid, replaced when a record says that the pid was forked anew; the start time tells the two apart for ever. State
//! outlives the process until its samples are dealt with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mappings::{Mapping, Mappings};
use crate::sampler::perf_record::{Event, Mmap, PerfRecord};
use crate::tables::LoadedProcess;

/// Most processes that are known at a time, live and just ended; about 300 bytes each, mappings apart.
pub const MAX_PROCESSES: usize = 65536;
/// How long a process that ended is still known, ns: its samples and copies may be a drain or two behind.
const KEEP_ENDED_NS: u64 = 5_000_000_000;

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
}

/// One process.
#[derive(Debug)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Its parent's pid when it was made, or as `/proc` said.
    pub parent: u32,
    /// CLOCK_MONOTONIC, ns.
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
    /// Set by exec until the first executable mapping names the program.
    awaiting_program: bool,
}

/// What was left out, for the user to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounters {
    /// Processes not kept because [`MAX_PROCESSES`] were known.
    pub too_many: u64,
    /// Mappings not kept because a process had too many.
    pub mappings_dropped: u64,
    /// Processes of which neither records nor `/proc` told anything.
    pub unknown: u64,
}

/// All processes.
pub struct Processes {
    all: HashMap<u32, Process>,
    proc_root: PathBuf,
    /// What was left out.
    pub counters: ProcessCounters,
}

impl Processes {
    /// None yet; `/proc` is at `proc_root`.
    pub fn new(proc_root: &Path) -> Processes {
        Processes { all: HashMap::new(), proc_root: proc_root.to_owned(), counters: ProcessCounters::default() }
    }

    /// Where `/proc` is.
    pub fn proc_root(&self) -> &Path {
        &self.proc_root
    }

    /// Reads every process that is there. Call it once side-band records flow, so that none falls between.
    pub fn scan(&mut self) {
        let Ok(entries) = std::fs::read_dir(&self.proc_root) else { return };
        for entry in entries.flatten() {
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                self.ensure(pid);
            }
        }
    }

    /// The process, read from `/proc` if no record told of it.
    pub fn ensure(&mut self, pid: u32) -> Option<&mut Process> {
        if !self.all.contains_key(&pid) {
            let Some(process) = read_process(&self.proc_root, pid) else {
                self.counters.unknown += 1;
                return None;
            };
            self.insert(process);
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
            return None;
        }
        self.all.insert(process.pid, process)
    }

    /// Applies a side-band record. Gives back what the kernel still has of a process that is replaced or changed its program:
    /// the caller takes it out of the hash and frees it.
    pub fn apply(&mut self, record: &PerfRecord) -> Option<Published> {
        match &record.event {
            Event::Fork { parent_pid } if *parent_pid != record.pid => {
                self.ensure(*parent_pid);
                let parent = self.all.get(parent_pid);
                // A table of the pid's last owner may still be there: whatever is unwound with it is not this process's.
                let stale_before = self.all.get(&record.pid).map_or(0, |last| {
                    last.stale_before.max(last.published.as_ref().map_or(0, |published| published.generation + 1))
                });
                let child = Process {
                    pid: record.pid,
                    parent: *parent_pid,
                    start_time_ns: record.time_ns,
                    comm: parent.map_or_else(|| "".into(), |parent| parent.comm.clone()),
                    executable: parent.map_or_else(|| "".into(), |parent| parent.executable.clone()),
                    cgroup_id: parent.map_or(0, |parent| parent.cgroup_id),
                    mappings: parent.map(|parent| parent.mappings.clone()).unwrap_or_default(),
                    version: 1,
                    published: None,
                    stale_before,
                    ended_ns: None,
                    sampled: false,
                    awaiting_program: false,
                };
                return self.insert(child).and_then(|old| old.published);
            }
            Event::Comm { comm, exec } => {
                let process = self.ensure(record.pid)?;
                if *exec || record.pid == record.tid {
                    process.comm = String::from_utf8_lossy(comm).as_ref().into();
                }
                if *exec {
                    process.mappings = Arc::default();
                    process.version += 1;
                    process.awaiting_program = true;
                    // When another thread than the leader execs, the leader's exit is told first.
                    process.ended_ns = None;
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
                // The same mapping again (a scan that saw it first) is no change.
                if process.mappings.find(mapping.start).is_none_or(|(_, known)| *known != mapping) {
                    process.version += 1;
                    if process.mappings.displaces(&mapping) {
                        let published = process.published.as_ref().map_or(0, |published| published.generation + 1);
                        process.stale_before = process.stale_before.max(published);
                    }
                    if !Arc::make_mut(&mut process.mappings).insert(mapping) {
                        self.counters.mappings_dropped += 1;
                    }
                }
            }
            Event::Exit if record.pid == record.tid => {
                let other_threads = has_other_threads(&self.proc_root, record.pid);
                let process = self.all.get_mut(&record.pid)?;
                if other_threads {
                    // Its hash entry went with the leader; the change of version has it published again.
                    process.version += 1;
                } else {
                    process.ended_ns = Some(record.time_ns);
                }
                return process.published.take();
            }
            _ => {}
        }
        None
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

/// What `/proc/PID` tells of a process; `None` if there is none.
fn read_process(proc_root: &Path, pid: u32) -> Option<Process> {
    let directory = proc_root.join(pid.to_string());
    let stat = std::fs::read(directory.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (parent, start_ticks) = parse_stat(&stat)?;
    let comm = std::fs::read(directory.join("comm")).unwrap_or_default();
    let comm = String::from_utf8_lossy(&comm);
    let maps = read_maps(&directory);
    let executable = std::fs::read_link(directory.join("exe")).unwrap_or_default();
    let executable = executable.to_string_lossy();
    Some(Process {
        pid,
        parent,
        start_time_ns: start_ticks * (1_000_000_000 / ticks_per_second()),
        comm: comm.trim_end_matches('\n').into(),
        executable: executable.strip_suffix(" (deleted)").unwrap_or(&executable).into(),
        cgroup_id: 0,
        mappings: Arc::new(Mappings::from_unsorted(super::maps::parse(&maps))),
        version: 1,
        published: None,
        stale_before: 0,
        ended_ns: None,
        sampled: false,
        awaiting_program: false,
    })
}

/// Whether a process lives on after its leader has ended (`pthread_exit` in `main`).
fn has_other_threads(proc_root: &Path, pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(proc_root.join(format!("{pid}/task"))) else { return false };
    tasks.flatten().any(|task| task.file_name().to_str() != Some(pid.to_string().as_str()))
}

/// The mappings as text. With a leader that has ended only its other threads show them.
fn read_maps(directory: &Path) -> Vec<u8> {
    let maps = std::fs::read(directory.join("maps")).unwrap_or_default();
    if !maps.is_empty() {
        return maps;
    }
    let Ok(tasks) = std::fs::read_dir(directory.join("task")) else { return maps };
    let mut others = tasks.flatten().map(|task| std::fs::read(task.path().join("maps")).unwrap_or_default());
    others.find(|maps| !maps.is_empty()).unwrap_or_default()
}

fn ticks_per_second() -> u64 {
    // SAFETY: no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// Parent pid and start time in ticks since boot, fields 4 and 22 of `/proc/PID/stat`; comm may hold any character.
fn parse_stat(stat: &str) -> Option<(u32, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((parent, start))
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

    #[test]
    fn stat_is_read_whatever_the_name() {
        let tail = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 100";
        for comm in ["x", "a b", ") 9 (", ""] {
            assert_eq!(parse_stat(&format!("12 ({comm}) {tail}")), Some((7, 4242)), "{comm}");
        }
        assert_eq!(parse_stat("12 (x) S"), None);
    }
}
