//! DWARF: address to functions (with inlined calls), files, lines and columns.
//!
//! Nothing is parsed before it is asked for: first the index of units ([`units`]), then per unit its functions ([`functions`])
//! and line table ([`lines`]), then per function its inlined calls ([`inlined`]). What is kept is plain numbers; the `gimli`
//! views are made anew for each batch, so nothing borrows from the file in between. The rules are those of `llvm-symbolizer`.

mod functions;
mod inlined;
mod kept;
mod line_header;
mod lines;
mod names;
mod opening;
mod sections;
mod split;
#[cfg(test)]
mod tests;
mod units;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use gimli::{EndianSlice, RunTimeEndian};

use crate::executable::Executable;
use crate::frame::Frame;
use crate::limits::{Deadline, MAX_OPEN_UNITS, MAX_UNIT_TABLES, TimeUp};
use crate::statistics::{Counters, Failure};
use crate::text::Texts;
use crate::watch::Watch;
use functions::FunctionIndex;
use kept::Kept;
use lines::LineTable;
use names::Names;
use opening::UnitOpener;
pub(crate) use sections::{DwarfFile, Loaded};
use split::Split;
use units::UnitIndex;

pub(crate) type Reader<'a> = EndianSlice<'a, RunTimeEndian>;
pub(crate) type Dwarf<'a> = gimli::Dwarf<Reader<'a>>;
pub(crate) type Unit<'a> = gimli::Unit<Reader<'a>>;

/// Why a unit's debug information could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DwarfError {
    #[error("{0}")]
    Malformed(#[from] gimli::Error),
    #[error("time limit")]
    TimeUp,
    /// Counted where it was found.
    #[error("more than the limits allow")]
    TooMuch,
    #[error("no such unit or entry")]
    Missing,
}

impl From<TimeUp> for DwarfError {
    fn from(_: TimeUp) -> Self {
        DwarfError::TimeUp
    }
}

impl DwarfError {
    /// Counts it, unless that was done.
    pub(crate) fn count(self, counters: &Counters) {
        match self {
            DwarfError::TimeUp => counters.fail(Failure::TimeLimit),
            DwarfError::TooMuch => {}
            DwarfError::Malformed(_) | DwarfError::Missing => counters.fail(Failure::MalformedDebugInfo),
        }
    }
}

/// What is needed besides the debug information itself.
pub(crate) struct Context<'a> {
    pub(crate) executable: &'a Executable,
    pub(crate) code: &'a [Range<u64>],
    pub(crate) deadline: &'a Deadline,
    pub(crate) counters: &'a Counters,
    pub(crate) watch: &'a Watch,
    pub(crate) inlined: bool,
}

/// The debug information of one executable: where it is, and what has been parsed of it.
#[derive(Debug)]
pub(crate) struct DebugInformation {
    file: DwarfFile,
    index: Option<UnitIndex>,
    units: Kept<UnitTables>,
    names: Names,
    split: Split,
}

/// What is kept of one unit.
#[derive(Debug)]
struct UnitTables {
    functions: FunctionIndex,
    lines: LineTable,
    files: HashMap<u64, Option<Arc<str>>>,
}

/// Views of the file, valid for one batch.
pub(crate) struct View<'a> {
    pub(crate) dwarf: Dwarf<'a>,
    pub(crate) index: &'a UnitIndex,
    opener: UnitOpener<'a>,
    units: RefCell<Kept<Rc<Unit<'a>>>>,
    supplementary_offsets: RefCell<Option<Vec<usize>>>,
    supplementary_units: RefCell<Kept<Rc<Unit<'a>>>>,
}

impl<'a> View<'a> {
    fn new(dwarf: Dwarf<'a>, index: &'a UnitIndex, context: &'a Context<'a>) -> Self {
        let units = || RefCell::new(Kept::new(MAX_OPEN_UNITS));
        Self {
            dwarf,
            index,
            opener: UnitOpener::new(context),
            units: units(),
            supplementary_offsets: RefCell::default(),
            supplementary_units: units(),
        }
    }

