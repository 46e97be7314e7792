//! [`FunctionAnswer`]: sums by function, for [`Grouping::Functions`](super::Grouping).
//!
//! An hour of a node that compiles has 700,000 samples with nearly as many exact stacks, in some forty segments. So nothing is done for
//! each frame but what runs through memory in order: a segment's shapes are summed by number, its frames hashed from the root on,
//! each with its caller's hash, and an answer's stack is looked up once, as a whole, by the hash of its leaf. It is compared whole
//! as well. The answer has no tree, which would take a look-up for each frame of each segment.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{DefaultHashBuilder, HashTable};
use unwind::end::End;

use super::bytes::Malformed;
use super::columns::StoredSample;
use super::dictionary::{Dictionary, Table};
use super::entry::Shape;
use super::numbered::Numbered;
use super::stacks::{MAX_RESULT_FRAMES, MAX_RESULT_ROWS, MAX_SEGMENT_SUMS, is_full};
use super::tables::Tables;
use super::transfer::{Known, Transfer};
use super::tree::Node;
use profiles::profile::{LocationIndex, Stack};

/// Frames of an answer's stacks as a tree, as many as a page shows; those that segments have in common count in each.
const MAX_RESULT_NODES: usize = 8 << 20;
/// Bytes of the places that an answer's locations are made of, about one for each function: a damaged file can name a place with
/// thousands of functions by many lines.
const MAX_RESULT_PLACES: usize = 16 << 20;

/// Nothing here yet. No table has as many entries: it would not fit its 4 GiB.
const NOT_YET: u32 = u32::MAX;

type Map<K, V> = HashMap<K, V, DefaultHashBuilder>;

/// Sums of one segment by shape and kind of process, in the order of both.
pub(super) struct SegmentSums {
    /// By thread: the kind of process in the answer.
    owners: Vec<u32>,
    /// By shape: its first owner's sums.
    first: Vec<Sum>,
    /// Those of further owners, by (shape, owner). Few: programs that share a stack share libraries.
    others: Map<(u32, u32), Sum>,
    /// The answer has no room for further owners.
    is_full: bool,
    left_out_ns: u64,
}

#[derive(Clone, Copy)]
struct Sum {
    owner: u32,
    count: u64,
    weight_ns: u64,
}

impl Sum {
    const NONE: Sum = Sum { owner: NOT_YET, count: 0, weight_ns: 0 };

    fn add(&mut self, other: Sum) {
        self.owner = other.owner;
        self.count += other.count;
        self.weight_ns = self.weight_ns.saturating_add(other.weight_ns);
    }
}

impl SegmentSums {
    /// `answer` is the answer's dictionary.
    pub(super) fn new(tables: &Tables, answer: &Dictionary) -> SegmentSums {
        SegmentSums {
            owners: vec![NOT_YET; tables.len(Table::Threads)],
            first: vec![Sum::NONE; tables.shapes().len()],
            others: Map::default(),
            is_full: is_full(answer),
            left_out_ns: 0,
        }
    }

    /// Counts a sample.
    pub(super) fn add(
        &mut self,
        transfer: &mut Transfer<'_, Tables>,
        (tables, into): (&Tables, &mut Dictionary),
        sample: &StoredSample,
    ) -> Result<(), Malformed> {
        let owner = self.owners.get_mut(sample.thread as usize).ok_or(Malformed("a thread that is not there"))?;
        if *owner == NOT_YET {
            if self.is_full {
                self.left_out_ns = self.left_out_ns.saturating_add(sample.weight_ns);
                return Ok(());
            }
            *owner = transfer.kind_of_process(into, tables.thread(sample.thread)?.process)?;
        }
        let sum = Sum { owner: *owner, count: 1, weight_ns: sample.weight_ns };
        let shape = tables.shape_of(sample.trace)?;
        let first = self.first.get_mut(shape as usize).ok_or(Malformed("a stack that is not there"))?;
        if first.owner == NOT_YET || first.owner == sum.owner {
            first.add(sum);
        } else if self.others.len() >= MAX_SEGMENT_SUMS && !self.others.contains_key(&(shape, sum.owner)) {
            self.left_out_ns = self.left_out_ns.saturating_add(sum.weight_ns);
        } else {
            self.others.entry((shape, sum.owner)).or_insert(Sum::NONE).add(sum);
        }
        Ok(())
    }

    /// Shapes that were sampled.
    fn shapes(&self) -> impl Iterator<Item = usize> {
        self.first.iter().enumerate().filter(|(_, sum)| sum.owner != NOT_YET).map(|(shape, _)| shape)
    }

