//! [`UnitOpener`]: the one place that has `gimli` parse a unit, after a look at what that would take.
//!
//! `gimli` makes 112 bytes of an abbreviation of five and 104 of a file name of one, reserved before the first is read; an
//! allocation that fails ends the process. So both tables are walked first, without keeping anything of them.

use std::cell::RefCell;
use std::sync::Arc;

use gimli::{Abbreviations, AttributeValue, Reader as _, Section as _, UnitHeader, constants};

use super::line_header;
use super::{Context, Dwarf, DwarfError, Reader, Unit};
use crate::limits::MAX_ABBREVIATION_BYTES;
use crate::statistics::Failure;

/// Opens units of sections that live as long as it does.
pub(crate) struct UnitOpener<'a> {
    context: &'a Context<'a>,
    /// Units in a row often share their abbreviations: all of a Go program, and what `dwz` made.
    last: RefCell<Option<Table<'a>>>,
}

/// Parsed abbreviations.
#[derive(Clone)]
struct Table<'a> {
    /// The section from the table's start on.
    section: &'a [u8],
    abbreviations: Arc<Abbreviations>,
    /// Heap bytes, about.
    bytes: usize,
}

impl<'a> UnitOpener<'a> {
    pub(crate) fn new(context: &'a Context<'a>) -> Self {
        Self { context, last: RefCell::default() }
    }

    /// The unit, and about how many heap bytes it holds.
    ///
    /// # Errors
    /// [`DwarfError::TooMuch`], which is counted already, where the unit would take more than the limits allow.
    pub(crate) fn open(
        &self,
        dwarf: &Dwarf<'a>,
        header: UnitHeader<Reader<'a>>,
    ) -> Result<(Unit<'a>, usize), DwarfError> {
        self.context.deadline.look()?;
        let opened = self.open_within_limits(dwarf, header);
        if matches!(opened, Err(DwarfError::TooMuch)) {
            self.context.counters.fail(Failure::TooMuchDebugInfo);
        }
        opened
    }

    fn open_within_limits(
        &self,
        dwarf: &Dwarf<'a>,
        header: UnitHeader<Reader<'a>>,
    ) -> Result<(Unit<'a>, usize), DwarfError> {
        let table = self.abbreviations(dwarf, &header)?;
        {
            let mut entries = header.entries(&table.abbreviations);
            entries.next_dfs()?;
            for attribute in entries.current().into_iter().flat_map(gimli::DebuggingInformationEntry::attrs) {
                if attribute.name() == constants::DW_AT_stmt_list
                    && let AttributeValue::DebugLineRef(offset) = attribute.value()
                {
                    line_header::check(*dwarf.debug_line.reader(), offset.0)?;
                }
            }
        }
        let unit = Unit::new_with_abbreviations(dwarf, header, table.abbreviations)?;
        let bytes = size_of::<Unit<'_>>() + table.bytes + unit.line_program.as_ref().map_or(0, line_header::weight);
        Ok((unit, bytes))
    }

    fn abbreviations(&self, dwarf: &Dwarf<'a>, header: &UnitHeader<Reader<'a>>) -> Result<Table<'a>, DwarfError> {
        let offset = header.debug_abbrev_offset();
        let mut section = *dwarf.debug_abbrev.reader();
        section.skip(offset.0)?;
        let section = section.slice();
        let mut last = self.last.borrow_mut();
        if let Some(table) = &*last
            && std::ptr::eq(table.section, section)
        {
            return Ok(table.clone());
        }
        let bytes = table_bytes(*dwarf.debug_abbrev.reader(), offset.0)?;
        let abbreviations = Arc::new(dwarf.debug_abbrev.abbreviations(offset)?);
        Ok(last.insert(Table { section, abbreviations, bytes }).clone())
    }
}

/// What the abbreviations from `offset` on take when they are parsed, in bytes, about.
fn table_bytes(mut section: Reader<'_>, offset: usize) -> Result<usize, DwarfError> {
    section.skip(offset)?;
    let mut bytes = 0;
    // Without an end, the section's is the table's.
    while !section.is_empty() && section.read_uleb128()? != 0 {
        bytes += size_of::<gimli::Abbreviation>();
        let _tag = section.read_uleb128()?;
        let _children = section.read_u8()?;
        loop {
            let (name, form) = (section.read_uleb128()?, section.read_uleb128()?);
            if (name, form) == (0, 0) {
                break;
            }
            if form == u64::from(constants::DW_FORM_implicit_const.0) {
                section.read_sleb128()?;
            }
            bytes += size_of::<gimli::AttributeSpecification>();
            if bytes > MAX_ABBREVIATION_BYTES {
                return Err(DwarfError::TooMuch);
            }
        }
        if bytes > MAX_ABBREVIATION_BYTES {
            return Err(DwarfError::TooMuch);
        }
    }
    Ok(bytes)
}
