//! [`Dictionary`]: everything that samples refer to, each thing once, for one segment. It grows with each chunk; what a chunk
//! adds is written with that chunk.
//!
//! [`Tables`] is the same thing for reading: without the means to find an entry by its content. Stacks are a tree with the
//! root frames first, so that stacks with a common beginning share it.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::bytes::{Bytes, Malformed, put};
use super::entries::{Entries, Interner};
use super::entry;

/// The tables of a dictionary beside the tree of stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    OwnerTexts,
    Identities,
    Processes,
    Threads,
    Texts,
    Mappings,
    Functions,
    Locations,
    Traces,
}

const TABLES: usize = 9;

/// One part of a dictionary, written and read by itself: who was running can be asked without reading what they ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Owners,
    Code,
}

impl Part {
    fn tables(self) -> &'static [Table] {
        match self {
            Part::Owners => &[Table::OwnerTexts, Table::Identities, Table::Processes, Table::Threads],
            Part::Code => &[Table::Texts, Table::Mappings, Table::Functions, Table::Locations, Table::Traces],
        }
    }
}

/// Frames that one stack may have; of deeper ones the leaf side is kept. The kernel program takes 1,024 user frames and 128 of the
/// kernel.
pub(super) const MAX_STACK_DEPTH: usize = 4096;

/// A frame with what is on its root side.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Node {
    /// 0 for a root, else one more than the parent's place.
    pub(super) parent: u32,
    /// Into [`Table::Locations`].
    pub(super) location: u32,
}

/// A growing dictionary.
#[derive(Default)]
pub(super) struct Dictionary {
    tables: [Interner; TABLES],
    nodes: Vec<Node>,
    node_table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Entries of each table, and nodes, that were written.
    written: ([usize; TABLES], usize),
}

impl Dictionary {
    pub(super) fn intern(&mut self, table: Table, entry: &[u8]) -> Result<u32, Malformed> {
        self.tables[table as usize].intern(entry)
    }

    pub(super) fn entries(&self, table: Table) -> &Entries {
        self.tables[table as usize].entries()
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The number of a frame below another one (0 for none); numbers count from 1, and a parent's is smaller.
    pub(super) fn node(&mut self, node: Node) -> u32 {
        let Dictionary { nodes, node_table, hasher, .. } = self;
        let hash = hasher.hash_one(node);
        let at = |number: u32| nodes.get(number as usize - 1).copied();
        if let Some(found) = node_table.find(hash, |number| at(*number) == Some(node)) {
            return *found;
        }
        nodes.push(node);
        let number = nodes.len() as u32;
        node_table.insert_unique(hash, number, |number| {
            nodes.get(*number as usize - 1).map_or(0, |node| hasher.hash_one(node))
        });
        number
    }

    /// Memory in use, bytes, roughly.
    pub(super) fn memory(&self) -> usize {
        let tables: usize = self.tables.iter().map(Interner::memory).sum();
        tables + self.nodes.capacity() * size_of::<Node>() + self.node_table.capacity() * 6
    }

    /// What was added to a part since the last [`mark_written`](Self::mark_written).
    pub(super) fn unwritten(&self, part: Part) -> Vec<u8> {
        let mut out = Vec::new();
        for table in part.tables() {
            let first = self.written.0[*table as usize];
            put(&mut out, first as u64);
            self.entries(*table).encode_from(first, &mut out);
        }
        if part == Part::Code {
            let first = self.written.1;
            let new = self.nodes.get(first..).unwrap_or_default();
            put(&mut out, first as u64);
            put(&mut out, new.len() as u64);
            // Most frames follow their parent, so that this column is nearly all ones.
            for (number, node) in (first as u32 + 1..).zip(new) {
                put(&mut out, u64::from(number - node.parent));
            }
            for node in new {
                put(&mut out, u64::from(node.location));
            }
        }
        out
    }

    pub(super) fn mark_written(&mut self) {
        self.written = (std::array::from_fn(|table| self.tables[table].entries().len()), self.nodes.len());
    }
}

/// A dictionary as it is read.
#[derive(Default)]
pub(super) struct Tables {
    tables: [Entries; TABLES],
    nodes: Vec<Node>,
    depths: Vec<u16>,
}

impl Tables {
    /// Adds what one chunk wrote of a part. What follows of these tables makes sense only if this succeeded.
    pub(super) fn add(&mut self, part: Part, bytes: &[u8]) -> Result<(), Malformed> {
        let mut bytes = Bytes(bytes);
        for table in part.tables() {
            let entries = &mut self.tables[*table as usize];
            if bytes.number()? != entries.len() as u64 {
                return Err(Malformed("a dictionary with a gap"));
            }
            entries.decode_onto(&mut bytes)?;
        }
        if part == Part::Code {
            self.add_nodes(&mut bytes)?;
        }
        bytes.end()
    }

