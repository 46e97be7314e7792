//! From one numbering to another: a batch's things into a dictionary, and a segment's into the dictionary of a result.

use std::borrow::Cow;
use std::collections::HashMap;

use super::bytes::Malformed;
use super::dictionary::{Dictionary, Table};
use super::entries::Interner;
use super::entry::{self, Place, Thread};
use super::tables::Tables;
use super::tree::{MAX_STACK_DEPTH, Node};
use profiles::profile::{
    Batch, Function, FunctionIndex, Identity, IdentityIndex, Line, Location, LocationIndex, Mapping, MappingIndex,
    Process, Sample, StringIndex,
};

/// What is transferred, each remembered by itself.
#[derive(Clone, Copy)]
pub(super) enum Thing {
    OwnerText,
    Text,
    Identity,
    Process,
    Mapping,
    Function,
    Location,
    Place,
    /// A frame of the exact tree.
    Node,
}

const THINGS: usize = 9;

/// Where things come from, each by its index.
pub(super) trait Source {
    /// How many there are of a thing: an index is smaller.
    fn length(&self, thing: Thing) -> usize;
    fn owner_text(&self, index: u32) -> Result<&str, Malformed>;
    fn text(&self, index: u32) -> Result<&str, Malformed>;
    fn identity(&self, index: u32) -> Result<Cow<'_, Identity>, Malformed>;
    fn process(&self, index: u32) -> Result<Cow<'_, Process>, Malformed>;
    fn mapping(&self, index: u32) -> Result<Cow<'_, Mapping>, Malformed>;
    fn function(&self, index: u32) -> Result<Cow<'_, Function>, Malformed>;
    fn location(&self, index: u32) -> Result<Cow<'_, Location>, Malformed>;

    /// Whether a location has functions, and all of them have names.
    fn is_named(&self, location: &Location) -> Result<bool, Malformed> {
        for line in &location.lines {
            if self.text(self.function(line.function.0)?.name.0)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(!location.lines.is_empty())
    }
}

fn of<'batch, T: Clone>(all: &'batch [T], index: u32, missing: &'static str) -> Result<Cow<'batch, T>, Malformed> {
    all.get(index as usize).map(Cow::Borrowed).ok_or(Malformed(missing))
}

impl Source for Batch {
    fn length(&self, thing: Thing) -> usize {
        match thing {
            Thing::OwnerText | Thing::Text => self.strings.len(),
            Thing::Identity => self.identities.len(),
            Thing::Process => self.processes.len(),
            Thing::Mapping => self.mappings.len(),
            Thing::Function => self.functions.len(),
            Thing::Location => self.locations.len(),
            Thing::Place | Thing::Node => 0,
        }
    }
    fn owner_text(&self, index: u32) -> Result<&str, Malformed> {
        Ok(self.strings.get(StringIndex(index)))
    }
    fn text(&self, index: u32) -> Result<&str, Malformed> {
        Ok(self.strings.get(StringIndex(index)))
    }
    fn identity(&self, index: u32) -> Result<Cow<'_, Identity>, Malformed> {
        of(&self.identities, index, "an identity that is not in the batch")
    }
    fn process(&self, index: u32) -> Result<Cow<'_, Process>, Malformed> {
        of(&self.processes, index, "a process that is not in the batch")
    }
    fn mapping(&self, index: u32) -> Result<Cow<'_, Mapping>, Malformed> {
        of(&self.mappings, index, "a mapping that is not in the batch")
    }
    fn function(&self, index: u32) -> Result<Cow<'_, Function>, Malformed> {
        of(&self.functions, index, "a function that is not in the batch")
    }
    fn location(&self, index: u32) -> Result<Cow<'_, Location>, Malformed> {
        of(&self.locations, index, "a location that is not in the batch")
    }
}

