//! From one numbering to another: a batch's things into a dictionary, and a segment's into the dictionary of a result.

use std::borrow::Cow;
use std::collections::HashMap;

use super::bytes::Malformed;
use super::dictionary::{Dictionary, MAX_STACK_DEPTH, Node, Table, Tables};
use super::entry::{self, Thread, Trace};
use profiles::profile::{
    Batch, Function, FunctionIndex, Identity, IdentityIndex, Line, Location, LocationIndex, Mapping, MappingIndex,
    Process, StringIndex,
};

/// Where things come from, each by its index.
pub(super) trait Source {
    fn owner_text(&self, index: u32) -> Result<&str, Malformed>;
    fn text(&self, index: u32) -> Result<&str, Malformed>;
    fn identity(&self, index: u32) -> Result<Cow<'_, Identity>, Malformed>;
    fn process(&self, index: u32) -> Result<Cow<'_, Process>, Malformed>;
    fn mapping(&self, index: u32) -> Result<Cow<'_, Mapping>, Malformed>;
    fn function(&self, index: u32) -> Result<Cow<'_, Function>, Malformed>;
    fn location(&self, index: u32) -> Result<Cow<'_, Location>, Malformed>;
}

fn of<'batch, T: Clone>(all: &'batch [T], index: u32, missing: &'static str) -> Result<Cow<'batch, T>, Malformed> {
    all.get(index as usize).map(Cow::Borrowed).ok_or(Malformed(missing))
}

impl Source for Batch {
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
        Ok(Cow::Owned(entry::location(self.get(Table::Locations, index)?)?))
    }
}

/// What was already transferred of one table.
type Seen = HashMap<u32, u32, hashbrown::DefaultHashBuilder>;

/// Transfers from one source into one dictionary, each thing once.
pub(super) struct Transfer<'source, S> {
    source: &'source S,
    seen: [Seen; 7],
    nodes: Seen,
    bytes: Vec<u8>,
}

/// Places in `seen`.
const OWNER_TEXT: usize = 0;
const TEXT: usize = 1;
const IDENTITY: usize = 2;
const PROCESS: usize = 3;
const MAPPING: usize = 4;
const FUNCTION: usize = 5;
const LOCATION: usize = 6;

impl<'source, S: Source> Transfer<'source, S> {
    pub(super) fn new(source: &'source S) -> Self {
        Transfer { source, seen: Default::default(), nodes: Seen::default(), bytes: Vec::new() }
    }

    fn owner_text(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen[OWNER_TEXT].get(&index) {
            return Ok(*number);
        }
        let number = into.intern(Table::OwnerTexts, self.source.owner_text(index)?.as_bytes())?;
        self.seen[OWNER_TEXT].insert(index, number);
        Ok(number)
    }

    fn text(&mut self, into: &mut Dictionary, index: StringIndex) -> Result<StringIndex, Malformed> {
        if let Some(number) = self.seen[TEXT].get(&index.0) {
            return Ok(StringIndex(*number));
        }
        let number = into.intern(Table::Texts, self.source.text(index.0)?.as_bytes())?;
        self.seen[TEXT].insert(index.0, number);
        Ok(StringIndex(number))
    }

