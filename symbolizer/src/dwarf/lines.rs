//! [`LineTable`]: address to file number, line and column, within one unit.

use std::sync::Arc;

use gimli::{ColumnType, IncompleteLineProgram, LineInstruction, LineProgram, LineProgramHeader, LineRow};

use super::{Context, Dwarf, DwarfError, Reader, Unit};
use crate::elf::contains;
use crate::limits::MAX_LINE_ROWS;
use crate::statistics::Failure;
use crate::text::Texts;

/// From `offset` (bytes after the sequence's start) on, code comes from this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    offset: u32,
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Clone, Copy, Debug)]
struct Sequence {
    start: u64,
    end: u64,
    first_row: u32,
    rows: u32,
}

/// The rows of one unit, in sequences ordered by their end.
#[derive(Debug)]
pub(crate) struct LineTable {
    sequences: Vec<Sequence>,
    rows: Vec<Row>,
}

/// Overlapping sequences looked at for one address.
const MAX_OVERLAPPING: usize = 16;

impl LineTable {
    pub(crate) fn build(unit: &Unit<'_>, context: &Context<'_>) -> Result<Self, DwarfError> {
        let mut table = Self { sequences: Vec::new(), rows: Vec::new() };
        let Some(program) = &unit.line_program else { return Ok(table) };
        let mut program = Machine::new(program);
        let mut current: Vec<(u64, Row)> = Vec::new();
        loop {
            // A broken program ends the table; the sequences before it are good.
            let row = match program.next_row(context) {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(DwarfError::TimeUp) => return Err(DwarfError::TimeUp),
                Err(error) => {
                    error.count(context.counters);
                    break;
                }
            };
            if row.end_sequence() {
                table.finish(&mut current, row.address(), context);
                continue;
            }
            if table.rows.len() + current.len() >= MAX_LINE_ROWS {
                context.counters.fail(Failure::TooMuchDebugInfo);
                break;
            }
            current.push((
                row.address(),
                Row {
                    offset: 0,
                    file: u32::try_from(row.file_index()).unwrap_or(u32::MAX),
                    line: row.line().map_or(0, |line| u32::try_from(line.get()).unwrap_or(0)),
                    column: match row.column() {
                        ColumnType::LeftEdge => 0,
                        ColumnType::Column(column) => u32::try_from(column.get()).unwrap_or(0),
                    },
                },
            ));
        }
        table.sequences.sort_by_key(|sequence| sequence.end);
        table.sequences.shrink_to_fit();
        table.rows.shrink_to_fit();
        Ok(table)
    }

    /// Moves the collected rows into the table, unless they are about no code of this file.
    fn finish(&mut self, current: &mut Vec<(u64, Row)>, end: u64, context: &Context<'_>) {
        // Stable: among rows at one address the last one holds.
        current.sort_by_key(|(address, _)| *address);
        if let Some((start, _)) = current.first().copied()
            && start < end
            && end - start <= u64::from(u32::MAX)
            && contains(context.code, start)
        {
            let first_row = self.rows.len() as u32;
            for (address, row) in current.iter() {
                if *address > end {
                    break;
                }
                let row = Row { offset: (address - start) as u32, ..*row };
                let begun = self.rows_since(first_row) > 0;
                match self.rows.last_mut() {
                    Some(last) if begun && last.offset == row.offset => *last = row,
                    _ => self.rows.push(row),
                }
            }
            let rows = self.rows_since(first_row);
            self.sequences.push(Sequence { start, end, first_row, rows });
        }
        current.clear();
    }

    fn rows_since(&self, first: u32) -> u32 {
        self.rows.len() as u32 - first
    }

    pub(crate) fn find(&self, address: u64) -> Option<Row> {
        let first = self.sequences.partition_point(|sequence| sequence.end <= address);
        let sequence =
            self.sequences.iter().skip(first).take(MAX_OVERLAPPING).find(|sequence| sequence.start <= address)?;
        let rows = self.rows.get(sequence.first_row as usize..)?.get(..sequence.rows as usize)?;
        let offset = address - sequence.start;
        let position = rows.partition_point(|row| u64::from(row.offset) <= offset).checked_sub(1)?;
        rows.get(position).copied()
    }