    fn add_nodes(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Malformed> {
        if bytes.number()? != self.nodes.len() as u64 {
            return Err(Malformed("a tree of stacks with a gap"));
        }
        let count = bytes.count()?;
        let first = self.nodes.len();
        self.nodes.reserve(count);
        for number in first as u32 + 1..first as u32 + 1 + count as u32 {
            let parent = number.checked_sub(bytes.small()?).filter(|parent| *parent < number);
            let parent = parent.ok_or(Malformed("a frame that is its own caller"))?;
            let depth = if parent == 0 { 1 } else { self.depths.get(parent as usize - 1).map_or(0, |depth| depth + 1) };
            if usize::from(depth) > MAX_STACK_DEPTH {
                return Err(Malformed("a stack that is too deep"));
            }
            self.nodes.push(Node { parent, location: 0 });
            self.depths.push(depth);
        }
        for node in self.nodes.iter_mut().skip(first) {
            node.location = bytes.small()?;
        }
        Ok(())
    }

    pub(super) fn len(&self, table: Table) -> usize {
        self.tables[table as usize].len()
    }

    pub(super) fn get(&self, table: Table, number: u32) -> Result<&[u8], Malformed> {
        self.tables[table as usize].get(number).ok_or(Malformed("an index into a table that it is not in"))
    }

    pub(super) fn text(&self, table: Table, number: u32) -> Result<&str, Malformed> {
        std::str::from_utf8(self.get(table, number)?).map_err(|_| Malformed("a text that is not UTF-8"))
    }

    /// A frame by its number, which counts from 1.
    pub(super) fn node(&self, number: u32) -> Result<Node, Malformed> {
        let place = (number as usize).checked_sub(1).and_then(|place| self.nodes.get(place));
        place.copied().ok_or(Malformed("a stack that is not there"))
    }

    /// Frames in the tree of stacks.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Frames of a stack.
    pub(super) fn depth(&self, number: u32) -> u64 {
        let place = (number as usize).checked_sub(1).and_then(|place| self.depths.get(place));
        place.map_or(0, |depth| u64::from(*depth))
    }

    pub(super) fn trace(&self, number: u32) -> Result<entry::Trace, Malformed> {
        entry::trace(self.get(Table::Traces, number)?)
    }

    pub(super) fn thread(&self, number: u32) -> Result<entry::Thread, Malformed> {
        entry::thread(self.get(Table::Threads, number)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(dictionary: &mut Dictionary, root_first: &[u32]) -> u32 {
        root_first.iter().fold(0, |parent, location| dictionary.node(Node { parent, location: *location }))
    }

    #[test]
    fn stacks_share_their_beginning_and_come_back_in_parts() {
        let mut dictionary = Dictionary::default();
        let a = stack(&mut dictionary, &[7, 8, 9]);
        dictionary.intern(Table::Texts, b"main").unwrap();
        let first = dictionary.unwritten(Part::Code);
        dictionary.mark_written();
        let b = stack(&mut dictionary, &[7, 8, 10]);
        assert_eq!((a, b, stack(&mut dictionary, &[7, 8, 9]), dictionary.nodes().len()), (3, 4, 3, 4));
        let second = dictionary.unwritten(Part::Code);

        let mut tables = Tables::default();
        assert_eq!(tables.add(Part::Code, &second), Err(Malformed("a dictionary with a gap")));
        let mut tables = Tables::default();
        tables.add(Part::Code, &first).unwrap();
        tables.add(Part::Code, &second).unwrap();
        assert_eq!(tables.text(Table::Texts, 0), Ok("main"));
        let node = tables.node(b).unwrap();
        assert_eq!((node.parent, node.location), (2, 10));
        assert!(tables.node(0).is_err() && tables.node(5).is_err());
    }

    #[test]
    fn a_stack_has_no_loops_and_a_limit() {
        let code = |nodes: &[u8]| [&[0; 10][..], nodes].concat();
        let mut tables = Tables::default();
        assert_eq!(tables.add(Part::Code, &code(&[0, 1, 0, 5])), Err(Malformed("a frame that is its own caller")));
        let mut tables = Tables::default();
        assert_eq!(tables.add(Part::Code, &code(&[0, 1, 2, 5])), Err(Malformed("a frame that is its own caller")));
        let mut dictionary = Dictionary::default();
        stack(&mut dictionary, &vec![1; MAX_STACK_DEPTH + 1]);
        let mut tables = Tables::default();
        assert_eq!(
            tables.add(Part::Code, &dictionary.unwritten(Part::Code)),
            Err(Malformed("a stack that is too deep"))
        );
    }
}
