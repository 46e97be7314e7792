//! The snapshot of a process that its samples are told by: how long it must do, and when its files are looked for again.

use crate::process::{Process, Snapshot};

/// From so many mappings on, a process is not looked at anew each time that it changes.
const MANY_MAPPINGS: usize = 1024;
/// With as many, it is looked at anew after so many ns for each of them: 16,384 mappings every 1.6 s.
const PAUSE_NS_EACH: u64 = 100_000;
/// After this time files that could not be had are looked for again, ns: devices that did not answer are left alone for as long.
const LOOK_AGAIN_NS: u64 = 300_000_000_000;

/// See the module documentation.
pub(super) struct Held {
    start_time_ns: u64,
    program: u32,
    pub(super) version: u64,
    pub(super) displacements: u32,
    taken_ns: u64,
    lacks_file: bool,
    pub(super) snapshot: Snapshot,
}

impl Held {
    /// A snapshot of a process as it is now.
    pub(super) fn new(process: &Process, snapshot: Snapshot, taken_ns: u64) -> Held {
        let Process { start_time_ns, program, version, displacements, .. } = *process;
        let lacks_file = snapshot.lacks_file();
        Held { start_time_ns, program, version, displacements, taken_ns, lacks_file, snapshot }
    }

    /// Whether it is of this process while it runs this program.
    pub(super) fn is_of(&self, process: &Process) -> bool {
        (self.start_time_ns, self.program) == (process.start_time_ns, process.program)
    }

    /// Whether it must do a little longer: another one would cost too much.
    pub(super) fn must_do(&self, now_ns: u64) -> bool {
        let mappings = self.snapshot.mappings.len();
        let pause_ns = mappings as u64 * PAUSE_NS_EACH;
        mappings >= MANY_MAPPINGS && !self.snapshot.is_pending && now_ns.saturating_sub(self.taken_ns) < pause_ns
    }

    /// Whether a file that could not be had may be there by now: what refused it may have been full, or silent, for a while. Only
    /// for a process that is sampled and still runs the program: of one that is not wanted any more, a table would be in the way.
    pub(super) fn is_worth_another_look(&self, process: &Process, now_ns: u64) -> bool {
        let is_due = self.lacks_file && now_ns.saturating_sub(self.taken_ns) >= LOOK_AGAIN_NS;
        is_due && process.sampled && process.ended_ns.is_none() && self.is_of(process)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::process::{Backing, Mapping, Mappings, Processes, Resolution};
    use crate::sampler::perf_record::{Event, PerfRecord};

    fn tell(processes: &mut Processes, event: Event) {
        processes.apply(&PerfRecord { time_ns: 1, cpu: 0, pid: 7, tid: 7, event });
    }

    /// Process 7, of which [`held`] is a snapshot.
    fn sampled() -> Processes {
        let mut processes = Processes::new(Path::new("/nowhere"));
        tell(&mut processes, Event::Fork { parent_pid: 6 });
        processes.get_mut(7).unwrap().sampled = true;
        processes
    }

    fn held(mappings: usize, backing: Backing) -> Held {
        let mapping = |at: u64| Mapping {
            start: at << 13,
            end: (at << 13) + 4096,
            file_offset: 0,
            device: (0, 0),
            inode: 0,
            path: "".into(),
            backing,
        };
        let mut snapshot = Snapshot::default();
        snapshot.mappings = Mappings::from_unsorted((1..=mappings as u64).map(mapping).collect()).into();
        snapshot.resolved = vec![Resolution::Nothing; mappings].into();
        let lacks_file = snapshot.lacks_file();
        Held { start_time_ns: 1, program: 0, version: 1, displacements: 0, taken_ns: 1000, lacks_file, snapshot }
    }

    #[test]
    fn only_processes_with_very_many_mappings_wait_and_the_more_the_longer() {
        for (mappings, pause_ns) in [(0, 0), (1023, 0), (1024, 102_400_000), (16_384, 1_638_400_000)] {
            let mut held = held(mappings, Backing::Anonymous);
            assert!(!held.must_do(1000 + pause_ns), "{mappings}");
            assert_eq!(held.must_do(999 + pause_ns), pause_ns > 0, "{mappings}");
            held.snapshot.is_pending = true;
            assert!(!held.must_do(1000), "what waits for files is looked at when they are there");
        }
    }

    #[test]
    fn only_a_file_that_could_not_be_had_is_a_reason_to_look_again_after_a_while() {
        for (mappings, backing, waits) in
            [(2, Backing::File, true), (2, Backing::Anonymous, false), (0, Backing::File, false)]
        {
            let (held, processes) = (held(mappings, backing), sampled());
            let process = processes.get(7).unwrap();
            assert_eq!(held.is_worth_another_look(process, 1000 + LOOK_AGAIN_NS), waits, "{mappings} {backing:?}");
            assert!(!held.is_worth_another_look(process, 999 + LOOK_AGAIN_NS));
        }
        let mut held = held(1, Backing::File);
        held.snapshot.resolved = vec![Resolution::Pending].into();
        assert!(!held.snapshot.lacks_file(), "it is still looked for");
    }

    #[test]
    fn nobody_looks_again_for_a_process_that_is_unwanted_has_ended_or_runs_another_program() {
        let held = held(1, Backing::File);
        let is_looked_at =
            |processes: &Processes| held.is_worth_another_look(processes.get(7).unwrap(), 1000 + LOOK_AGAIN_NS);
        let changes: [fn(&mut Processes); 3] = [
            |processes| processes.get_mut(7).unwrap().sampled = false,
            |processes| tell(processes, Event::Exit),
            |processes| tell(processes, Event::Comm { comm: b"y".to_vec(), exec: true }),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut processes = sampled();
            assert!(is_looked_at(&processes));
            change(&mut processes);
            assert!(!is_looked_at(&processes), "{at}");
        }
    }
}
