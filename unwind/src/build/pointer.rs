//! Pointers as `.eh_frame` encodes them (`DW_EH_PE_*`).

use super::bytes::Bytes;

/// Why there is no pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PointerFault {
    /// Cut off.
    Malformed,
    /// It needs something that the file does not have.
    Encoding,
}

/// `DW_EH_PE_omit`.
const OMIT: u8 = 0xff;

/// A pointer; `section` is the address of the first byte that `bytes` counts from.
pub(super) fn pointer(bytes: &mut Bytes<'_>, encoding: u8, section: u64) -> Result<u64, PointerFault> {
    // Indirect pointers have to be read from the running process; text- and data-relative ones need bases that only the
    // dynamic loader has.
    let base = match encoding & 0xf0 {
        0x00 => 0,
        0x10 => section.wrapping_add(bytes.position() as u64),
        _ => return Err(PointerFault::Encoding),
    };
    let value = match encoding & 0x0f {
        0x00 | 0x04 | 0x0c => bytes.u64(),
        0x01 => bytes.uleb(),
        0x02 => bytes.u16().map(u64::from),
        0x03 => bytes.u32().map(u64::from),
        0x09 => bytes.sleb().map(i64::cast_unsigned),
        0x0a => bytes.u16().map(|value| i64::from(value.cast_signed()).cast_unsigned()),
        0x0b => bytes.u32().map(|value| i64::from(value.cast_signed()).cast_unsigned()),
        _ => return Err(PointerFault::Encoding),
    };
    Ok(base.wrapping_add(value.ok_or(PointerFault::Malformed)?))
}

/// Skips the personality routine's pointer, whose value is of no interest.
pub(super) fn skip_pointer(bytes: &mut Bytes<'_>, encoding: u8) -> Option<()> {
    if encoding == OMIT {
        return Some(());
    }
    // Aligned pointers are padded to the address size from the section's start.
    if encoding == 0x50 {
        let padding = bytes.position().next_multiple_of(8) - bytes.position();
        bytes.take(padding)?;
        return bytes.u64().map(|_| ());
    }
    pointer(bytes, encoding & 0x0f, 0).ok().map(|_| ())
}
