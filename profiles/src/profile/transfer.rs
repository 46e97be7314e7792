//! Samples of one batch into another: what they refer to comes with them, each thing once, and nothing else.
//!
//! Two mappings of one batch stay two, though name and build id be the same: they are different files, and a build id can be
//! copied. Whether mappings of two batches are the same file is for the caller to say ([`Sameness`]).

use hashbrown::HashMap;
use std::hash::Hash;

use super::pprof::EncodeError;
use super::{
    Batch, Function, FunctionIndex, Identity, IdentityIndex, Line, Location, LocationIndex, MAX_STACKS, Mapping,
    MappingIndex, Process, ProcessIndex, Sample, Stack, StackIndex, StringIndex, StringTable,
};
use crate::ledger::{Drop, Ledger};

/// What must be equal, besides name and build id, for mappings of two batches to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sameness {
    /// It is the only one of this name and build id in its batch.
    Only,
    /// One of several, in use by this process (pid, start time).
    UsedBy(u32, u64),
}

fn intern<K: Eq + Hash + Clone>(index: &mut HashMap<K, u32>, list: &mut Vec<K>, value: K) -> u32 {
    let next = list.len() as u32;
    *index.entry(value).or_insert_with_key(|value| {
        list.push(value.clone());
        next
    })
}

pub(super) fn get<'table, T>(table: &'static str, all: &'table [T], index: u32) -> Result<&'table T, EncodeError> {
    all.get(index as usize).ok_or(EncodeError { table, index })
}

/// The batch in the making, and where its things are by content.
pub(super) struct Target {
    batch: Batch,
    mappings: HashMap<(Mapping, Sameness), MappingIndex>,
    functions: HashMap<Function, u32>,
    locations: HashMap<Location, u32>,
    stacks: HashMap<Stack, u32>,
    processes: HashMap<Process, u32>,
    identities: HashMap<Identity, u32>,
    dropped: u64,
}

impl Target {
    /// Empty, with the clock and period of `like`.
    pub(super) fn like(like: &Batch) -> Target {
        let mut strings = StringTable::default();
        // Index 0 is the empty text, as in pprof.
        strings.intern("");
        Target {
            batch: Batch {
                wall_start_ns: like.wall_start_ns,
                monotonic_start_ns: like.monotonic_start_ns,
                duration_ns: like.duration_ns,
                period_ns: like.period_ns,
                strings,
                mappings: Vec::new(),
                functions: Vec::new(),
                locations: Vec::new(),
                stacks: Vec::new(),
                processes: Vec::new(),
                identities: Vec::new(),
                samples: Vec::new(),
                ledger: Ledger::default(),
            },
            mappings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            stacks: HashMap::new(),
            processes: HashMap::new(),
            identities: HashMap::new(),
            dropped: 0,
        }
    }

    /// The batch; samples beyond [`MAX_STACKS`] stacks are `queue_full` in its ledger instead of `recorded`.
    pub(super) fn finish(mut self, mut ledger: Ledger) -> Batch {
        ledger.recorded = ledger.recorded.saturating_sub(self.dropped);
        ledger.dropped[Drop::QueueFull as usize] += self.dropped;
        self.batch.ledger = ledger;
        self.batch
    }
}

/// One source of samples, with what became of its indices.
pub(super) struct Source<'target, 'source> {
    target: &'target mut Target,
    source: &'source Batch,
    /// By mapping; `None` and those beyond the end stay their own.
    sameness: &'source [Option<Sameness>],
    strings: HashMap<StringIndex, StringIndex>,
    mappings: HashMap<MappingIndex, MappingIndex>,
    functions: HashMap<FunctionIndex, FunctionIndex>,
    locations: HashMap<LocationIndex, LocationIndex>,
    /// `None`: the target has [`MAX_STACKS`] others.
    stacks: HashMap<StackIndex, Option<StackIndex>>,
    processes: HashMap<ProcessIndex, ProcessIndex>,
}

impl<'target, 'source> Source<'target, 'source> {
    pub(super) fn new(
        target: &'target mut Target,
        source: &'source Batch,
        sameness: &'source [Option<Sameness>],
    ) -> Source<'target, 'source> {
        Source {
            target,
            source,
            sameness,
            strings: HashMap::new(),
            mappings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            stacks: HashMap::new(),
            processes: HashMap::new(),
        }
    }

