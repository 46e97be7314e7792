//! A batch's stacks, and what they refer to, into the dictionary. Once for each index of the batch, and once for each content.

use std::collections::HashMap;

use opentelemetry_proto::tonic::profiles::v1development::{Function, Line, Location, Mapping, Stack};
use unwind::end::{End, provenance};

use super::dictionary::{Dictionary, Value};
use crate::profile::pprof::{EncodeError as BrokenBatch, TRUNCATED, provenance_text};
use crate::profile::{
    Batch, FunctionIndex, LocationIndex, LocationKind, MappingIndex, Process, Sample, StackIndex, StringIndex,
};

/// Name of a place of which nothing is known: an entry without anything would mean "no place".
pub const UNKNOWN: &str = "[unknown]";
/// Key of the attribute that says why a stack is not complete.
pub const UNWIND_ATTRIBUTE: &str = "everflame.unwind";
/// Key of the attribute that says how frames were found, if not by tables alone.
pub const PROVENANCE_ATTRIBUTE: &str = "everflame.provenance";

/// What a sample's attributes come from. The process is `None` if the resource tells of it.
pub(super) type SampleKey = (Option<(u32, StringIndex, StringIndex)>, u32, StringIndex, End, u8);

/// The dictionary, and where a batch's things are in it.
pub(super) struct Tables<'batch> {
    batch: &'batch Batch,
    pub(super) dictionary: Dictionary,
    mappings: HashMap<MappingIndex, i32>,
    functions: HashMap<FunctionIndex, i32>,
    locations: HashMap<LocationIndex, i32>,
    stacks: HashMap<(StackIndex, bool), i32>,
    attributes: HashMap<SampleKey, Vec<i32>>,
}

fn get<'table, T>(table: &'static str, all: &'table [T], index: u32) -> Result<&'table T, BrokenBatch> {
    all.get(index as usize).ok_or(BrokenBatch { table, index })
}

