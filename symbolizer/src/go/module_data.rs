//! `runtime.moduledata`: the only place that says where the text starts (since Go 1.26, and with the system's linker) and where
//! the trees of inlined calls are.
//!
//! It has no symbol in a stripped program. Its first word is the address of the function table's header, and what follows has
//! been laid out alike since Go 1.16; a candidate must agree with the table about the first function. The address of function
//! data moved once: both places are tried, and the trees found there must make sense.

use std::collections::HashMap;
use std::ops::Range;

use object::elf as constants;
use object::read::elf::{FileHeader, Rela, SectionHeader};
use object::{Object, ObjectSection, SectionFlags, SectionKind};

use super::table::{Table, Version};
use crate::dynamic::{elf64, relocations};
use crate::elf::Segments;
use crate::limits::MAX_GO_SEARCH;

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) text: u64,
    pub(crate) function_data: Option<u64>,
}

/// Numbers of words in the structure.
const FIRST_PC: usize = 20;
const TEXT: usize = 22;
const FUNCTION_DATA: [usize; 2] = [40, 38];
/// Words looked at.
const WORDS: usize = 44;
/// Functions whose trees must make sense, and functions looked at to find them.
const WITNESSES: usize = 32;
const MAX_LOOKED_AT: u64 = 20_000;

pub(crate) fn find(
    file: &object::File<'_>,
    image: &[u8],
    segments: &Segments,
    table: &Table<'_>,
    header: u64,
) -> Option<Found> {
    let candidate = plain(file, image, segments, table, header).or_else(|| relocated(file, image, table, header));
    let Some(words) = candidate else {
        // Without the structure, the text section's start is right for all but programs with C code.
        let text = file.section_by_name(".text")?.address();
        return Some(Found { text, function_data: None });
    };
    let text = words[TEXT];
    let function_data = FUNCTION_DATA.into_iter().map(|place| words[place]).find(|base| {
        let mut witnesses = 0;
        for number in 0..table.functions().min(MAX_LOOKED_AT) {
            let Some(function) = table.function_at(text, number) else { return false };
            let Some(offset) = table.tree_offset(&function) else { continue };
            let tree = base.checked_add(offset.into()).and_then(|address| segments.bytes(image, address));
            if !tree.is_some_and(|tree| table.plausible(&function, tree)) {
                return false;
            }
            witnesses += 1;
            if witnesses == WITNESSES {
                break;
            }
        }
        witnesses > 0
    });
    Some(Found { text, function_data })
}

/// Whether the structure agrees with the table about the first function.
fn agrees(table: &Table<'_>, words: &[u64; WORDS]) -> bool {
    let base = if table.version == Version::Go116 { 0 } else { words[TEXT] };
    table.first_entry().and_then(|first| base.checked_add(first)) == Some(words[FIRST_PC])
}

/// In a program at fixed addresses, the words are in the file.
fn plain(
    file: &object::File<'_>,
    image: &[u8],
    segments: &Segments,
    table: &Table<'_>,
    header: u64,
) -> Option<[u64; WORDS]> {
    let sections = file.sections().filter_map(|section| {
        let writable = constants::SHF_WRITE.0;
        let data = matches!(section.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags.0 & writable != 0)
            && section.kind() != SectionKind::UninitializedData;
        let (offset, size) = section.file_range().filter(|_| data)?;
        Some(offset as usize..(offset as usize).checked_add(size as usize)?)
    });
    let mut places: Vec<Range<usize>> = sections.collect();
    if file.sections().next().is_none() {
        places = segments.places(MAX_GO_SEARCH).into_iter().map(|(_, place)| place).collect();
    }
    for place in places {
        let Some(bytes) = image.get(place) else { continue };
        for at in (0..bytes.len().saturating_sub(WORDS * 8)).step_by(8) {
            if bytes[at..at + 8] != header.to_le_bytes() {
                continue;
            }
            let mut words = [0; WORDS];
            for (word, bytes) in words.iter_mut().zip(bytes[at..].as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            if agrees(table, &words) {
                return Some(words);
            }
        }
    }
    None
}

/// In a position-independent program, they are the addends of relocations.
fn relocated(file: &object::File<'_>, image: &[u8], table: &Table<'_>, header: u64) -> Option<[u64; WORDS]> {
    let elf = elf64(file)?;
    let endian = elf.endian();
    let mips = elf.elf_header().is_mips64el(endian);
    let of_sections = elf.elf_section_table().iter().filter_map(|section| Some(section.rela(endian, image).ok()??.0));
    let mut tables: Vec<_> = of_sections.collect();
    if tables.is_empty() {
        tables.push(relocations(file));
    }
    let mut places = Vec::new();
    let mut addends: HashMap<u64, u64> = HashMap::new();
    // Twice over the relocations: first for the structures' places, then for the words in them.
    for pass in 0..2 {
        for relocations in &tables {
            for relocation in *relocations {
                if relocation.r_sym(endian, mips) != 0 {
                    continue;
                }
                let (place, addend) = (relocation.r_offset(endian), relocation.r_addend(endian) as u64);
                if pass == 0 && addend == header && places.len() < MAX_PLACES {
                    places.push(place);
                } else if pass == 1 && places.iter().any(|start| place.wrapping_sub(*start) < WORDS as u64 * 8) {
                    addends.insert(place, addend);
                }
            }
        }
    }
    places.into_iter().find_map(|start| {
        let mut words = [0; WORDS];
        for (number, word) in words.iter_mut().enumerate() {
            *word = addends.get(&start.wrapping_add(number as u64 * 8)).copied().unwrap_or(0);
        }
        agrees(table, &words).then_some(words)
    })
}

/// Places of the header's address looked at.
const MAX_PLACES: usize = 16;
