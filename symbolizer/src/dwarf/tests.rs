//! Debug information made by hand, larger than any compiler would make it.

use std::time::Duration;

use gimli::{DwarfSections, SectionId};

use super::*;
use crate::demangle::Demangle;
use crate::elf::Section;
use crate::executable::Content;
use crate::image::Image;
use crate::limits::{MAX_ABBREVIATION_BYTES, MAX_LINE_FILES, MAX_LINE_HEADER};
use crate::text::TextStore;

const CODE: Range<u64> = 0x1000..0x1000_0000;
const COMPILE_UNIT: &[u8] = &[1, 0x11, 1, 0x10, 0x17, 0x11, 1, 0x12, 7, 0, 0];
/// Name, first address, length.
const FUNCTION: &[u8] = &[2, 0x2e, 0, 3, 8, 0x11, 1, 0x12, 7, 0, 0];
/// Name, offset of its list of ranges.
const SCATTERED: &[u8] = &[3, 0x2e, 0, 3, 8, 0x55, 0x17, 0, 0];

/// The sections of a file.
#[derive(Clone, Default)]
struct Sections {
    abbreviations: Vec<u8>,
    entries: Vec<u8>,
    lines: Vec<u8>,
    ranges: Vec<u8>,
    aranges: Vec<u8>,
}

impl Sections {
    /// One unit of all code with the function `f` at its beginning; `more` are further entries of it.
    fn of(lines: Vec<u8>, more: &[u8]) -> Self {
        let abbreviations = [COMPILE_UNIT, FUNCTION, SCATTERED, &[0]].concat();
        let mut sections = Self { abbreviations, lines, ..Self::default() };
        sections.add_unit(0, more);
        sections
    }

    fn add_unit(&mut self, abbreviations: u32, more: &[u8]) {
        let mut body = vec![5, 0, 1, 8];
        body.extend(abbreviations.to_le_bytes());
        body.extend([1, 0, 0, 0, 0]);
        body.extend(CODE.start.to_le_bytes());
        body.extend((CODE.end - CODE.start).to_le_bytes());
        body.extend(*b"\x02f\0");
        body.extend(CODE.start.to_le_bytes());
        body.extend(0x10_u64.to_le_bytes());
        body.extend(more);
        body.push(0);
        self.entries.extend((body.len() as u32).to_le_bytes());
        self.entries.extend(body);
    }

    fn loaded(self) -> Loaded {
        let sections = DwarfSections::load(|id| {
            Ok::<_, gimli::Error>(Section::Owned(match id {
                SectionId::DebugAbbrev => self.abbreviations.clone(),
                SectionId::DebugInfo => self.entries.clone(),
                SectionId::DebugLine => self.lines.clone(),
                SectionId::DebugRngLists => self.ranges.clone(),
                SectionId::DebugAranges => self.aranges.clone(),
                _ => Vec::new(),
            }))
        });
        let image = Arc::new(Image::Memory(Arc::from([].as_slice())));
        Loaded { image, sections: sections.unwrap(), endian: RunTimeEndian::Little }
    }
}

/// A line table of that version whose header is `lists`, whatever they are, and its program.
fn line_table(version: u16, lists: &[u8], program: &[u8]) -> Vec<u8> {
    let mut header = vec![1, 1, 1, 0xfb, 14, 13];
    if version < 4 {
        header.remove(0);
    }
    header.extend([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1]);
    header.extend(lists);
    let mut body = version.to_le_bytes().to_vec();
    if version >= 5 {
        body.extend([8, 0]);
    }
    body.extend((header.len() as u32).to_le_bytes());
    body.extend(header);
    body.extend(program);
    let mut table = (body.len() as u32).to_le_bytes().to_vec();
    table.extend(body);
    table
}

