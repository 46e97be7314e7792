//! Names of stubs, as `objdump` gives them, and names in files without section headers.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

mod fixture;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use fixture::{compile, compile_go, executable, frames, function, symbolizer};
use symbolizer::{Content, Executable, Failure, Frames};

fn name(frames: &Frames) -> &str {
    frames.last().map_or("", |frame| &*frame.function)
}

/// Every `name@plt` that `objdump` knows, with its address; `None` without `objdump`.
fn stubs_by_objdump(program: &Path) -> Option<BTreeMap<u64, String>> {
    let output =
        Command::new("objdump").arg("-d").arg(program).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).unwrap();
    let label = |line: &str| {
        let (address, name) = line.strip_suffix(">:")?.split_once(" <")?;
        name.ends_with("@plt").then(|| (u64::from_str_radix(address, 16).unwrap(), name.to_owned()))
    };
    Some(text.lines().filter_map(label).collect())
}

#[test]
fn stubs_of_every_form_are_named_as_objdump_names_them() {
    let directory = tempfile::tempdir().unwrap();
    let forms: [&[&str]; 6] = [
        &["-Wl,-z,lazy"],
        &["-Wl,-z,now"],
        &["-Wl,-z,lazy,-z,ibtplt", "-fcf-protection=full"],
        &["-Wl,-z,now,-z,ibtplt", "-no-pie"],
        &["-Wl,-z,lazy", "-s"],
        &["-fuse-ld=gold", "-Wl,-z,lazy"],
    ];
    let mut compared = 0;
    for (key, options) in (0..).zip(forms) {
        let Some(program) = compile("stubs.c", options, directory.path()) else { continue };
        let Some(expected) = stubs_by_objdump(&program) else { continue };
        let names: Vec<&str> = expected.values().map(String::as_str).collect();
        assert!(names.contains(&"puts@plt") && names.contains(&"strtol@plt"), "{options:?}: {names:?}");
        let symbolizer = symbolizer();
        let open = executable(key, &program);
        // The first byte and one inside of each stub.
        for inside in [0, 6] {
            let addresses = expected.keys().map(|start| start + inside).collect();
            let found = frames(&symbolizer, &open, addresses);
            assert_eq!(found.iter().map(name).collect::<Vec<_>>(), names, "{options:?} + {inside}");
        }
        let first = expected.keys().next().unwrap() - 16;
        let beside = frames(&symbolizer, &open, vec![first]);
        assert!(!name(&beside[0]).ends_with("@plt"), "{options:?}: {beside:?} is before the first stub");
        compared += 1;
    }
    // One compiler that knows the plain forms is enough to compare something, where there is `objdump`.
    assert!(compared >= 3 || Command::new("objdump").output().is_err(), "{compared}");
}

#[test]
fn stubs_of_static_programs_have_the_name_of_the_function_that_is_chosen_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compile("stubs.c", &["-static"], directory.path()) else { return };
    let section = |path: &Path| {
        use object::{Object, ObjectSection};
        let bytes = std::fs::read(path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        file.section_by_name(".plt").map(|section| section.address()..section.address() + section.size())
    };
    let Some(stubs) = section(&program) else { return };
    let symbolizer = symbolizer();
    let of = |key, path: &Path| -> Vec<String> {
        let found = frames(&symbolizer, &executable(key, path), stubs.clone().step_by(8).collect());
        found.iter().map(|frames| name(frames).to_owned()).collect()
    };
    let names = of(1, &program);
    assert!(names.iter().all(|name| name.ends_with("@plt")), "{names:?}");
    assert!(names.iter().any(|name| name == "strlen@plt" || name == "__strlen_ifunc@plt"), "{names:?}");
    assert!(Command::new("strip").arg(&program).status().unwrap().success());
    let stripped = of(2, &program);
    assert_eq!(stripped.len(), names.len());
    assert!(stripped.iter().all(|name| name.starts_with("*ABS*+0x") && name.ends_with("@plt")), "{stripped:?}");
}

/// The program with an ELF header that names no section headers.
fn headerless(program: &Path, key: u64) -> Arc<Executable> {
    let bytes = fixtures::without_section_headers(std::fs::read(program).unwrap());
    Arc::new(Executable { key, content: Content::Bytes(bytes.into()), path: "/nowhere/program".into(), root: None })
}

