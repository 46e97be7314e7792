//! Go: the rows from `.gopclntab` of a real program, and of tables made by hand for versions that no toolchain here makes.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod forge;
mod machine;

use std::path::{Path, PathBuf};
use std::process::Command;

use forge::{File, Section};
use gimli::{CfaRule, DebugFrame, LittleEndian, UnwindContext, UnwindSection};
use machine::{Caller, Frame, caller, memory, register};
use object::{Object, ObjectSection, ObjectSymbol};
use unwind::build::{ElfRows, Limits, rows_of_elf};
use unwind::rule::{EscapeRule, Kind, PackedRule, RowRule, dwarf, escape_flags};

const PROGRAM: &str = r#"package main

import (
	"fmt"
	"os"
	"sort"
)

func main() {
	words := append([]string{"c", "a", "b"}, os.Args...)
	sort.Strings(words)
	fmt.Println(words)
}
"#;

/// In continuous integration (`CI` is set) nothing may be left out.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "can't be skipped in CI: {why}");
    println!("SKIPPED: {why}");
}

/// A Go program built with `flags`; `None`, with the reason printed, where that can't be done.
fn program(name: &str, flags: &[&str]) -> Option<Vec<u8>> {
    let go = ["go", "/usr/local/go/bin/go"].into_iter().find(|go| Command::new(go).arg("version").output().is_ok());
    let Some(go) = go else {
        skip("no go here");
        return None;
    };
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).expect("the build directory can be written");
    let (source, output) = (directory.join("main.go"), directory.join("program"));
    std::fs::write(&source, PROGRAM).expect("the build directory can be written");
    let run = |output: &Path, source: &Path| {
        let mut command = Command::new(go);
        command.arg("build").args(flags).arg("-o").arg(output).arg(source);
        command.env("GO111MODULE", "off").env("GOFLAGS", "").env("GOTOOLCHAIN", "local").output()
    };
    match run(&output, &source) {
        Ok(built) if built.status.success() => std::fs::read(output).ok(),
        Ok(built) => {
            skip(&format!("go build {flags:?}: {}", String::from_utf8_lossy(&built.stderr)));
            None
        }
        Err(error) => {
            skip(&format!("go build: {error}"));
            None
        }
    }
}

fn rows(data: &[u8]) -> ElfRows {
    let rows = rows_of_elf(data, &Limits::default()).expect("the file is sound");
    assert!(rows.is_go);
    assert_eq!(rows.stats.go_malformed, 0);
    assert_eq!(rows.stats.go_tables_refused, 0);
    rows
}

fn escape(rule: EscapeRule) -> RowRule {
    RowRule::Escape(rule)
}

/// CFA = rbp + 16: how functions that switch stacks are left.
fn through_frame() -> RowRule {
    escape(EscapeRule {
        register: dwarf::RBP,
        flags: escape_flags::FP_AT_CFA,
        inner: 16,
        return_address: -8,
        fp: -16,
        ..EscapeRule::default()
    })
}

fn sp(offset: u64, fp_slot: u8) -> RowRule {
    RowRule::Packed(PackedRule::frame(Kind::Sp, offset, fp_slot, 0, 0))
}

