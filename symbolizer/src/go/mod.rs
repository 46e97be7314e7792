//! Go's own table (`.gopclntab`), which survives stripping: names, files, lines and inlined calls (Go 1.16 and later; inlined
//! calls from 1.18 on).
//!
//! Without section headers the table is searched in all segments.
//! Only places are kept; each batch reads the table in the mapped file.

mod module_data;
mod table;

use std::ops::Range;

use object::{Object, ObjectSection};

use crate::elf::Segments;
use crate::frame::Frame;
use crate::limits::{Deadline, MAX_GO_SEARCH, MAX_INLINED, TimeUp};
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

/// Sections that the table lives in: its own, or with all other relocated data (position-independent executables linked by
/// the system's linker).
const SECTIONS: [&str; 3] = [".gopclntab", ".data.rel.ro.gopclntab", ".data.rel.ro"];

/// Address and place in the file of the sections that the table may be in.
fn sections(file: &object::File<'_>) -> Vec<(u64, Range<usize>)> {
    let place = |name: &&str| {
        let section = file.section_by_name(name)?;
        let (offset, size) = section.file_range()?;
        let (offset, size) = (usize::try_from(offset).ok()?, usize::try_from(size).ok()?);
        Some((section.address(), offset..offset.checked_add(size)?))
    };
    SECTIONS.iter().filter_map(place).collect()
}

impl GoTable {
    /// The table in `file`, whose bytes are `image`; `None` if it is no Go program.
    pub(crate) fn load(
        file: &object::File<'_>,
        image: &[u8],
        deadline: &Deadline,
        counters: &Counters,
    ) -> Result<Option<Self>, TimeUp> {
        let headerless = file.sections().next().is_none();
        let is_go = |name| file.section_by_name(name).is_some();
        if !headerless && !is_go(".gopclntab") && !is_go(".go.buildinfo") {
            return Ok(None);
        }
        let segments = Segments::of(file);
        let places = if headerless { segments.places(MAX_GO_SEARCH) } else { sections(file) };
        for (address, place) in places {
            let Some(bytes) = image.get(place.clone()) else { continue };
            let Some(begin) = table::find_header(bytes, deadline)? else { continue };
            let table = Table::parse(&bytes[begin..]);
            let address = address.wrapping_add(begin as u64);
            let found = table.as_ref().and_then(|table| module_data::find(file, image, &segments, table, address));
            return Ok(match (table, found) {
                (Some(table), Some(found)) => Some(Self {
                    section: place.start + begin..place.end,
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
