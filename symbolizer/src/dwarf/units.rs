//! [`UnitIndex`]: address to DWARF unit.
//!
//! From `.debug_aranges` where it speaks of a unit, else from the unit's own ranges. Where units overlap the first in the file
//! wins. Ranges outside the executable's code are left out: the linker sets those of dropped functions to 0, 1 or −1.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use gimli::{DebugInfoOffset, Reader as _, Section as _};

use super::functions::Place;
use super::lines::lowest_of_dropped;
use super::opening::UnitOpener;
use super::{Context, Dwarf, DwarfError, Reader, Unit};
use crate::elf::contains;
use crate::limits::{MAX_UNIT_RANGES, MAX_UNITS};
use crate::statistics::Failure;

/// Addresses `begin..end` belong to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    /// Position in [`UnitIndex::offsets`].
    pub(crate) unit: u32,
}

/// Which unit has which addresses.
#[derive(Debug)]
pub(crate) struct UnitIndex {
    /// Offset in `.debug_info` of each unit, ascending.
    pub(crate) offsets: Vec<usize>,
    intervals: Vec<Interval>,
}

impl UnitIndex {
    pub(crate) fn build(dwarf: &Dwarf<'_>, context: &Context<'_>) -> Result<Self, DwarfError> {
        let mut offsets = Vec::new();
        let mut headers = Vec::new();
        let mut units = dwarf.units();
        // A broken header ends the list; the units before it are good.
        while let Ok(Some(header)) = units.next() {
            context.deadline.tick()?;
            if offsets.len() == MAX_UNITS {
                context.counters.fail(Failure::TooMuchDebugInfo);
                break;
            }
            if let Some(DebugInfoOffset(offset)) = header.debug_info_offset() {
                offsets.push(offset);
                headers.push(header);
            }
        }
        let mut ranges = Vec::new();
        let listed = from_aranges(dwarf, &offsets, &mut ranges, context)?;
        let opener = UnitOpener::new(context);
        for (number, header) in headers.into_iter().enumerate() {
            if listed.get(number).copied().unwrap_or(false) {
                continue;
            }
            match from_unit(dwarf, &opener, header, number as u32, &mut ranges, context) {
                Ok(()) => {}
                Err(DwarfError::TimeUp) => return Err(DwarfError::TimeUp),
                Err(error) => error.count(context.counters),
            }
        }
        Ok(Self { offsets, intervals: disjoint(&ranges) })
    }

    pub(crate) fn find(&self, address: u64) -> Option<Interval> {
        let position = self.intervals.partition_point(|interval| interval.begin <= address).checked_sub(1)?;
        self.intervals.get(position).copied().filter(|interval| address < interval.end)
    }

    /// The unit that the `.debug_info` offset lies in.
    pub(crate) fn unit_at(&self, offset: usize) -> Option<u32> {
        let position = self.offsets.partition_point(|start| *start <= offset).checked_sub(1)?;
        Some(position as u32)
    }

    pub(crate) fn weight(&self) -> usize {
        self.offsets.capacity() * size_of::<usize>() + self.intervals.capacity() * size_of::<Interval>()
    }
}

/// Offset in `.debug_info` of each unit, ascending.
pub(crate) fn offsets(dwarf: &Dwarf<'_>) -> Vec<usize> {
    let mut offsets = Vec::new();
    let mut units = dwarf.units();
    while let Ok(Some(header)) = units.next()
        && offsets.len() < MAX_UNITS
    {
        offsets.extend(header.debug_info_offset().map(|offset| offset.0));
    }
    offsets
}

fn add(ranges: &mut Vec<Interval>, interval: Interval, context: &Context<'_>) -> Result<(), DwarfError> {
    context.deadline.tick()?;
    if interval.begin >= interval.end || !contains(context.code, interval.begin) {
        return Ok(());
    }
    if ranges.len() >= MAX_UNIT_RANGES {
        context.counters.fail(Failure::TooMuchDebugInfo);
        return Err(DwarfError::TooMuch);
    }
    ranges.push(interval);
    Ok(())
}

/// Which units `.debug_aranges` speaks of.
pub(super) fn from_aranges(
    dwarf: &Dwarf<'_>,
    offsets: &[usize],
    ranges: &mut Vec<Interval>,
    context: &Context<'_>,
) -> Result<Vec<bool>, DwarfError> {
    let mut listed = vec![false; offsets.len()];
    let numbers: HashMap<usize, u32> =
        offsets.iter().enumerate().map(|(number, offset)| (*offset, number as u32)).collect();
    let mut headers = dwarf.debug_aranges.headers();
    while let Ok(Some(header)) = headers.next() {
        context.deadline.tick()?;
        let Some(unit) = numbers.get(&header.debug_info_offset().0).copied() else { continue };
        let Ok(mut pairs) = pairs(dwarf, &header) else { continue };
        let size = header.encoding().address_size;
        let dropped = lowest_of_dropped(size);
        while let (Ok(begin), Ok(length)) = (pairs.read_address(size), pairs.read_address(size)) {
            context.deadline.tick()?;
            // A zero pair is the end of a set, or was left where a function was dropped.
            if (begin, length) == (0, 0) || begin >= dropped {
                continue;
            }
            let Some(end) = begin.checked_add(length) else { break };
            add(ranges, Interval { begin, end, unit }, context)?;
            listed[unit as usize] = true;
        }
    }
    Ok(listed)
}

