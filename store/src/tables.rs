//! [`Tables`]: a segment's [`Dictionary`](super::dictionary::Dictionary) as it is read, without the means to find an entry by its
//! content. Exact stacks are there only if they were asked for.

use unwind::end::End;

use super::budget::{self, Budget};
use super::bytes::{Bytes, Malformed};
use super::dictionary::{Part, TABLES, Table};
use super::entries::Entries;
use super::entry::{self, Shape, Trace};
use super::tree::{Node, Tree};

/// A dictionary as it is read.
#[derive(Default)]
pub(super) struct Tables {
    tables: [Entries; TABLES],
    place_tree: Tree,
    shapes: Vec<Shape>,
    /// By trace.
    trace_shapes: Vec<u32>,
    /// By place, its locations in their order.
    of_place: Vec<Vec<u32>>,
    tree: Tree,
    /// By trace, its leaf's node in the exact tree.
    trace_nodes: Vec<u32>,
    budget: Budget,
}

impl Tables {
    /// Adds what one chunk wrote of a part. What follows of these tables makes sense only if this succeeded.
    pub(super) fn add(&mut self, part: Part, bytes: &[u8]) -> Result<(), Malformed> {
        let mut bytes = Bytes(bytes);
        let bytes = &mut bytes;
        let locations = self.len(Table::Locations);
        for table in part.tables() {
            let (entries, budget) = (&mut self.tables[*table as usize], &mut self.budget);
            if bytes.number()? != entries.len() as u64 {
                return Err(Malformed("a dictionary with a gap"));
            }
            entries.decode_onto(bytes, |count, bytes| budget.take(budget::entries(*table, count, bytes)))?;
        }
        match part {
            Part::Owners => {}
            Part::Shapes => {
                let first = self.shapes.len();
                self.add_shapes(bytes)?;
                self.add_trace_shapes(first, bytes)?;
            }
            Part::Exact => {
                self.note_places(locations)?;
                self.add_traces(bytes)?;
            }
        }
        bytes.end()
    }

