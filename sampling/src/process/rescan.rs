//! After side-band records were lost, `/proc` says who came, who went and what they map.
//!
//! Forks, exits and mappings may be missing; processes that came and went in between stay unknown.

use std::collections::HashSet;

use super::one_process::Published;
use super::proc_files::{Stat, has_other_threads, list, read_stat};
use super::processes::Processes;

/// Between two looks at all of `/proc`, ns: each costs about 20 µs a process here, and some 100 µs on a worker.
const EVERY_NS: u64 = 10_000_000_000;
/// A start time by `/proc` and one by a record differ by a clock tick and what the fork took, ns. No pid is used again so soon.
const START_SLACK_NS: u64 = 1_000_000_000;

/// Whether a look is wanted, and when the last one was.
#[derive(Debug, Default)]
pub(super) struct Rescan {
    is_wanted: bool,
    last_ns: u64,
}

impl Rescan {
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }
}

impl Processes {
    /// Side-band records were lost: what is known may be wrong.
    pub fn lost_records(&mut self) {
        self.rescan.want();
        self.whole_since_ns = clock_ns(libc::CLOCK_MONOTONIC);
    }

    /// Looks at all of `/proc`, if records were lost and the last look is long enough ago. Gives what the kernel still has of
    /// processes that have ended: the caller takes it out of the hash and frees it.
    pub fn rescan(&mut self, now_ns: u64) -> Vec<(u32, Published)> {
        let is_due = self.rescan.last_ns == 0 || now_ns.saturating_sub(self.rescan.last_ns) >= EVERY_NS;
        if !self.rescan.is_wanted || !is_due {
            return Vec::new();
        }
        self.rescan = Rescan { is_wanted: false, last_ns: now_ns };
        self.counters.rescans += 1;
        let there = list(&self.proc_root);
        let mut retired = self.end_missing(&there.iter().copied().collect(), now_ns);
        let boot_offset_ns = boot_offset_ns();
        for pid in there {
            match self.all.get(&pid).map(|process| (process.ended_ns, process.start_time_ns)) {
                None => {
                    // A zombie was known, and is forgotten each time after a while.
                    let lives = self.ensure(pid).is_some_and(|process| process.ended_ns.is_none());
                    self.counters.found_by_rescan += u64::from(lives);
                }
                Some((ended_ns, known_ns)) => {
                    let Some(Stat { start_time_ns: start_ns, .. }) = read_stat(&self.proc_root, pid) else { continue };
                    // By a record it is CLOCK_MONOTONIC, by `/proc` CLOCK_BOOTTIME.
                    let near = |wanted: u64| start_ns.abs_diff(wanted) < START_SLACK_NS;
                    let same = near(known_ns) || near(known_ns.saturating_add(boot_offset_ns));
                    if same && ended_ns.is_none() {
                        self.read(pid, false);
                    } else if same {
                        self.revive(pid);
                    } else {
                        // Another process has the pid.
                        self.counters.found_by_rescan += 1;
                        retired.extend(self.all.remove(&pid).and_then(|old| Some((pid, old.published?))));
                        self.ensure(pid);
                    }
                }
            }
        }
        retired
    }

    /// A leader's end was taken for the process's, since the record of another thread was lost.
    fn revive(&mut self, pid: u32) {
        if has_other_threads(&self.proc_root, pid)
            && let Some(process) = self.all.get_mut(&pid)
        {
            self.counters.found_by_rescan += 1;
            process.leader_ended = true;
            process.thread_ended_ns = process.ended_ns.take();
            process.version += 1;
            self.read(pid, false);
        }
    }

    fn end_missing(&mut self, there: &HashSet<u32>, now_ns: u64) -> Vec<(u32, Published)> {
        let mut retired = Vec::new();
        for process in self.all.values_mut() {
            if process.ended_ns.is_none() && !there.contains(&process.pid) {
                self.counters.found_by_rescan += 1;
                process.ended_ns = Some(now_ns);
                retired.extend(process.published.take().map(|published| (process.pid, published)));
            }
        }
        retired
    }
}

/// How much further CLOCK_BOOTTIME is than CLOCK_MONOTONIC: the time that the machine slept, ns.
fn boot_offset_ns() -> u64 {
    let monotonic = clock_ns(libc::CLOCK_MONOTONIC);
    clock_ns(libc::CLOCK_BOOTTIME).saturating_sub(monotonic)
}