    pub(crate) fn weight(&self) -> usize {
        self.sequences.capacity() * size_of::<Sequence>() + self.rows.capacity() * size_of::<Row>()
    }
}

/// Runs a line table's program. `gimli` would run any number of instructions for one row, in a copy of the header to which the
/// program adds files.
pub(super) struct Machine<'u, 'a> {
    program: Program<'u, 'a>,
    instructions: gimli::LineInstructions<Reader<'a>>,
    row: LineRow,
    /// The last address that was set is that of code that the linker dropped: these rows are about nothing.
    dropped: bool,
}

struct Program<'u, 'a>(&'u LineProgramHeader<Reader<'a>>);

impl<'a> LineProgram<Reader<'a>> for Program<'_, 'a> {
    fn header(&self) -> &LineProgramHeader<Reader<'a>> {
        self.0
    }

    /// No compiler adds any, and names are looked up in the header alone.
    fn add_file(&mut self, _: gimli::FileEntry<Reader<'a>>) {}
}

impl<'u, 'a> Machine<'u, 'a> {
    pub(super) fn new(program: &'u IncompleteLineProgram<Reader<'a>>) -> Self {
        let header = program.header();
        Self {
            program: Program(header),
            instructions: header.instructions(),
            row: LineRow::new(header),
            dropped: false,
        }
    }

    pub(super) fn next_row(&mut self, context: &Context<'_>) -> Result<Option<&LineRow>, DwarfError> {
        let header = self.program.0;
        self.row.reset(header);
        loop {
            context.deadline.tick()?;
            let Some(instruction) = self.instructions.next_instruction(header)? else { return Ok(None) };
            if let LineInstruction::SetAddress(address) = instruction {
                self.dropped = address < self.row.address() || address >= lowest_of_dropped(header.address_size());
            }
            if !self.row.execute(instruction, &mut self.program)? {
                continue;
            }
            if !self.dropped {
                return Ok(Some(&self.row));
            }
            self.dropped = !self.row.end_sequence();
            self.row.reset(header);
        }
    }
}

/// The linker sets addresses of dropped code to −1 or −2, in as many bytes as an address has.
pub(super) fn lowest_of_dropped(address_size: u8) -> u64 {
    let unused_bits = 64_u32.saturating_sub(u32::from(address_size) * 8);
    u64::MAX.checked_shr(unused_bits).unwrap_or(0).saturating_sub(1)
}

/// The path of the file of that number, made absolute with the compilation directory.
pub(crate) fn path(dwarf: &Dwarf<'_>, unit: &Unit<'_>, number: u64, texts: &mut Texts<'_>) -> Option<Arc<str>> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(number)?;
    let name = dwarf.attr_string(unit, file.path_name()).ok()?;
    let name = name.slice();
    if name.starts_with(b"/") {
        return Some(texts.text(name));
    }
    let version_5 = header.version() >= 5;
    let directory = if !version_5 && file.directory_index() == 0 {
        None
    } else {
        file.directory(header).and_then(|directory| dwarf.attr_string(unit, directory).ok())
    };
    let directory = directory.map_or(&b""[..], |directory| directory.slice());
    let mut path = Vec::new();
    let compilation_directory = unit.comp_dir.map_or(&b""[..], |directory| directory.slice());
    if (!version_5 || file.directory_index() != 0) && !directory.starts_with(b"/") {
        append(&mut path, compilation_directory);
    }
    append(&mut path, directory);
    append(&mut path, name);
    Some(texts.text(&path))
}

fn append(path: &mut Vec<u8>, part: &[u8]) {
    if part.is_empty() {
        return;
    }
    if !path.is_empty() && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(part);
}
