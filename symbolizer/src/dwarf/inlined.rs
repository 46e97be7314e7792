//! The inlined calls of one function that contain given addresses.

use std::ops::ControlFlow;

use gimli::{AttributeValue, UnitOffset, constants};

use super::functions::{Place, may_have_code};
use super::{Context, Dwarf, DwarfError, Unit};
use crate::limits::MAX_INLINED;
use crate::statistics::Failure;

/// An inlined call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The entry of the inlined function's instance, an offset in the unit.
    pub(crate) entry: UnitOffset<usize>,
    /// Where it was called from: number in the line table's list of files.
    pub(crate) call_file: Option<u64>,
    pub(crate) call_line: u32,
    pub(crate) call_column: u32,
}

/// For each address (ascending, all in the function at `function`), the calls from the outermost to the innermost.
pub(crate) fn chains<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    function: UnitOffset<usize>,
    addresses: &[u64],
    context: &Context<'_>,
) -> Result<Vec<Vec<Call>>, DwarfError> {
    let mut results = vec![Vec::new(); addresses.len()];
    if !context.inlined {
        return Ok(results);
    }
    let mut entries = unit.entries_raw(Some(function))?;
    let mut open: Vec<(isize, Call)> = Vec::new();
    let mut first = true;
    while !entries.is_empty() {
        context.deadline.tick()?;
        let depth = entries.next_depth();
        if !first && depth <= 0 {
            break;
        }
        first = false;
        let offset = entries.next_offset();
        let Some(abbreviation) = entries.read_abbreviation()? else { continue };
        while open.last().is_some_and(|(outer, _)| *outer >= depth) {
            open.pop();
        }
        if abbreviation.tag() != constants::DW_TAG_inlined_subroutine || !may_have_code(abbreviation) {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let mut place = Place::default();
        let mut call = Call { entry: offset, call_file: None, call_line: 0, call_column: 0 };
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification)?;
            match attribute.name() {
                constants::DW_AT_call_file => {
                    call.call_file = match attribute.value() {
                        AttributeValue::FileIndex(number) => Some(number),
                        other => other.udata_value(),
                    }
                }
                constants::DW_AT_call_line => call.call_line = number(&attribute),
                constants::DW_AT_call_column => call.call_column = number(&attribute),
                _ => place.note(dwarf, unit, &attribute)?,
            }
        }
        if open.len() >= MAX_INLINED {
            context.counters.fail(Failure::TooMuchDebugInfo);
            continue;
        }
        open.push((depth, call));
        place.for_each(dwarf, unit, context, |begin, end| {
            let from = addresses.partition_point(|address| *address < begin);
            let to = addresses.partition_point(|address| *address < end);
            for result in results.get_mut(from..to).unwrap_or_default() {
                result.clear();
                result.extend(open.iter().map(|(_, call)| *call));
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(results)
}

fn number<R: gimli::Reader>(attribute: &gimli::Attribute<R>) -> u32 {
    attribute.udata_value().and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
}
