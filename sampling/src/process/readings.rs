//! Mappings read from `/proc/PID/maps` by workers, while records go on telling of changes.
//!
//! What records told since a reading was asked for is newer than what it reads, and is put on top of it. A process whose first
//! reading gets stuck goes without mappings until that ends: then it is read anew, and so are those that it has made meanwhile.

use hashbrown::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mappings::{Mapping, Mappings};
use super::maps::Maps;
use super::one_process::Reading;
use super::proc_files::{read_maps, read_names};
use super::processes::Processes;
use super::workers::{PoolOptions, Report, Ticket, Workers};

/// Reading takes 0.1 to 10 ms, unless the process's memory lock is held.
const DEADLINE: Duration = Duration::from_secs(2);
/// As many wait as there may be processes.
const POOL: PoolOptions =
    PoolOptions { name: "everflame-maps", threads: 2, queue: super::MAX_PROCESSES, deadline: DEADLINE, abandoned: 16 };
/// How long a scan waits for all of them: 3,000 processes take 0.5 s.
const SCAN_PATIENCE: Duration = Duration::from_secs(5);
/// A process with too many mappings is read again after this time at the earliest, ns.
const REREAD_NS: u64 = 30_000_000_000;
/// Most records that are put on top of a reading; with more of them, records alone must do.
const MAX_SINCE: usize = 4096;

/// What a worker read of a process.
struct Read {
    maps: Maps,
    comm: Arc<str>,
    executable: Arc<str>,
}

/// The workers, and whom they read.
pub(super) struct Readings {
    workers: Workers<Read>,
    /// Asked for and not told of yet.
    under_way: HashMap<Ticket, u32>,
    /// Told of as stuck, and not done.
    stuck: HashMap<Ticket, Stuck>,
}

/// A process that is not read again before this reading ends: each try would take another thread.
struct Stuck {
    pid: u32,
    /// Nothing was known of its mappings before.
    is_first: bool,
}

impl Readings {
    pub(super) fn new() -> Readings {
        Readings { workers: Workers::new(POOL), under_way: HashMap::new(), stuck: HashMap::new() }
    }

    /// Whether the reading of a process that is stuck is the first, if one is: what is known of its mappings lacks what that would
    /// have told.
    pub(super) fn owed(&self, pid: u32) -> Option<bool> {
        self.stuck.values().find(|stuck| stuck.pid == pid).map(|stuck| stuck.is_first)
    }
}

impl Reading {
    /// A record told of a mapping meanwhile.
    pub(super) fn tell(&mut self, mapping: &Mapping) {
        if self.since.len() <= MAX_SINCE {
            self.since.push(mapping.clone());
        }
    }
}

impl Processes {
    /// Asks for a process's mappings; `is_first` if nothing is known of them.
    pub(super) fn read(&mut self, pid: u32, is_first: bool) {
        let Some(process) = self.all.get_mut(&pid) else { return };
        if process.reading.is_some() {
            return;
        }
        if self.readings.owed(pid).is_some() {
            self.counters.maps_not_read += 1;
            return;
        }
        let proc_root = self.proc_root.clone();
        let work = move || {
            let (comm, executable) = read_names(&proc_root, pid);
            Read { maps: read_maps(&proc_root, pid), comm, executable }
        };
        match self.readings.workers.submit(None, work) {
            Some(ticket) => {
                process.reading = Some(Reading { ticket, is_first, since: Vec::new() });
                self.readings.under_way.insert(ticket, pid);
            }
            None => self.counters.maps_not_read += 1,
        }
    }

    /// Asks for a process's mappings again, since not all changes are known; not too often.
    pub(super) fn read_again(&mut self, pid: u32, now_ns: u64) {
        let Some(process) = self.all.get_mut(&pid) else { return };
        if now_ns >= process.reread_after_ns && process.reading.is_none() {
            process.reread_after_ns = now_ns.saturating_add(REREAD_NS);
            self.counters.maps_reread += 1;
            self.read(pid, false);
        }
    }

    /// Takes in what workers have read. Gives the processes that changed by it.
    pub fn take_readings(&mut self) -> Vec<u32> {
        self.take_readings_at(Instant::now())
    }

