//! Samples that wait for their copy or their tables, and what each becomes in the batch.

use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use unwind::end::{End, provenance};

use super::copies::{CopiedFrames, walk_copy};
use super::run::Engine;
use crate::process::{Backing, Executable, ExecutableIndex, Mappings, Resolution, Resolved, Snapshot};
use crate::sampler::perf_record::StackCopy;
use crate::sampler::record::Record;
use crate::tables::{AgentSlab, LocalSegment, encode_process_table};
use profiles::profile::{
    LocationIndex, LocationKind, MAX_SAMPLES, MappingIndex, Process as BatchProcess, ProcessIndex, Sample,
};

/// Most bytes of samples that wait for their files and tables, copied stacks included; the oldest are then finished with what
/// is there. A sample without a copy takes some 500.
const MAX_WAITING_BYTES: usize = 32 << 20;

/// The process as it was at the sample's time; it enters the batch that the sample enters, which may be the next one.
pub(super) struct Owner {
    pub(super) pid: u32,
    pub(super) start_time_ns: u64,
    pub(super) comm: Arc<str>,
    pub(super) executable: Arc<str>,
    pub(super) cgroup_id: u64,
}

/// By a snapshot's address: it, what has become of it, and whether its rows are there.
type LookedAt = HashMap<*const Vec<Resolution>, (Snapshot, Snapshot, bool)>;

/// A sample that waits for its copy, or for the files or tables to walk it.
pub(super) struct Unfinished {
    pub(super) record: Record,
    pub(super) snapshot: Snapshot,
    pub(super) owner: Owner,
    pub(super) stale: bool,
    pub(super) copy: Option<StackCopy>,
}

impl Unfinished {
    /// Memory that it takes while it waits.
    fn bytes(&self) -> usize {
        let copied = self.copy.as_ref().map_or(0, |copy| copy.stack.len());
        size_of::<Unfinished>() + copied + (self.record.user.len() + self.record.kernel.len()) * size_of::<u64>()
    }
}

/// A copied stack with what both walks made of it.
pub struct Capture {
    /// Which process.
    pub pid: u32,
    /// Its executable mappings at that time.
    pub mappings: Arc<Mappings>,
    /// Registers and stack.
    pub copy: StackCopy,
    /// Addresses to look up, leaf first, and the end, from the kernel program.
    pub kernel: (Vec<u64>, End),
    /// The same from the agent's walk of the copy.
    pub agent: (Vec<u64>, End),
    /// How the agent found the frames: bits of [`provenance`].
    pub provenance: u8,
}

impl Engine {
    pub(super) fn wait_for_tables(&mut self, unfinished: Unfinished) {
        self.waiting_bytes += unfinished.bytes();
        self.waiting.push_back(unfinished);
    }

    /// Whether some executable of the snapshot is still with a row builder; asks for the rows, should nobody have done so yet.
    fn is_building(&mut self, snapshot: &Snapshot) -> bool {
        let _ = snapshot.table(&mut self.executables, &mut self.tables);
        snapshot.executables().any(|executable| self.executables.get(executable).is_some_and(Executable::awaits_rows))
    }

    /// Finishes the samples whose files and tables are there; all of them when `now`.
    pub(super) fn finish_waiting(&mut self, now: bool) {
        let mut still = VecDeque::new();
        let mut looked = LookedAt::default();
        while let Some(mut unfinished) = self.waiting.pop_front() {
            let over = self.waiting_bytes > MAX_WAITING_BYTES;
            self.counters.waits_cut += u64::from(over && !now);
            let (snapshot, has_rows) = self.look_again(&unfinished, &mut looked);
            unfinished.snapshot = snapshot;
            let waits = unfinished.snapshot.is_pending || (unfinished.copy.is_some() && !has_rows);
            if waits && !now && !over {
                still.push_back(unfinished);
                continue;
            }
            self.waiting_bytes -= unfinished.bytes();
            self.finish_sample(unfinished);
        }
        self.waiting = still;
    }

