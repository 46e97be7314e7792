//! Unwind rows of executables: asked for when a process that maps them is first sampled, built by workers (`row_builders`), put
//! into the slab.

use std::time::Instant;

use unwind::build::Plan;

use super::eviction::{Holder, Refusal, choose};
use super::executable::{ExecutableIndex, Retry, RowState};
use super::executables::Executables;
use super::row_builders::Built;
use super::workers::Report;
use crate::sampler::SamplerError;
use crate::tables::Tables;

/// A refused executable is tried again after this time, each time after twice as long as before, ns.
const RETRY_NS: u64 = 60_000_000_000;
/// The longest pause, ns: an hour. What is tried in vain costs a row build.
const MAX_RETRY_NS: u64 = 3_600_000_000_000;

impl Executables {
    /// The descriptor of an executable, which is reserved, and its rows asked for, if this is the first time.
    pub fn descriptor(&mut self, index: ExecutableIndex, tables: &mut Tables) -> Result<u32, SamplerError> {
        let Some(executable) = self.slots.get_mut(index) else { return Ok(0) };
        let (lane, is_unbuilt) = (executable.lane, matches!(executable.rows, RowState::Unbuilt));
        let descriptor = match executable.descriptor {
            Some(known) => known,
            None => {
                let Some(reserved) = tables.reserve_descriptor()? else {
                    self.counters.refused += 1;
                    return Ok(0);
                };
                executable.descriptor = Some(reserved);
                reserved
            }
        };
        if is_unbuilt && self.builders.is_stuck_in(lane) {
            self.put_off(index, tables);
        } else if is_unbuilt && self.builders.ask(index, executable) {
            executable.rows = RowState::Building;
        }
        Ok(descriptor)
    }

    /// Its device does not answer another build: nobody waits for its rows, and they are asked for again later.
    fn put_off(&mut self, index: ExecutableIndex, tables: &mut Tables) {
        self.counters.avoided += 1;
        let state = self.refuse(index, Some(self.now_ns), tables);
        if let Some(executable) = self.slots.get_mut(index) {
            executable.rows = state;
        }
    }

    /// Puts finished rows into the slab. Gives the executables that were without rows for the kernel until then.
    pub(super) fn take_built(
        &mut self,
        tables: &mut Tables,
        now: Instant,
    ) -> Result<Vec<ExecutableIndex>, SamplerError> {
        let mut regained = Vec::new();
        for (index, report) in self.builders.take(now) {
            let state = match report {
                Report::Done(built) => self.load(index, built, tables)?,
                Report::Dropped => {
                    self.put_off(index, tables);
                    continue;
                }
                Report::Stuck => {
                    if let Some(lane) = self.slots.get(index).and_then(|executable| executable.lane) {
                        self.asked.avoid(lane, now);
                    }
                    self.without_rows(index, "reading the file took too long".into(), tables)
                }
                Report::Panicked => self.without_rows(index, "the row builder failed".into(), tables),
            };
            let Some(executable) = self.slots.get_mut(index) else { continue };
            if matches!(state, RowState::Loaded(_)) && std::mem::take(&mut executable.reads_as_gaps) {
                regained.push(index);
            }
            executable.rows = state;
        }
        Ok(regained)
    }

    fn without_rows(&mut self, index: ExecutableIndex, why: String, tables: &mut Tables) -> RowState {
        self.counters.without_rows += 1;
        self.let_read_as_gaps(index, tables);
        RowState::None(why)
    }

    /// The kernel walks its code by frame pointer from now on, and caches that.
    fn let_read_as_gaps(&mut self, index: ExecutableIndex, tables: &mut Tables) {
        let Some(executable) = self.slots.get_mut(index) else { return };
        if let Some(descriptor) = executable.descriptor {
            tables.mark_without_rows(descriptor);
            executable.reads_as_gaps = true;
        }
    }

    fn load(&mut self, index: ExecutableIndex, built: Built, tables: &mut Tables) -> Result<RowState, SamplerError> {
        self.counters.build_ns += built.nanoseconds;
        let (plan, stats, is_go) = match built.result {
            Ok(built) => built,
            Err(why) => return Ok(self.without_rows(index, why, tables)),
        };
        self.counters.rows += stats.rows_kept;
        self.counters.unsupported_rows += stats.rows_unsupported;
        let Some(executable) = self.slots.get_mut(index) else { return Ok(RowState::Unbuilt) };
        executable.is_go = is_go;
        match executable.descriptor {
            _ if plan.is_empty() => Ok(self.without_rows(index, "the file has no unwind information".into(), tables)),
            Some(descriptor) => self.place(descriptor, &plan, index, tables),
            None => Ok(RowState::Unbuilt),
        }
    }

