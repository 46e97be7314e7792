//! Go tables that ask for much.

use unwind::build::Limits;

use super::{OTHER, TEXT, data, file, rows, takes, text};
use crate::forge::File;

/// A table of Go 1.20 whose functions share one record.
struct Table<'a> {
    /// What the header says, whatever there are.
    count: u64,
    /// Start of the text; 0 leaves it to be searched for.
    text: u64,
    name: &'a str,
    flags: u8,
    pcsp: &'a [u8],
    /// Where functions start, and where the last one ends.
    starts: &'a [u32],
    /// How many functions at the beginning have no record.
    without_record: usize,
}

impl Table<'_> {
    fn bytes(&self) -> Vec<u8> {
        let names = [b"\0", self.name.as_bytes(), b"\0"].concat();
        let pcsp = [&[0], self.pcsp].concat();
        let (names_at, pcsp_at) = (72, 72 + names.len() as u64);
        let functions_at = pcsp_at + pcsp.len() as u64;
        let header = [self.count, 0, self.text, names_at, 0, 0, pcsp_at, functions_at];
        let record_at = self.starts.len() as u32 * 8;
        let mut record = [0u8; 44];
        record[4] = 1;
        record[16] = 1;
        record[41] = self.flags;
        let mut bytes = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
        bytes.extend(header.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(names.iter().chain(&pcsp));
        for (index, start) in self.starts.iter().enumerate() {
            let record = if index < self.without_record { u32::MAX } else { record_at };
            bytes.extend([start.to_le_bytes(), record.to_le_bytes()].concat());
        }
        bytes.extend(record);
        bytes
    }

    fn file(&self, code: &[u8]) -> Vec<u8> {
        file(&[text(code), data(".gopclntab", OTHER, &self.bytes())])
    }
}

/// Nothing changes in 32 bytes.
const PLAIN: Table<'_> =
    Table { count: 1, text: TEXT, name: "f", flags: 0, pcsp: &[2, 32, 0], starts: &[0, 32], without_record: 0 };

/// A jump at the entry point, as Go's linker puts there.
const JUMP: [u8; 32] = [0xe9; 32];

#[test]
fn the_search_for_the_entry_point_ends_with_the_table_whatever_its_count_says() {
    for count in [2, 1 << 24, u64::MAX] {
        let file = Table { count, text: 0, ..PLAIN }.file(&JUMP);
        let stats = rows(&file, Limits::default()).stats;
        assert_eq!(stats.go_tables_refused, 1, "{count}");
        // The search for the module data, and a few functions.
        assert!(stats.work < file.len() as u64 / 8 + 1000, "{count}: {} units", stats.work);
    }
}

#[test]
fn the_search_for_the_entry_point_looks_at_no_more_functions_than_the_limit() {
    let second = Table { count: 2, starts: &[0, 32, 64], without_record: 1, ..PLAIN };
    let file = Table { text: 0, name: "_rt0_amd64_linux", ..second }.file(&JUMP);
    assert!(rows(&file, Limits::default()).is_go);
    assert_eq!(rows(&file, Limits { functions: 1, ..Limits::default() }).stats.go_tables_refused, 1);
}

#[test]
fn tables_are_held_to_the_limit_of_sections() {
    let size = PLAIN.bytes().len() as u64;
    for (section_bytes, refused) in [(size, 0), (size - 1, 1)] {
        let rows = rows(&PLAIN.file(&[0xcc; 32]), Limits { section_bytes, ..Limits::default() });
        assert_eq!((rows.stats.go_tables_refused, rows.is_go), (refused, refused == 0), "{section_bytes}");
    }
}

#[test]
fn functions_that_share_a_table_draw_on_the_work_for_each() {
    // sp goes 24 bytes down, and back up, with each byte of code.
    let pcsp = [&[2, 1][..], &[48, 1, 47, 1].repeat(100), &[0]].concat();
    let starts: Vec<u32> = (0..=200).map(|index| index * 256).collect();
    let table = Table { count: 200, pcsp: &pcsp, starts: &starts, ..PLAIN };
    takes("shared tables", &table.file(&[0xcc; 200 * 256]), 200 * 200 * 16);
}

#[test]
fn functions_that_share_code_which_writes_the_stack_pointer_draw_on_the_work_for_each() {
    // mov %rax, %rsp; each second function is the same 4 KiB, and those between have a negative length.
    let code = [0x48, 0x89, 0xc4].repeat(1366);
    let starts = [0, 4096].repeat(251);
    let table = Table { count: 501, flags: 2, pcsp: &[2, 0x80, 0x20, 0], starts: &starts, ..PLAIN };
    takes("shared code", &table.file(&code[..4096]), 250 * 4096 * 2);
}

#[test]
fn each_search_for_module_data_draws_on_the_work() {
    // Tables that are found by their magic, and whose text has to be searched for in the whole file.
    let mut tables = Table { count: 0, text: 0, ..PLAIN }.bytes();
    tables.resize(tables.len().next_multiple_of(8), 0);
    let mut tables = tables.repeat(16);
    tables.resize(1 << 20, 0);
    let sections = [text(&[0xc3; 32]), data(".data", OTHER, &tables)];
    let file = File { entry: TEXT, sections: &sections, with_section_headers: false, eh_frame_header: None };
    takes("candidates", &file.bytes(), 17 << 17);
}

#[test]
fn each_search_for_a_relocation_draws_on_the_work() {
    let relocations = [0u8; 24 * 1000];
    let table = Table { text: 0, ..PLAIN }.bytes();
    let sections = [
        text(&JUMP),
        data(".gopclntab", OTHER, &table),
        data(".go.module", OTHER / 2, &[0; 256]),
        data(".rela.dyn", OTHER / 4, &relocations),
    ];
    takes("relocations", &file(&sections), 1000);
}