#[test]
fn cfas_are_those_of_debug_frame() {
    let Some(data) = program("cfa", &["-ldflags=-compressdwarf=false"]) else { return };
    let rows = rows(&data);
    let file = object::File::parse(&*data).expect("the file is ELF");
    let section = file.section_by_name(".debug_frame").expect("the program is not stripped");
    let bytes = section.uncompressed_data().expect("the section is sound");
    let mut debug_frame = DebugFrame::new(&bytes, LittleEndian);
    debug_frame.set_address_size(8);
    let bases = gimli::BaseAddresses::default();
    let (mut equal, mut special) = (0, 0);
    let mut context = UnwindContext::new();
    let mut entries = debug_frame.entries(&bases);
    while let Ok(Some(entry)) = entries.next() {
        let gimli::CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(DebugFrame::cie_from_offset).expect("Go makes sound FDEs");
        let mut table = fde.rows(&debug_frame, &bases, &mut context).expect("Go makes sound CIEs");
        while let Some(row) = table.next_row().expect("Go makes sound programs") {
            let CfaRule::RegisterAndOffset { register: gimli::Register(7), offset } = *row.cfa() else {
                panic!("Go's CFA is not from rsp: {:?}", row.cfa());
            };
            if row.start_address() >= row.end_address() {
                continue;
            }
            for pc in [row.start_address(), row.end_address() - 1] {
                let cfa = register(dwarf::RSP).wrapping_add_signed(offset);
                let fp = if offset > 8 { memory(cfa - 16) } else { register(dwarf::RBP) };
                let (rbx, r12) = (register(dwarf::RBX), register(dwarf::R12));
                let expected = Caller::Frame(Frame { sp: cfa, pc: memory(cfa - 8), fp, rbx, r12 });
                match rows.lookup(pc) {
                    RowRule::END | RowRule::SIGNAL | RowRule::UNSUPPORTED => special += 1,
                    rule if rule == through_frame() => special += 1,
                    rule => {
                        assert_eq!(caller(rule, pc), expected, "at {pc:#x}");
                        equal += 1;
                    }
                }
            }
        }
    }
    assert!(equal > 10_000, "{equal} equal, {special} special");
    assert!(special < 300, "{equal} equal, {special} special");
}

#[test]
fn stripped_and_position_independent_programs_have_the_same_rows() {
    let rules = |rows: &ElfRows| rows.iter().map(|row| row.rule).collect::<Vec<_>>();
    let Some(plain) = program("plain", &[]).map(|data| rows(&data)) else { return };
    let Some(stripped) = program("stripped", &["-ldflags=-s -w"]) else { return };
    assert_eq!(rules(&rows(&stripped)), rules(&plain));
    // Without section headers: found by its magic.
    let mut headless = stripped.clone();
    headless[40..48].fill(0);
    headless[58..64].fill(0);
    assert_eq!(rules(&rows(&headless)), rules(&plain));
    let Some(pie) = program("pie", &["-buildmode=pie"]).map(|data| rows(&data)) else { return };
    // Different code, but as much of it.
    let (one, other) = (pie.len() as i64, plain.len() as i64);
    assert!((one - other).abs() * 50 < other, "{one} rows and {other}");
}

#[test]
fn special_functions_have_their_rules() {
    let Some(data) = program("special", &[]) else { return };
    let rows = rows(&data);
    let file = object::File::parse(&*data).expect("the file is ELF");
    let function = |name: &str| {
        let names = [name.to_string(), format!("{name}.abi0")];
        let found =
            file.symbols().find(|symbol| symbol.name().is_ok_and(|found| names.iter().any(|name| name == found)));
        found.map(|symbol| (symbol.address(), symbol.address() + symbol.size())).expect("every Go program has it")
    };
    for name in ["runtime.goexit", "runtime.mstart", "runtime.rt0_go", "_rt0_amd64_linux", "_rt0_amd64"] {
        let (start, end) = function(name);
        for pc in start..end {
            assert_eq!(rows.lookup(pc), RowRule::END, "{name} at {pc:#x}");
        }
    }
    let (start, end) = function("runtime.sigreturn__sigaction");
    for pc in start - 1..end {
        assert_eq!(rows.lookup(pc), RowRule::SIGNAL, "at {pc:#x}");
    }
    // push %rbp; mov %rsp, %rbp
    for name in ["runtime.systemstack", "runtime.asmcgocall", "runtime.nanotime1"] {
        let (start, end) = function(name);
        assert_eq!(rows.lookup(start), sp(8, 0), "{name}");
        assert_eq!(rows.lookup(start + 1), sp(16, 2), "{name}");
        for pc in start + 4..end {
            let rule = rows.lookup(pc);
            assert!(rule == through_frame() || rule == sp(8, 0), "{name} at {pc:#x}: {rule:?}");
        }
    }
    for name in ["runtime.mcall", "runtime.morestack"] {
        let (start, end) = function(name);
        assert_eq!(rows.lookup(start), sp(8, 0), "{name}");
        assert_eq!(rows.lookup(end - 8), RowRule::END, "{name}");
    }
    let (start, end) = function("gogo");
    assert_eq!(rows.lookup(start), sp(8, 0));
    assert_eq!(rows.lookup(end - 1), RowRule::UNSUPPORTED);
}

