//! [`FunctionStacks`]: a segment's stacks merged by function while they are read, for [`Grouping::Functions`](super::Grouping).
//!
//! An hour of a busy node has several hundred thousand distinct stacks, but most differ in nothing but the place within a function. Here
//! each frame, place and stack of a segment is looked at once, by its number; only what is different as a picture shows it comes into
//! the answer. Two places are the same if kind, mapping and functions are; of the leaf its line counts as well, and where no function
//! is known the address.

use std::collections::HashMap;

use super::bytes::{Bytes, Malformed, put};
use super::dictionary::{Dictionary, Node, Table, Tables};
use super::entry::{self, Trace};
use super::transfer::Transfer;
use profiles::profile::{Location, StringIndex};

/// Nobody asked yet. No table has as many entries: it would not fit its 4 GiB.
const NOT_YET: u32 = u32::MAX;

/// What a frame's place is seen as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seat {
    Inner,
    Leaf,
}

/// See the module documentation. 4 bytes of memory for each frame, stack and thread of the segment, 8 for each place.
pub(super) struct FunctionStacks<'segment> {
    tables: &'segment Tables,
    transfer: Transfer<'segment, Tables>,
    /// By thread of the segment: the owner's number in the answer.
    owners: Vec<u32>,
    /// By frame of the segment, less one: the answer's.
    nodes: Vec<u32>,
    /// By stack of the segment: the answer's stack, as told by the caller.
    traces: Vec<u32>,
    /// By place of the segment, as inner frames and as leaves: the answer's.
    places: [Vec<u32>; 2],
    /// The same by what counts of a place, in the segment's numbers.
    kinds: HashMap<Vec<u8>, u32, hashbrown::DefaultHashBuilder>,
    /// By function of the segment, whether it has a name.
    named: Vec<Option<bool>>,
    /// Frames between a leaf and what was known already.
    pending: Vec<(u32, u32)>,
    key: Vec<u8>,
}

impl<'segment> FunctionStacks<'segment> {
    pub(super) fn new(tables: &'segment Tables) -> Self {
        let slots = |table| vec![NOT_YET; tables.len(table)];
        FunctionStacks {
            tables,
            transfer: Transfer::new(tables),
            owners: slots(Table::Threads),
            nodes: vec![NOT_YET; tables.node_count()],
            traces: slots(Table::Traces),
            places: [slots(Table::Locations), slots(Table::Locations)],
            kinds: HashMap::default(),
            named: vec![None; tables.len(Table::Functions)],
            pending: Vec::new(),
            key: Vec::new(),
        }
    }

    /// The kind of process that a thread belongs to.
    pub(super) fn owner(&mut self, into: &mut Dictionary, thread: u32) -> Result<u32, Malformed> {
        if let Some(owner) = known(&self.owners, thread)? {
            return Ok(owner);
        }
        let owner = self.transfer.kind_of_process(into, self.tables.thread(thread)?.process)?;
        self.owners[thread as usize] = owner;
        Ok(owner)
    }

    /// What `number` gave for the segment's stack when it was met first. It is told the stack in the answer, and how deep it is.
    pub(super) fn trace(
        &mut self,
        into: &mut Dictionary,
        trace: u32,
        number: impl FnOnce(Trace, u64) -> u32,
    ) -> Result<u32, Malformed> {
        if let Some(found) = known(&self.traces, trace)? {
            return Ok(found);
        }
        let read = self.tables.trace(trace)?;
        let node = if read.node == 0 {
            0
        } else {
            let leaf = self.tables.node(read.node)?;
            let parent = self.inner(into, leaf.parent)?;
            let location = self.place(into, leaf.location, Seat::Leaf)?;
            into.node(Node { parent, location })
        };
        let found = number(Trace { node, ..read }, self.tables.depth(read.node));
        self.traces[trace as usize] = found;
        Ok(found)
    }

    /// A frame that called another one.
    fn inner(&mut self, into: &mut Dictionary, node: u32) -> Result<u32, Malformed> {
        self.pending.clear();
        let mut at = node;
        // A parent's number is smaller, so this ends.
        let mut parent = loop {
            let Some(slot) = at.checked_sub(1) else { break 0 };
            if let Some(found) = known(&self.nodes, slot)? {
                break found;
            }
            let read = self.tables.node(at)?;
            self.pending.push((slot, read.location));
            at = read.parent;
        };
        while let Some((slot, location)) = self.pending.pop() {
            let location = self.place(into, location, Seat::Inner)?;
            parent = into.node(Node { parent, location });
            self.nodes[slot as usize] = parent;
        }
        Ok(parent)
    }

    fn place(&mut self, into: &mut Dictionary, location: u32, seat: Seat) -> Result<u32, Malformed> {
        if let Some(found) = known(&self.places[seat as usize], location)? {
            return Ok(found);
        }
        let entry = self.tables.get(Table::Locations, location)?;
        let has_name = self.write_key(entry, seat)?;
        let found = match self.kinds.get(&self.key) {
            Some(found) => *found,
            None => {
                let made = self.transfer.location_as(into, location, |location| as_seen(location, seat, has_name))?;
                self.kinds.insert(self.key.clone(), made);
                made
            }
        };
        self.places[seat as usize][location as usize] = found;
        Ok(found)
    }

    /// What counts of a place, into `key`; whether all its functions have names.
    fn write_key(&mut self, entry: &[u8], seat: Seat) -> Result<bool, Malformed> {
        let mut bytes = Bytes(entry);
        self.key.clear();
        self.key.extend([seat as u8, bytes.byte()?]);
        put(&mut self.key, bytes.number()?);
        let address = bytes.number()?;
        let mut has_name = bytes.end().is_err();
        let mut innermost = true;
        while bytes.end().is_err() {
            let (function, line, _column) = (bytes.small()?, bytes.small()?, bytes.small()?);
            has_name &= self.has_name(function)?;
            put(&mut self.key, u64::from(function));
            if innermost && seat == Seat::Leaf {
                put(&mut self.key, u64::from(line));
            }
            innermost = false;
        }
        if !has_name {
            put(&mut self.key, address);
        }
        // An address must not look like a function.
        self.key.push(u8::from(has_name));
        Ok(has_name)
    }

    fn has_name(&mut self, function: u32) -> Result<bool, Malformed> {
        let slot = self.named.get_mut(function as usize).ok_or(Malformed("a function that is not there"))?;
        if let Some(named) = *slot {
            return Ok(named);
        }
        let StringIndex(name) = entry::function(self.tables.get(Table::Functions, function)?)?.name;
        Ok(*slot.insert(!self.tables.get(Table::Texts, name)?.is_empty()))
    }
}

fn known(slots: &[u32], number: u32) -> Result<Option<u32>, Malformed> {
    let slot = slots.get(number as usize).ok_or(Malformed("an index into a table that it is not in"))?;
    Ok(Some(*slot).filter(|slot| *slot != NOT_YET))
}

/// A place without what no picture shows.
fn as_seen(location: &mut Location, seat: Seat, has_name: bool) {
    if has_name {
        location.address = 0;
    }
    for (level, line) in location.lines.iter_mut().enumerate() {
        line.column = 0;
        if level > 0 || seat == Seat::Inner {
            line.line = 0;
        }
    }
}