    /// The unit of that number in the index.
    pub(crate) fn unit(&self, number: u32) -> Result<Rc<Unit<'a>>, DwarfError> {
        let offset = *self.index.offsets.get(number as usize).ok_or(DwarfError::Missing)?;
        self.open(&self.units, number, &self.dwarf, offset)
    }

    /// The unit of the supplementary file that `offset` lies in.
    pub(crate) fn supplementary_unit(
        &self,
        supplementary: &Dwarf<'a>,
        offset: gimli::DebugInfoOffset<usize>,
    ) -> Result<Rc<Unit<'a>>, DwarfError> {
        let mut offsets = self.supplementary_offsets.borrow_mut();
        let offsets = offsets.get_or_insert_with(|| units::offsets(supplementary));
        let position = offsets.partition_point(|start| *start <= offset.0).checked_sub(1).ok_or(DwarfError::Missing)?;
        let start = *offsets.get(position).ok_or(DwarfError::Missing)?;
        self.open(&self.supplementary_units, position as u32, supplementary, start)
    }

    fn open(
        &self,
        units: &RefCell<Kept<Rc<Unit<'a>>>>,
        number: u32,
        dwarf: &Dwarf<'a>,
        offset: usize,
    ) -> Result<Rc<Unit<'a>>, DwarfError> {
        let mut units = units.borrow_mut();
        let unit = units.get_or_make(number, || {
            let header = dwarf.debug_info.header_from_offset(gimli::DebugInfoOffset(offset))?;
            let (unit, bytes) = self.opener.open(dwarf, header)?;
            Ok::<_, DwarfError>((Rc::new(unit), bytes))
        })?;
        Ok(unit.clone())
    }
}

impl DebugInformation {
    pub(crate) fn new(file: DwarfFile) -> Self {
        Self { file, index: None, units: Kept::new(MAX_UNIT_TABLES), names: Names::default(), split: Split::default() }
    }

    /// Heap bytes.
    pub(crate) fn weight(&self) -> usize {
        self.file.weight()
            + self.index.as_ref().map_or(0, UnitIndex::weight)
            + self.units.values().map(UnitTables::weight).sum::<usize>()
            + self.names.weight()
            + self.split.weight()
    }

    /// Drops all but the index of units, which is the only part whose cost grows with the whole file.
    pub(crate) fn shrink(&mut self) {
        self.units.clear();
        self.names = Names::default();
        self.split.clear();
    }

    /// Gives the touched pages back.
    pub(crate) fn release(&self) {
        self.file.release();
        self.split.release();
    }

    /// Whether a file turned out to be truncated.
    pub(crate) fn damaged(&self) -> bool {
        self.file.damaged() || self.split.damaged()
    }

    /// Frames for each address (ascending); empty where the debug information says nothing.
    pub(crate) fn frames(
        &mut self,
        addresses: &[u64],
        texts: &mut Texts<'_>,
        context: &Context<'_>,
    ) -> Result<Vec<Vec<Frame>>, DwarfError> {
        let Self { file, index, units, names, split } = self;
        let dwarf = file.dwarf();
        let index: &UnitIndex = match index {
            Some(index) => index,
            None => index.insert(UnitIndex::build(&dwarf, context)?),
        };
        let view = View::new(dwarf, index, context);
        let mut results = vec![Vec::new(); addresses.len()];
        let mut position = 0;
        while let Some(first) = addresses.get(position) {
            let Some(interval) = index.find(*first) else {
                position += 1;
                continue;
            };
            let count = addresses[position..].partition_point(|address| *address < interval.end);
            let span = position..position + count;
            let outcome = unit_frames(
                &view,
                interval.unit,
                &addresses[span.clone()],
                &mut results[span],
                Parts { units, names, split },
                texts,
                context,
            );
            match outcome {
                Ok(()) => {}
                Err(DwarfError::TimeUp) => return Err(DwarfError::TimeUp),
                Err(error) => error.count(context.counters),
            }
            position += count.max(1);
        }
        Ok(results)
    }
}

