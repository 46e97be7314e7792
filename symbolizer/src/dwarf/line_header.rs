//! What the header of a line table would take when it is parsed: its list of directories and files.
//!
//! Walks no further than it has to: a header that is short can't name many. What is broken is left to `gimli`, which finds the
//! same fault at the same place.

use gimli::{DwForm, Format, IncompleteLineProgram, Reader as _, constants};

use super::{DwarfError, Reader};
use crate::limits::{MAX_LINE_FILES, MAX_LINE_HEADER};

/// Heap bytes of a parsed header, about.
pub(crate) fn weight(program: &IncompleteLineProgram<Reader<'_>>) -> usize {
    let header = program.header();
    size_of_val(header.file_names()) + size_of_val(header.include_directories())
}

/// # Errors
/// [`DwarfError::TooMuch`] where the header at `offset` of `.debug_line` is larger, or names more files, than the limits allow.
pub(crate) fn check(mut section: Reader<'_>, offset: usize) -> Result<(), DwarfError> {
    section.skip(offset)?;
    let (length, format) = section.read_initial_length()?;
    let mut header = section.split(length)?;
    let version = header.read_u16()?;
    if version >= 5 {
        let _address_and_segment_size = header.read_u16()?;
    }
    let length = header.read_length(format)?;
    if length <= MAX_LINE_FILES {
        // An entry has a byte at least.
        return Ok(());
    }
    if length > MAX_LINE_HEADER {
        return Err(DwarfError::TooMuch);
    }
    header.truncate(length)?;
    // Length of an instruction, operations in one (from version 4 on), is_stmt, line base and range.
    header.skip(if version >= 4 { 5 } else { 4 })?;
    let first_special_opcode = header.read_u8()?;
    header.skip(usize::from(first_special_opcode.saturating_sub(1)))?;
    if version >= 5 { check_counts(header, format) } else { check_lists(header) }
}

/// Version 5: both lists say how long they are, and what an entry looks like. `gimli` believes them as far as there are bytes.
fn check_counts(mut header: Reader<'_>, format: Format) -> Result<(), DwarfError> {
    let directory = entry_format(&mut header)?;
    if directory.is_empty() {
        return Err(gimli::Error::MissingFileEntryFormatPath.into());
    }
    let directories = claimed(&mut header, 0)?;
    for _ in 0..directories {
        for form in &directory {
            skip(&mut header, *form, format)?;
        }
    }
    entry_format(&mut header)?;
    claimed(&mut header, directories)?;
    Ok(())
}

/// The forms of which an entry is made: 255 at most.
fn entry_format(header: &mut Reader<'_>) -> Result<Vec<DwForm>, DwarfError> {
    let count = header.read_u8()?;
    let mut forms = Vec::new();
    for _ in 0..count {
        let _content = header.read_uleb128()?;
        forms.push(DwForm(header.read_uleb128_u16()?));
    }
    Ok(forms)
}

/// The number of entries that follow, if that is not too much together with those `before`.
fn claimed(header: &mut Reader<'_>, before: usize) -> Result<usize, DwarfError> {
    let count = usize::try_from(header.read_uleb128()?).unwrap_or(usize::MAX);
    if count.min(header.len()).saturating_add(before) > MAX_LINE_FILES { Err(DwarfError::TooMuch) } else { Ok(count) }
}

fn skip(header: &mut Reader<'_>, form: DwForm, format: Format) -> Result<(), DwarfError> {
    let length = match form {
        constants::DW_FORM_data1 | constants::DW_FORM_flag | constants::DW_FORM_strx1 => 1,
        constants::DW_FORM_data2 | constants::DW_FORM_strx2 => 2,
        constants::DW_FORM_strx3 => 3,
        constants::DW_FORM_data4 | constants::DW_FORM_strx4 => 4,
        constants::DW_FORM_data8 => 8,
        constants::DW_FORM_data16 => 16,
        constants::DW_FORM_sec_offset
        | constants::DW_FORM_strp
        | constants::DW_FORM_strp_sup
        | constants::DW_FORM_GNU_strp_alt
        | constants::DW_FORM_line_strp => usize::from(format.word_size()),
        constants::DW_FORM_block1 => usize::from(header.read_u8()?),
        constants::DW_FORM_block2 => usize::from(header.read_u16()?),
        constants::DW_FORM_block4 => header.read_u32()? as usize,
        constants::DW_FORM_block => usize::try_from(header.read_uleb128()?).unwrap_or(usize::MAX),
        constants::DW_FORM_udata
        | constants::DW_FORM_sdata
        | constants::DW_FORM_strx
        | constants::DW_FORM_GNU_str_index => {
            header.skip_leb128()?;
            0
        }
        constants::DW_FORM_string => {
            header.read_null_terminated_slice()?;
            0
        }
        unknown => return Err(gimli::Error::UnknownForm(unknown).into()),
    };
    Ok(header.skip(length)?)
}

/// Up to version 4: both lists end with an empty name.
fn check_lists(mut header: Reader<'_>) -> Result<(), DwarfError> {
    let mut entries = 0;
    for numbers_behind_a_name in [0, 3] {
        while !header.read_null_terminated_slice()?.is_empty() {
            for _ in 0..numbers_behind_a_name {
                header.skip_leb128()?;
            }
            entries += 1;
            if entries > MAX_LINE_FILES {
                return Err(DwarfError::TooMuch);
            }
        }
    }
    Ok(())
}