fn uleb(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Version 5: lists of names, one text each; `claimed` is how many files there are said to be.
fn names(directories: usize, claimed: u64, files: &[u8]) -> Vec<u8> {
    [&[1, 1, 8][..], &uleb(directories as u64), &b"/d\0".repeat(directories), &[1, 1, 8], &uleb(claimed), files]
        .concat()
}

/// One row at the beginning of the code, line 1 of that file.
fn one_row(file: u8) -> Vec<u8> {
    let mut program = vec![0, 9, 2];
    program.extend(CODE.start.to_le_bytes());
    program.extend([4, file, 1, 2, 0x10, 0, 1, 1]);
    program
}

/// What is needed besides the sections.
struct Surroundings {
    executable: Executable,
    counters: Counters,
    watch: Watch,
}

impl Surroundings {
    fn new() -> Self {
        let content = Content::Bytes(Arc::from([].as_slice()));
        let executable = Executable { key: 1, content, path: "/nowhere".into(), root: None };
        Self { executable, counters: Counters::default(), watch: Watch::default() }
    }

    fn context<'a>(&'a self, deadline: &'a Deadline) -> Context<'a> {
        Context {
            executable: &self.executable,
            code: std::slice::from_ref(&CODE),
            deadline,
            counters: &self.counters,
            watch: &self.watch,
            inlined: true,
        }
    }

    fn failures(&self) -> Vec<(Failure, u64)> {
        let statistics = self.counters.snapshot();
        let all = Failure::ALL.iter().map(|failure| (*failure, statistics.failure(*failure)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// Names at the beginning of the code: functions, with the file where there is one.
    fn names(&self, sections: Sections, limit: Duration) -> Result<Vec<String>, DwarfError> {
        let file = DwarfFile { main: sections.loaded(), supplementary: None };
        let (mut store, deadline) = (TextStore::default(), Deadline::after(limit));
        let mut texts = Texts::new(&mut store, Demangle::default(), &self.counters);
        let frames = DebugInformation::new(file).frames(&[CODE.start], &mut texts, &self.context(&deadline))?;
        let shown = |frame: &Frame| format!("{} {}", frame.function, frame.file.as_deref().unwrap_or("?"));
        Ok(frames.into_iter().flatten().map(|frame| shown(&frame)).collect())
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_line_table_that_names_too_many_files_costs_its_unit_the_debug_information() {
    let more_than_limit = MAX_LINE_FILES + 1;
    let long_name = [&*vec![b'x'; MAX_LINE_FILES], b"\0"].concat();
    let version_4 = |directories: &[u8], files: &[u8]| [directories, b"\0", files, b"\0"].concat();
    let refused: [(&str, u16, Vec<u8>); 6] = [
        ("files", 5, names(1, more_than_limit as u64, &vec![0; more_than_limit])),
        ("claimed files", 5, names(1, u64::MAX, &vec![0; more_than_limit])),
        ("directories", 5, names(more_than_limit, 1, b"a\0")),
        ("files of version 4", 4, version_4(b"/d\0", &b"a\0\0\0\0".repeat(more_than_limit))),
        ("directories of version 2", 2, version_4(&b"d\0".repeat(more_than_limit), b"a\0\0\0\0")),
        ("one long name", 5, names(1, 1, &[&*vec![b'x'; MAX_LINE_HEADER], b"\0"].concat())),
    ];
    for (what, version, lists) in refused {
        let surroundings = Surroundings::new();
        let found = surroundings.names(Sections::of(line_table(version, &lists, &one_row(0)), &[]), LONG);
        assert_eq!(found, Ok(vec![]), "{what}");
        assert_eq!(surroundings.failures(), [(Failure::TooMuchDebugInfo, 1)], "{what}");
    }
    let taken: [(&str, u16, Vec<u8>, &str); 4] = [
        ("few", 5, names(1, 1, b"a\0"), "f /d/a"),
        ("long names", 5, names(1, 2, &[b"a\0", &*long_name].concat()), "f /d/a"),
        ("many", 5, names(1, 60_000, &b"abc\0".repeat(60_000)), "f /d/abc"),
        ("many of version 4", 4, version_4(b"/d\0", &b"abc\0\x01\0\0".repeat(60_000)), "f /d/abc"),
    ];
    for (what, version, lists, expected) in taken {
        let surroundings = Surroundings::new();
        let program = one_row(if version >= 5 { 0 } else { 1 });
        let found = surroundings.names(Sections::of(line_table(version, &lists, &program), &[]), LONG);
        assert_eq!(found, Ok(vec![expected.to_owned()]), "{what}");
        assert_eq!(surroundings.failures(), [], "{what}");
    }
}

#[test]
fn abbreviations_that_would_take_too_much_are_refused_before_they_are_parsed() {
    let count = MAX_ABBREVIATION_BYTES / size_of::<gimli::Abbreviation>();
    let many = |count: usize| -> Vec<u8> {
        (10..).take(count).flat_map(|code| [&uleb(code)[..], &[0x34, 0, 0, 0]].concat()).collect()
    };
    let attributes = |count: usize| [&[10, 0x34, 0][..], &[3, 8].repeat(count), &[0, 0]].concat();
    let most_attributes = MAX_ABBREVIATION_BYTES / size_of::<gimli::AttributeSpecification>();
    for (what, added, taken) in [
        ("many", many(count - 10), true),
        ("too many", many(count + 1), false),
        ("too many attributes", attributes(most_attributes), false),
    ] {
        let surroundings = Surroundings::new();
        let mut sections = Sections::of(line_table(5, &names(1, 1, b"a\0"), &one_row(0)), &[]);
        let end = sections.abbreviations.pop();
        sections.abbreviations.extend(added);
        sections.abbreviations.extend(end);
        let found = surroundings.names(sections, LONG).unwrap();
        assert_eq!(found.is_empty(), !taken, "{what}: {found:?}");
        let failures: Vec<_> = surroundings.failures().into_iter().map(|(failure, _)| failure).collect();
        assert_eq!(failures.is_empty(), taken, "{what}: {failures:?}");
    }
}

#[test]
fn the_clock_is_looked_at_for_every_unit() {
    let sections = Sections::of(line_table(5, &names(1, 1, b"a\0"), &one_row(0)), &[]);
    let surroundings = Surroundings::new();
    assert_eq!(surroundings.names(sections.clone(), Duration::ZERO), Err(DwarfError::TimeUp));
    assert_eq!(surroundings.names(sections, LONG), Ok(vec!["f /d/a".to_owned()]));
}

/// Calls `test` with the only unit; opening it has all the time it wants.
fn with_unit(sections: Sections, test: impl FnOnce(&Dwarf<'_>, &Unit<'_>, &Surroundings)) {
    let (surroundings, deadline, loaded) = (Surroundings::new(), Deadline::after(LONG), sections.loaded());
    let context = surroundings.context(&deadline);
    let dwarf = loaded.dwarf();
    let header = dwarf.units().next().unwrap().unwrap();
    let (unit, _) = UnitOpener::new(&context).open(&dwarf, header).unwrap();
    test(&dwarf, &unit, &surroundings);
}

/// The entry of a function with a list of ranges at the list section's beginning.
const SCATTERED_FUNCTION: &[u8] = b"\x03g\0\0\0\0\0";

#[test]
fn one_function_of_many_ranges_is_cut_at_the_limit() {
    let mut sections = Sections::of(line_table(5, &names(1, 1, b"a\0"), &one_row(0)), SCATTERED_FUNCTION);
    for at in 0..200_u64 {
        // DW_RLE_start_length
        sections.ranges.push(7);
        sections.ranges.extend((CODE.start + 0x100 + at * 8).to_le_bytes());
        sections.ranges.push(4);
    }
    sections.ranges.push(0);
    with_unit(sections, |dwarf, unit, surroundings| {
        let deadline = Deadline::after(LONG);
        for (most, found, failures) in [(100, 99, vec![(Failure::TooMuchDebugInfo, 1)]), (300, 201, vec![])] {
            let before = surroundings.failures();
            let index = FunctionIndex::within(most, dwarf, unit, &surroundings.context(&deadline)).unwrap();
            assert_eq!(index.len(), found);
            assert_eq!(surroundings.failures()[before.len()..], failures);
        }
    });
}

#[test]
fn what_gives_neither_row_nor_range_takes_time_as_well() {
    // DW_LNS_negate_stmt, and one DW_RLE_start_length of no bytes after the other: several looks at the clock.
    let (instructions, ranges) = (vec![6; 10_000], [&[7][..], &CODE.start.to_le_bytes(), &[0]].concat().repeat(10_000));
    let lines = line_table(5, &names(1, 1, b"a\0"), &[instructions, one_row(0)].concat());
    let mut sections = Sections::of(lines, SCATTERED_FUNCTION);
    sections.ranges = [ranges, vec![0]].concat();
    with_unit(sections, |dwarf, unit, surroundings| {
        for (limit, in_time) in [(LONG, true), (Duration::ZERO, false)] {
            let deadline = Deadline::after(limit);
            let context = surroundings.context(&deadline);
            assert_eq!(LineTable::build(unit, &context).is_ok(), in_time, "lines");
            assert_eq!(FunctionIndex::build(dwarf, unit, &context).is_ok(), in_time, "ranges");
        }
    });
}

#[test]
fn ranges_of_a_unit_that_are_none_take_time_as_well() {
    // DW_RLE_base_address and one pair of offsets, after many more of the former: several looks at the clock.
    let base = [&[5][..], &CODE.start.to_le_bytes()].concat();
    let ranges = [base.repeat(10_000), vec![4, 0x20, 0x30, 0]].concat();
    let lines = line_table(5, &names(1, 1, b"a\0"), &one_row(0));
    // Line table and ranges, no addresses of its own.
    let abbreviations = vec![1, 0x11, 0, 0x10, 0x17, 0x55, 0x17, 0, 0, 0];
    let entries = [&[17, 0, 0, 0, 5, 0, 1, 8, 0, 0, 0, 0, 1][..], &[0; 8]].concat();
    let sections = Sections { abbreviations, entries, lines, ranges, aranges: Vec::new() };
    with_unit(sections, |dwarf, unit, surroundings| {
        for (limit, expected) in [(LONG, Ok(())), (Duration::ZERO, Err(DwarfError::TimeUp))] {
            let (deadline, mut found) = (Deadline::after(limit), Vec::new());
            let outcome = units::from_root(dwarf, unit, 7, &mut found, &surroundings.context(&deadline));
            assert_eq!(outcome, expected);
            let interval = units::Interval { begin: CODE.start + 0x20, end: CODE.start + 0x30, unit: 7 };
            assert_eq!(found, expected.map(|()| interval).into_iter().collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_list_of_units_by_address_takes_time_where_it_says_nothing() {
    let pair = |begin: u64, length: u64| [begin.to_le_bytes(), length.to_le_bytes()].concat();
    // So many that one call of the library for each would need more stack than a thread has.
    for nothing in [pair(0, 0), pair(u64::MAX, 8), pair(u64::MAX - 1, 8)] {
        let pairs = [pair(CODE.start, 0x10), nothing.repeat(100_000), pair(CODE.start + 0x20, 8)].concat();
        let mut aranges = (12 + pairs.len() as u32).to_le_bytes().to_vec();
        aranges.extend([2, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0]);
        aranges.extend(&pairs);
        let sections = Sections { aranges, ..Sections::of(line_table(5, &names(1, 1, b"a\0"), &one_row(0)), &[]) };
        with_unit(sections, |dwarf, _, surroundings| {
            for (limit, expected) in [(LONG, Ok(vec![true])), (Duration::ZERO, Err(DwarfError::TimeUp))] {
                let (deadline, mut found) = (Deadline::after(limit), Vec::new());
                let outcome = units::from_aranges(dwarf, &[0], &mut found, &surroundings.context(&deadline));
                assert_eq!(outcome, expected);
                let begins: Vec<u64> = found.iter().map(|interval| interval.begin).collect();
                assert!(begins.starts_with(&[CODE.start]), "{begins:?}");
                assert_eq!(begins.contains(&(CODE.start + 0x20)), expected.is_ok());
            }
        });
    }
}

#[test]
fn time_that_runs_out_in_a_split_unit_is_not_taken_for_a_unit_without_functions() {
    let sections = || Sections::of(line_table(5, &names(1, 1, b"a\0"), &one_row(0)), &[]);
    let split = Split::of_file(0, sections().loaded());
    with_unit(sections(), |dwarf, skeleton, surroundings| {
        for (limit, expected) in [(LONG, Ok(true)), (Duration::ZERO, Err(DwarfError::TimeUp))] {
            let deadline = Deadline::after(limit);
            let context = surroundings.context(&deadline);
            let found = split.view(0, dwarf, skeleton, &context).map(|view| view.is_some());
            assert_eq!(found, expected);
        }
    });
}

#[test]
fn a_program_that_adds_files_has_its_rows() {
    // DW_LNE_define_file, which says an empty name and three numbers.
    let program = [[0, 5, 3, 0, 0, 0, 0].repeat(1000), one_row(1)].concat();
    let lists = b"/d\0\0a\0\x01\0\0\0";
    with_unit(Sections::of(line_table(4, lists, &program), &[]), |_, unit, surroundings| {
        let deadline = Deadline::after(LONG);
        let table = LineTable::build(unit, &surroundings.context(&deadline)).unwrap();
        assert_eq!(table.find(CODE.start).map(|row| row.file), Some(1));
    });
}

/// Rows as the library itself runs a program: (address, file, line, column, end of sequence).
type LibraryRow = (u64, u64, u64, u64, bool);

fn library_row(row: &gimli::LineRow) -> LibraryRow {
    let column = match row.column() {
        gimli::ColumnType::LeftEdge => 0,
        gimli::ColumnType::Column(column) => column.get(),
    };
    (row.address(), row.file_index(), row.line().map_or(0, std::num::NonZeroU64::get), column, row.end_sequence())
}

#[test]
fn rows_are_those_that_the_library_makes() {
    let set_address = |address: u64| [&[0, 9, 2][..], &address.to_le_bytes()].concat();
    let rows = [4, 1, 0x20, 0x31, 5, 7, 0x22, 8, 0x90, 9, 4, 0, 2, 17, 3, 2, 1];
    let end = [0, 1, 1];
    let tables = [
        [&set_address(0x2000)[..], &rows, &end].concat(),
        // Dropped by the linker: wholly, from the middle on, and down to an address before.
        [&set_address(u64::MAX)[..], &rows, &end, &set_address(0x3000), &rows, &end].concat(),
        [&set_address(0x2000)[..], &rows, &set_address(u64::MAX - 1), &rows, &end, &rows, &end].concat(),
        [&set_address(0x2000)[..], &rows, &set_address(0x10), &rows, &set_address(0x5000), &rows, &end].concat(),
        [&rows[..], &set_address(0), &rows, &end].concat(),
        // Cut in the middle of an instruction.
        [&set_address(0x2000)[..], &rows, &[0, 9, 2]].concat(),
    ];
    for (number, program) in tables.iter().enumerate() {
        for (version, lists) in [(5, names(1, 1, b"a\0")), (4, b"/d\0\0a\0\x01\0\0\0".to_vec())] {
            with_unit(Sections::of(line_table(version, &lists, program), &[]), |_, unit, surroundings| {
                let deadline = Deadline::after(LONG);
                let program = unit.line_program.clone().unwrap();
                let mut expected = Vec::new();
                let mut library = program.clone().rows();
                let expected_end = loop {
                    match library.next_row() {
                        Ok(Some((_, row))) => expected.push(library_row(row)),
                        Ok(None) => break true,
                        Err(_) => break false,
                    }
                };
                let mut found = Vec::new();
                let mut machine = super::lines::Machine::new(&program);
                let found_end = loop {
                    match machine.next_row(&surroundings.context(&deadline)) {
                        Ok(Some(row)) => found.push(library_row(row)),
                        Ok(None) => break true,
                        Err(_) => break false,
                    }
                };
                assert!(!expected.is_empty());
                assert_eq!((found, found_end), (expected, expected_end), "program {number} of version {version}");
            });
        }
    }
}