    fn add_shapes(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Malformed> {
        let first = self.shapes.len();
        if bytes.number()? != first as u64 {
            return Err(Malformed("stacks with a gap"));
        }
        let count = bytes.count()?;
        self.budget.take(count.saturating_mul(budget::SHAPE))?;
        let mut frames = Vec::with_capacity(count);
        for _ in 0..count {
            frames.push((bytes.small()?, 0));
        }
        for (_, new) in &mut frames {
            *new = bytes.small()?;
        }
        self.shapes.reserve(count);
        for _ in 0..count {
            self.shapes.push(Shape { node: 0, line: bytes.small()?, end: End::NoUser, provenance: 0 });
        }
        let (ends, provenances) = (bytes.take(count)?, bytes.take(count)?);
        for (shape, (end, provenance)) in self.shapes.iter_mut().skip(first).zip(ends.iter().zip(provenances)) {
            shape.end = End::from_number(*end).ok_or(Malformed("an end of a stack that is not known"))?;
            shape.provenance = *provenance;
        }
        // Each new frame takes a byte at least.
        let new: usize = frames.iter().map(|(_, new)| *new as usize).sum();
        let new = new.min(bytes.0.len());
        self.budget.take(new.saturating_mul(budget::PLACE_NODE))?;
        self.place_tree.reserve(new);
        for (shape, (back, new)) in self.shapes.iter_mut().skip(first).zip(frames) {
            let shared = self.place_tree.back(back)?;
            shape.node = self.place_tree.add(shared, new as usize, || bytes.small())?;
        }
        Ok(())
    }

    /// The chunk's own shapes begin at `first`, and are named one after the other.
    fn add_trace_shapes(&mut self, first: usize, bytes: &mut Bytes<'_>) -> Result<(), Malformed> {
        if bytes.number()? != self.trace_shapes.len() as u64 {
            return Err(Malformed("stacks with a gap"));
        }
        let count = bytes.count()?;
        self.budget.take(count.saturating_mul(budget::TRACE))?;
        self.trace_shapes.reserve(count);
        let mut next = first as u32;
        for _ in 0..count {
            let back = bytes.small()?;
            let shape = next.checked_sub(back).filter(|shape| (*shape as usize) < self.shapes.len());
            self.trace_shapes.push(shape.ok_or(Malformed("a stack that is not there"))?);
            next += u32::from(back == 0);
        }
        Ok(())
    }

    /// Finds the locations of each place, from `first` on.
    fn note_places(&mut self, first: usize) -> Result<(), Malformed> {
        self.of_place.resize(self.len(Table::Places), Vec::new());
        for location in first as u32..self.len(Table::Locations) as u32 {
            let place = entry::place_number(self.get(Table::Locations, location)?)?;
            let locations = self.of_place.get_mut(place as usize);
            locations.ok_or(Malformed("a place that is not there"))?.push(location);
        }
        Ok(())
    }

    fn add_traces(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Malformed> {
        let first = self.trace_nodes.len();
        if bytes.number()? != first as u64 {
            return Err(Malformed("stacks with a gap"));
        }
        let count = bytes.count()?;
        if first + count != self.trace_shapes.len() {
            return Err(Malformed("stacks without functions"));
        }
        let mut backs = Vec::with_capacity(count);
        for _ in 0..count {
            backs.push(bytes.small()?);
        }
        // A shape's places beyond what its exact stack shares, leaf first.
        let mut places = Vec::new();
        for (trace, back) in (first..).zip(backs) {
            let shared = self.tree.back(back)?;
            let mut at = self.shape(trace as u32)?.node;
            places.clear();
            for _ in self.tree.depth(shared)..self.place_tree.depth(at) {
                let node = self.place_tree.node(at)?;
                places.push(node.at);
                at = node.parent;
            }
            let Tables { of_place, tree, budget, .. } = self;
            budget.take(places.len() * budget::NODE)?;
            let leaf = tree.add(shared, places.len(), || {
                let rank = bytes.small()?;
                let locations = places.pop().and_then(|place| of_place.get(place as usize));
                let location = locations.and_then(|locations| locations.get(rank as usize));
                location.copied().ok_or(Malformed("a location that is not there"))
            })?;
            self.trace_nodes.push(leaf);
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

    pub(super) fn thread(&self, number: u32) -> Result<entry::Thread, Malformed> {
        entry::thread(self.get(Table::Threads, number)?)
    }

    /// Stacks of places.
    pub(super) fn place_tree(&self) -> &Tree {
        &self.place_tree
    }

    /// Stacks by function.
    pub(super) fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// A trace by function: its number among [`shapes`](Self::shapes).
    pub(super) fn shape_of(&self, trace: u32) -> Result<u32, Malformed> {
        self.trace_shapes.get(trace as usize).copied().ok_or(Malformed("a stack that is not there"))
    }

    fn shape(&self, trace: u32) -> Result<Shape, Malformed> {
        let shape = self.shapes.get(self.shape_of(trace)? as usize).copied();
        shape.ok_or(Malformed("a stack that is not there"))
    }

    /// A frame of the exact tree by its number, which counts from 1.
    pub(super) fn node(&self, number: u32) -> Result<Node, Malformed> {
        self.tree.node(number)
    }

    /// Frames in the exact tree.
    pub(super) fn node_count(&self) -> usize {
        self.tree.nodes().len()
    }

    /// Frames of an exact stack.
    pub(super) fn depth(&self, number: u32) -> u64 {
        self.tree.depth(number) as u64
    }

    /// An exact stack.
    pub(super) fn trace(&self, number: u32) -> Result<Trace, Malformed> {
        let node = self.trace_nodes.get(number as usize).copied();
        let Shape { end, provenance, .. } = self.shape(number)?;
        Ok(Trace { node: node.ok_or(Malformed("a stack that is not there"))?, end, provenance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::put;
    use crate::dictionary::Dictionary;

    /// A location at an address in a function of its own number.
    fn location(dictionary: &mut Dictionary, function: u8, address: u8) -> u32 {
        let place = dictionary.intern(Table::Places, &[0, 0, function]).unwrap();
        dictionary.location(place, &[place as u8, address, 1, 1]).unwrap()
    }

    fn parts(dictionary: &mut Dictionary) -> [Vec<u8>; 2] {
        let parts = [Part::Shapes, Part::Exact].map(|part| dictionary.unwritten(part));
        dictionary.mark_written();
        parts
    }

    /// Two chunks with stacks of two functions, which call each other at some addresses.
    fn chunks() -> [[Vec<u8>; 2]; 2] {
        let mut dictionary = Dictionary::default();
        dictionary.intern(Table::Texts, b"main").unwrap();
        let (main, work) = (location(&mut dictionary, 5, 10), location(&mut dictionary, 6, 20));
        let mut trace = |locations: &[u32], line| dictionary.trace(locations, line, End::Complete, 4).unwrap();
        assert_eq!([trace(&[main, work, main], 3), trace(&[], 0), trace(&[main, work, main], 3)], [0, 1, 0]);
        let first = parts(&mut dictionary);
        let other = location(&mut dictionary, 5, 11);
        let mut trace = |locations: &[u32], line| dictionary.trace(locations, line, End::Complete, 4).unwrap();
        // At another address; on another line; what calls is a stack as well.
        assert_eq!([trace(&[other, work, main], 3), trace(&[main, work, other], 4), trace(&[main], 3)], [2, 3, 4]);
        [first, parts(&mut dictionary)]
    }

    fn frames(tables: &Tables, trace: u32) -> Vec<u32> {
        let mut frames = Vec::new();
        let mut at = tables.trace(trace).unwrap().node;
        while at > 0 {
            let node = tables.node(at).unwrap();
            frames.push(node.at);
            at = node.parent;
        }
        frames
    }

    #[test]
    fn stacks_come_back_in_parts_by_function_and_exactly() {
        let mut tables = Tables::default();
        let mut functions = Tables::default();
        for [shapes, exact] in chunks() {
            tables.add(Part::Shapes, &shapes).unwrap();
            tables.add(Part::Exact, &exact).unwrap();
            functions.add(Part::Shapes, &shapes).unwrap();
        }
        assert_eq!(tables.text(Table::Texts, 0), Ok("main"));
        // Leaf first: main is 0, work 1, the other place in main 2.
        let expected: [&[u32]; 5] = [&[0, 1, 0], &[], &[0, 1, 2], &[2, 1, 0], &[0]];
        for (trace, expected) in (0..).zip(expected) {
            assert_eq!(frames(&tables, trace), expected);
        }
        assert!(tables.trace(5).is_err() && functions.trace(0).is_err());
        for tables in [&tables, &functions] {
            assert_eq!([0, 1, 2, 3, 4].map(|trace| tables.shape_of(trace).unwrap()), [0, 1, 0, 2, 3]);
            let seen = |shape: &Shape| (shape.node, shape.line, shape.end, shape.provenance);
            let end = End::Complete;
            let expected = [(3, 3, end, 4), (0, 0, end, 4), (3, 4, end, 4), (1, 3, end, 4)];
            assert_eq!(tables.shapes().iter().map(seen).collect::<Vec<_>>(), expected);
            assert_eq!(tables.place_tree().nodes().len(), 3);
            assert!(tables.shape_of(5).is_err());
        }
    }

    #[test]
    fn parts_that_do_not_follow_each_other_are_refused() {
        let [first, [shapes, exact]] = chunks();
        assert_eq!(Tables::default().add(Part::Shapes, &shapes), Err(Malformed("a dictionary with a gap")));
        assert_eq!(Tables::default().add(Part::Exact, &first[1]), Err(Malformed("a place that is not there")));
        let mut tables = Tables::default();
        tables.add(Part::Shapes, &first[0]).unwrap();
        tables.add(Part::Shapes, &shapes).unwrap();
        assert_eq!(tables.add(Part::Exact, &first[1]), Err(Malformed("stacks without functions")));
        assert!(tables.add(Part::Exact, &exact).is_err());
    }

    #[test]
    fn a_small_section_that_would_take_much_memory_is_refused() {
        let too_much = Err(Malformed("a dictionary that takes too much memory"));
        let section = |before: &[u8], count: usize| {
            let mut section = before.to_vec();
            put(&mut section, count as u64);
            section.resize(section.len() + count, 0);
            section
        };
        // Texts without a byte, and shapes without a frame behind four empty tables.
        assert_eq!(Tables::default().add(Part::Owners, &section(&[0], 5 << 20)), too_much);
        assert_eq!(Tables::default().add(Part::Shapes, &section(&[0; 9], 7 << 20)), too_much);
        // Places of very many functions, behind three empty tables.
        let places = |count: usize| {
            let mut section = vec![0; 7];
            put(&mut section, count as u64);
            (0..count).for_each(|_| put(&mut section, 60_000));
            section.resize(section.len() + count * 60_000, 0);
            section
        };
        assert_eq!(Tables::default().add(Part::Shapes, &places(280)), too_much);
        // As many bytes as may be, and then no stacks.
        assert_eq!(Tables::default().add(Part::Shapes, &places(270)), Err(Malformed("a number without an end")));
        // Together as well.
        let mut tables = Tables::default();
        let texts = |first: usize| {
            let mut first_number = Vec::new();
            put(&mut first_number, first as u64);
            let mut section = section(&first_number, 3 << 20);
            section.extend([0; 6]);
            section
        };
        assert_eq!(tables.add(Part::Owners, &texts(0)), Ok(()));
        assert_eq!(tables.add(Part::Owners, &texts(3 << 20)), too_much);
    }

    #[test]
    fn whatever_the_bytes_are_what_is_read_holds_together() {
        let [_, second] = chunks();
        let [first, _] = chunks();
        for (part, damaged) in [(Part::Shapes, 0), (Part::Exact, 1)] {
            for at in 0..second[damaged].len() {
                for change in 1..=255 {
                    let mut parts = second.clone();
                    parts[damaged][at] ^= change;
                    let mut tables = Tables::default();
                    tables.add(Part::Shapes, &first[0]).unwrap();
                    tables.add(Part::Exact, &first[1]).unwrap();
                    let added = tables.add(Part::Shapes, &parts[0]).and_then(|()| tables.add(Part::Exact, &parts[1]));
                    if added.is_err() {
                        continue;
                    }
                    for trace in 0..5 {
                        assert_eq!(
                            frames(&tables, trace).len() as u64,
                            tables.depth(tables.trace(trace).unwrap().node)
                        );
                        assert!((tables.shape_of(trace).unwrap() as usize) < tables.shapes().len(), "{part:?} {at}");
                    }
                }
            }
        }
    }
}
