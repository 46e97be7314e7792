//! Names of sections and symbols, of which no more than the beginning is looked at.

use object::LittleEndian;
use object::elf::FileHeader64;
use object::read::SectionIndex;
use object::read::elf::{SectionHeader, SectionTable};

/// Longest name that is looked at: those that mean something are shorter. A text without an end is otherwise searched to the
/// end of its table, for each name that begins in it.
const MAX_NAME: usize = 64;

/// A string table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a>(&'a [u8]);

impl<'a> Names<'a> {
    /// The table in the section of that number; empty if there is none.
    pub(super) fn new(
        data: &'a [u8],
        sections: &SectionTable<'a, FileHeader64<LittleEndian>>,
        index: SectionIndex,
    ) -> Self {
        let table = sections.section(index).and_then(|section| section.data(LittleEndian, data));
        Self(table.unwrap_or_default())
    }

    /// The name that begins at `offset`, cut at [`MAX_NAME`].
    pub(super) fn at(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.0.get(offset as usize..).filter(|rest| !rest.is_empty())?;
        let name = rest.get(..rest.len().min(MAX_NAME))?;
        name.split(|byte| *byte == 0).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_their_zero_byte_or_where_they_are_cut() {
        let mut table = b"\0.text\0".to_vec();
        table.resize(1 << 20, b'x');
        let names = Names(&table);
        for (offset, expected) in [
            (0, Some(&b""[..])),
            (1, Some(b".text")),
            (3, Some(b"ext")),
            (7, Some(&[b'x'; MAX_NAME])),
            ((1 << 20) - 2, Some(b"xx")),
            (1 << 20, None),
            (u32::MAX, None),
        ] {
            assert_eq!(names.at(offset), expected, "at {offset}");
        }
    }
}