    /// Interns an entry that is put together in the buffer.
    fn put(
        &mut self,
        into: &mut Dictionary,
        (place, index): (usize, u32),
        table: Table,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u32, Malformed> {
        self.bytes.clear();
        write(&mut self.bytes);
        let number = into.intern(table, &self.bytes)?;
        self.seen[place].insert(index, number);
        Ok(number)
    }

    fn identity(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen[IDENTITY].get(&index) {
            return Ok(*number);
        }
        let identity = self.source.identity(index)?;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        entry::put_identity(&mut bytes, &identity, |text| into.intern(Table::OwnerTexts, text.as_bytes()))?;
        let number = into.intern(Table::Identities, &bytes)?;
        self.bytes = bytes;
        self.seen[IDENTITY].insert(index, number);
        Ok(number)
    }

    pub(super) fn process(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen[PROCESS].get(&index) {
            return Ok(*number);
        }
        let source = self.source;
        let process = self.renumbered(into, &*source.process(index)?)?;
        self.put(into, (PROCESS, index), Table::Processes, |out| entry::put_process(out, &process))
    }

    /// A process by what many have in common: its name, executable and identity, without pid, times and cgroup.
    pub(super) fn kind_of_process(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen[PROCESS].get(&index) {
            return Ok(*number);
        }
        let source = self.source;
        let process = self.renumbered(into, &*source.process(index)?)?;
        let cgroup = StringIndex(into.intern(Table::OwnerTexts, b"")?);
        let process = Process { pid: 0, start_time_ns: 0, cgroup_id: 0, cgroup, ..process };
        self.put(into, (PROCESS, index), Table::Processes, |out| entry::put_process(out, &process))
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
        if let Some(number) = self.seen[MAPPING].get(&index) {
            return Ok(*number);
        }
        let source = self.source;
        let mapping = source.mapping(index)?;
        let filename = self.text(into, mapping.filename)?;
        let mapping = Mapping { filename, build_id: self.text(into, mapping.build_id)? };
        self.put(into, (MAPPING, index), Table::Mappings, |out| entry::put_mapping(out, &mapping))
    }

    fn function(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen[FUNCTION].get(&index) {
            return Ok(*number);
        }
        let source = self.source;
        let function = source.function(index)?;
        let function = Function {
            name: self.text(into, function.name)?,
            system_name: self.text(into, function.system_name)?,
            filename: self.text(into, function.filename)?,
            start_line: function.start_line,
        };
        self.put(into, (FUNCTION, index), Table::Functions, |out| entry::put_function(out, &function))
    }

    pub(super) fn location(&mut self, into: &mut Dictionary, index: u32) -> Result<u32, Malformed> {
        if let Some(number) = self.seen[LOCATION].get(&index) {
            return Ok(*number);
        }
        let number = self.location_as(into, index, |_| ())?;
        self.seen[LOCATION].insert(index, number);
        Ok(number)
    }

    /// A location that is changed on the way; remembering which one became what is the caller's.
    pub(super) fn location_as(
        &mut self,
        into: &mut Dictionary,
        index: u32,
        change: impl FnOnce(&mut Location),
    ) -> Result<u32, Malformed> {
        let source = self.source;
        let location = source.location(index)?;
        let mapping = match location.mapping {
            Some(mapping) => Some(MappingIndex(self.mapping(into, mapping.0)?)),
            None => None,
        };
        let mut lines = Vec::with_capacity(location.lines.len());
        for line in &location.lines {
            let function = FunctionIndex(self.function(into, line.function.0)?);
            lines.push(Line { function, ..*line });
        }
        let mut location = Location { kind: location.kind, mapping, address: location.address, lines };
        change(&mut location);
        self.bytes.clear();
        entry::put_location(&mut self.bytes, &location);
        into.intern(Table::Locations, &self.bytes)
    }

    /// A stack with what is known of it. `node` is one of `into`.
    pub(super) fn trace(&mut self, into: &mut Dictionary, trace: Trace) -> Result<u32, Malformed> {
        self.bytes.clear();
        entry::put_trace(&mut self.bytes, trace);
        into.intern(Table::Traces, &self.bytes)
    }
}

impl Transfer<'_, Batch> {
    /// A batch's stack, and how many of its frames were too many.
    pub(super) fn stack(&mut self, into: &mut Dictionary, index: u32) -> Result<(u32, usize), Malformed> {
        if let Some(node) = self.nodes.get(&index) {
            return Ok((*node, 0));
        }
        let stack = self.source.stacks.get(index as usize).ok_or(Malformed("a stack that is not in the batch"))?;
        let kept: &[LocationIndex] = stack.locations.get(..MAX_STACK_DEPTH).unwrap_or(&stack.locations);
        let mut node = 0;
        for location in kept.iter().rev() {
            let location = self.location(into, location.0)?;
            node = into.node(Node { parent: node, location });
        }
        self.nodes.insert(index, node);
        Ok((node, stack.locations.len() - kept.len()))
    }
}

impl Transfer<'_, Tables> {
    /// A segment's stack by its leaf's node.
    pub(super) fn node(&mut self, into: &mut Dictionary, leaf: u32) -> Result<u32, Malformed> {
        // From the leaf towards the root until something is known; then back. A parent's number is smaller, so this ends.
        let mut unknown = Vec::new();
        let mut at = leaf;
        let mut parent = loop {
            if at == 0 {
                break 0;
            }
            if let Some(node) = self.nodes.get(&at) {
                break *node;
            }
            let node = self.source.node(at)?;
            unknown.push((at, node.location));
            at = node.parent;
        };
        for (number, location) in unknown.into_iter().rev() {
            let location = self.location(into, location)?;
            parent = into.node(Node { parent, location });
            self.nodes.insert(number, parent);
        }
        Ok(parent)
    }
}
