//! What symbolizing needs of ELF itself: sections (decompressed within a budget), executable ranges, identity notes.

use std::borrow::Cow;
use std::ops::Range;

use object::read::CompressionFormat;
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};

use crate::limits::MAX_DECOMPRESSED;

/// One section: a part of the file, or its decompressed bytes.
#[derive(Debug)]
pub(crate) enum Section {
    Range(Range<usize>),
    Owned(Vec<u8>),
}

impl Section {
    pub(crate) const EMPTY: Section = Section::Range(0..0);

    /// The bytes; `image` is the file that this section was found in.
    pub(crate) fn bytes<'a>(&'a self, image: &'a [u8]) -> &'a [u8] {
        match self {
            Section::Range(range) => image.get(range.clone()).unwrap_or_default(),
            Section::Owned(bytes) => bytes,
        }
    }

    /// Heap bytes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Section::Range(_) => 0,
            Section::Owned(bytes) => bytes.len(),
        }
    }
}

/// A compressed section is too large for what is left of the budget, or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Undecompressable;

impl From<gimli::Error> for Undecompressable {
    fn from(_: gimli::Error) -> Self {
        Self
    }
}

/// How many bytes decompression may still take for one file.
#[derive(Debug)]
pub(crate) struct DecompressionBudget(pub(crate) u64);

impl Default for DecompressionBudget {
    fn default() -> Self {
        Self(MAX_DECOMPRESSED)
    }
}

/// The named section; empty if there is none.
pub(crate) fn section(
    file: &object::File<'_>,
    name: &str,
    budget: &mut DecompressionBudget,
) -> Result<Section, Undecompressable> {
    let Some(section) = file.section_by_name(name) else { return Ok(Section::EMPTY) };
    let place = section.compressed_file_range().map_err(|_| Undecompressable)?;
    if place.format == CompressionFormat::None {
        let start = usize::try_from(place.offset).map_err(|_| Undecompressable)?;
        let size = usize::try_from(place.uncompressed_size).map_err(|_| Undecompressable)?;
        return Ok(Section::Range(start..start.checked_add(size).ok_or(Undecompressable)?));
    }
    budget.0 = budget.0.checked_sub(place.uncompressed_size).ok_or(Undecompressable)?;
    match section.compressed_data().and_then(object::CompressedData::decompress) {
        Ok(Cow::Owned(bytes)) => Ok(Section::Owned(bytes)),
        Ok(Cow::Borrowed(bytes)) => Ok(Section::Owned(bytes.to_vec())),
        Err(_) => Err(Undecompressable),
    }
}

/// The file's executable address ranges, ascending. Tables that name other addresses talk about code that the linker dropped.
pub(crate) fn executable_ranges(file: &object::File<'_>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = file
        .segments()
        .filter(|segment| match segment.flags() {
            SegmentFlags::Elf { p_flags, .. } => p_flags.0 & object::elf::PF_X.0 != 0,
            _ => true,
        })
        .map(|segment| segment.address()..segment.address().saturating_add(segment.size()))
        .collect();
    ranges.sort_by_key(|range| range.start);
    ranges
}

/// Which addresses are at which place in the file.
#[derive(Debug)]
pub(crate) struct Segments(Vec<(Range<u64>, usize)>);

impl Segments {
    pub(crate) fn of(file: &object::File<'_>) -> Self {
        Self(
            file.segments()
                .filter_map(|segment| {
                    let (offset, size) = segment.file_range();
                    let start = segment.address();
                    Some((start..start.checked_add(size)?, usize::try_from(offset).ok()?))
                })
                .collect(),
        )
    }

    /// Address and place in the file of each segment, of the first `limit` bytes together.
    pub(crate) fn places(&self, limit: usize) -> Vec<(u64, Range<usize>)> {
        let mut left = limit;
        let place = |(range, offset): &(Range<u64>, usize)| {
            let size = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(left);
            left -= size;
            Some((range.start, *offset..offset.checked_add(size)?))
        };
        self.0.iter().filter_map(place).collect()
    }

    /// Where in the file the byte at `address` is.
    pub(crate) fn place(&self, address: u64) -> Option<u64> {
        let (range, offset) = self.0.iter().find(|(range, _)| range.contains(&address))?;
        (*offset as u64).checked_add(address - range.start)
    }

    /// The file's bytes from `address` to the end of its segment.
    pub(crate) fn bytes<'a>(&self, image: &'a [u8], address: u64) -> Option<&'a [u8]> {
        let (range, offset) = self.0.iter().find(|(range, _)| range.contains(&address))?;
        let from = offset.checked_add((address - range.start) as usize)?;
        let to = offset.checked_add((range.end - range.start) as usize)?.min(image.len());
        image.get(from..to)
    }
}

/// Whether one of the (ascending) ranges contains `address`.
pub(crate) fn contains(ranges: &[Range<u64>], address: u64) -> bool {
    let next = ranges.partition_point(|range| range.start <= address);
    next > 0 && ranges.get(next - 1).is_some_and(|range| range.contains(&address))
}

/// The GNU build id, if the file has one.
pub(crate) fn build_id<'a>(file: &object::File<'a>) -> Option<&'a [u8]> {
    file.build_id().ok().flatten()
}