    /// The sample's snapshot as far as it is known by now, and whether all its rows are there: once for all samples that share
    /// one.
    fn look_again(&mut self, unfinished: &Unfinished, looked: &mut LookedAt) -> (Snapshot, bool) {
        let before = &unfinished.snapshot;
        if let Some((_, now, has_rows)) = looked.get(&Arc::as_ptr(&before.resolved)) {
            return (now.clone(), *has_rows);
        }
        let snapshot = match before.is_pending {
            true => before.look_again(&self.processes, &mut self.executables, unfinished.record.header.tgid),
            false => before.clone(),
        };
        let has_rows = !self.is_building(&snapshot);
        // The old one is kept alive, so that its address stays its own.
        looked.insert(Arc::as_ptr(&before.resolved), (before.clone(), snapshot.clone(), has_rows));
        (snapshot, has_rows)
    }

    pub(super) fn walk_unfinished(&mut self, snapshot: &Snapshot, copy: &StackCopy) -> CopiedFrames {
        // What the mappings were resolved to differs even where forked processes share them.
        let same = self.local_holds.as_ref().is_some_and(|held| Arc::ptr_eq(held, &snapshot.resolved));
        if !same {
            let mappings = snapshot.table(&mut self.executables, &mut self.tables);
            self.local_holds = mappings.is_ok().then(|| snapshot.resolved.clone());
            let mappings = mappings.unwrap_or_default();
            self.local.place(|base, words| encode_process_table(base, &mappings, words));
        }
        let slab = AgentSlab { segments: self.tables.segments(), local: &self.local };
        walk_copy(copy, &slab, LocalSegment::BASE)
    }

    pub(super) fn finish_sample(&mut self, unfinished: Unfinished) {
        let Unfinished { record, snapshot, owner, stale, copy } = unfinished;
        let in_kernel_mode = record.is_in_kernel_mode();
        let mut user = record.user;
        let (mut end, mut ways) = (record.end, record.header.provenance);
        self.counters.kernel_walked_frames += user.len() as u64;
        self.counters.cache_hits += u64::from(record.header.cache_hits);
        let kernel_finished = !end.worth_a_copy();
        if let Some(copy) = copy {
            let again = self.walk_unfinished(&snapshot, &copy);
            // Not a word of the stack could be read (a page may be away, or the memory as a whole), or perf core says that there
            // are no user registers any more, as it does after `exit_mm`.
            let is_without_stack = in_kernel_mode && user.len() <= 1 && copy.stack.is_empty();
            if self.captures.len() < self.options.keep_captures {
                self.captures.push(Capture {
                    pid: record.header.tgid,
                    mappings: snapshot.mappings.clone(),
                    copy,
                    kernel: (user.clone(), end),
                    agent: (again.frames.clone(), again.end),
                    provenance: again.provenance,
                });
            }
            if kernel_finished {
                self.verify(&user, end, &again);
            } else if is_without_stack && self.is_without_memory(owner.pid, record.header.time_ns) {
                self.counters.no_memory += 1;
                user.clear();
                (end, ways) = (End::NoMemory, 0);
            } else if better(&again, end, user.len()) {
                (user, end, ways) = (again.frames, again.end, again.provenance);
            }
            self.counters.finished_from_copy += u64::from(!kernel_finished && end != End::NoMemory);
        } else if !kernel_finished {
            self.counters.copy_missing += 1;
        }
        if kernel_finished && end.has_user_part() {
            self.counters.finished_in_kernel += 1;
        }
        if stale {
            self.counters.stale += 1;
            ways |= provenance::STALE;
        }
        let mut locations = Vec::with_capacity(record.kernel.len() + user.len());
        for (depth, address) in record.kernel.iter().enumerate() {
            // Return addresses point behind the call; only the leaf is exact.
            let inside = if depth == 0 { *address } else { address.wrapping_sub(1) };
            locations.push(self.builder.location(LocationKind::Kernel, None, inside));
        }
        for address in &user {
            locations.push(self.user_location(&snapshot, &owner, *address));
        }
        let room = self.builder.samples() < MAX_SAMPLES;
        let Some(stack) = room.then(|| self.builder.stack(locations)).flatten() else {
            self.counters.batch_full += 1;
            return;
        };
        let process = self.batch_process(&owner);
        let thread_name = String::from_utf8_lossy(record.header.comm.split(|byte| *byte == 0).next().unwrap_or(&[]));
        let sample = Sample {
            time_ns: record.header.time_ns,
            weight_ns: self.weight_ns(record.header.time_ns),
            process,
            tid: record.header.tid,
            thread_name: self.builder.text(&thread_name),
            cpu: record.header.cpu,
            stack,
            end,
            provenance: ways,
        };
        self.builder.push(sample);
        self.counters.samples += 1;
    }

