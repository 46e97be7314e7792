//! The executable table: each executable once per node, whatever its path or container; its file kept open.
//!
//! Files of local file systems are opened at once, others by workers: see `mounts` and `asked_files`. Rows are `rows`' matter.

use hashbrown::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use symbolizer::OpenFile;

use super::asked_files::{Answer, Arrived, AskedFiles};
use super::closing::Closing;
use super::early_files::EarlyFiles;
use super::executable::{Executable, ExecutableCounters, ExecutableIndex, RecentSamples, RowState};
use super::forget::{Sweep, open_files_limit};
use super::identity::{FileKey, Header, read_header};
use super::mappings::{Backing, Mapping};
use super::mounts::Mounts;
use super::opening::{OpenedFile, open_mapped};
use super::roots::Roots;
use super::row_builders::RowBuilders;
use super::slots::Slots;
use super::snapshot::{Resolution, Resolved};
use super::workers::Lane;
use crate::sampler::SamplerError;
use crate::tables::Tables;

/// Most executables that are known at a time; each holds a file descriptor and about 500 bytes.
pub const MAX_EXECUTABLES: usize = 16384;
/// Most files whose executable is known, about 100 bytes each; all are looked at again when there are more.
const MAX_KNOWN_FILES: usize = 65536;

/// All executables, and the workers that open files and build rows.
pub struct Executables {
    pub(super) slots: Slots,
    pub(super) by_file: HashMap<FileKey, KnownFile>,
    pub(super) by_identity: HashMap<[u8; 32], ExecutableIndex>,
    vdso: Option<ExecutableIndex>,
    pub(super) early: EarlyFiles,
    mounts: Mounts,
    roots: Roots,
    pub(super) asked: AskedFiles,
    closing: Closing,
    pub(super) builders: RowBuilders,
    pub(super) sweep: Sweep,
    /// CLOCK_MONOTONIC as of this round, ns.
    pub(super) now_ns: u64,
    /// What could not be had.
    pub counters: ExecutableCounters,
}

/// What workers have done.
pub struct Finished {
    /// Processes for which files were found, or given up: they are to be looked at again.
    pub processes: Vec<u32>,
    /// Executables that were without rows for the kernel until now: what was cached of them is to be forgotten.
    pub regained: Vec<ExecutableIndex>,
}

/// What a file was found to be.
pub(super) struct KnownFile {
    pub(super) executable: Option<ExecutableIndex>,
    pub(super) last_used_ns: u64,
}

impl Executables {
    /// None yet; `/proc` is at `proc_root`. Workers are started when they are needed.
    pub fn new(proc_root: &Path) -> Executables {
        Executables {
            slots: Slots::default(),
            by_file: HashMap::new(),
            by_identity: HashMap::new(),
            vdso: None,
            early: EarlyFiles::default(),
            mounts: Mounts::new(proc_root),
            roots: Roots::new(proc_root),
            asked: AskedFiles::new(),
            closing: Closing::new(),
            builders: RowBuilders::new(),
            sweep: Sweep::new(open_files_limit()),
            now_ns: 0,
            counters: ExecutableCounters::default(),
        }
    }

    /// The executable at `index`, unless it was forgotten.
    pub fn get(&self, index: ExecutableIndex) -> Option<&Executable> {
        self.slots.get(index)
    }

    /// Notes that it was sampled.
    pub fn touch(&mut self, index: ExecutableIndex) {
        if let Some(executable) = self.slots.get_mut(index) {
            executable.last_sampled_ns = self.now_ns;
            executable.recent.add(self.now_ns);
        }
    }