/// The parts of [`DebugInformation`] that grow.
struct Parts<'p> {
    units: &'p mut Kept<UnitTables>,
    names: &'p mut Names,
    split: &'p mut Split,
}

/// Frames for addresses of one unit.
fn unit_frames(
    view: &View<'_>,
    number: u32,
    addresses: &[u64],
    results: &mut [Vec<Frame>],
    parts: Parts<'_>,
    texts: &mut Texts<'_>,
    context: &Context<'_>,
) -> Result<(), DwarfError> {
    let skeleton = view.unit(number)?;
    let Parts { units, names, split } = parts;
    let split_number = split.load(view, number, &skeleton, context);
    let split_view = match split_number {
        Some(number) => split.view(number, &view.dwarf, &skeleton, context)?,
        None => None,
    };
    // Functions come from the split unit if there is one; lines from the unit in the executable.
    let is_split = split_view.is_some();
    let (dwarf, unit, names_view) = match &split_view {
        Some((dwarf, unit)) => (dwarf, unit, None),
        None => (&view.dwarf, &*skeleton, Some(view)),
    };
    let tables = units.get_or_make(number, || {
        let tables = UnitTables {
            functions: FunctionIndex::build(dwarf, unit, context)?,
            lines: LineTable::build(&skeleton, context)?,
            files: HashMap::new(),
        };
        let bytes = tables.weight();
        Ok::<_, DwarfError>((tables, bytes))
    })?;
    let mut position = 0;
    while let Some(first) = addresses.get(position) {
        let Some(function) = tables.functions.find(*first) else {
            // Code without an entry (assembly): the line table may still know it.
            if let Some(row) = tables.lines.find(*first) {
                let file = tables.file(view, &skeleton, u64::from(row.file), texts);
                results[position] = vec![Frame { file, line: row.line, column: row.column, ..texts.frame(b"", 0) }];
            }
            position += 1;
            continue;
        };
        let count = addresses[position..].partition_point(|address| *address < function.end).max(1);
        let span = position..position + count;
        let chains = inlined::chains(dwarf, unit, function.entry, &addresses[span.clone()], context)?;
        for ((address, chain), result) in addresses[span.clone()].iter().zip(chains).zip(&mut results[span]) {
            let mut place = Place::at(tables.lines.find(*address));
            // Innermost first; each caller's place is where it made the call.
            for call in chain.iter().rev() {
                let name = names.resolve(dwarf, unit, names_view, (number, is_split), call.entry, texts)?;
                result.push(place.frame(name, tables, view, &skeleton, texts));
                place = Place { file: call.call_file, line: call.call_line, column: call.call_column };
            }
            let name = names.resolve(dwarf, unit, names_view, (number, is_split), function.entry, texts)?;
            result.push(place.frame(name, tables, view, &skeleton, texts));
        }
        position += count;
    }
    Ok(())
}

/// A place in the source, its file still a number.
#[derive(Default)]
struct Place {
    file: Option<u64>,
    line: u32,
    column: u32,
}

impl Place {
    fn at(row: Option<lines::Row>) -> Self {
        row.map_or_else(Self::default, |row| Self {
            file: Some(u64::from(row.file)),
            line: row.line,
            column: row.column,
        })
    }

    /// The named frame at this place.
    fn frame(
        &self,
        name: Frame,
        tables: &mut UnitTables,
        view: &View<'_>,
        unit: &Unit<'_>,
        texts: &mut Texts<'_>,
    ) -> Frame {
        let file = self.file.and_then(|file| tables.file(view, unit, file, texts));
        Frame { file, line: self.line, column: self.column, ..name }
    }
}

impl UnitTables {
    fn weight(&self) -> usize {
        self.functions.weight() + self.lines.weight() + self.files.len() * 64
    }

    fn file(&mut self, view: &View<'_>, unit: &Unit<'_>, number: u64, texts: &mut Texts<'_>) -> Option<Arc<str>> {
        self.files.entry(number).or_insert_with(|| lines::path(&view.dwarf, unit, number, texts)).clone()
    }
}