impl<'batch> Tables<'batch> {
    pub(super) fn new(batch: &'batch Batch) -> Tables<'batch> {
        Tables {
            batch,
            dictionary: Dictionary::new(),
            mappings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            stacks: HashMap::new(),
            attributes: HashMap::new(),
        }
    }

    /// The stack of a sample; a cut one has a root that says so, as in pprof.
    pub(super) fn stack(&mut self, sample: &Sample) -> Result<i32, BrokenBatch> {
        let key = (sample.stack, sample.end == End::Truncated);
        if let Some(known) = self.stacks.get(&key) {
            return Ok(*known);
        }
        let batch = self.batch;
        let locations = &get("stack", &batch.stacks, sample.stack.0)?.locations;
        let mut location_indices = Vec::with_capacity(locations.len() + 1);
        for location in locations {
            location_indices.push(self.location(*location)?);
        }
        let root = locations.last().and_then(|root| batch.locations.get(root.0 as usize));
        if key.1 && root.is_none_or(|root| root.kind != LocationKind::Marker) {
            let lines = vec![self.named(TRUNCATED)];
            location_indices.push(self.dictionary.location(Location { lines, ..Location::default() }));
        }
        let index = self.dictionary.stack(Stack { location_indices });
        self.stacks.insert(key, index);
        Ok(index)
    }

    /// The attributes of a sample: thread, how it was unwound, and the process if the resource does not tell of it.
    pub(super) fn attributes(&mut self, sample: &Sample, process: Option<&Process>) -> Vec<i32> {
        let process = process.map(|process| (process.pid, process.executable, process.comm));
        let key: SampleKey = (process, sample.tid, sample.thread_name, sample.end, sample.provenance);
        if let Some(known) = self.attributes.get(&key) {
            return known.clone();
        }
        let (batch, dictionary) = (self.batch, &mut self.dictionary);
        let mut all = Vec::with_capacity(6);
        if let Some((pid, executable, comm)) = process {
            all.push(dictionary.attribute("process.pid", Value::Number(i64::from(pid))));
            let name = executable_name(batch, executable, comm);
            if !name.is_empty() {
                all.push(dictionary.attribute("process.executable.name", Value::Text(name.to_owned())));
            }
        }
        all.push(dictionary.attribute("thread.id", Value::Number(i64::from(sample.tid))));
        let thread_name = batch.strings.get(sample.thread_name);
        if !thread_name.is_empty() {
            all.push(dictionary.attribute("thread.name", Value::Text(thread_name.to_owned())));
        }
        if sample.end.has_user_part() && sample.end != End::Complete {
            all.push(dictionary.attribute(UNWIND_ATTRIBUTE, Value::Text(sample.end.name().to_owned())));
        }
        if sample.provenance & !provenance::TABLE != 0 {
            let text = provenance_text(sample.provenance);
            all.push(dictionary.attribute(PROVENANCE_ATTRIBUTE, Value::Text(text)));
        }
        self.attributes.insert(key, all.clone());
        all
    }

    fn location(&mut self, index: LocationIndex) -> Result<i32, BrokenBatch> {
        if let Some(known) = self.locations.get(&index) {
            return Ok(*known);
        }
        let location = get("location", &self.batch.locations, index.0)?;
        let mapping_index = location.mapping.map_or(Ok(0), |mapping| self.mapping(mapping))?;
        let mut lines = Vec::with_capacity(location.lines.len());
        for line in &location.lines {
            let function_index = self.function(line.function)?;
            lines.push(Line { function_index, line: i64::from(line.line), column: i64::from(line.column) });
        }
        let frame_type = frame_type(location.kind)
            .map(|name| self.dictionary.attribute("profile.frame.type", Value::Text(name.to_owned())));
        let attribute_indices = Vec::from_iter(frame_type);
        let mut place = Location { mapping_index, address: location.address, lines, attribute_indices };
        if place == Location::default() {
            place.lines.push(self.named(UNKNOWN));
        }
        let new = self.dictionary.location(place);
        self.locations.insert(index, new);
        Ok(new)
    }

    fn mapping(&mut self, index: MappingIndex) -> Result<i32, BrokenBatch> {
        if let Some(known) = self.mappings.get(&index) {
            return Ok(*known);
        }
        let mapping = get("mapping", &self.batch.mappings, index.0)?;
        let (strings, dictionary) = (&self.batch.strings, &mut self.dictionary);
        let build_id = strings.get(mapping.build_id);
        let build_id = (!build_id.is_empty())
            .then(|| dictionary.attribute("process.executable.build_id.gnu", Value::Text(build_id.to_owned())));
        let filename_strindex = dictionary.string(strings.get(mapping.filename));
        // As in pprof: addresses are the file's own, so that the mapping has neither beginning nor end.
        let new = dictionary.mapping(Mapping {
            memory_limit: u64::MAX,
            filename_strindex,
            attribute_indices: Vec::from_iter(build_id),
            ..Mapping::default()
        });
        self.mappings.insert(index, new);
        Ok(new)
    }

    fn function(&mut self, index: FunctionIndex) -> Result<i32, BrokenBatch> {
        if let Some(known) = self.functions.get(&index) {
            return Ok(*known);
        }
        let function = get("function", &self.batch.functions, index.0)?;
        let strings = &self.batch.strings;
        let mut text = |index| self.dictionary.string(strings.get(index));
        let mut copy = Function {
            name_strindex: text(function.name),
            system_name_strindex: text(function.system_name),
            filename_strindex: text(function.filename),
            start_line: i64::from(function.start_line),
        };
        if (copy.name_strindex, copy.system_name_strindex, copy.filename_strindex) == (0, 0, 0) {
            copy.name_strindex = self.dictionary.string(UNKNOWN);
        }
        let new = self.dictionary.function(copy);
        self.functions.insert(index, new);
        Ok(new)
    }

    /// A line of a function that is nothing but a name.
    fn named(&mut self, name: &str) -> Line {
        let name = self.dictionary.string(name);
        let function = Function { name_strindex: name, system_name_strindex: name, ..Function::default() };
        Line { function_index: self.dictionary.function(function), ..Line::default() }
    }
}

/// The base name of the executable's path, or the comm if there is none.
pub(super) fn executable_name(batch: &Batch, executable: StringIndex, comm: StringIndex) -> &str {
    let path = batch.strings.get(executable);
    if path.is_empty() { batch.strings.get(comm) } else { path.rsplit('/').next().unwrap_or(path) }
}

/// The conventions' names of frame types (1.44). Two are ours, which they allow where none of theirs is known to be right.
fn frame_type(kind: LocationKind) -> Option<&'static str> {
    match kind {
        LocationKind::Native | LocationKind::Vdso => Some("native"),
        LocationKind::Go => Some("go"),
        LocationKind::Kernel | LocationKind::KernelModule | LocationKind::Bpf => Some("kernel"),
        LocationKind::Jit => Some("jit"),
        LocationKind::Interpreter => Some("interpreter"),
        LocationKind::Marker | LocationKind::Unknown => None,
    }
}