impl Source for Tables {
    fn length(&self, thing: Thing) -> usize {
        self.len(match thing {
            Thing::OwnerText => Table::OwnerTexts,
            Thing::Text => Table::Texts,
            Thing::Identity => Table::Identities,
            Thing::Process => Table::Processes,
            Thing::Mapping => Table::Mappings,
            Thing::Function => Table::Functions,
            Thing::Location => Table::Locations,
            Thing::Place => Table::Places,
            Thing::Node => return self.node_count(),
        })
    }
    fn owner_text(&self, index: u32) -> Result<&str, Malformed> {
        Tables::text(self, Table::OwnerTexts, index)
    }
    fn text(&self, index: u32) -> Result<&str, Malformed> {
        Tables::text(self, Table::Texts, index)
    }
    fn identity(&self, index: u32) -> Result<Cow<'_, Identity>, Malformed> {
        let read = entry::identity(self.get(Table::Identities, index)?, |number| self.owner_text(number));
        Ok(Cow::Owned(read?))
    }
    fn process(&self, index: u32) -> Result<Cow<'_, Process>, Malformed> {
        Ok(Cow::Owned(entry::process(self.get(Table::Processes, index)?)?))
    }
    fn mapping(&self, index: u32) -> Result<Cow<'_, Mapping>, Malformed> {
        Ok(Cow::Owned(entry::mapping(self.get(Table::Mappings, index)?)?))
    }
    fn function(&self, index: u32) -> Result<Cow<'_, Function>, Malformed> {
        Ok(Cow::Owned(entry::function(self.get(Table::Functions, index)?)?))
    }
    fn location(&self, index: u32) -> Result<Cow<'_, Location>, Malformed> {
        let place = |number| entry::place(self.get(Table::Places, number)?);
        Ok(Cow::Owned(entry::location(self.get(Table::Locations, index)?, place)?))
    }
}

/// Nobody asked yet. No table has as many entries: it would not fit its 4 GiB.
const NOT_YET: u32 = u32::MAX;

/// What was already transferred of one table: by the source's number the dictionary's.
#[derive(Default)]
struct Seen(Vec<u32>);

impl Seen {
    fn get(&self, index: u32) -> Option<u32> {
        self.0.get(index as usize).copied().filter(|number| *number != NOT_YET)
    }

    /// An index beyond `length` is not remembered.
    fn insert(&mut self, index: u32, number: u32, length: usize) {
        if self.0.len() < length {
            self.0.resize(length, NOT_YET);
        }
        if let Some(slot) = self.0.get_mut(index as usize) {
            *slot = number;
        }
    }
}

/// Transfers from one source into one dictionary, each thing once.
pub(super) struct Transfer<'source, S> {
    source: &'source S,
    seen: [Seen; THINGS],
    /// A batch's stacks, with how they ended: the dictionary's traces.
    traces: HashMap<(u32, u8, u8), u32, hashbrown::DefaultHashBuilder>,
    bytes: Vec<u8>,
}

impl<'source, S: Source> Transfer<'source, S> {
    pub(super) fn new(source: &'source S) -> Self {
        Transfer { source, seen: Default::default(), traces: HashMap::default(), bytes: Vec::new() }
    }

    fn seen(&self, thing: Thing, index: u32) -> Option<u32> {
        self.seen[thing as usize].get(index)
    }

    fn note(&mut self, thing: Thing, index: u32, number: u32) {
        self.seen[thing as usize].insert(index, number, self.source.length(thing));
    }

