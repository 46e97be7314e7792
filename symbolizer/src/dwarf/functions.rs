//! [`FunctionIndex`]: address to the debugging entry of the function, within one unit.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use gimli::{AttributeValue, UnitOffset, constants};

use super::{Context, Dwarf, DwarfError, Unit};
use crate::elf::contains;
use crate::limits::MAX_FUNCTIONS;
use crate::statistics::Failure;

/// Addresses `begin..end` are in the function whose entry is at `entry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FunctionRange {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    /// Offset in the unit.
    pub(crate) entry: UnitOffset<usize>,
}

/// Functions of one unit, disjoint and ascending.
#[derive(Debug)]
pub(crate) struct FunctionIndex(Vec<FunctionRange>);

/// The attributes that say where the code of an entry is.
#[derive(Default)]
pub(crate) struct Place<'a> {
    low: Option<u64>,
    high: Option<AttributeValue<super::Reader<'a>>>,
    ranges: Option<AttributeValue<super::Reader<'a>>>,
}

impl<'a> Place<'a> {
    /// Takes note of an attribute if it is one of those.
    pub(crate) fn note(
        &mut self,
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        attribute: &gimli::Attribute<super::Reader<'a>>,
    ) -> Result<(), DwarfError> {
        match attribute.name() {
            constants::DW_AT_low_pc => self.low = dwarf.attr_address(unit, attribute.value())?,
            constants::DW_AT_high_pc => self.high = Some(attribute.value()),
            constants::DW_AT_ranges => self.ranges = Some(attribute.value()),
            _ => {}
        }
        Ok(())
    }

    /// Calls `each` with every non-empty range until it says that it is enough.
    pub(crate) fn for_each(
        &self,
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        context: &Context<'_>,
        mut each: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<(), DwarfError> {
        if let (Some(low), Some(high)) = (self.low, &self.high) {
            let end = match high {
                AttributeValue::Addr(_) | AttributeValue::DebugAddrIndex(_) => dwarf.attr_address(unit, *high)?,
                other => other.udata_value().and_then(|size| low.checked_add(size)),
            };
            if let Some(end) = end
                && low < end
            {
                let _ = each(low, end);
            }
        } else if let Some(ranges) = &self.ranges
            && let Some(mut list) = dwarf.attr_ranges(unit, *ranges)?
        {
            // One by one, since `next` passes over any number of ranges that are empty or of dropped functions.
            while let Some(raw) = list.next_raw()? {
                context.deadline.tick()?;
                if let Some(range) = list.convert_raw(raw)?
                    && range.begin < range.end
                    && each(range.begin, range.end).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Whether an entry of this shape can have code at all; saves decoding the attributes of all others.
pub(crate) fn may_have_code(abbreviation: &gimli::Abbreviation) -> bool {
    abbreviation
        .attributes()
        .iter()
        .any(|attribute| matches!(attribute.name(), constants::DW_AT_low_pc | constants::DW_AT_ranges))
}

impl FunctionIndex {
    pub(crate) fn build(dwarf: &Dwarf<'_>, unit: &Unit<'_>, context: &Context<'_>) -> Result<Self, DwarfError> {
        Self::within(MAX_FUNCTIONS, dwarf, unit, context)
    }

    /// The first `most` ranges, but for two that may be missing.
    pub(super) fn within(
        most: usize,
        dwarf: &Dwarf<'_>,
        unit: &Unit<'_>,
        context: &Context<'_>,
    ) -> Result<Self, DwarfError> {
        let mut map: BTreeMap<u64, (u64, UnitOffset<usize>)> = BTreeMap::new();
        let mut full = false;
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            context.deadline.tick()?;
            let offset = entries.next_offset();
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            if abbreviation.tag() != constants::DW_TAG_subprogram || !may_have_code(abbreviation) {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let mut place = Place::default();
            for specification in abbreviation.attributes() {
                place.note(dwarf, unit, &entries.read_attribute(*specification)?)?;
            }
            place.for_each(dwarf, unit, context, |begin, end| {
                // One that lies inside another makes three of one.
                full = map.len() + 2 > most;
                if full {
                    return ControlFlow::Break(());
                }
                insert(&mut map, begin, end, offset, context);
                ControlFlow::Continue(())
            })?;
            if full {
                context.counters.fail(Failure::TooMuchDebugInfo);
                break;
            }
        }
        Ok(Self(map.into_iter().map(|(begin, (end, entry))| FunctionRange { begin, end, entry }).collect()))
    }

    pub(crate) fn find(&self, address: u64) -> Option<FunctionRange> {
        let position = self.0.partition_point(|range| range.begin <= address).checked_sub(1)?;
        self.0.get(position).copied().filter(|range| address < range.end)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn weight(&self) -> usize {
        self.0.capacity() * size_of::<FunctionRange>()
    }
}

/// Entries come parent first: a nested function's range cuts a hole into its parent's.
fn insert(
    map: &mut BTreeMap<u64, (u64, UnitOffset<usize>)>,
    begin: u64,
    end: u64,
    entry: UnitOffset<usize>,
    context: &Context<'_>,
) {
    if !contains(context.code, begin) {
        return;
    }
    if let Some((start, (stop, outer))) = map.range(..=begin).next_back().map(|(start, value)| (*start, *value))
        && begin < stop
    {
        if end < stop {
            map.insert(end, (stop, outer));
        }
        if start < begin {
            map.insert(start, (begin, outer));
        }
    }
    map.insert(begin, (end, entry));
}
