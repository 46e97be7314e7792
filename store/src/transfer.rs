//! From one numbering to another: a batch's things into a dictionary, and a segment's into the dictionary of a result.

use std::collections::HashMap;

use super::bytes::{Malformed, put};
use super::dictionary::{Dictionary, Table};
use super::entries::{Interner, MAX_ENTRY_BYTES};
use super::entry::{self, Place, Thread};
use super::source::{IdentityText, Source, THINGS, Thing};
use super::tables::Tables;
use super::tree::{MAX_STACK_DEPTH, Node};
use profiles::profile::{
    Batch, Function, FunctionIndex, IdentityIndex, Line, Location, LocationIndex, Mapping, MappingIndex, Process,
    Sample, StringIndex, beginning,
};

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
    /// What was left out.
    pub(super) cut: Cut,
}

/// What a batch has that is longer than anything may be.
#[derive(Clone, Copy, Default)]
pub(super) struct Cut {
    /// Frames of stacks.
    pub(super) frames: u64,
    /// Texts that are not whole.
    pub(super) texts: u64,
}

impl<'source, S: Source> Transfer<'source, S> {
    pub(super) fn new(source: &'source S) -> Self {
        let (traces, bytes, cut) = (HashMap::default(), Vec::new(), Cut::default());
        Transfer { source, seen: Default::default(), traces, bytes, cut }
    }

    fn seen(&self, thing: Thing, index: u32) -> Option<u32> {
        self.seen[thing as usize].get(index)
    }

    fn note(&mut self, thing: Thing, index: u32, number: u32) {
        self.seen[thing as usize].insert(index, number, self.source.length(thing));
    }

    /// Interns a text, or the beginning of a long one.
    fn intern_text(&mut self, into: &mut Dictionary, table: Table, text: &str) -> Result<u32, Malformed> {
        let kept = beginning(text, MAX_ENTRY_BYTES);
        self.cut.texts += u64::from(kept.len() < text.len());
        into.intern(table, kept.as_bytes())
    }

