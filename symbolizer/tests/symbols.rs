//! Which symbol names an address, and what hostile files can do.

mod fixture;

use std::sync::Arc;

use fixture::{compile, executable, frames, function, shown, symbolizer};
use symbolizer::{Content, Executable, Failure, Options, Request, Symbolizer};

#[test]
fn the_largest_and_last_alias_names_an_address_and_sizes_are_believed() {
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compile("aliases.s", &["-nostdlib", "-static"], directory.path()) else { return };
    let start = function(&program, "large").start;
    let symbolizer = symbolizer();
    let addresses: Vec<u64> = (start..start + 17).collect();
    let found = frames(&symbolizer, &executable(1, &program), addresses);
    let names: Vec<&str> = found.iter().map(|frames| frames.first().map_or("", |frame| &*frame.function)).collect();
    // Four bytes of `large` (or its equal alias, whichever the linker lists last), four of nobody, two of `first` or `second`,
    // two of the symbol without a size, four of data, and `_start`.
    let large = names[0];
    assert!(["large", "weak_name"].contains(&large), "{names:?}");
    let equal = names[8];
    assert!(["first", "second"].contains(&equal), "{names:?}");
    let expected = [
        large, large, large, large, "", "", "", "", equal, equal, "unsized", "unsized", "object", "object", "object",
        "object", "_start",
    ];
    assert_eq!(names, expected);
}

#[test]
fn answers_come_in_the_order_asked_and_repeated_ones_from_the_memo() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile("inlined.c", &["-O2", "-g"], directory.path()).unwrap();
    let symbolizer = Symbolizer::new(Options { threads: 2, ..Options::default() }).unwrap();
    let (outer, main) = (function(&program, "outer").start, function(&program, "main").start);
    let requests: Vec<Request> = [(1, vec![main, outer, main, 3]), (2, vec![outer]), (1, vec![outer]), (5, vec![])]
        .map(|(key, addresses)| Request { executable: executable(key, &program), addresses })
        .into();
    let names = |answers: &[Vec<symbolizer::Frames>]| -> Vec<Vec<String>> {
        let last = |frames: &symbolizer::Frames| frames.last().map_or(String::new(), |f| f.function.to_string());
        answers.iter().map(|frames| frames.iter().map(last).collect()).collect()
    };
    let expected = vec![vec!["main", "outer", "main", ""], vec!["outer"], vec!["outer"], vec![]];
    assert_eq!(names(&symbolizer.symbolize(&requests)), expected);
    let before = symbolizer.statistics();
    assert_eq!(names(&symbolizer.symbolize(&requests)), expected);
    let after = symbolizer.statistics();
    assert_eq!((after.memo_hits - before.memo_hits, after.memo_misses - before.memo_misses), (6, 0));
    assert_eq!((after.files_opened, after.files_open, after.memo_entries), (2, 2, 4));
    symbolizer.forget(1);
    assert_eq!(symbolizer.statistics().memo_entries, 1);
    assert_eq!(names(&symbolizer.symbolize(&requests)), expected);
    assert_eq!(symbolizer.statistics().files_opened, 3);
}

#[test]
fn files_beyond_the_budget_are_dropped_and_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile("inlined.c", &["-O2", "-g"], directory.path()).unwrap();
    let symbolizer = Symbolizer::new(Options { open_files: 2, memo_bytes: 0, ..Options::default() }).unwrap();
    let outer = function(&program, "outer").start;
    for key in [1, 2, 3, 3, 1] {
        let found = frames(&symbolizer, &executable(key, &program), vec![outer]);
        assert_eq!(shown(&found[0]), "outer inlined.c:13@12");
    }
    let statistics = symbolizer.statistics();
    // The budgets are kept after the answer is given, so the last file's eviction may not be counted yet.
    assert_eq!(statistics.files_opened, 4);
    assert!((1..=2).contains(&statistics.files_evicted), "{statistics:?}");
}

fn ask(symbolizer: &Symbolizer, key: u64, bytes: &[u8], addresses: &[u64]) -> Vec<symbolizer::Frames> {
    let content = Content::Bytes(bytes.into());
    let executable = Arc::new(Executable { key, content, path: "/nowhere/program".into(), root: None });
    frames(symbolizer, &executable, addresses.to_vec())
}

#[test]
fn what_is_no_executable_has_no_names_and_a_reason() {
    let symbolizer = symbolizer();
    for (key, bytes, failure) in
        [(1, &b""[..], Failure::NotElf), (2, b"#!/bin/sh\n", Failure::NotElf), (3, b"\x7fELF", Failure::NotElf)]
    {
        let before = symbolizer.statistics().failure(failure);
        assert_eq!(ask(&symbolizer, key, bytes, &[1, 2]).iter().map(|f| f.len()).collect::<Vec<_>>(), [0, 0]);
        assert_eq!(symbolizer.statistics().failure(failure), before + 1);
    }
}

#[test]
fn damaged_files_cost_names_only() {
    let directory = tempfile::tempdir().unwrap();
    let mut programs = Vec::new();
    for options in [&["-O2", "-gdwarf-5"][..], &["-O2", "-gdwarf-4", "-gz=zlib"], &["-O2", "-s"]] {
        if let Some(program) = compile("inlined.c", options, directory.path()) {
            programs.push(std::fs::read(program).unwrap());
        }
    }
    if let Some(program) = fixture::compile_go(&["-ldflags=-s -w"], directory.path()) {
        programs.push(std::fs::read(program).unwrap());
    }
    let addresses: Vec<u64> =
        (0..64).map(|step| 0x1000 + step * 8).chain((0..64).map(|step| 0x40_1000 + step * 1009)).collect();
    let symbolizer = symbolizer();
    let mut key = 0;
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for program in &programs {
        for cut in 0..64 {
            key += 1;
            let length = program.len() * cut / 64;
            assert_eq!(ask(&symbolizer, key, &program[..length], &addresses).len(), addresses.len());
        }
        // Larger files get more damage, so that some of it hits tables.
        let damage = 1 + program.len() / 4096;
        for round in 0..300_000 / (1000 + damage) {
            key += 1;
            let mut bytes = program.clone();
            for _ in 0..damage * (1 + round % 24) {
                let place = random() as usize % bytes.len();
                bytes[place] = match random() % 4 {
                    0 => 0xff,
                    1 => 0,
                    2 => bytes[place] ^ (1 << (random() % 8)),
                    _ => random() as u8,
                };
            }
            assert_eq!(ask(&symbolizer, key, &bytes, &addresses).len(), addresses.len());
        }
    }
    let statistics = symbolizer.statistics();
    assert_eq!(statistics.failure(Failure::Panic), 0);
    assert_eq!(statistics.failure(Failure::Late), 0);
    assert!(statistics.failure(Failure::NotElf) > 0);
}

#[test]
fn a_file_truncated_while_in_use_costs_its_names_only() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile("inlined.c", &["-O2", "-g"], directory.path()).unwrap();
    let symbolizer = symbolizer();
    let (outer, main) = (function(&program, "outer").start, function(&program, "main").start);
    let open = executable(1, &program);
    assert_eq!(shown(&frames(&symbolizer, &open, vec![outer])[0]), "outer inlined.c:13@12");
    std::fs::OpenOptions::new().write(true).open(&program).unwrap().set_len(4096).unwrap();
    assert_eq!(shown(&frames(&symbolizer, &open, vec![main])[0]), "");
    assert_eq!(symbolizer.statistics().failure(Failure::Truncated), 1);
}