    fn owner_text(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::OwnerText, index) {
            return Ok(number);
        }
        let number = into.intern(Table::OwnerTexts, self.source.owner_text(index)?.as_bytes())?;
        self.note(Thing::OwnerText, index, number);
        Ok(number)
    }

    fn text(&mut self, into: &mut Dictionary, index: StringIndex) -> Result<StringIndex, Malformed> {
        if let Some(number) = self.seen(Thing::Text, index.0) {
            return Ok(StringIndex(number));
        }
        let number = into.intern(Table::Texts, self.source.text(index.0)?.as_bytes())?;
        self.note(Thing::Text, index.0, number);
        Ok(StringIndex(number))
    }

    /// Interns an entry that is put together in the buffer.
    fn put(
        &mut self,
        into: &mut Dictionary,
        (thing, index): (Thing, u32),
        table: Table,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u32, Malformed> {
        self.bytes.clear();
        write(&mut self.bytes);
        let number = into.intern(table, &self.bytes)?;
        self.note(thing, index, number);
        Ok(number)
    }

    fn identity(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::Identity, index) {
            return Ok(number);
        }
        let identity = self.source.identity(index)?;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        entry::put_identity(&mut bytes, &identity, |text| into.intern(Table::OwnerTexts, text.as_bytes()))?;
        let number = into.intern(Table::Identities, &bytes)?;
        self.bytes = bytes;
        self.note(Thing::Identity, index, number);
        Ok(number)
    }

    pub(super) fn process(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::Process, index) {
            return Ok(number);
        }
        let source = self.source;
        let process = self.renumbered(into, &*source.process(index)?)?;
        self.put(into, (Thing::Process, index), Table::Processes, |out| entry::put_process(out, &process))
    }

    /// A process by what many have in common: its name, executable and identity, without pid, times and cgroup.
    pub(super) fn kind_of_process(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::Process, index) {
            return Ok(number);
        }
        let source = self.source;
        let process = self.renumbered(into, &*source.process(index)?)?;
        let cgroup = StringIndex(into.intern(Table::OwnerTexts, b"")?);
        let process = Process { pid: 0, start_time_ns: 0, cgroup_id: 0, cgroup, ..process };
        self.put(into, (Thing::Process, index), Table::Processes, |out| entry::put_process(out, &process))
    }

    fn renumbered(&mut self, into: &mut Dictionary, process: &Process) -> Result<Process, Malformed> {
        let identity = match process.identity {
            Some(identity) => Some(IdentityIndex(self.identity(into, identity.0)?)),
            None => None,
        };
        Ok(Process {
            comm: StringIndex(self.owner_text(into, process.comm.0)?),
            executable: StringIndex(self.owner_text(into, process.executable.0)?),
            cgroup: StringIndex(self.owner_text(into, process.cgroup.0)?),
            identity,
            ..*process
        })
    }

    /// A thread with its process.
    pub(super) fn thread(&mut self, into: &mut Dictionary, thread: Thread) -> Result<u32, Malformed> {
        let process = self.process(into, thread.process)?;
        let name = self.owner_text(into, thread.name)?;
        self.bytes.clear();
        entry::put_thread(&mut self.bytes, Thread { process, name, ..thread });
        into.intern(Table::Threads, &self.bytes)
    }

    fn mapping(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::Mapping, index) {
            return Ok(number);
        }
        let source = self.source;
        let mapping = source.mapping(index)?;
        let filename = self.text(into, mapping.filename)?;
        let mapping = Mapping { filename, build_id: self.text(into, mapping.build_id)? };
        self.put(into, (Thing::Mapping, index), Table::Mappings, |out| entry::put_mapping(out, &mapping))
    }

    fn function(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::Function, index) {
            return Ok(number);
        }
        let source = self.source;
        let function = source.function(index)?;
        let function = Function {
            name: self.text(into, function.name)?,
            system_name: self.text(into, function.system_name)?,
            filename: self.text(into, function.filename)?,
            start_line: function.start_line,
        };
        self.put(into, (Thing::Function, index), Table::Functions, |out| entry::put_function(out, &function))
    }

    pub(super) fn location(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::Location, index) {
            return Ok(number);
        }
        let source = self.source;
        let location = source.location(index)?;
        let named = source.is_named(&location)?;
        let mut lines = Vec::with_capacity(location.lines.len());
        for line in &location.lines {
            lines.push(Line { function: FunctionIndex(self.function(into, line.function.0)?), ..*line });
        }
        let mapping = self.optional_mapping(into, location.mapping)?;
        let location = Location { kind: location.kind, mapping, address: location.address, lines };
        let place = Place::of(&location, named);
        let number = self.intern_place(into, &place)?;
        self.bytes.clear();
        entry::put_location(&mut self.bytes, number, &place, &location);
        let number = into.location(number, &self.bytes)?;
        self.note(Thing::Location, index, number);
        Ok(number)
    }

    fn optional_mapping(
        &mut self,
        into: &mut Dictionary,
        mapping: Option<MappingIndex>,
    ) -> Result<Option<MappingIndex>, Malformed> {
        mapping.map(|mapping| Ok(MappingIndex(self.mapping(into, mapping.0)?))).transpose()
    }

    fn intern_place(&mut self, into: &mut Dictionary, place: &Place) -> Result<u32, Malformed> {
        self.bytes.clear();
        entry::put_place(&mut self.bytes, place);
        into.intern(Table::Places, &self.bytes)
    }
}