    fn into_sums(self) -> impl Iterator<Item = (usize, Sum)> {
        let mut others: Vec<(usize, Sum)> =
            self.others.into_iter().map(|((shape, _), sum)| (shape as usize, sum)).collect();
        // The order of a hash map must not show.
        others.sort_unstable_by_key(|(shape, sum)| (*shape, sum.owner));
        let first = self.first.into_iter().enumerate().filter(|(_, sum)| sum.owner != NOT_YET);
        first.chain(others)
    }
}

/// A location of the answer: a place of its dictionary, and the line in the innermost function that counts for a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shown {
    pub(super) place: u32,
    pub(super) line: u32,
}

/// A row of the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct FunctionRow {
    /// In the answer's dictionary.
    pub(super) process: u32,
    /// Among the answer's stacks.
    pub(super) stack: u32,
    pub(super) end: End,
    pub(super) provenance: u8,
    pub(super) count: u64,
    pub(super) weight_ns: u64,
}

/// The answer in the making. See the module documentation.
#[derive(Default)]
pub(super) struct FunctionAnswer {
    pub(super) dictionary: Dictionary,
    known: Known,
    locations: Numbered<Shown>,
    stacks: Vec<Stack>,
    /// Stacks by their hash.
    table: HashTable<(u64, u32)>,
    hasher: DefaultHashBuilder,
    rows: Vec<FunctionRow>,
    /// By stack, its first row.
    first_rows: Vec<u32>,
    /// Rows that are not their stack's first, by what tells them apart: stack, process, end and provenance.
    other_rows: Map<(u32, u32, u8, u8), u32>,
    nodes: usize,
    frames: u64,
    place_bytes: usize,
    left_out_ns: u64,
}

/// How a segment's frame is used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Not,
    /// It is sampled itself, and calls nothing.
    Leaf,
    /// It calls another one.
    Inner,
}

/// A segment's place in terms of the answer.
#[derive(Clone, Copy)]
struct InAnswer {
    place: u32,
    /// The location that inner frames have there.
    inner: u32,
}

/// A segment's frames in terms of the answer.
struct Frames<'segment> {
    nodes: &'segment [Node],
    uses: Vec<Use>,
    /// Of each inner frame, of it and all that is on its root side.
    hashes: Vec<u64>,
    /// Of each inner frame, the first of the answer's new stacks that it is in: what is on its root side is written out there.
    carriers: Vec<u32>,
    /// By the segment's place.
    places: Vec<InAnswer>,
}

impl Frames<'_> {
    /// The locations on a frame's root side, nearest first.
    fn callers(&self, node: Option<&Node>) -> impl Iterator<Item = LocationIndex> {
        let mut at = node.map_or(0, |node| node.parent);
        std::iter::from_fn(move || {
            let node = self.nodes.get((at as usize).checked_sub(1)?)?;
            at = node.parent;
            Some(LocationIndex(self.places.get(node.at as usize)?.inner))
        })
    }
}

impl FunctionAnswer {
    /// Adds a segment's sums: all of them or, if the segment is damaged, none. Once nobody waits for the answer any more, it ends
    /// somewhere.
    pub(super) fn add(
        &mut self,
        tables: &Tables,
        transfer: &mut Transfer<'_, Tables>,
        sums: SegmentSums,
        given_up: &AtomicBool,
    ) -> Result<(), Malformed> {
        let mut frames = self.frames(tables, transfer, &sums, given_up)?;
        self.left_out_ns = self.left_out_ns.saturating_add(sums.left_out_ns);
        for (shape, sum) in sums.into_sums() {
            // A damaged file can have many equal stacks, which are all compared: 4,096 frames each.
            if given_up.load(Ordering::Relaxed) {
                break;
            }
            let Some(shape) = tables.shapes().get(shape) else { continue };
            match self.stack(tables, &mut frames, shape) {
                Some(stack) => self.add_row(stack, shape, sum),
                None => self.left_out_ns = self.left_out_ns.saturating_add(sum.weight_ns),
            }
        }
        Ok(())
    }