#[test]
fn a_file_without_section_headers_has_the_names_that_the_dynamic_loader_needs() {
    let directory = tempfile::tempdir().unwrap();
    for (key, options) in (0..).zip([
        &["-Wl,--hash-style=gnu"][..],
        &["-Wl,--hash-style=sysv"],
        &["-Wl,--hash-style=both", "-Wl,-z,noseparate-code"],
    ]) {
        let options: Vec<&str> = ["-shared", "-fPIC"].iter().chain(options).copied().collect();
        let Some(library) = compile("stubs.c", &options, directory.path()) else { return };
        let (exported, second) = (function(&library, "exported"), function(&library, "exported_too"));
        let hidden = function(&library, "hidden").start;
        let symbolizer = symbolizer();
        let addresses = vec![exported.start, exported.end - 1, second.start, hidden, exported.start.wrapping_neg(), 0];
        let found = frames(&symbolizer, &headerless(&library, key), addresses);
        let names: Vec<&str> = found.iter().map(name).collect();
        assert_eq!(names, ["exported", "exported", "exported_too", "", "", ""], "{options:?}");
    }
}

#[test]
fn a_headerless_file_that_tells_nothing_has_no_names() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile("aliases.s", &["-nostdlib", "-static"], directory.path()).unwrap();
    let symbolizer = symbolizer();
    let start = function(&program, "large").start;
    assert_eq!(name(&frames(&symbolizer, &headerless(&program, 1), vec![start])[0]), "");
    assert_eq!(symbolizer.statistics().failure(Failure::NoSymbols), 1);
}

#[test]
fn go_programs_without_section_headers_have_the_names_of_their_own_table() {
    let directory = tempfile::tempdir().unwrap();
    for (key, options) in (0..).zip([&["-ldflags=-s -w"][..], &["-buildmode=pie"]]) {
        let Some(program) = compile_go(options, directory.path()) else { return };
        // The stripped one has no symbols to ask: the table with section headers tells the truth.
        let addresses: Vec<u64> = {
            use object::{Object, ObjectSection};
            let bytes = std::fs::read(&program).unwrap();
            let file = object::File::parse(&*bytes).unwrap();
            let text = file.section_by_name(".text").unwrap();
            (0..1000).map(|step| text.address() + text.size() / 1000 * step).collect()
        };
        let symbolizer = symbolizer();
        let stripped = directory.path().join("stripped");
        let strip = Command::new("strip").arg("-o").arg(&stripped).arg(&program).status();
        assert!(strip.unwrap().success());
        let expected = frames(&symbolizer, &executable(2 * key, &stripped), addresses.clone());
        let found = frames(&symbolizer, &headerless(&stripped, 2 * key + 1), addresses);
        assert!(expected.iter().filter(|frames| !frames.is_empty()).count() > 900, "{options:?}");
        assert_eq!(found, expected, "{options:?}");
    }
}

/// Where the file has the value of a dynamic entry, and the entry's own place.
fn dynamic_entry(bytes: &[u8], tag: u64) -> usize {
    use object::{Object, ObjectSection};
    let file = object::File::parse(bytes).unwrap();
    let (offset, size) = file.section_by_name(".dynamic").unwrap().file_range().unwrap();
    let entries = (offset as usize..(offset + size) as usize).step_by(16);
    entries.into_iter().find(|at| bytes[*at..*at + 8] == tag.to_le_bytes()).unwrap()
}

#[test]
fn dynamic_entries_that_lead_nowhere_cost_names_only() {
    let directory = tempfile::tempdir().unwrap();
    let options = ["-shared", "-fPIC", "-Wl,--hash-style=gnu"];
    let Some(library) = compile("stubs.c", &options, directory.path()) else { return };
    let exported = function(&library, "exported").start;
    let bytes = std::fs::read(&library).unwrap();
    let symbolizer = symbolizer();
    let mut key = 0;
    // DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_GNU_HASH.
    for tag in [5, 6, 10, 0x6fff_fef5_u64] {
        for value in [0, 1, exported, 0x7fff_ffff, u64::MAX - 7, u64::MAX] {
            key += 1;
            let mut damaged = bytes.clone();
            let at = dynamic_entry(&bytes, tag);
            damaged[at + 8..at + 16].copy_from_slice(&value.to_le_bytes());
            let content = Content::Bytes(fixtures::without_section_headers(damaged).into());
            let open = Arc::new(Executable { key, content, path: "/nowhere/library".into(), root: None });
            let found = frames(&symbolizer, &open, vec![exported, exported + 1, 0, u64::MAX]);
            assert_eq!(found.len(), 4);
            // A size of names that is larger than what there is does no harm.
            if tag == 10 && value > 0xffff {
                assert_eq!(name(&found[0]), "exported");
            }
        }
    }
    assert_eq!(symbolizer.statistics().failure(Failure::Panic), 0);
}
