//! [`Dictionary`]: everything that samples refer to, each thing once, for one segment. It grows with each chunk; what a chunk
//! adds is written with that chunk. [`tables`](super::tables) reads it.
//!
//! Stacks are kept twice: by function, which is what flame graphs ask for, and exactly. Each exact stack names the one by function that
//! it is an instance of (its *shape*) and has as many frames as that, so that of an exact frame nothing is written but which of its
//! place's locations it is: one byte, nearly always.

use unwind::end::End;

use super::budget;
use super::bytes::{Malformed, put};
use super::entries::{Entries, Interner};
use super::entry::Shape;
use super::numbered::Numbered;
use super::tree::{GrowingTree, Grown, Node};

/// The tables of a dictionary beside the stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    OwnerTexts,
    Identities,
    Processes,
    Threads,
    Texts,
    Mappings,
    Functions,
    Places,
    Locations,
}

pub(super) const TABLES: usize = 9;

const ALL_TABLES: [Table; TABLES] = [
    Table::OwnerTexts,
    Table::Identities,
    Table::Processes,
    Table::Threads,
    Table::Texts,
    Table::Mappings,
    Table::Functions,
    Table::Places,
    Table::Locations,
];

/// One part of a dictionary, written and read by itself: who was running can be asked without reading what they ran, and what
/// functions they ran without reading at which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Owners,
    /// Stacks by function.
    Shapes,
    /// What exact stacks have beside that. Makes sense only with it.
    Exact,
}

impl Part {
    pub(super) fn tables(self) -> &'static [Table] {
        match self {
            Part::Owners => &[Table::OwnerTexts, Table::Identities, Table::Processes, Table::Threads],
            Part::Shapes => &[Table::Texts, Table::Mappings, Table::Functions, Table::Places],
            Part::Exact => &[Table::Locations],
        }
    }
}

/// An exact stack with what is to be known of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ExactTrace {
    /// The leaf's node in the tree of locations.
    node: u32,
    shape: u32,
}

/// Where a location is among those of its place.
#[derive(Clone, Copy)]
struct Rank {
    place: u32,
    rank: u32,
}

/// What was written.
#[derive(Default)]
struct Written {
    tables: [usize; TABLES],
    places: usize,
    shapes: usize,
    nodes: usize,
    traces: usize,
}

/// A growing dictionary.
#[derive(Default)]
pub(super) struct Dictionary {
    tables: [Interner; TABLES],
    /// By location.
    ranks: Vec<Rank>,
    /// By place, how many locations it has.
    sizes: Vec<u32>,
    /// Stacks of places.
    place_tree: GrowingTree,
    shapes: Numbered<Shape>,
    /// Stacks of locations.
    tree: GrowingTree,
    traces: Numbered<ExactTrace>,
    /// What each stack that was not written yet shares with those before it.
    shape_shares: Vec<u32>,
    trace_shares: Vec<u32>,
    written: Written,
}

impl Dictionary {
    /// Not for locations.
    pub(super) fn intern(&mut self, table: Table, entry: &[u8]) -> Result<u32, Malformed> {
        self.tables[table as usize].intern(entry)
    }

    /// The number of a location of that place.
    pub(super) fn location(&mut self, place: u32, entry: &[u8]) -> Result<u32, Malformed> {
        let number = self.tables[Table::Locations as usize].intern(entry)?;
        if number as usize == self.ranks.len() {
            let at = place as usize;
            if self.sizes.len() <= at {
                self.sizes.resize(at + 1, 0);
            }
            self.ranks.push(Rank { place, rank: self.sizes[at] });
            self.sizes[at] += 1;
        }
        Ok(number)
    }

    pub(super) fn entries(&self, table: Table) -> &Entries {
        self.tables[table as usize].entries()
    }

    pub(super) fn nodes(&self) -> &[Node] {
        self.tree.nodes()
    }

    /// The number of an exact frame below another one. Only in the dictionary of an answer, which is not written.
    pub(super) fn node(&mut self, node: Node) -> u32 {
        self.tree.node(node)
    }

    /// The number of a stack, whose locations come root first, and what its leaf's innermost line is.
    ///
    /// All of it or nothing: what is in the trees is of a trace, since it is written with it.
    pub(super) fn trace(&mut self, locations: &[u32], line: u32, end: End, provenance: u8) -> Result<u32, Malformed> {
        let mut places = Vec::with_capacity(locations.len());
        for location in locations {
            let rank = self.ranks.get(*location as usize);
            places.push(rank.ok_or(Malformed("a location that is not in the dictionary"))?.place);
        }
        let Grown { leaf, shared } = self.place_tree.stack(places.into_iter());
        let shape = self.shapes.number(Shape { node: leaf, line, end, provenance });
        if self.shapes.len() > self.written.shapes + self.shape_shares.len() {
            self.shape_shares.push(shared);
        }
        let Grown { leaf, shared } = self.tree.stack(locations.iter().copied());
        let trace = self.traces.number(ExactTrace { node: leaf, shape });
        if self.traces.len() > self.written.traces + self.trace_shares.len() {
            self.trace_shares.push(shared);
        }
        Ok(trace)
    }

