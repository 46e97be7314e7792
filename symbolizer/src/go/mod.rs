//! Go's own table (`.gopclntab`), which survives stripping: names, files, lines and inlined calls (Go 1.16 and later; inlined
//! calls from 1.18 on).
//!
//! Only places are kept; each batch reads the table in the mapped file.

mod module_data;
mod table;

use std::ops::Range;

use object::{Object, ObjectSection, ObjectSegment};

use crate::frame::Frame;
use crate::limits::{Deadline, MAX_INLINED, TimeUp};
use crate::statistics::{Counters, Failure};
use crate::text::Texts;
use table::{Table, Version};

/// Where the parts of the table are in the file.
#[derive(Debug)]
pub(crate) struct GoTable {
    section: Range<usize>,
    version: Version,
    /// Address that function entries count from.
    text: u64,
    /// Address that function data (the trees of inlined calls) count from.
    function_data: Option<u64>,
    segments: Segments,
}

/// Which addresses are at which place in the file.
#[derive(Debug)]
pub(crate) struct Segments(Vec<(Range<u64>, usize)>);

impl Segments {
    fn of(file: &object::File<'_>) -> Self {
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

    /// The file's bytes from `address` to the end of its segment.
    pub(crate) fn bytes<'a>(&self, image: &'a [u8], address: u64) -> Option<&'a [u8]> {
        let (range, offset) = self.0.iter().find(|(range, _)| range.contains(&address))?;
        let from = offset.checked_add((address - range.start) as usize)?;
        let to = offset.checked_add((range.end - range.start) as usize)?.min(image.len());
        image.get(from..to)
    }
}

/// Sections that the table lives in: its own, or with all other relocated data (position-independent executables linked by
/// the system's linker).
const SECTIONS: [&str; 3] = [".gopclntab", ".data.rel.ro.gopclntab", ".data.rel.ro"];

impl GoTable {
    /// The table in `file`, whose bytes are `image`; `None` if it is no Go program.
    pub(crate) fn load(
        file: &object::File<'_>,
        image: &[u8],
        deadline: &Deadline,
        counters: &Counters,
    ) -> Result<Option<Self>, TimeUp> {
        if file.section_by_name(".gopclntab").is_none() && file.section_by_name(".go.buildinfo").is_none() {
            return Ok(None);
        }
        for name in SECTIONS {
            let Some(section) = file.section_by_name(name) else { continue };
            let Some((offset, size)) = section.file_range() else { continue };
            let (Ok(offset), Ok(size)) = (usize::try_from(offset), usize::try_from(size)) else { continue };
            let Some(bytes) = offset.checked_add(size).and_then(|end| image.get(offset..end)) else { continue };
            let Some(begin) = table::find_header(bytes, deadline)? else { continue };
            let table = Table::parse(&bytes[begin..]);
            let segments = Segments::of(file);
            let address = section.address() + begin as u64;
            let found = table.as_ref().and_then(|table| module_data::find(file, image, &segments, table, address));
            return Ok(match (table, found) {
                (Some(table), Some(found)) => Some(Self {
                    section: offset + begin..offset + size,
                    version: table.version,
                    text: found.text,
                    function_data: found.function_data,
                    segments,
                }),
                _ => {
                    counters.fail(Failure::MalformedGoTable);
                    None
                }
            });
        }
        Ok(None)
    }

    /// Frames at `address`; empty if it is no Go code.
    pub(crate) fn frames(
        &self,
        image: &[u8],
        address: u64,
        inlined: bool,
        texts: &mut Texts<'_>,
        deadline: &Deadline,
    ) -> Result<Vec<Frame>, TimeUp> {
        let Some(table) = image.get(self.section.clone()).and_then(Table::parse).filter(|t| t.version == self.version)
        else {
            return Ok(Vec::new());
        };
        let Some(function) = table.function(self.text, address) else { return Ok(Vec::new()) };
        let mut frames = Vec::new();
        let mut offset = address - function.entry;
        let tree = if inlined { self.tree(image, &table, &function) } else { None };
        let mut place = table.place(&function, offset, deadline)?;
        if let Some(tree) = tree {
            let mut index = table.inline_index(&function, offset, deadline)?;
            while let Some(call) = index.and_then(|index| table.inlined_call(tree, index))
                && frames.len() < MAX_INLINED
            {
                frames.push(place.frame(table.name(call.name), call.start_line, texts));
                match call.caller {
                    table::Caller::At(next) => {
                        offset = next;
                        place = table.place(&function, offset, deadline)?;
                        index = table.inline_index(&function, offset, deadline)?;
                    }
                    table::Caller::Is { parent, file, line } => {
                        place = table::Place { file: table.file(&function, file), line };
                        index = parent;
                    }
                }
            }
        }
        frames.push(place.frame(function.name(&table), function.start_line, texts));
        if frames.iter().any(|frame| frame.linkage_name.is_empty()) {
            frames.clear();
        }
        Ok(frames)
    }

    fn tree<'a>(&self, image: &'a [u8], table: &Table<'a>, function: &table::Function<'a>) -> Option<&'a [u8]> {
        let offset = table.tree_offset(function)?;
        self.segments.bytes(image, self.function_data?.checked_add(u64::from(offset))?)
    }
}

impl table::Place<'_> {
    fn frame(&self, name: Option<&[u8]>, start_line: u32, texts: &mut Texts<'_>) -> Frame {
        let file = self.file.filter(|file| !file.is_empty()).map(|file| texts.text(file));
        Frame {
            line: if file.is_some() { self.line } else { 0 },
            file,
            ..texts.plain_frame(name.unwrap_or_default(), start_line)
        }
    }
}
