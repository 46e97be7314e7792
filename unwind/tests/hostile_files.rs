//! Damaged files: no panic, no endless loop, no unbounded memory, and the same answer each time.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod bounds;
mod forge;
mod frames;

use std::time::{Duration, Instant};

use unwind::build::{BuildError, ElfRows, Limits, Placement, Plan, rows_of_elf};

/// A generator with a fixed seed (SplitMix64), so that every run sees the same files.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Files small enough to damage many times: a C library or linker, and, where there is one, a Go program.
fn victims() -> Vec<Vec<u8>> {
    let paths = ["/lib64/ld-linux-x86-64.so.2", "/usr/local/go/bin/gofmt", "/usr/bin/true"];
    let files: Vec<_> = paths.iter().filter_map(|path| std::fs::read(path).ok()).collect();
    if files.is_empty() { vec![std::fs::read("/proc/self/exe").expect("every process has one")] } else { files }
}

/// Everything that the agent does with a file.
fn build(data: &[u8]) -> Result<ElfRows, BuildError> {
    let limits = Limits::default();
    let rows = rows_of_elf(data, &limits)?;
    let mut before = None;
    for row in rows.iter() {
        assert!(before < Some(row.address), "rows ascend");
        before = Some(row.address);
    }
    let plan = Plan::new(&rows, &limits)?;
    let chunks: Vec<u32> = plan.chunk_words().map(|_| 1).collect();
    let placement = Placement { page_table: 1, rules: 1, chunks: &chunks };
    let mut words = 0;
    plan.write(placement, &mut |_| Some(1), &mut |_, new| words += new.len() as u64);
    assert_eq!(words, plan.words());
    Ok(rows)
}

/// Far beyond what a damaged file of some hundred kilobytes may take, in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn survives(data: &[u8], what: &str) -> bool {
    let start = Instant::now();
    let built = build(data);
    assert!(start.elapsed() < PATIENCE, "{what} took {:?}", start.elapsed());
    built.is_ok()
}

#[test]
fn truncated_files_are_survived() {
    for data in victims() {
        for part in 0..64 {
            survives(&data[..data.len() * part / 64], &format!("{part}/64"));
        }
        assert!(survives(&data, "the whole"));
    }
}

#[test]
fn flipped_bytes_are_survived() {
    let mut random = Random(1);
    for data in victims() {
        let mut sound = 0;
        for round in 0..48 {
            let mut damaged = data.clone();
            for _ in 0..1 << (round % 12) {
                let place = random.below(damaged.len());
                damaged[place] = random.next() as u8;
            }
            sound += usize::from(survives(&damaged, &format!("round {round}")));
        }
        assert!(sound > 0, "a few wrong bytes leave most files readable");
    }
}

#[test]
fn flipped_unwind_information_is_survived() {
    use object::{Object, ObjectSection};
    let mut random = Random(4);
    for data in victims() {
        let file = object::File::parse(&*data).expect("the file is ELF");
        let names = [".eh_frame", ".eh_frame_hdr", ".gopclntab", ".go.module", ".debug_frame"];
        let ranges: Vec<_> = names
            .iter()
            .filter_map(|name| file.section_by_name(name)?.file_range())
            .map(|(start, size)| (start as usize, size as usize))
            .collect();
        assert!(!ranges.is_empty());
        for round in 0..48 {
            let mut damaged = data.clone();
            for _ in 0..1 << (round % 10) {
                let (start, size) = ranges[random.below(ranges.len())];
                // The first bytes say how to read the rest.
                let size = if round % 3 == 0 { size.min(256) } else { size };
                damaged[start + random.below(size)] = [0, 1, 0x80, 0xff, random.next() as u8][random.below(5)];
            }
            survives(&damaged, &format!("round {round}"));
        }
    }
}

#[test]
fn flipped_headers_are_survived() {
    let mut random = Random(2);
    for data in victims() {
        let headers = 64 + 56 * 12;
        for round in 0..96 {
            let mut damaged = data.clone();
            for _ in 0..=round % 4 {
                // In the ELF and program headers, or in the section headers, which are last.
                let place = random.below(headers * 2);
                let place = if place < headers { place } else { damaged.len() - (place - headers) - 1 };
                damaged[place] = [0, 1, 0x7f, 0xff, random.next() as u8][random.below(5)];
            }
            survives(&damaged, &format!("round {round}"));
        }
    }
}

#[test]
fn a_damaged_file_gives_the_same_rows_each_time() {
    for mut data in victims() {
        let mut random = Random(3);
        for _ in 0..1000 {
            let place = data.len() / 4 + random.below(data.len() / 2);
            data[place] = random.next() as u8;
        }
        let rows = |data: &[u8]| build(data).map(|rows| (rows.stats, rows.iter().collect::<Vec<_>>()));
        assert_eq!(rows(&data), rows(&data));
    }
}

#[test]
fn files_that_are_not_for_us_are_refused_with_the_reason() {
    let own = std::fs::read("/proc/self/exe").expect("every process has an executable");
    let with = |offset: usize, byte: u8| {
        let mut changed = own.clone();
        changed[offset] = byte;
        changed
    };
    let cases = [
        ("empty", Vec::new(), "not an ELF file"),
        ("text", b"#!/bin/sh\n".repeat(20), "not an ELF file"),
        ("32 bits", with(4, 1), "not an ELF file"),
        ("big endian", with(5, 2), "not a little-endian x86-64 ELF file"),
        ("another machine", with(18, 183), "not a little-endian x86-64 ELF file"),
    ];
    for (name, data, reason) in cases {
        let refused = rows_of_elf(&data, &Limits::default()).map(|rows| rows.len());
        assert_eq!(refused.map_err(|error| error.to_string()), Err(reason.to_string()), "{name}");
    }
}

#[test]
fn limits_are_kept() {
    let own = std::fs::read("/proc/self/exe").expect("every process has an executable");
    let refused = |limits| rows_of_elf(&own, &limits).map(|rows| rows.len());
    assert_eq!(refused(Limits { rows: 10, ..Limits::default() }), Err(BuildError::TooManyRows { limit: 10 }));
    assert_eq!(refused(Limits { functions: 10, ..Limits::default() }), Err(BuildError::TooManyFunctions { limit: 10 }));
    let few = rows_of_elf(&own, &Limits { rules: 10, ..Limits::default() }).expect("rules past the limit are counted");
    assert!(few.stats.rules_refused > 0);
    assert!(few.stats.rows_unsupported > 0);
    let none = rows_of_elf(&own, &Limits { section_bytes: 10, ..Limits::default() }).expect("sections are counted");
    assert_eq!(none.stats.sections_refused, 1);
    assert_eq!(none.stats.fdes, 0);
}
