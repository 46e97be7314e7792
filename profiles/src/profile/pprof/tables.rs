//! The tables of a profile while it is made: mappings, locations, functions and texts, each thing once and only what is used.
//!
//! Ids count from 1 without gaps, which some back ends demand. The main binary gets mapping 1, from which viewers take the
//! profile's name.

use hashbrown::HashMap;
use std::hash::Hash;

use pprof_proto::{Function, Line, Location, Mapping, Profile};

use super::encode::EncodeError;
use crate::profile::{Batch, FunctionIndex, LocationIndex, LocationKind, MappingIndex, StringIndex};

/// The root frame of a stack with more frames than are recorded.
pub const TRUNCATED: &str = "[truncated]";

pub(super) fn get<'table, T>(table: &'static str, all: &'table [T], index: u32) -> Result<&'table T, EncodeError> {
    all.get(index as usize).ok_or(EncodeError { table, index })
}

/// What became of a batch's locations.
pub(super) struct Ids {
    /// By location: its id, 0 for one that nobody asked for.
    pub(super) locations: Vec<u64>,
    /// Ids of those that are no code, but say that the stack goes on.
    pub(super) markers: Vec<u64>,
}

/// Content → id, counting from 1.
struct ByContent<T>(HashMap<T, u64>);

impl<T> Default for ByContent<T> {
    fn default() -> Self {
        ByContent(HashMap::new())
    }
}

impl<T: Eq + Hash> ByContent<T> {
    /// The id, and whether it is new.
    fn id(&mut self, content: T) -> (u64, bool) {
        let next = self.0.len() as u64 + 1;
        let id = *self.0.entry(content).or_insert(next);
        (id, id == next)
    }
}

#[derive(Default)]
struct Texts {
    all: Vec<String>,
    ids: HashMap<String, i64>,
}

impl Texts {
    fn id(&mut self, text: &str) -> i64 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = self.all.len() as i64;
        self.all.push(text.to_owned());
        self.ids.insert(text.to_owned(), id);
        id
    }
}

pub(super) struct Tables<'batch> {
    batch: &'batch Batch,
    texts: Texts,
    mappings: Vec<Mapping>,
    mapping_ids: HashMap<MappingIndex, u64>,
    functions: Vec<Function>,
    function_ids: ByContent<Function>,
    functions_seen: HashMap<FunctionIndex, u64>,
    locations: Vec<Location>,
    location_ids: ByContent<Location>,
    /// By location of the batch: its id, 0 for none yet. Asked for every frame of every stack.
    locations_seen: Vec<u64>,
    markers: Vec<u64>,
}

impl<'batch> Tables<'batch> {
    /// Numbers the mappings that the samples use.
    pub(super) fn new(batch: &'batch Batch) -> Result<Self, EncodeError> {
        let mut tables = Tables {
            batch,
            texts: Texts::default(),
            mappings: Vec::new(),
            mapping_ids: HashMap::new(),
            functions: Vec::new(),
            function_ids: ByContent::default(),
            functions_seen: HashMap::new(),
            locations: Vec::new(),
            location_ids: ByContent::default(),
            locations_seen: vec![0; batch.locations.len()],
            markers: Vec::new(),
        };
        tables.texts.id("");
        let mut ids = ByContent::default();
        for index in mapping_order(batch)? {
            let mapping = get("mapping", &batch.mappings, index.0)?;
            let (id, new) = ids.id(mapping);
            tables.mapping_ids.insert(index, id);
            if new {
                let filename = tables.texts.id(batch.strings.get(mapping.filename));
                let build_id = tables.texts.id(batch.strings.get(mapping.build_id));
                // Start 0, offset 0 and no end: "the addresses are the file's own". An end of 0 would do for the base, but
                // pprof then finds every address to lie outside.
                tables.mappings.push(Mapping { id, memory_limit: u64::MAX, filename, build_id, ..Mapping::default() });
            }
        }
        Ok(tables)
    }

