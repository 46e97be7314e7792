//! [`BatchBuilder`]: a batch in the making. Everything is interned whole as it comes; names are filled in at the end.

use hashbrown::HashMap;
use std::hash::Hash;

use super::{
    Batch, Location, LocationIndex, LocationKind, Mapping, MappingIndex, Process, ProcessIndex, Sample, Stack,
    StackIndex, StringIndex, StringTable,
};
use crate::ledger::Ledger;

/// Most distinct stacks in one batch, about 1 KiB each; samples of further ones are dropped and counted.
pub const MAX_STACKS: usize = 1 << 20;
/// Most samples in one batch, 40 bytes each, 640 MiB in all: 24 hours of two busy CPUs at 97 Hz, 11 minutes of 256. The caller drops
/// and counts further ones.
pub const MAX_SAMPLES: usize = 1 << 24;

fn intern<K: Eq + Hash + Clone>(index: &mut HashMap<K, u32>, list: &mut Vec<K>, value: K) -> u32 {
    if let Some(found) = index.get(&value) {
        return *found;
    }
    let number = list.len() as u32;
    list.push(value.clone());
    index.insert(value, number);
    number
}

/// Collects samples.
pub struct BatchBuilder {
    strings: StringTable,
    mappings: Vec<Mapping>,
    mapping_index: HashMap<Mapping, u32>,
    locations: Vec<Location>,
    location_index: HashMap<(LocationKind, Option<MappingIndex>, u64), LocationIndex>,
    stacks: Vec<Stack>,
    stack_index: HashMap<Stack, u32>,
    processes: Vec<Process>,
    process_index: HashMap<Process, u32>,
    samples: Vec<Sample>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> BatchBuilder {
        let mut strings = StringTable::default();
        // Index 0 is the empty text, as in pprof.
        strings.intern("");
        BatchBuilder {
            strings,
            mappings: Vec::new(),
            mapping_index: HashMap::new(),
            locations: Vec::new(),
            location_index: HashMap::new(),
            stacks: Vec::new(),
            stack_index: HashMap::new(),
            processes: Vec::new(),
            process_index: HashMap::new(),
            samples: Vec::new(),
        }
    }

    /// A text's index.
    pub fn text(&mut self, text: &str) -> StringIndex {
        self.strings.intern(text)
    }

    /// The index of an executable, by file name and build id.
    pub fn mapping(&mut self, filename: &str, build_id: &str) -> MappingIndex {
        let mapping = Mapping { filename: self.strings.intern(filename), build_id: self.strings.intern(build_id) };
        MappingIndex(intern(&mut self.mapping_index, &mut self.mappings, mapping))
    }

    /// The index of an executable that is not to be one with others of its name.
    pub fn new_mapping(&mut self, filename: &str, build_id: &str) -> MappingIndex {
        let mapping = Mapping { filename: self.strings.intern(filename), build_id: self.strings.intern(build_id) };
        self.mappings.push(mapping);
        MappingIndex(self.mappings.len() as u32 - 1)
    }

    /// The index of a place in code.
    pub fn location(&mut self, kind: LocationKind, mapping: Option<MappingIndex>, address: u64) -> LocationIndex {
        let next = LocationIndex(self.locations.len() as u32);
        let locations = &mut self.locations;
        *self.location_index.entry((kind, mapping, address)).or_insert_with(|| {
            locations.push(Location { kind, mapping, address, lines: Vec::new() });
            next
        })
    }

    /// The index of a whole stack; `None` if there are [`MAX_STACKS`] others.
    pub fn stack(&mut self, locations: Vec<LocationIndex>) -> Option<StackIndex> {
        let stack = Stack { locations };
        if self.stacks.len() >= MAX_STACKS && !self.stack_index.contains_key(&stack) {
            return None;
        }
        Some(StackIndex(intern(&mut self.stack_index, &mut self.stacks, stack)))
    }

    /// The index of a process as it is now.
    pub fn process(&mut self, process: Process) -> ProcessIndex {
        ProcessIndex(intern(&mut self.process_index, &mut self.processes, process))
    }

    /// Adds a sample.
    pub fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Whether nothing more may come: not another sample, or not another stack.
    pub fn is_full(&self) -> bool {
        self.samples.len() >= MAX_SAMPLES || self.stacks.len() >= MAX_STACKS
    }

    /// Samples so far.
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Mappings so far.
    pub fn mappings(&self) -> usize {
        self.mappings.len()
    }

    /// Processes so far.
    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    /// Ends the batch; samples are brought into the order of time.
    pub fn finish(mut self, period_ns: u64, ledger: Ledger) -> Batch {
        self.samples.sort_by_key(|sample| (sample.time_ns, sample.cpu));
        Batch {
            wall_start_ns: 0,
            monotonic_start_ns: 0,
            duration_ns: 0,
            period_ns,
            strings: self.strings,
            mappings: self.mappings,
            functions: Vec::new(),
            locations: self.locations,
            stacks: self.stacks,
            processes: self.processes,
            identities: Vec::new(),
            samples: self.samples,
            ledger,
        }
    }
}