    /// Everything of a segment's frames that may fail, for those that were sampled.
    fn frames<'segment>(
        &mut self,
        tables: &'segment Tables,
        transfer: &mut Transfer<'_, Tables>,
        sums: &SegmentSums,
        given_up: &AtomicBool,
    ) -> Result<Frames<'segment>, Malformed> {
        let nodes = tables.place_tree().nodes();
        let mut uses = vec![Use::Not; nodes.len()];
        for shape in sums.shapes() {
            let Some(leaf) = tables.shapes().get(shape).and_then(|shape| (shape.node as usize).checked_sub(1)) else {
                continue;
            };
            if uses[leaf] == Use::Not {
                uses[leaf] = Use::Leaf;
            }
            let mut at = nodes[leaf].parent as usize;
            while at > 0 && uses[at - 1] != Use::Inner {
                uses[at - 1] = Use::Inner;
                at = nodes[at - 1].parent as usize;
            }
        }
        let places = vec![InAnswer { place: NOT_YET, inner: NOT_YET }; tables.len(Table::Places)];
        let (hashes, carriers) = (vec![0; nodes.len()], vec![NOT_YET; nodes.len()]);
        let mut frames = Frames { nodes, uses, hashes, carriers, places };
        for (index, node) in nodes.iter().enumerate() {
            if frames.uses[index] == Use::Not {
                continue;
            }
            let known = frames.places.get_mut(node.at as usize).ok_or(Malformed("a place that is not there"))?;
            if known.place == NOT_YET {
                if given_up.load(Ordering::Relaxed) {
                    break;
                }
                known.place = transfer.place((&mut self.dictionary, &mut self.known), node.at)?;
            }
            if frames.uses[index] == Use::Inner {
                if known.inner == NOT_YET {
                    known.inner = self.location(Shown { place: known.place, line: 0 });
                }
                let caller = (node.parent as usize).checked_sub(1).map_or(0, |caller| frames.hashes[caller]);
                frames.hashes[index] = self.hasher.hash_one((caller, known.inner));
            }
        }
        Ok(frames)
    }

    fn location(&mut self, shown: Shown) -> u32 {
        let before = self.locations.len();
        let number = self.locations.number(shown);
        if self.locations.len() > before {
            let entry = self.dictionary.entries(Table::Places).get(shown.place);
            self.place_bytes += entry.map_or(0, <[u8]>::len);
        }
        number
    }

    /// The answer's stack for a segment's; `None` if there is no room for it.
    fn stack(&mut self, tables: &Tables, frames: &mut Frames<'_>, shape: &Shape) -> Option<u32> {
        let nodes = frames.nodes;
        let leaf = (shape.node as usize).checked_sub(1).and_then(|leaf| nodes.get(leaf));
        let shown = leaf.map(|leaf| Shown { place: frames.places[leaf.at as usize].place, line: shape.line });
        let caller = leaf.and_then(|leaf| (leaf.parent as usize).checked_sub(1));
        let hash = self.hasher.hash_one((caller.map_or(0, |caller| frames.hashes[caller]), shown));
        let found = self.table.find(hash, |(known, stack)| {
            *known == hash
                && self
                    .stacks
                    .get(*stack as usize)
                    .is_some_and(|stack| self.is_stack(&stack.locations, shown, frames.callers(leaf)))
        });
        if let Some((_, stack)) = found {
            return Some(*stack);
        }
        if self.is_full() {
            return None;
        }
        let stack = self.stacks.len() as u32;
        let depth = tables.place_tree().depth(shape.node);
        let mut locations = Vec::with_capacity(depth);
        locations.extend(shown.map(|shown| LocationIndex(self.location(shown))));
        self.nodes += 1;
        // As far as it is new, and the rest as one piece from where it is written out.
        let mut at = caller;
        while let Some(index) = at {
            let carrier = &mut frames.carriers[index];
            if let Some(known) = self.stacks.get(*carrier as usize) {
                let rest = depth - locations.len();
                let from = known.locations.len().saturating_sub(rest);
                locations.extend_from_slice(&known.locations[from..]);
                break;
            }
            *carrier = stack;
            self.nodes += 1;
            let node = nodes[index];
            locations.push(LocationIndex(frames.places[node.at as usize].inner));
            at = (node.parent as usize).checked_sub(1);
        }
        self.frames += locations.len() as u64;
        self.stacks.push(Stack { locations });
        self.first_rows.push(NOT_YET);
        self.table.insert_unique(hash, (hash, stack), |(hash, _)| *hash);
        Some(stack)
    }

    /// Whether these are the locations of a leaf and what calls it.
    fn is_stack(
        &self,
        locations: &[LocationIndex],
        leaf: Option<Shown>,
        callers: impl Iterator<Item = LocationIndex>,
    ) -> bool {
        match locations.split_first() {
            Some((first, rest)) => leaf == self.locations.get(first.0) && callers.eq(rest.iter().copied()),
            None => leaf.is_none(),
        }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= MAX_RESULT_ROWS
            || self.frames >= MAX_RESULT_FRAMES
            || self.nodes >= MAX_RESULT_NODES
            || self.place_bytes >= MAX_RESULT_PLACES
    }

    fn add_row(&mut self, stack: u32, shape: &Shape, sum: Sum) {
        let Shape { end, provenance, .. } = *shape;
        let Some(first) = self.first_rows.get_mut(stack as usize) else { return };
        let key = (stack, sum.owner, end as u8, provenance);
        let known = match self.rows.get(*first as usize) {
            Some(row) if (row.process, row.end, row.provenance) == (sum.owner, end, provenance) => Some(*first),
            Some(_) => self.other_rows.get(&key).copied(),
            None => None,
        };
        if let Some(row) = known.and_then(|known| self.rows.get_mut(known as usize)) {
            row.count += sum.count;
            row.weight_ns = row.weight_ns.saturating_add(sum.weight_ns);
        } else if self.rows.len() >= MAX_RESULT_ROWS {
            self.left_out_ns = self.left_out_ns.saturating_add(sum.weight_ns);
        } else {
            let number = self.rows.len() as u32;
            if *first == NOT_YET {
                *first = number;
            } else {
                self.other_rows.insert(key, number);
            }
            let Sum { owner: process, count, weight_ns } = sum;
            self.rows.push(FunctionRow { process, stack, end, provenance, count, weight_ns });
        }
    }

    /// What the answer is made of, the largest rows first.
    pub(super) fn finish(self) -> FunctionSums {
        let FunctionAnswer { dictionary, locations, stacks, mut rows, left_out_ns, .. } = self;
        // Of equals those that were sampled first: most of a long answer was sampled once, and is in order already.
        rows.sort_by_key(|row| Reverse(row.weight_ns));
        FunctionSums { dictionary, locations, stacks, rows, left_out_ns }
    }
}