    /// Memory in use, bytes, roughly.
    pub(super) fn memory(&self) -> usize {
        let tables: usize = self.tables.iter().map(Interner::memory).sum();
        let places = self.ranks.capacity() * size_of::<Rank>() + self.sizes.capacity() * 4;
        let shares = (self.shape_shares.capacity() + self.trace_shares.capacity()) * 4;
        let stacks = self.place_tree.memory() + self.shapes.memory() + self.tree.memory() + self.traces.memory();
        tables + places + shares + stacks
    }

    /// Memory that it takes once it is read, or has become an answer: at most [`budget::MAX_DICTIONARY`] may be written.
    pub(super) fn memory_when_read(&self) -> usize {
        let entries = ALL_TABLES.into_iter().map(|table| {
            let entries = self.entries(table);
            budget::entries(table, entries.len(), entries.bytes())
        });
        let places = self.place_tree.nodes().len() * budget::PLACE_NODE + self.shapes.len() * budget::SHAPE;
        let exact = self.tree.nodes().len() * budget::NODE + self.traces.len() * budget::TRACE;
        entries.sum::<usize>() + places + exact
    }

    /// What was added to a part since the last [`mark_written`](Self::mark_written).
    pub(super) fn unwritten(&self, part: Part) -> Vec<u8> {
        let mut out = Vec::new();
        for table in part.tables() {
            let first = self.written.tables[*table as usize];
            put(&mut out, first as u64);
            self.entries(*table).encode_from(first, &mut out);
        }
        match part {
            Part::Owners => {}
            Part::Shapes => self.put_shapes(&mut out),
            Part::Exact => self.put_traces(&mut out),
        }
        out
    }

    /// Shapes in columns (how far back the frame is that they share, how many are new, what is known of them), the new frames' places,
    /// and the shape of each new trace.
    fn put_shapes(&self, out: &mut Vec<u8>) {
        let new = self.shapes.all().get(self.written.shapes..).unwrap_or_default();
        put(out, self.written.shapes as u64);
        put(out, new.len() as u64);
        let mut last = self.written.places as u32;
        for (shape, shared) in new.iter().zip(&self.shape_shares) {
            put(out, u64::from(last - shared));
            last = last.max(shape.node);
        }
        let mut last = self.written.places as u32;
        for shape in new {
            put(out, u64::from(shape.node.saturating_sub(last)));
            last = last.max(shape.node);
        }
        for shape in new {
            put(out, u64::from(shape.line));
        }
        out.extend(new.iter().map(|shape| shape.end as u8));
        out.extend(new.iter().map(|shape| shape.provenance));
        for node in self.place_tree.nodes().get(self.written.places..).unwrap_or_default() {
            put(out, u64::from(node.at));
        }

        let traces = self.traces.all().get(self.written.traces..).unwrap_or_default();
        put(out, self.written.traces as u64);
        put(out, traces.len() as u64);
        // Most traces come with a shape of their own, the next one: 0.
        let mut next = self.written.shapes as u32;
        for trace in traces {
            put(out, u64::from(next - trace.shape));
            next = next.max(trace.shape + 1);
        }
    }

    /// How far back the frame is that each trace shares, and the new frames' ranks.
    fn put_traces(&self, out: &mut Vec<u8>) {
        let traces = self.traces.all().get(self.written.traces..).unwrap_or_default();
        put(out, self.written.traces as u64);
        put(out, traces.len() as u64);
        let mut last = self.written.nodes as u32;
        for (trace, shared) in traces.iter().zip(&self.trace_shares) {
            put(out, u64::from(last - shared));
            last = last.max(trace.node);
        }
        for node in self.tree.nodes().get(self.written.nodes..).unwrap_or_default() {
            put(out, self.ranks.get(node.at as usize).map_or(0, |rank| u64::from(rank.rank)));
        }
    }

    pub(super) fn mark_written(&mut self) {
        self.written = Written {
            tables: std::array::from_fn(|table| self.tables[table].entries().len()),
            places: self.place_tree.nodes().len(),
            shapes: self.shapes.len(),
            nodes: self.tree.nodes().len(),
            traces: self.traces.len(),
        };
        self.shape_shares.clear();
        self.trace_shares.clear();
    }
}