    fn is_without_memory(&self, pid: u32, time_ns: u64) -> bool {
        self.processes.get(pid).is_some_and(|process| process.is_without_memory(time_ns))
    }

    fn batch_process(&mut self, owner: &Owner) -> ProcessIndex {
        let process = BatchProcess {
            pid: owner.pid,
            start_time_ns: owner.start_time_ns,
            comm: self.builder.text(&owner.comm),
            executable: self.builder.text(&owner.executable),
            cgroup_id: owner.cgroup_id,
            cgroup: self.builder.text(""),
            identity: None,
        };
        self.builder.process(process)
    }

    /// Each executable has a mapping of its own: two containers' `/app` without build ids are not one.
    fn mapping_of(&mut self, executable: ExecutableIndex) -> MappingIndex {
        if let Some(known) = self.executable_mappings.get(&executable) {
            return *known;
        }
        let (path, build_id) = match self.executables.get(executable) {
            Some(executable) => (executable.path.clone(), executable.build_id.clone()),
            None => ("".into(), String::new()),
        };
        let at = self.builder.new_mapping(&path, &build_id);
        self.executable_mappings.insert(executable, at);
        at
    }

    pub(super) fn verify(&mut self, user: &[u64], end: End, again: &CopiedFrames) {
        if !self.options.verify {
            return;
        }
        let cut = again.end == End::BadRead && end != End::BadRead && user.starts_with(&again.frames);
        if cut {
            self.counters.verified_cut += 1;
        } else if again.frames == user && again.end == end {
            self.counters.verified_same += 1;
        } else {
            self.counters.verified_different += 1;
        }
    }

    pub(super) fn user_location(&mut self, snapshot: &Snapshot, owner: &Owner, address: u64) -> LocationIndex {
        let Some((index, mapping)) = snapshot.mappings.find(address) else {
            return self.builder.location(LocationKind::Unknown, None, address);
        };
        match snapshot.resolution(index) {
            Resolution::Known(Resolved { executable, bias }) => {
                self.executables.touch(executable);
                let kind = if mapping.backing == Backing::Vdso { LocationKind::Vdso } else { LocationKind::Native };
                let at = self.mapping_of(executable);
                self.builder.location(kind, Some(at), address.wrapping_sub(bias))
            }
            _ if mapping.backing == Backing::Anonymous => {
                let (pid, start_time_ns) = (owner.pid, owner.start_time_ns);
                let at = self.run_time_code.mapping(pid, start_time_ns).unwrap_or_else(|| {
                    let root = self.executables.root_of(pid);
                    let place = self.processes.place(pid, start_time_ns, root);
                    self.run_time_code.add(&mut self.builder, (pid, start_time_ns), place)
                });
                self.builder.location(LocationKind::Jit, Some(at), address)
            }
            _ => {
                let at = self.builder.mapping(&mapping.path, "");
                let in_file = address.wrapping_sub(mapping.start).wrapping_add(mapping.file_offset);
                self.builder.location(LocationKind::Unknown, Some(at), in_file)
            }
        }
    }
}

/// Whether a walk of the copy tells more than the kernel's record did.
fn better(again: &CopiedFrames, end: End, frames: usize) -> bool {
    again.end == End::Complete || again.frames.len() > frames || (again.frames.len() == frames && again.end != end)
}