    /// Loads a plan; others make way if they are sampled less.
    fn place(
        &mut self,
        descriptor: u32,
        plan: &Plan,
        newcomer: ExecutableIndex,
        tables: &mut Tables,
    ) -> Result<RowState, SamplerError> {
        if tables.is_too_large(plan) {
            self.counters.refused_too_large += 1;
            return Ok(self.refuse(newcomer, None, tables));
        }
        if let Some(loaded) = tables.load_executable(descriptor, plan)? {
            return Ok(RowState::Loaded(loaded));
        }
        let now_ns = self.now_ns;
        let recent = self.slots.get(newcomer).map_or(0, |executable| executable.recent.count(now_ns));
        let holders = self.slots.iter().filter(|(_, executable)| matches!(executable.rows, RowState::Loaded(_)));
        let holders = holders.map(|(index, executable)| Holder {
            index,
            last_sampled_ns: executable.last_sampled_ns,
            recent: executable.recent.count(now_ns),
        });
        let slots = &self.slots;
        let rows_of = |holder: &Holder| match slots.get(holder.index).map(|executable| &executable.rows) {
            Some(RowState::Loaded(loaded)) => Some(loaded),
            _ => None,
        };
        let fits = |gone: &[Holder]| tables.would_fit(plan, gone.iter().filter_map(rows_of));
        let victims = match choose(holders.collect(), recent, now_ns, fits) {
            Ok(victims) => victims,
            Err(refusal) => {
                match refusal {
                    Refusal::OthersNeedIt => self.counters.refused_for_others += 1,
                    Refusal::NoRoom => self.counters.refused += 1,
                }
                return Ok(self.refuse(newcomer, Some(now_ns), tables));
            }
        };
        for Holder { index, .. } in victims {
            let Some(victim) = self.slots.get_mut(index) else { continue };
            if let RowState::Loaded(loaded) = std::mem::replace(&mut victim.rows, RowState::Unbuilt) {
                tables.unload_executable(loaded);
                self.counters.evicted += 1;
            }
        }
        Ok(match tables.load_executable(descriptor, plan)? {
            Some(loaded) => RowState::Loaded(loaded),
            None => {
                self.counters.refused += 1;
                self.refuse(newcomer, Some(now_ns), tables)
            }
        })
    }

    /// Until it is tried again, its code is walked by frame pointer: copies of its stacks would be of no use.
    fn refuse(&mut self, index: ExecutableIndex, now_ns: Option<u64>, tables: &mut Tables) -> RowState {
        self.let_read_as_gaps(index, tables);
        let Some(executable) = self.slots.get_mut(index) else { return RowState::Unbuilt };
        let waited_ns = (executable.waited_ns * 2).clamp(RETRY_NS, MAX_RETRY_NS);
        executable.waited_ns = waited_ns;
        let at_ns = now_ns.map_or(u64::MAX, |now_ns| now_ns.saturating_add(waited_ns));
        RowState::Refused(Retry { at_ns, waited_ns })
    }