/// The (address, length) pairs of one set. `gimli`'s iterator passes over any number of them in one call, and over zeros by
/// recursion.
fn pairs<'a>(dwarf: &Dwarf<'a>, set: &gimli::ArangeHeader<Reader<'a>>) -> Result<Reader<'a>, gimli::Error> {
    let format = set.encoding().format;
    let length_size = usize::from(format.initial_length_size());
    // Version, offset, sizes of an address and of a segment selector; then to a multiple of a pair's size.
    let header = length_size + 2 + usize::from(format.word_size()) + 2;
    let pair = usize::from(set.encoding().address_size) * 2;
    let mut section = *dwarf.debug_aranges.reader();
    section.skip(set.offset().0)?;
    section.truncate(length_size + set.length())?;
    section.skip(header.next_multiple_of(pair.max(1)))?;
    Ok(section)
}

fn from_unit<'a>(
    dwarf: &Dwarf<'a>,
    opener: &UnitOpener<'a>,
    header: gimli::UnitHeader<super::Reader<'a>>,
    number: u32,
    ranges: &mut Vec<Interval>,
    context: &Context<'_>,
) -> Result<(), DwarfError> {
    if matches!(header.type_(), gimli::UnitType::Type { .. } | gimli::UnitType::Partial) {
        return Ok(());
    }
    let (unit, _) = opener.open(dwarf, header)?;
    from_root(dwarf, &unit, number, ranges, context)
}

/// The ranges that the unit's own entry tells.
pub(super) fn from_root<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    number: u32,
    ranges: &mut Vec<Interval>,
    context: &Context<'_>,
) -> Result<(), DwarfError> {
    let mut entries = unit.entries();
    entries.next_dfs()?;
    let mut place = Place::default();
    for attribute in entries.current().ok_or(DwarfError::Missing)?.attrs() {
        place.note(dwarf, unit, attribute)?;
    }
    let mut added = Ok(());
    place.for_each(dwarf, unit, context, |begin, end| {
        added = add(ranges, Interval { begin, end, unit: number }, context);
        if added.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    added
}

/// Disjoint intervals, ascending; the lowest unit number wins where several overlap.
fn disjoint(ranges: &[Interval]) -> Vec<Interval> {
    let mut edges: Vec<(u64, bool, u32)> = Vec::with_capacity(ranges.len() * 2);
    for range in ranges {
        edges.push((range.begin, true, range.unit));
        edges.push((range.end, false, range.unit));
    }
    // Ends before starts, so that neighbours of one unit do not pile up.
    edges.sort_unstable();
    let mut open: HashMap<u32, u32> = HashMap::new();
    let mut active: BTreeSet<u32> = BTreeSet::new();
    let mut intervals: Vec<Interval> = Vec::new();
    let mut previous = 0;
    for (address, start, unit) in edges {
        if let Some(first) = active.first().copied()
            && previous < address
        {
            match intervals.last_mut() {
                Some(last) if last.end == previous && last.unit == first => last.end = address,
                _ => intervals.push(Interval { begin: previous, end: address, unit: first }),
            }
        }
        previous = address;
        let count = open.entry(unit).or_default();
        if start {
            *count += 1;
            active.insert(unit);
        } else {
            *count -= 1;
            if *count == 0 {
                active.remove(&unit);
            }
        }
    }
    intervals.shrink_to_fit();
    intervals
}

#[cfg(test)]
mod tests {
    use super::{Interval, disjoint};

    #[test]
    fn where_units_overlap_the_first_in_the_file_wins() {
        let interval = |begin, end, unit| Interval { begin, end, unit };
        let table: &[(&[Interval], &[Interval])] = &[
            (&[], &[]),
            (&[interval(10, 20, 0), interval(20, 30, 0)], &[interval(10, 30, 0)]),
            (&[interval(10, 20, 1), interval(15, 30, 0)], &[interval(10, 15, 1), interval(15, 30, 0)]),
            (&[interval(10, 40, 0), interval(15, 20, 1)], &[interval(10, 40, 0)]),
            (
                &[interval(10, 40, 1), interval(15, 20, 0)],
                &[interval(10, 15, 1), interval(15, 20, 0), interval(20, 40, 1)],
            ),
            (&[interval(10, 20, 3), interval(10, 20, 3), interval(15, 25, 3)], &[interval(10, 25, 3)]),
        ];
        for (given, expected) in table {
            assert_eq!(disjoint(given), *expected, "{given:?}");
        }
    }
}