    fn owner_text(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::OwnerText, index) {
            return Ok(number);
        }
        let source = self.source;
        let number = self.intern_text(into, Table::OwnerTexts, source.owner_text(index)?)?;
        self.note(Thing::OwnerText, index, number);
        Ok(number)
    }

    fn text(&mut self, into: &mut Dictionary, index: StringIndex) -> Result<StringIndex, Malformed> {
        if let Some(number) = self.seen(Thing::Text, index.0) {
            return Ok(StringIndex(number));
        }
        let source = self.source;
        let number = self.intern_text(into, Table::Texts, source.text(index.0)?)?;
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
        // Text by text: an identity of a damaged file can name a long one very often.
        let source = self.source;
        let mut bytes = Vec::new();
        source.identity_texts(index, &mut |text| {
            let number = match text {
                IdentityText::Itself(text) => self.intern_text(into, Table::OwnerTexts, text)?,
                IdentityText::Index(index) => self.owner_text(into, index)?,
            };
            put(&mut bytes, u64::from(number));
            Ok(())
        })?;
        let number = into.intern(Table::Identities, &bytes)?;
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
    /// A sample's stack.
    pub(super) fn trace(&mut self, into: &mut Dictionary, sample: &Sample) -> Result<u32, Malformed> {
        let key = (sample.stack.0, sample.end as u8, sample.provenance);
        if let Some(trace) = self.traces.get(&key) {
            return Ok(*trace);
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
        self.cut.frames += (stack.locations.len() - kept.len()) as u64;
        Ok(trace)
    }
}

/// Functions of an answer, and places of one function, by all that is known of them, in one piece: nearly all that a segment has were in
/// those before it, and one look-up finds that out where each text by itself would take one. So their texts are here once more, as far as
/// there is room.
#[derive(Default)]
pub(super) struct Known {
    functions: Keys,
    places: Keys,
}

impl Known {
    fn memory(&self) -> usize {
        self.functions.keys.memory() + self.places.keys.memory()
    }
}

#[derive(Default)]
struct Keys {
    keys: Interner,
    /// By key: what the answer has for it. A damaged one may leave a key without a number.
    numbers: Vec<u32>,
}

impl Keys {
    /// A key's place among all, and what the answer has for it.
    fn find(&mut self, key: &[u8]) -> Result<(usize, Option<u32>), Malformed> {
        let key = self.keys.intern(key)? as usize;
        Ok((key, self.numbers.get(key).copied().filter(|number| *number != NOT_YET)))
    }

    fn note(&mut self, key: usize, number: u32) {
        if self.numbers.len() <= key {
            self.numbers.resize(key + 1, NOT_YET);
        }
        self.numbers[key] = number;
    }
}

/// Longest texts of a function together that are known in one piece. Longer ones take three look-ups.
const MAX_KEY_BYTES: usize = 2 << 10;
/// Memory of all of them.
const MAX_KEYS_BYTES: usize = 64 << 20;

/// Comes in no text.
const BETWEEN_TEXTS: u8 = 0xff;

impl Transfer<'_, Tables> {
    /// Appends all that is known of a function to the buffer; whether it is short enough and there is room for it.
    fn put_key(&mut self, known: &Known, function: u32) -> Result<bool, Malformed> {
        let function = entry::function(self.source.get(Table::Functions, function)?)?;
        for text in [function.name, function.system_name, function.filename] {
            let text = self.source.get(Table::Texts, text.0)?;
            if self.bytes.len() + text.len() > MAX_KEY_BYTES || known.memory() > MAX_KEYS_BYTES {
                return Ok(false);
            }
            self.bytes.extend_from_slice(text);
            self.bytes.push(BETWEEN_TEXTS);
        }
        self.bytes.extend_from_slice(&function.start_line.to_le_bytes());
        Ok(true)
    }

    fn known_function(&mut self, (into, known): (&mut Dictionary, &mut Known), index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::Function, index) {
            return Ok(number);
        }
        self.bytes.clear();
        if !self.put_key(known, index)? {
            return self.function(into, index);
        }
        let (key, number) = known.functions.find(&self.bytes)?;
        if let Some(number) = number {
            self.note(Thing::Function, index, number);
            return Ok(number);
        }
        let number = self.function(into, index)?;
        known.functions.note(key, number);
        Ok(number)
    }

    /// A segment's place.
    pub(super) fn place(&mut self, (into, known): (&mut Dictionary, &mut Known), index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen(Thing::Place, index) {
            return Ok(number);
        }
        let (mut place, mut functions) = entry::place_and_functions(self.source.get(Table::Places, index)?)?;
        place.mapping = self.optional_mapping(into, place.mapping)?;
        // Most have one function, and are known with it.
        let mut rest = functions;
        let only = rest.small().ok().filter(|_| rest.end().is_ok());
        let mut key = None;
        if let Some(function) = only {
            self.bytes.clear();
            entry::put_place(&mut self.bytes, &place);
            if self.put_key(known, function)? {
                let (at, number) = known.places.find(&self.bytes)?;
                if let Some(number) = number {
                    self.note(Thing::Place, index, number);
                    return Ok(number);
                }
                key = Some(at);
            }
        }
        while functions.end().is_err() {
            let function = functions.small()?;
            let number = match only {
                Some(_) => self.function(into, function)?,
                None => self.known_function((into, known), function)?,
            };
            place.functions.push(FunctionIndex(number));
        }
        let number = self.intern_place(into, &place)?;
        if let Some(key) = key {
            known.places.note(key, number);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dictionary::Part;

    /// A dictionary with one text for each function's name, and a function for each.
    fn functions(names: &[&[u8]]) -> Dictionary {
        let mut dictionary = Dictionary::default();
        for (number, name) in (0..).zip(names) {
            assert_eq!(dictionary.intern(Table::Texts, name), Ok(number));
            dictionary.intern(Table::Functions, &[number as u8, number as u8, number as u8, 7]).unwrap();
        }
        dictionary
    }

    fn known(into: &mut Dictionary, known: &mut Known, names: &[&[u8]]) -> Vec<Option<u32>> {
        let mut tables = Tables::default();
        tables.add(Part::Shapes, &functions(names).unwritten(Part::Shapes)).unwrap();
        let mut transfer = Transfer::new(&tables);
        (0..names.len() as u32).map(|index| transfer.known_function((into, known), index).ok()).collect()
    }

    #[test]
    fn a_function_keeps_its_number_whatever_a_damaged_segment_had_before() {
        let (mut into, mut functions) = (Dictionary::default(), Known::default());
        let long = [b'x'; MAX_KEY_BYTES + 1];
        assert_eq!(known(&mut into, &mut functions, &[b"one", b"two"]), [Some(0), Some(1)]);
        assert_eq!(known(&mut into, &mut functions, &[b"bad\xff", b"two", b"\xfe"]), [None, Some(1), None]);
        let found = known(&mut into, &mut functions, &[b"three", b"one", &long, b"two", b"\xfe"]);
        assert_eq!(found, [Some(2), Some(0), Some(3), Some(1), None]);
        assert_eq!(known(&mut into, &mut functions, &[&long, b"three"]), [Some(3), Some(2)]);
        assert_eq!(into.entries(Table::Functions).len(), 4);
    }

    #[test]
    fn a_place_has_one_number_in_all_segments_and_differs_in_whatever_it_is() {
        let names: [&[u8]; 3] = [b"main", b"work", b"main\xffwork"];
        // Each place with the number of names that its segment has.
        let place = |into: &mut Dictionary, known: &mut Known, names: &[&[u8]], entry: &[u8]| {
            let mut dictionary = functions(names);
            dictionary.intern(Table::Mappings, &[0, 0]).unwrap();
            dictionary.intern(Table::Places, entry).unwrap();
            let mut tables = Tables::default();
            tables.add(Part::Shapes, &dictionary.unwritten(Part::Shapes)).unwrap();
            Transfer::new(&tables).place((into, known), 0).ok()
        };
        let (mut into, mut known) = (Dictionary::default(), Known::default());
        /// Kind, mapping, perhaps an address, functions; the segment's texts; the place's number.
        type Case<'a> = (&'a [u8], &'a [&'a [u8]], Option<u32>);
        let cases: [Case<'_>; 10] = [
            (&[0, 0, 0], &names[..1], Some(0)),
            (&[0, 0, 1], &names[..2], Some(1)),
            // The same by another number of the function.
            (&[0, 0, 0], &names[1..2], Some(1)),
            (&[1, 0, 0], &names[..1], Some(2)),
            (&[0, 1, 0], &names[..1], Some(3)),
            (&[0x80, 0, 0, 0], &names[..1], Some(4)),
            (&[0x80, 0, 1, 0], &names[..1], Some(5)),
            (&[0, 0, 0, 0], &names[..1], Some(6)),
            (&[0, 0], &names[..1], Some(7)),
            // A text that is none.
            (&[0, 0, 2], &names, None),
        ];
        for _ in 0..2 {
            for (entry, names, expected) in cases {
                assert_eq!(place(&mut into, &mut known, names, entry), expected, "{entry:?}");
            }
        }
        assert_eq!(into.entries(Table::Functions).len(), 2);
    }

    #[test]
    fn an_identity_that_names_a_text_often_brings_it_once() {
        let mut source = Dictionary::default();
        source.intern(Table::OwnerTexts, &[b'a'; 60_000]).unwrap();
        source.intern(Table::Identities, &vec![0; 60_000]).unwrap();
        let mut tables = Tables::default();
        tables.add(Part::Owners, &source.unwritten(Part::Owners)).unwrap();
        let mut into = Dictionary::default();
        into.intern(Table::OwnerTexts, b"another").unwrap();
        assert_eq!(Transfer::new(&tables).identity(&mut into, 0), Ok(0));
        assert_eq!(into.entries(Table::OwnerTexts).len(), 2);
        assert_eq!(into.entries(Table::Identities).get(0), Some(&[1; 60_000][..]));
    }
}