    /// Builds again what was refused long enough ago and sampled since, unless its device still owes another build.
    pub(super) fn retry_refused(&mut self, now_ns: u64) {
        for (index, executable) in self.slots.iter_mut() {
            let RowState::Refused(retry) = executable.rows else { continue };
            let sampled_since = executable.last_sampled_ns > retry.at_ns.saturating_sub(retry.waited_ns);
            let is_due = now_ns >= retry.at_ns && sampled_since && !self.builders.is_stuck_in(executable.lane);
            if is_due && self.builders.ask(index, executable) {
                executable.rows = RowState::Building;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::super::mappings::{Backing, Mapping};
    use super::super::patience::until;
    use super::super::row_builders::DEADLINE;
    use super::super::snapshot::{Resolution, Resolved};
    use super::*;
    use crate::tables::Segments;

    /// The vDSO, whose rows need no file.
    fn with_vdso() -> (Executables, ExecutableIndex) {
        let mut executables = Executables::new(Path::new("/nowhere"));
        let mapping = Mapping {
            start: 0x1000,
            end: 0x3000,
            file_offset: 0,
            device: (0, 0),
            inode: 0,
            path: "[vdso]".into(),
            backing: Backing::Vdso,
        };
        let Resolution::Known(Resolved { executable, .. }) =
            executables.resolve(Path::new("/nowhere"), (7, &[]), &mapping)
        else {
            panic!("the kernel gives us a vDSO");
        };
        (executables, executable)
    }

    fn tables() -> Tables {
        Tables::new(Segments::unpublished(), 4 << 20)
    }

    #[test]
    fn rows_that_take_the_place_of_none_are_told_and_the_first_ones_are_not() {
        for says_none in [false, true] {
            let ((mut executables, index), mut tables) = (with_vdso(), tables());
            executables.descriptor(index, &mut tables).unwrap();
            assert!(executables.get(index).unwrap().awaits_rows());
            if says_none {
                let state = executables.refuse(index, Some(1), &mut tables);
                assert!(matches!(state, RowState::Refused(_)));
            }
            let mut regained = Vec::new();
            until("rows are built", || {
                executables.wait(Duration::from_secs(1));
                regained.extend(executables.take_finished(&mut tables).unwrap().regained);
                (executables.working() == 0).then_some(())
            });
            assert!(matches!(executables.get(index).unwrap().rows, RowState::Loaded(_)));
            assert_eq!(regained, if says_none { vec![index] } else { vec![] });
            assert!(!executables.get(index).unwrap().awaits_rows());
        }
    }

    #[test]
    fn a_build_that_was_not_begun_since_its_device_fell_silent_is_begun_once_it_answers() {
        let ((mut executables, index), mut tables) = (with_vdso(), tables());
        let lane = Some((0, 7));
        executables.slots.get_mut(index).unwrap().lane = lane;
        let ((begun, begins), (end, ends)) = (channel(), channel::<()>());
        let stuck = move || {
            begun.send(()).unwrap();
            let _ = ends.recv();
            Built { result: Err("a test".into()), nanoseconds: 0 }
        };
        let forgotten = ExecutableIndex { slot: 99, generation: 0 };
        executables.builders.submit_slow(lane, forgotten, stuck);
        begins.recv_timeout(Duration::from_secs(60)).unwrap();
        executables.descriptor(index, &mut tables).unwrap();
        assert!(executables.get(index).unwrap().awaits_rows());

        executables.take_built(&mut tables, Instant::now() + DEADLINE).unwrap();
        assert!(matches!(executables.get(index).unwrap().rows, RowState::Refused(_)), "nobody waits for it");
        assert_eq!(executables.counters.avoided, 1);
        executables.now_ns = 1;
        executables.touch(index);
        executables.retry_refused(RETRY_NS);
        assert!(!executables.get(index).unwrap().awaits_rows(), "the device still owes an answer");
        executables.slots.get_mut(index).unwrap().rows = RowState::Unbuilt;
        executables.descriptor(index, &mut tables).unwrap();
        assert!(!executables.get(index).unwrap().awaits_rows(), "nor is it asked for the first time");

        drop(end);
        until("the build that got stuck ends", || {
            executables.builders.wait_for_slow(Duration::from_secs(1));
            executables.take_built(&mut tables, Instant::now()).unwrap();
            (!executables.builders.is_stuck_in(lane)).then_some(())
        });
        executables.now_ns = 2;
        executables.touch(index);
        executables.retry_refused(MAX_RETRY_NS);
        until("its rows are built", || {
            executables.wait(Duration::from_secs(1));
            executables.take_built(&mut tables, Instant::now()).unwrap();
            (executables.working() == 0).then_some(())
        });
        assert!(matches!(executables.get(index).unwrap().rows, RowState::Loaded(_)));
    }

    #[test]
    fn without_room_for_a_descriptor_nobody_waits_for_rows() {
        let ((mut executables, index), mut tables) = (with_vdso(), tables());
        while tables.reserve_descriptor().unwrap().is_some() {}
        assert_eq!(executables.descriptor(index, &mut tables).unwrap(), 0);
        assert!(matches!(executables.get(index).unwrap().rows, RowState::Unbuilt));
        assert!(!executables.get(index).unwrap().awaits_rows());
    }
}
