//! Processes that outlive their leader (`pthread_exit` in `main`): when the last of their other threads has ended.
//!
//! Records tell of each thread's exit, and not which is the last; since 6.16 they tell of it before the thread is gone.

use super::one_process::{Process, Published};
use super::proc_files::has_other_threads;
use super::processes::Processes;

/// Most processes without their leader that are looked at at a time: 8 µs each, 0.3 ms with thousands of threads.
const MAX_LOOKS: usize = 64;

impl Processes {
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
        asked.truncate(MAX_LOOKS);
        self.leaderless = asked.last().copied().unwrap_or_default();
        let mut retired = Vec::new();
        for pid in asked.into_iter().filter(|pid| !has_other_threads(&self.proc_root, *pid)) {
            let Some(process) = self.all.get_mut(&pid) else { continue };
            process.ended_ns = process.thread_ended_ns.take();
            retired.extend(process.published.take().map(|published| (pid, published)));
        }
        retired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::perf_record::{Event, PerfRecord};

    fn record(pid: u32, tid: u32, event: Event) -> PerfRecord {
        PerfRecord { time_ns: 100, cpu: 0, pid, tid, event }
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
    fn processes_that_never_had_another_thread_end_without_a_look() {
        let thread = record(10, 11, Event::Fork { parent_pid: 10 });
        let exec = record(10, 10, Event::Comm { comm: b"x".to_vec(), exec: true });
        let exit = record(10, 10, Event::Exit);
        // By what `/proc` says its leader would be the only one that ended.
        let ended = |whole_since_ns: u64, between: &[&PerfRecord]| {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(root.path().join("10/task/11")).unwrap();
            let mut processes = Processes::new(root.path());
            processes.whole_since_ns = whole_since_ns;
            processes.apply(&record(10, 10, Event::Fork { parent_pid: 9 }));
            between.iter().chain([&&exit]).for_each(|record| drop(processes.apply(record)));
            processes.get(10).unwrap().ended_ns.is_some()
        };
        assert!(ended(99, &[]));
        assert!(ended(99, &[&thread, &exec]), "exec ends the others");
        assert!(!ended(99, &[&thread]));
        assert!(!ended(99, &[&exec, &thread]));
        assert!(!ended(100, &[]), "a record of another thread may have been lost");
        assert!(!ended(u64::MAX, &[&exec]));
    }

    #[test]
    fn of_very_many_processes_without_their_leader_each_has_its_turn() {
        let root = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(root.path());
        let pids = 10..10 + 3 * MAX_LOOKS as u32;
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
            assert_eq!(ended(&processes), looks * MAX_LOOKS);
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
            assert_eq!(process.reading.is_some(), !ended, "{pid}: a dead process has no mappings");
            // Nothing more is told of the other thread of the third: its exit was.
            let _ = std::fs::remove_dir(root.path().join(format!("{pid}/task/13")));
            processes.end_leaderless();
            assert_eq!(processes.get(pid).unwrap().ended_ns.is_some(), leader_ended, "{pid}");
        }
    }
}