    fn take_readings_at(&mut self, now: Instant) -> Vec<u32> {
        let mut changed = Vec::new();
        if self.readings.under_way.is_empty() && self.readings.stuck.is_empty() {
            return changed;
        }
        for (ticket, report) in self.readings.workers.take(now) {
            if let Some(stuck) = self.readings.stuck.remove(&ticket) {
                self.read_after_stuck(&stuck, &report);
                continue;
            }
            let Some(pid) = self.readings.under_way.remove(&ticket) else { continue };
            // A program that was run meanwhile, or another owner of the pid, has nothing to do with it.
            let process = self.all.get_mut(&pid);
            let told = process.and_then(|process| {
                let reading = process.reading.take_if(|reading| reading.ticket == ticket)?;
                Some((process, reading))
            });
            if matches!(report, Report::Stuck) {
                let is_first = told.as_ref().is_some_and(|(_, reading)| reading.is_first);
                self.readings.stuck.insert(ticket, Stuck { pid, is_first });
            }
            let Some((process, reading)) = told else { continue };
            let Report::Done(read) = report else {
                self.counters.maps_not_read += 1;
                process.version += 1;
                changed.push(pid);
                continue;
            };
            self.counters.maps_read += 1;
            self.counters.mappings_dropped += read.maps.dropped;
            let is_gone = read.maps.mappings.is_empty();
            if reading.since.len() <= MAX_SINCE && !is_gone {
                let mut mappings = Mappings::from_unsorted(read.maps.mappings);
                for mapping in reading.since {
                    self.counters.mappings_dropped += u64::from(!mappings.insert(mapping));
                }
                if *process.mappings != mappings {
                    process.displaced();
                    process.mappings = Arc::new(mappings);
                }
            }
            if !reading.is_first && !read.executable.is_empty() {
                (process.comm, process.executable) = (read.comm, read.executable);
            }
            process.version += 1;
            changed.push(pid);
        }
        changed
    }

    /// What was read so late lacks what records told meanwhile: the process is read anew.
    fn read_after_stuck(&mut self, stuck: &Stuck, report: &Report<Read>) {
        let is_there = self.all.get(&stuck.pid).is_some_and(|process| process.ended_ns.is_none());
        if is_there && matches!(report, Report::Done(_)) {
            self.read(stuck.pid, stuck.is_first);
        }
    }

    /// Waits until everything that was asked for has been read, but not longer than a scan may take.
    pub(super) fn wait_for_readings(&mut self) {
        let patience = Instant::now() + SCAN_PATIENCE;
        while !self.readings.under_way.is_empty() && Instant::now() < patience {
            self.readings.workers.wait(Duration::from_millis(100));
            self.take_readings();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::{Sender, channel};

    use super::super::mappings::MAX_MAPPINGS;
    use super::super::patience::until;
    use super::*;
    use crate::sampler::perf_record::{Event, Mmap, PerfRecord};

    fn make(proc_root: &Path, pid: u32, starts: impl Iterator<Item = u64>) {
        let directory = proc_root.join(pid.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        let stat = format!("{pid} (x) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 1000 100");
        std::fs::write(directory.join("stat"), stat).unwrap();
        let line = |start: u64| format!("{start:x}-{:x} r-xp 00000000 08:01 5 /x\n", start + 0x1000);
        std::fs::write(directory.join("maps"), starts.map(line).collect::<String>()).unwrap();
    }

    fn mmap(pid: u32, time_ns: u64, start: u64) -> PerfRecord {
        let event = Event::Mmap(Mmap {
            start,
            length: 0x1000,
            file_offset: 0,
            device: (8, 1),
            inode: 5,
            protection: 5,
            path: b"/x".to_vec(),
        });
        PerfRecord { time_ns, cpu: 0, pid, tid: pid, event }
    }

    fn fork(pid: u32, parent_pid: u32) -> PerfRecord {
        PerfRecord { time_ns: 50, cpu: 0, pid, tid: pid, event: Event::Fork { parent_pid } }
    }

    fn starts(processes: &Processes, pid: u32) -> Vec<u64> {
        processes.get(pid).unwrap().mappings.iter().map(|mapping| mapping.start).collect()
    }

    /// A reading of a process that is known; it gets stuck, and ends when the sender is dropped.
    fn get_stuck(processes: &mut Processes, pid: u32, is_first: bool) -> Sender<()> {
        let ((begun, begins), (end, ends)) = (channel(), channel::<()>());
        let work = move || {
            begun.send(()).unwrap();
            let _ = ends.recv();
            Read { maps: Maps::default(), comm: "".into(), executable: "".into() }
        };
        let ticket = processes.readings.workers.submit(None, work).unwrap();
        begins.recv_timeout(Duration::from_secs(60)).unwrap();
        processes.readings.under_way.insert(ticket, pid);
        processes.get_mut(pid).unwrap().reading = Some(Reading { ticket, is_first, since: Vec::new() });
        assert_eq!(processes.take_readings_at(Instant::now() + DEADLINE), [pid]);
        end
    }

    fn wait_until_none_is_stuck(processes: &mut Processes) {
        until("a stuck reading ends", || {
            processes.readings.workers.wait(Duration::from_secs(1));
            processes.take_readings();
            processes.readings.stuck.is_empty().then_some(())
        });
    }

    #[test]
    fn a_process_with_too_many_mappings_is_read_again_and_what_it_unmapped_makes_room() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), 7, (1..=MAX_MAPPINGS as u64).map(|at| at << 16));
        let mut processes = Processes::new(root.path());
        processes.scan();
        assert_eq!(processes.get(7).unwrap().mappings.len(), MAX_MAPPINGS);
        make(root.path(), 7, [0x1_0000, 0x2_0000].into_iter());
        for start in [0x1000, 0x3000] {
            processes.apply(&mmap(7, 100, start));
        }
        assert_eq!((processes.counters.mappings_dropped, processes.counters.maps_reread), (2, 1));
        processes.wait_for_readings();
        let found = starts(&processes, 7);
        assert_eq!(found, [0x3000, 0x1_0000, 0x2_0000], "what a record told after the reading was asked for is kept");
    }