/// An answer.
pub(super) struct FunctionSums {
    pub(super) dictionary: Dictionary,
    pub(super) locations: Numbered<Shown>,
    pub(super) stacks: Vec<Stack>,
    pub(super) rows: Vec<FunctionRow>,
    pub(super) left_out_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dictionary::Part;

    /// A segment with one thread and two stacks, which differ in their leaf's line.
    fn tables() -> Tables {
        let mut dictionary = Dictionary::default();
        let entries: [(Table, &[u8]); 7] = [
            (Table::OwnerTexts, b""),
            (Table::Processes, &[1, 1, 0, 0, 0, 0, 0]),
            (Table::Threads, &[0, 1, 0]),
            (Table::Texts, b"main"),
            (Table::Functions, &[0, 0, 0, 1]),
            (Table::Places, &[0, 0, 0]),
            (Table::Mappings, &[0, 0]),
        ];
        for (table, entry) in entries {
            assert_eq!(dictionary.intern(table, entry), Ok(0));
        }
        let location = dictionary.location(0, &[0, 5, 1, 1]).unwrap();
        for (line, trace) in [(3, 0), (4, 1)] {
            assert_eq!(dictionary.trace(&[location], line, End::Complete, 0), Ok(trace));
        }
        let mut tables = Tables::default();
        tables.add(Part::Owners, &dictionary.unwritten(Part::Owners)).unwrap();
        tables.add(Part::Shapes, &dictionary.unwritten(Part::Shapes)).unwrap();
        tables
    }

    /// Adds such a segment with a sample in each stack, of 10 ns each; rows and what is left out.
    fn add(answer: &mut FunctionAnswer, given_up: bool) -> (Vec<u64>, u64) {
        let tables = tables();
        let mut transfer = Transfer::new(&tables);
        let mut sums = SegmentSums::new(&tables, &answer.dictionary);
        for trace in [0, 1] {
            let sample = StoredSample { time_ns: 0, weight_ns: 10, cpu: 0, thread: 0, trace };
            sums.add(&mut transfer, (&tables, &mut answer.dictionary), &sample).unwrap();
        }
        answer.add(&tables, &mut transfer, sums, &AtomicBool::new(given_up)).unwrap();
        (answer.rows.iter().map(|row| row.weight_ns).collect(), answer.left_out_ns)
    }

    #[test]
    fn what_an_answer_has_no_room_for_is_left_out_and_counted() {
        let mut answer = FunctionAnswer { place_bytes: MAX_RESULT_PLACES, ..FunctionAnswer::default() };
        assert_eq!(add(&mut answer, false), (vec![], 20));
        let mut answer = FunctionAnswer::default();
        assert_eq!(add(&mut answer, false), (vec![10, 10], 0));
        // What it has it goes on to count.
        answer.frames = MAX_RESULT_FRAMES;
        assert_eq!(add(&mut answer, false), (vec![20, 20], 0));
    }

    #[test]
    fn an_answer_without_room_for_owners_leaves_their_samples_out() {
        let tables = tables();
        let mut answer = FunctionAnswer::default();
        let mut transfer = Transfer::new(&tables);
        let mut sums = SegmentSums::new(&tables, &answer.dictionary);
        sums.is_full = true;
        let sample = StoredSample { time_ns: 0, weight_ns: 10, cpu: 0, thread: 0, trace: 0 };
        sums.add(&mut transfer, (&tables, &mut answer.dictionary), &sample).unwrap();
        answer.add(&tables, &mut transfer, sums, &AtomicBool::new(false)).unwrap();
        assert_eq!((answer.rows.len(), answer.left_out_ns), (0, 10));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_ends_before_it_compares_stacks() {
        assert_eq!(add(&mut FunctionAnswer::default(), true), (vec![], 0));
    }
}