/// What differs between versions of the table.
struct Version {
    name: &'static str,
    magic: u32,
    /// Whether the header has the start of the text, and addresses count from it.
    relative: bool,
    /// Bytes of a function's record, and the offset of its flags.
    record: usize,
    flags: Option<usize>,
}

const VERSIONS: [Version; 3] = [
    Version { name: "1.16", magic: 0xffff_fffa, relative: false, record: 48, flags: None },
    Version { name: "1.18", magic: 0xffff_fff0, relative: true, record: 40, flags: Some(37) },
    Version { name: "1.20", magic: 0xffff_fff1, relative: true, record: 44, flags: Some(41) },
];

const TEXT: u64 = 0x1000;
const TABLE: u64 = 0x4000;

/// A table of these functions: name, flags, length of its code, pcsp table. Each starts at a multiple of 32.
fn table(version: &Version, functions: &[(&str, u8, u64, &[u8])]) -> Vec<u8> {
    let header = if version.relative { 72 } else { 64 };
    let (mut names, mut pcsp) = (vec![0u8], vec![0u8]);
    let word = if version.relative { 4 } else { 8 };
    let mut index = Vec::new();
    let mut records = Vec::new();
    let records_at = (functions.len() * 2 + 1) * word;
    let put = |bytes: &mut Vec<u8>, value: u64| bytes.extend(&value.to_le_bytes()[..word]);
    let mut start = if version.relative { 0 } else { TEXT };
    for (name, flags, length, deltas) in functions {
        put(&mut index, start);
        put(&mut index, (records_at + records.len()) as u64);
        let mut record = vec![0u8; version.record];
        record[..word].copy_from_slice(&start.to_le_bytes()[..word]);
        record[word..word + 4].copy_from_slice(&(names.len() as u32).to_le_bytes());
        record[word + 12..word + 16].copy_from_slice(&(pcsp.len() as u32).to_le_bytes());
        if let Some(offset) = version.flags {
            record[offset] = *flags;
        }
        records.extend(record);
        names.extend(name.as_bytes());
        names.push(0);
        pcsp.extend(*deltas);
        start += length.next_multiple_of(32);
    }
    put(&mut index, start);
    let (pcsp_at, functions_at) = (header + names.len(), header + names.len() + pcsp.len());
    let mut words = vec![functions.len() as u64, 0];
    if version.relative {
        words.push(TEXT);
    }
    // Names, units, files, pcsp tables, functions.
    words.extend([header as u64, 0, 0, pcsp_at as u64, functions_at as u64]);
    let mut bytes = version.magic.to_le_bytes().to_vec();
    bytes.extend([0, 0, 1, 8]);
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    assert_eq!(bytes.len(), header);
    bytes.extend(names.iter().chain(&pcsp).chain(&index).chain(&records));
    bytes
}

fn forged(version: &Version, code: &[u8], functions: &[(&str, u8, u64, &[u8])], with_section_headers: bool) -> ElfRows {
    let table = table(version, functions);
    let sections = [
        Section { name: ".text", address: TEXT, bytes: code, executable: true },
        Section { name: ".gopclntab", address: TABLE, bytes: &table, executable: false },
    ];
    let file = File { entry: 0, sections: &sections, with_section_headers, eh_frame_header: None };
    rows(&file.bytes())
}

/// sp unchanged for 4 bytes, 24 bytes down for 10, unchanged for 2.
const DELTAS: [u8; 7] = [2, 4, 48, 10, 47, 2, 0];

#[test]
fn each_version_of_the_table_is_read() {
    for version in &VERSIONS {
        for with_section_headers in [true, false] {
            let functions: [(&str, u8, u64, &[u8]); 3] = [
                ("main.main", 0, 16, &DELTAS),
                ("runtime.goexit", 1 | 4, 7, &[2, 7, 0]),
                ("runtime.sigreturn", 4, 9, &[2, 9, 0]),
            ];
            let rows = forged(version, &[0xcc; 128], &functions, with_section_headers);
            let rows: Vec<_> = rows.iter().map(|row| (row.address - TEXT, row.rule)).collect();
            let expected = [
                (0, sp(8, 0)),
                (4, sp(32, 2)),
                (14, sp(8, 0)),
                (32, RowRule::END),
                (63, RowRule::SIGNAL),
                (73, RowRule::GAP),
            ];
            assert_eq!(rows[..5], expected[..5], "{}", version.name);
            assert_eq!(rows[5].1, RowRule::GAP, "{}", version.name);
        }
    }
}