    #[test]
    fn a_process_whose_reading_got_stuck_is_not_read_again_before_that_ends() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), 7, [0x1_0000].into_iter());
        let mut processes = Processes::new(root.path());
        processes.scan();
        let end = get_stuck(&mut processes, 7, false);
        processes.read(7, false);
        assert!(processes.get(7).unwrap().reading.is_none(), "it would take another thread");
        processes.apply(&fork(8, 7));
        let child = processes.get(8).unwrap();
        assert!(child.reading.is_some() && !child.awaits_maps(), "it has inherited what may not be all");
        assert_eq!(processes.counters.maps_not_read, 2);
        drop(end);
        wait_until_none_is_stuck(&mut processes);
        processes.wait_for_readings();
        assert_eq!(processes.counters.maps_read, 3, "it, its child, and it again in place of what came too late");
        assert_eq!(starts(&processes, 7), [0x1_0000]);
    }

    #[test]
    fn a_process_whose_first_reading_got_stuck_is_read_when_that_ends_and_its_children_at_once() {
        let root = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(root.path());
        processes.apply(&fork(7, 6));
        let end = get_stuck(&mut processes, 7, true);
        processes.apply(&mmap(7, 60, 0x9000));
        for pid in [7, 8] {
            make(root.path(), pid, [0x1_0000, 0x9000].into_iter());
        }
        for pid in [8, 9] {
            processes.apply(&fork(pid, 7));
            assert!(processes.get(pid).unwrap().awaits_maps(), "{pid}");
        }
        processes.wait_for_readings();
        assert_eq!(starts(&processes, 8), [0x9000, 0x1_0000]);
        assert_eq!(starts(&processes, 9), [0x9000], "it is gone, and what it inherited stays");
        assert_eq!(starts(&processes, 7), [0x9000], "it is not read yet");

        drop(end);
        wait_until_none_is_stuck(&mut processes);
        processes.wait_for_readings();
        assert_eq!(starts(&processes, 7), [0x9000, 0x1_0000]);
        processes.apply(&fork(10, 7));
        assert!(!processes.get(10).unwrap().awaits_maps(), "it has inherited all");
    }

    #[test]
    fn a_process_that_has_ended_is_not_read_when_its_stuck_reading_ends() {
        let root = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(root.path());
        processes.apply(&fork(7, 6));
        let end = get_stuck(&mut processes, 7, true);
        processes.get_mut(7).unwrap().ended_ns = Some(100);
        drop(end);
        wait_until_none_is_stuck(&mut processes);
        assert!(processes.get(7).unwrap().reading.is_none());
    }

    #[test]
    fn a_child_made_while_its_parent_is_read_is_read_itself_unless_it_runs_another_program() {
        let root = tempfile::tempdir().unwrap();
        for pid in [7, 8, 9] {
            make(root.path(), pid, [0x1_0000].into_iter());
        }
        let mut processes = Processes::new(root.path());
        processes.ensure(7);
        for pid in [8, 9] {
            processes.apply(&fork(pid, 7));
            assert!(processes.get(pid).unwrap().awaits_maps());
        }
        let event = Event::Comm { comm: b"new".to_vec(), exec: true };
        processes.apply(&PerfRecord { time_ns: 60, cpu: 0, pid: 9, tid: 9, event });
        processes.apply(&mmap(9, 70, 0x9000));
        assert!(!processes.get(9).unwrap().awaits_maps());
        processes.wait_for_readings();
        let found = [7, 8, 9].map(|pid| starts(&processes, pid));
        assert_eq!(found, [[0x1_0000], [0x1_0000], [0x9000]]);
    }
}