    pub(super) fn batch(&self) -> &'batch Batch {
        self.batch
    }

    /// The index of a text, which is added if it is new.
    pub(super) fn text(&mut self, text: &str) -> i64 {
        self.texts.id(text)
    }

    /// The id of a location, which is added with all that it refers to if it is new.
    pub(super) fn location(&mut self, index: LocationIndex) -> Result<u64, EncodeError> {
        if let Some(id) = self.locations_seen.get(index.0 as usize).filter(|id| **id != 0) {
            return Ok(*id);
        }
        let location = get("location", &self.batch.locations, index.0)?;
        let mut lines = Vec::with_capacity(location.lines.len());
        for line in &location.lines {
            let function_id = self.function(line.function)?;
            lines.push(Line { function_id, line: i64::from(line.line), column: i64::from(line.column) });
        }
        let mapping_id = match location.mapping {
            Some(mapping) => {
                *self.mapping_ids.get(&mapping).ok_or(EncodeError { table: "mapping", index: mapping.0 })?
            }
            None => 0,
        };
        self.note_names(mapping_id, &lines);
        let id =
            self.add_location(Location { id: 0, mapping_id, address: location.address, line: lines, is_folded: false });
        if location.kind == LocationKind::Marker && !self.markers.contains(&id) {
            self.markers.push(id);
        }
        if let Some(seen) = self.locations_seen.get_mut(index.0 as usize) {
            *seen = id;
        }
        Ok(id)
    }

    /// The id of the location that stands for frames beyond the limit.
    pub(super) fn truncated(&mut self) -> u64 {
        let name = self.texts.id(TRUNCATED);
        let function_id = self.add_function(Function { name, system_name: name, ..Function::default() });
        let line = vec![Line { function_id, ..Line::default() }];
        self.add_location(Location { line, ..Location::default() })
    }

    /// Whether a location says that the stack goes on, instead of being code.
    pub(super) fn is_marker(&self, location: u64) -> bool {
        self.markers.contains(&location)
    }

    /// Puts the tables into the profile.
    pub(super) fn finish(self, profile: &mut Profile) -> Ids {
        profile.mapping = self.mappings;
        profile.location = self.locations;
        profile.function = self.functions;
        profile.string_table = self.texts.all;
        Ids { locations: self.locations_seen, markers: self.markers }
    }

    fn function(&mut self, index: FunctionIndex) -> Result<u64, EncodeError> {
        if let Some(id) = self.functions_seen.get(&index) {
            return Ok(*id);
        }
        let batch = self.batch;
        let function = get("function", &batch.functions, index.0)?;
        let mut text = |index: StringIndex| self.texts.id(batch.strings.get(index));
        let encoded = Function {
            id: 0,
            name: text(function.name),
            system_name: text(function.system_name),
            filename: text(function.filename),
            start_line: i64::from(function.start_line),
        };
        let id = self.add_function(encoded);
        self.functions_seen.insert(index, id);
        Ok(id)
    }

    fn add_function(&mut self, function: Function) -> u64 {
        let (id, new) = self.function_ids.id(function);
        if new {
            self.functions.push(Function { id, ..function });
        }
        id
    }

    fn add_location(&mut self, location: Location) -> u64 {
        let (id, new) = self.location_ids.id(location.clone());
        if new {
            self.locations.push(Location { id, ..location });
        }
        id
    }

    /// What was looked up with success for a mapping; pprof looks names up itself only for a mapping that has none.
    fn note_names(&mut self, mapping_id: u64, lines: &[Line]) {
        let Some(mapping) = (mapping_id as usize).checked_sub(1).and_then(|index| self.mappings.get_mut(index)) else {
            return;
        };
        mapping.has_functions |= !lines.is_empty();
        mapping.has_inline_frames |= lines.len() > 1;
        for line in lines {
            mapping.has_line_numbers |= line.line != 0;
            let function = (line.function_id as usize).checked_sub(1).and_then(|index| self.functions.get(index));
            mapping.has_filenames |= function.is_some_and(|function| function.filename != 0);
        }
    }
}

/// The mappings that samples use: the main binary, the other files, then the kernel and other things in brackets.
fn mapping_order(batch: &Batch) -> Result<Vec<MappingIndex>, EncodeError> {
    let mut used = vec![false; batch.mappings.len()];
    let mut stack_seen = vec![false; batch.stacks.len()];
    let mut weights: Vec<u64> = vec![0; batch.processes.len()];
    for sample in &batch.samples {
        if let Some(weight) = weights.get_mut(sample.process.0 as usize) {
            *weight = weight.saturating_add(sample.weight_ns);
        }
        let stack = get("stack", &batch.stacks, sample.stack.0)?;
        if stack_seen.get_mut(sample.stack.0 as usize).is_none_or(|seen| std::mem::replace(seen, true)) {
            continue;
        }
        for location in &stack.locations {
            if let Some(mapping) = get("location", &batch.locations, location.0)?.mapping {
                get("mapping", &batch.mappings, mapping.0)?;
                if let Some(used) = used.get_mut(mapping.0 as usize) {
                    *used = true;
                }
            }
        }
    }
    let main = main_executable(batch, &weights);
    let rank = |index: &MappingIndex| {
        let filename = batch.mappings.get(index.0 as usize).map(|mapping| mapping.filename);
        let text = filename.map_or("", |filename| batch.strings.get(filename));
        (filename != main, text.is_empty() || text.starts_with('['))
    };
    let mut order: Vec<MappingIndex> = (0..used.len() as u32).map(MappingIndex).collect();
    order.retain(|index| used.get(index.0 as usize).is_some_and(|used| *used));
    order.sort_by_key(rank);
    Ok(order)
}

/// The executable with the most CPU time among the processes; of equals the first.
fn main_executable(batch: &Batch, weights: &[u64]) -> Option<StringIndex> {
    let mut sums: Vec<(StringIndex, u64)> = Vec::new();
    let mut position: HashMap<StringIndex, usize> = HashMap::new();
    for (process, weight) in batch.processes.iter().zip(weights) {
        if batch.strings.get(process.executable).is_empty() {
            continue;
        }
        let at = *position.entry(process.executable).or_insert_with(|| {
            sums.push((process.executable, 0));
            sums.len() - 1
        });
        if let Some((_, sum)) = sums.get_mut(at) {
            *sum = sum.saturating_add(*weight);
        }
    }
    let mut best: Option<(StringIndex, u64)> = None;
    for (executable, sum) in sums {
        if sum > 0 && best.is_none_or(|(_, most)| sum > most) {
            best = Some((executable, sum));
        }
    }
    best.map(|(executable, _)| executable)
}