/// What CLOCK_MONOTONIC or CLOCK_BOOTTIME says, ns.
pub(super) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the timespec; both clocks always exist.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sampler::perf_record::{Event, PerfRecord};

    /// Makes a process in a made-up `/proc` that started so many clock ticks (10 ms) after boot.
    fn make(proc_root: &Path, pid: u32, start_ticks: u64, maps: &str) {
        let directory = proc_root.join(pid.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        let stat = format!("{pid} (x) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 {start_ticks} 100");
        std::fs::write(directory.join("stat"), stat).unwrap();
        std::fs::write(directory.join("comm"), "x\n").unwrap();
        std::fs::write(directory.join("maps"), maps).unwrap();
    }

    fn line(start: u64, path: &str) -> String {
        format!("{start:x}-{:x} r-xp 00000000 08:01 5 {path}\n", start + 0x1000)
    }

    fn paths(processes: &Processes, pid: u32) -> Vec<String> {
        processes.get(pid).unwrap().mappings.iter().map(|mapping| mapping.path.to_string()).collect()
    }

    #[test]
    fn who_came_who_went_who_changed_and_who_has_another_s_pid() {
        let root = tempfile::tempdir().unwrap();
        for pid in [10, 11, 12] {
            make(root.path(), pid, 1000, &line(0x1000, "/old"));
        }
        let mut processes = Processes::new(root.path());
        processes.scan();
        assert_eq!(paths(&processes, 12), ["/old"]);
        let fork =
            PerfRecord { time_ns: 9_000_000_000, cpu: 0, pid: 13, tid: 13, event: Event::Fork { parent_pid: 12 } };
        processes.apply(&fork);

        std::fs::remove_dir_all(root.path().join("10")).unwrap();
        make(root.path(), 11, 5000, &line(0x2000, "/another"));
        make(root.path(), 12, 1000, &(line(0x1000, "/old") + &line(0x3000, "/more")));
        make(root.path(), 13, 905, &line(0x1000, "/old"));
        make(root.path(), 14, 6000, &line(0x4000, "/new"));
        assert_eq!(processes.rescan(1).len(), 0);
        assert_eq!(processes.counters.rescans, 0, "nothing was lost");
        processes.lost_records();
        assert_eq!(processes.rescan(EVERY_NS).len(), 0, "nothing was published");
        processes.wait_for_readings();
        assert_eq!(processes.get(10).unwrap().ended_ns, Some(EVERY_NS));
        assert_eq!(paths(&processes, 11), ["/another"]);
        assert_eq!(paths(&processes, 12), ["/old", "/more"]);
        assert_eq!(processes.get(13).unwrap().start_time_ns, 9_000_000_000, "the same that the record told of");
        assert_eq!(paths(&processes, 14), ["/new"]);
        assert_eq!((processes.counters.rescans, processes.counters.found_by_rescan), (1, 3));

        processes.lost_records();
        processes.rescan(EVERY_NS + 1);
        assert_eq!(processes.counters.rescans, 1, "too soon");
        processes.rescan(2 * EVERY_NS);
        assert_eq!(processes.counters.rescans, 2);
    }

    #[test]
    fn a_process_whose_threads_no_record_told_of_lives_on() {
        let root = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(root.path());
        processes.scan();
        let (made_ns, exited_ns) = (clock_ns(libc::CLOCK_MONOTONIC), clock_ns(libc::CLOCK_MONOTONIC) + 1);
        let record = |time_ns, event| PerfRecord { time_ns, cpu: 0, pid: 10, tid: 10, event };
        processes.apply(&record(made_ns, Event::Fork { parent_pid: 9 }));
        processes.apply(&record(exited_ns, Event::Exit));
        assert_eq!(processes.get(10).unwrap().ended_ns, Some(exited_ns));
        let boot_ticks = clock_ns(libc::CLOCK_BOOTTIME) / 10_000_000;
        make(root.path(), 10, boot_ticks, "");
        std::fs::create_dir_all(root.path().join("10/task/11")).unwrap();
        processes.lost_records();
        processes.rescan(EVERY_NS);
        let process = processes.get(10).unwrap();
        assert_eq!((process.ended_ns, process.leader_ended), (None, true));
        // From now on records are not taken for all that there is.
        processes.apply(&record(exited_ns, Event::Comm { comm: b"x".to_vec(), exec: true }));
        processes.apply(&record(exited_ns + 1, Event::Exit));
        assert_eq!(processes.get(10).unwrap().ended_ns, None);
    }

    #[test]
    fn a_zombie_is_nothing_that_a_look_finds_and_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), 10, 1000, &line(0x1000, "/x"));
        let stat = std::fs::read_to_string(root.path().join("10/stat")).unwrap();
        std::fs::write(root.path().join("10/stat"), stat.replacen(" S ", " Z ", 1)).unwrap();
        let mut processes = Processes::new(root.path());
        for look in 1..=3 {
            processes.lost_records();
            processes.rescan(look * EVERY_NS);
            assert!(processes.get(10).unwrap().ended_ns.is_some());
            processes.forget_ended(u64::MAX);
            assert!(processes.is_empty());
        }
        processes.wait_for_readings();
        let counters = processes.counters;
        assert_eq!((counters.rescans, counters.found_by_rescan, counters.maps_read), (3, 0, 0));
    }
}