    /// All, with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (ExecutableIndex, &Executable)> {
        self.slots.iter()
    }

    /// How many are known.
    pub fn known(&self) -> usize {
        self.slots.len()
    }

    /// Whether its file is on a device that is left alone, since it did not answer.
    pub fn is_silent(&self, executable: &Executable) -> bool {
        executable.lane.is_some_and(|device| self.asked.avoids(device, None, Instant::now()))
    }

    /// Files that are looked for and row builds that are under way.
    pub fn working(&self) -> usize {
        self.builders.building() + self.asked.looking()
    }

    /// A record told of a mapping just made: its file is opened now, as long as the process lives. Where that might take for
    /// ever, and where it has ended, a worker is asked.
    pub fn open_early(&mut self, proc_root: &Path, (pid, has_ended): (u32, bool), mapping: &Mapping, now_ns: u64) {
        if mapping.backing != Backing::File {
            return;
        }
        // Of a process that has ended `/proc` shows neither root nor mapped files: asking was half of what a machine costs that starts
        // programs all the time (8 µs each).
        if has_ended {
            // Without its own root its forebears' are asked, once its samples have their turn: an answer of ours would stand for them.
            if let Some(root) = self.roots.get(pid)
                && self.early.takes_turn(mapping)
            {
                self.asked.ask(proc_root, (pid, || vec![root]), mapping, &mut self.counters);
            }
            return;
        }
        let root = self.root_at(pid, now_ns);
        if !self.early.wants(mapping) {
            return;
        }
        if self.mounts.is_local(pid, mapping.device) {
            self.early.open(proc_root, pid, mapping, now_ns);
        } else {
            self.asked.ask(proc_root, (pid, || root.into_iter().collect()), mapping, &mut self.counters);
        }
    }

    /// A round of the engine is over.
    pub fn end_round(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.early.end_round(now_ns);
        let now = Instant::now();
        for device in self.closing.end_round(now) {
            self.asked.avoid(device, now);
        }
        self.counters.left_open = self.closing.left_open();
    }

    /// A record told that a process was made, or runs another program, and so may have another root.
    pub fn moved(&mut self, pid: u32) {
        self.roots.moved(pid);
    }

    /// Once a second or so: lets go of what belongs to processes that are not known any more.
    pub fn forget_ended(&mut self, now_ns: u64, is_known: impl Fn(u32) -> bool) {
        self.mounts.forget_ended();
        self.roots.forget(now_ns, is_known);
        self.counters.roots_refused = self.roots.refused();
    }

    /// The executable behind a mapping of process `pid`; its `relatives` are other places to look for the file, best first.
    pub fn resolve(&mut self, proc_root: &Path, (pid, relatives): (u32, &[u32]), mapping: &Mapping) -> Resolution {
        let found = match mapping.backing {
            Backing::Vdso => self.vdso(),
            Backing::Anonymous | Backing::Special => None,
            Backing::File => match self.resolve_file(proc_root, (pid, relatives), mapping) {
                Answer::Pending => return Resolution::Pending,
                Answer::Known(index) => Some(index),
                Answer::Nothing => None,
            },
        };
        let resolved =
            found.and_then(|executable| Some(Resolved { executable, bias: self.bias(executable, mapping)? }));
        resolved.map_or(Resolution::Nothing, Resolution::Known)
    }

    /// The root of `pid`, if it is known or can be opened without waiting for anybody.
    pub fn root_of(&mut self, pid: u32) -> Option<Arc<File>> {
        self.root_at(pid, self.now_ns)
    }

    fn root_at(&mut self, pid: u32, now_ns: u64) -> Option<Arc<File>> {
        if let known @ Some(_) = self.roots.get(pid) {
            return known;
        }
        if !self.mounts.has_local_root(pid) {
            self.counters.roots_avoided += 1;
            return None;
        }
        self.roots.take(pid, now_ns)
    }

    fn resolve_file(&mut self, proc_root: &Path, (pid, relatives): (u32, &[u32]), mapping: &Mapping) -> Answer {
        let early = self.early.find(pid, relatives, mapping);
        let early = early.and_then(|(file, key)| Some(OpenedFile { file: file.try_clone().ok()?, key }));
        let root = self.root_at(pid, self.now_ns);
        let opened = match early {
            None if self.mounts.is_local(pid, mapping.device) => open_mapped(proc_root, pid, mapping),
            early => early,
        };
        let Some(opened) = opened else {
            let roots = &self.roots;
            let all = || root.into_iter().chain(relatives.iter().filter_map(|pid| roots.get(*pid))).collect();
            return self.asked.ask(proc_root, (pid, all), mapping, &mut self.counters);
        };
        match self.know(opened, None, (None, root), mapping) {
            Some(index) => Answer::Known(index),
            None => Answer::Nothing,
        }
    }

    /// Takes in what workers have done.
    pub fn take_finished(&mut self, tables: &mut Tables) -> Result<Finished, SamplerError> {
        let now = Instant::now();
        let (arrived, mut processes) = self.asked.take(now);
        for Arrived { ticket, pid, mapping, found } in arrived {
            self.counters.replaced += found.replaced;
            let index = match found.opened {
                Some((opened, header)) => {
                    let root = self.roots.get(pid);
                    self.know(opened, Some(header), (Some(mapping.device), root), &mapping)
                }
                None => {
                    self.counters.not_opened += 1;
                    None
                }
            };
            processes.extend(self.asked.answer(ticket, index, now));
        }
        let regained = self.take_built(tables, now)?;
        self.counters.stuck = self.asked.stuck() + self.builders.stuck();
        Ok(Finished { processes, regained })
    }

    /// Waits until a worker has done something, but not longer than `timeout`.
    pub fn wait(&self, timeout: Duration) {
        if self.builders.building() > 0 {
            self.builders.wait(timeout);
        } else {
            self.asked.wait(timeout);
        }
    }

    /// The executable that an open file is; `header` is what its head tells, if it was read already.
    pub(super) fn know(
        &mut self,
        opened: OpenedFile,
        header: Option<Option<Header>>,
        (lane, root): (Lane, Option<Arc<File>>),
        mapping: &Mapping,
    ) -> Option<ExecutableIndex> {
        let OpenedFile { file, key } = opened;
        let file = self.closing.hold(file, lane);
        if let Some(known) = self.by_file.get_mut(&key) {
            known.last_used_ns = self.now_ns;
            let index = known.executable;
            self.early.is_known(mapping, index);
            self.refresh_root(index, root.as_ref());
            return index;
        }
        let header = header.unwrap_or_else(|| read_header(&file, key.size()));
        let is_elf = header.is_some();
        let executable = self.add((file, key.size()), header, lane, mapping);
        self.refresh_root(executable, root.as_ref());
        // What found no room is asked for again.
        if executable.is_some() || !is_elf {
            self.early.is_known(mapping, executable);
            if self.by_file.len() >= MAX_KNOWN_FILES {
                self.by_file.clear();
            }
            self.by_file.insert(key, KnownFile { executable, last_used_ns: self.now_ns });
        }
        executable
    }

    /// The processes that it was first seen in may be gone, and their root with them.
    fn refresh_root(&mut self, index: Option<ExecutableIndex>, root: Option<&Arc<File>>) {
        if let Some(executable) = index.and_then(|index| self.slots.get_mut(index))
            && executable.root.strong_count() == 0
        {
            executable.root = root.map(Arc::downgrade).unwrap_or_default();
        }
    }

    fn add(
        &mut self,
        (file, size): (OpenFile, u64),
        header: Option<Header>,
        lane: Lane,
        mapping: &Mapping,
    ) -> Option<ExecutableIndex> {
        let Some(header) = header else {
            self.counters.not_elf += 1;
            return None;
        };
        if let Some(known) = self.by_identity.get(&header.identity) {
            return Some(*known);
        }
        if self.slots.len() >= self.sweep.most() {
            self.sweep.press();
            self.counters.too_many += 1;
            return None;
        }
        let identity = header.identity;
        let index = self.slots.add(Executable {
            path: mapping.path.clone(),
            root: Weak::new(),
            build_id: header.build_id.clone(),
            header: Some(header),
            size,
            file: Some(Arc::new(file)),
            rows: RowState::Unbuilt,
            is_go: false,
            descriptor: None,
            last_sampled_ns: 0,
            reads_as_gaps: false,
            recent: RecentSamples::default(),
            waited_ns: 0,
            last_used_ns: self.now_ns,
            lane,
        });
        self.by_identity.insert(identity, index);
        Some(index)
    }

    fn vdso(&mut self) -> Option<ExecutableIndex> {
        if self.vdso.is_none() && !super::vdso::image().is_empty() {
            self.vdso = Some(self.slots.add(Executable {
                path: "[vdso]".into(),
                root: Weak::new(),
                header: None,
                build_id: String::new(),
                file: None,
                rows: RowState::Unbuilt,
                is_go: false,
                descriptor: None,
                last_sampled_ns: 0,
                reads_as_gaps: false,
                recent: RecentSamples::default(),
                waited_ns: 0,
                last_used_ns: 0,
                size: super::vdso::image().len() as u64,
                lane: None,
            }));
        }
        self.vdso
    }

    /// pc − ELF address for code of `mapping`: what the walk subtracts from a pc.
    fn bias(&self, index: ExecutableIndex, mapping: &Mapping) -> Option<u64> {
        match &self.get(index)?.header {
            Some(header) => Some(
                mapping
                    .start
                    .wrapping_sub(header.address_of_mapping(mapping.file_offset, mapping.end - mapping.start)?),
            ),
            None => Some(mapping.start),
        }
    }
}