    /// Adds a sample of the source to the target.
    pub(super) fn sample(&mut self, sample: &Sample) -> Result<(), EncodeError> {
        let Some(stack) = self.stack(sample.stack)? else {
            self.target.dropped += 1;
            return Ok(());
        };
        let (process, thread_name) = (self.process(sample.process)?, self.string(sample.thread_name));
        self.target.batch.samples.push(Sample { process, thread_name, stack, ..*sample });
        Ok(())
    }

    fn string(&mut self, index: StringIndex) -> StringIndex {
        let (source, target) = (self.source, &mut self.target.batch.strings);
        *self.strings.entry(index).or_insert_with(|| match source.strings.get_shared(index) {
            Some(text) => target.share(text),
            None => target.intern(""),
        })
    }

    fn stack(&mut self, index: StackIndex) -> Result<Option<StackIndex>, EncodeError> {
        if let Some(known) = self.stacks.get(&index) {
            return Ok(*known);
        }
        let stack = get("stack", &self.source.stacks, index.0)?;
        let mut locations = Vec::with_capacity(stack.locations.len());
        for location in &stack.locations {
            locations.push(self.location(*location)?);
        }
        let stack = Stack { locations };
        let target = &mut *self.target;
        let full = target.batch.stacks.len() >= MAX_STACKS && !target.stacks.contains_key(&stack);
        let new = (!full).then(|| StackIndex(intern(&mut target.stacks, &mut target.batch.stacks, stack)));
        self.stacks.insert(index, new);
        Ok(new)
    }

    fn location(&mut self, index: LocationIndex) -> Result<LocationIndex, EncodeError> {
        if let Some(known) = self.locations.get(&index) {
            return Ok(*known);
        }
        let location = get("location", &self.source.locations, index.0)?;
        let mapping = location.mapping.map(|mapping| self.mapping(mapping)).transpose()?;
        let mut lines = Vec::with_capacity(location.lines.len());
        for line in &location.lines {
            lines.push(Line { function: self.function(line.function)?, ..*line });
        }
        let copy = Location { kind: location.kind, mapping, address: location.address, lines };
        let new = LocationIndex(intern(&mut self.target.locations, &mut self.target.batch.locations, copy));
        self.locations.insert(index, new);
        Ok(new)
    }

    fn mapping(&mut self, index: MappingIndex) -> Result<MappingIndex, EncodeError> {
        if let Some(known) = self.mappings.get(&index) {
            return Ok(*known);
        }
        let mapping = get("mapping", &self.source.mappings, index.0)?;
        let own = Mapping { filename: self.string(mapping.filename), build_id: self.string(mapping.build_id) };
        let all = &mut self.target.batch.mappings;
        let next = MappingIndex(all.len() as u32);
        let new = match self.sameness.get(index.0 as usize).copied().flatten() {
            Some(sameness) => *self.target.mappings.entry((own.clone(), sameness)).or_insert(next),
            None => next,
        };
        if new == next {
            all.push(own);
        }
        self.mappings.insert(index, new);
        Ok(new)
    }

    fn function(&mut self, index: FunctionIndex) -> Result<FunctionIndex, EncodeError> {
        if let Some(known) = self.functions.get(&index) {
            return Ok(*known);
        }
        let function = get("function", &self.source.functions, index.0)?;
        let copy = Function {
            name: self.string(function.name),
            system_name: self.string(function.system_name),
            filename: self.string(function.filename),
            start_line: function.start_line,
        };
        let new = FunctionIndex(intern(&mut self.target.functions, &mut self.target.batch.functions, copy));
        self.functions.insert(index, new);
        Ok(new)
    }

    fn process(&mut self, index: ProcessIndex) -> Result<ProcessIndex, EncodeError> {
        if let Some(known) = self.processes.get(&index) {
            return Ok(*known);
        }
        let process = get("process", &self.source.processes, index.0)?;
        let identity = match process.identity {
            Some(identity) => {
                let identity = get("identity", &self.source.identities, identity.0)?.clone();
                let target = &mut *self.target;
                Some(IdentityIndex(intern(&mut target.identities, &mut target.batch.identities, identity)))
            }
            None => None,
        };
        let copy = Process {
            comm: self.string(process.comm),
            executable: self.string(process.executable),
            cgroup: self.string(process.cgroup),
            identity,
            ..*process
        };
        let new = ProcessIndex(intern(&mut self.target.processes, &mut self.target.batch.processes, copy));
        self.processes.insert(index, new);
        Ok(new)
    }
}
