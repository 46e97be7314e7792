//! A process's mappings with the executables behind them, as they were at one moment: what a sample's addresses are told by.

use std::sync::Arc;

use super::executable::ExecutableIndex;
use super::executables::Executables;
use super::mappings::{Backing, Mapping, Mappings};
use super::processes::Processes;
use crate::sampler::SamplerError;
use crate::tables::{TableMapping, Tables};

/// What is behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// No executable: memory, or a file that can't be had or is none.
    Nothing,
    /// A worker is looking for the file.
    Pending,
    /// An executable.
    Known(Resolved),
}

/// A mapping's executable and its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Which.
    pub executable: ExecutableIndex,
    /// ELF address = pc − bias.
    pub bias: u64,
}

/// See the module documentation.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Ascending.
    pub mappings: Arc<Mappings>,
    /// One for each mapping.
    pub resolved: Arc<Vec<Resolution>>,
    /// Whether the mappings are still being read, or some file is still looked for.
    pub is_pending: bool,
    awaits_maps: bool,
}

impl Snapshot {
    /// Of process `pid` as it is now. What it had at `before` and still has is not looked for again: a JIT adds mappings many
    /// times a second.
    pub fn take(
        processes: &Processes,
        executables: &mut Executables,
        pid: u32,
        before: Option<&Snapshot>,
    ) -> Option<Snapshot> {
        let process = processes.get(pid)?;
        let mappings = process.mappings.clone();
        let relatives = processes.forebears(pid);
        let resolve = |mapping: &Mapping| match before.map(|before| before.resolution_of(mapping)) {
            Some(known @ Resolution::Known(_)) => known,
            _ => executables.resolve(processes.proc_root(), (pid, &relatives), mapping),
        };
        let resolved = mappings.iter().map(resolve).collect();
        let mut snapshot = Snapshot::new(mappings, resolved);
        snapshot.awaits_maps = process.awaits_maps();
        snapshot.is_pending |= snapshot.awaits_maps;
        Some(snapshot)
    }

    /// The same mappings, with what was found meanwhile.
    pub fn look_again(&self, processes: &Processes, executables: &mut Executables, pid: u32) -> Snapshot {
        if self.awaits_maps {
            return Snapshot::take(processes, executables, pid, Some(self)).unwrap_or_default();
        }
        let relatives = processes.forebears(pid);
        let resolve = |(mapping, resolution): (&Mapping, &Resolution)| match resolution {
            Resolution::Pending => executables.resolve(processes.proc_root(), (pid, &relatives), mapping),
            known => *known,
        };
        let resolved = self.mappings.iter().zip(self.resolved.iter()).map(resolve).collect();
        Snapshot::new(self.mappings.clone(), resolved)
    }

    fn new(mappings: Arc<Mappings>, resolved: Vec<Resolution>) -> Snapshot {
        let is_pending = resolved.contains(&Resolution::Pending);
        Snapshot { mappings, resolved: Arc::new(resolved), is_pending, awaits_maps: false }
    }

    /// What the very same mapping was resolved to.
    fn resolution_of(&self, mapping: &Mapping) -> Resolution {
        match self.mappings.find(mapping.start) {
            Some((index, old)) if old == mapping => self.resolution(index),
            _ => Resolution::Nothing,
        }
    }

    /// Whether a file that is mapped could not be had, or is no executable.
    pub fn lacks_file(&self) -> bool {
        let is_lacking = |(mapping, resolution): (&Mapping, &Resolution)| {
            mapping.backing == Backing::File && *resolution == Resolution::Nothing
        };
        self.mappings.iter().zip(self.resolved.iter()).any(is_lacking)
    }

    /// What the mapping at `index` was resolved to.
    pub fn resolution(&self, index: usize) -> Resolution {
        self.resolved.get(index).copied().unwrap_or(Resolution::Nothing)
    }

    /// The executables behind it.
    pub fn executables(&self) -> impl Iterator<Item = ExecutableIndex> + '_ {
        self.resolved.iter().filter_map(|resolution| match resolution {
            Resolution::Known(resolved) => Some(resolved.executable),
            Resolution::Nothing | Resolution::Pending => None,
        })
    }

    /// What the kernel is told of it; rows are asked for.
    pub fn table(&self, executables: &mut Executables, tables: &mut Tables) -> Result<Vec<TableMapping>, SamplerError> {
        let mut all = Vec::with_capacity(self.resolved.len());
        for (mapping, resolution) in self.mappings.iter().zip(self.resolved.iter()) {
            let (descriptor, bias) = match resolution {
                Resolution::Known(Resolved { executable, bias }) => {
                    (executables.descriptor(*executable, tables)?, *bias)
                }
                // Reads as rows that are not loaded yet: the sample waits, with a copy of its stack.
                Resolution::Pending => (tables.pending_descriptor()?, 0),
                Resolution::Nothing => (0, 0),
            };
            all.push(TableMapping { start: mapping.start, end: mapping.end, descriptor, bias });
        }
        Ok(all)
    }
}