#[test]
fn a_table_inside_another_section_is_found_by_its_magic() {
    let table = table(&VERSIONS[2], &[("main.main", 0, 32, &DELTAS)]);
    // A program that reads such tables holds the magic as well: a table of no functions comes first.
    let mut data = [0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8].to_vec();
    data.resize(128, 0);
    data.extend(&table);
    let sections = |mark| {
        [
            Section { name: ".text", address: TEXT, bytes: &[0xcc; 64], executable: true },
            Section { name: mark, address: 0x2000, bytes: b"\xff Go buildinf:", executable: false },
            Section { name: ".data.rel.ro", address: TABLE, bytes: &data, executable: false },
        ]
    };
    let file = |sections: &[Section<'_>]| {
        File { entry: 0, sections, with_section_headers: true, eh_frame_header: None }.bytes()
    };
    let found = rows(&file(&sections(".go.buildinfo")));
    assert_eq!(found.lookup(TEXT + 4), sp(32, 2));
    // Files of other languages are not searched.
    let other = rows_of_elf(&file(&sections(".rodata")), &Limits::default()).expect("the file is sound");
    assert!(!other.is_go);
    assert!(other.is_empty());
}

#[test]
fn switches_without_a_frame_lead_through_that_of_their_caller() {
    // As systemstack before Go 1.21: mov 0x38(%rdx), %rsp; call; mov 0x38(%rax), %rsp; ret
    let mut code = vec![0x90; 64];
    code[4..8].copy_from_slice(&[0x48, 0x8b, 0x62, 0x38]);
    code[20..24].copy_from_slice(&[0x48, 0x8b, 0x60, 0x38]);
    for version in &VERSIONS {
        let rows = forged(version, &code, &[("runtime.systemstack", 2 | 4, 32, &[2, 32, 0])], true);
        let rows: Vec<_> = rows.iter().map(|row| (row.address - TEXT, row.rule)).collect();
        let expected = [(0, sp(8, 0)), (8, through_frame()), (24, sp(8, 0)), (32, RowRule::GAP)];
        assert_eq!(rows, expected, "{}", version.name);
    }
}

#[test]
fn malformed_functions_are_left_out_and_counted() {
    let functions: [(&str, u8, u64, &[u8]); 2] = [("main.main", 0, 32, &DELTAS), ("main.broken", 0, 32, &[0x80])];
    let table = table(&VERSIONS[2], &functions);
    // The last pcsp table is cut off by nothing but the function table: its bytes decode to no end.
    let sections = [
        Section { name: ".text", address: TEXT, bytes: &[0xcc; 64], executable: true },
        Section { name: ".gopclntab", address: TABLE, bytes: &table[..table.len() - 44], executable: false },
    ];
    let file = File { entry: 0, sections: &sections, with_section_headers: true, eh_frame_header: None };
    let rows = rows_of_elf(&file.bytes(), &Limits::default()).expect("the file is sound");
    assert_eq!(rows.stats.go_malformed, 1);
    assert_eq!(rows.lookup(TEXT + 4), sp(32, 2));
    assert_eq!(rows.lookup(TEXT + 40), RowRule::GAP);
}

#[test]
fn an_unknown_version_is_refused_and_counted() {
    let mut table = table(&VERSIONS[2], &[("main.main", 0, 32, &DELTAS)]);
    table[0] = 0xf2;
    let sections = [
        Section { name: ".text", address: TEXT, bytes: &[0xcc; 64], executable: true },
        Section { name: ".gopclntab", address: TABLE, bytes: &table, executable: false },
    ];
    let file = File { entry: 0, sections: &sections, with_section_headers: true, eh_frame_header: None };
    let rows = rows_of_elf(&file.bytes(), &Limits::default()).expect("the file is sound");
    assert!(!rows.is_go);
    assert_eq!(rows.stats.go_tables_refused, 1);
}