impl Transfer<'_, Batch> {
    /// A sample's stack, and how many of its frames were too many.
    pub(super) fn trace(&mut self, into: &mut Dictionary, sample: &Sample) -> Result<(u32, usize), Malformed> {
        let key = (sample.stack.0, sample.end as u8, sample.provenance);
        if let Some(trace) = self.traces.get(&key) {
            return Ok((*trace, 0));
        }
        let stack = self.source.stacks.get(sample.stack.0 as usize);
        let stack = stack.ok_or(Malformed("a stack that is not in the batch"))?;
        let kept: &[LocationIndex] = stack.locations.get(..MAX_STACK_DEPTH).unwrap_or(&stack.locations);
        let mut locations = Vec::with_capacity(kept.len());
        for location in kept.iter().rev() {
            locations.push(self.location(into, location.0)?);
        }
        let leaf = kept.first().and_then(|leaf| self.source.locations.get(leaf.0 as usize));
        let line = leaf.and_then(|leaf| leaf.lines.first()).map_or(0, |line| line.line);
        let trace = into.trace(&locations, line, sample.end, sample.provenance)?;
        self.traces.insert(key, trace);
        Ok((trace, stack.locations.len() - kept.len()))
    }
}

/// Functions of an answer by all that is known of them, in one piece: nearly all that a segment has were in those before it, and one
/// look-up finds that out where each text by itself would take one.
#[derive(Default)]
pub(super) struct KnownFunctions {
    keys: Interner,
    /// By key: the function.
    numbers: Vec<u32>,
}

/// Comes in no text.
const BETWEEN_TEXTS: u8 = 0xff;

impl Transfer<'_, Tables> {
    fn known_function(
        &mut self,
        (into, known): (&mut Dictionary, &mut KnownFunctions),
        index: u32,
    ) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::Function, index) {
            return Ok(number);
        }
        let function = entry::function(self.source.get(Table::Functions, index)?)?;
        self.bytes.clear();
        for text in [function.name, function.system_name, function.filename] {
            self.bytes.extend_from_slice(self.source.get(Table::Texts, text.0)?);
            self.bytes.push(BETWEEN_TEXTS);
        }
        self.bytes.extend_from_slice(&function.start_line.to_le_bytes());
        let key = known.keys.intern(&self.bytes)?;
        if let Some(number) = known.numbers.get(key as usize) {
            self.note(Thing::Function, index, *number);
            return Ok(*number);
        }
        let number = self.function(into, index)?;
        known.numbers.push(number);
        Ok(number)
    }

    /// A segment's place.
    pub(super) fn place(
        &mut self,
        (into, known): (&mut Dictionary, &mut KnownFunctions),
        index: u32,
    ) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::Place, index) {
            return Ok(number);
        }
        let mut place = entry::place(self.source.get(Table::Places, index)?)?;
        place.mapping = self.optional_mapping(into, place.mapping)?;
        for function in &mut place.functions {
            *function = FunctionIndex(self.known_function((into, known), function.0)?);
        }
        let number = self.intern_place(into, &place)?;
        self.note(Thing::Place, index, number);
        Ok(number)
    }

    /// A segment's exact stack by its leaf's node.
    pub(super) fn node(&mut self, into: &mut Dictionary, leaf: u32) -> Result<u32, Malformed> {
        // From the leaf towards the root until something is known; then back. A parent's number is smaller, so this ends.
        let mut unknown = Vec::new();
        let mut at = leaf;
        let mut parent = loop {
            let Some(slot) = at.checked_sub(1) else { break 0 };
            if let Some(node) = self.seen(Thing::Node, slot) {
                break node;
            }
            let node = self.source.node(at)?;
            unknown.push((slot, node.at));
            at = node.parent;
        };
        for (slot, location) in unknown.into_iter().rev() {
            let location = self.location(into, location)?;
            parent = into.node(Node { parent, at: location });
            self.note(Thing::Node, slot, parent);
        }
        Ok(parent)
    }
}
