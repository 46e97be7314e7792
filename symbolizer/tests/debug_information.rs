//! Inlined chains, files and lines from DWARF in all the shapes that compilers and distributions give it.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

mod fixture;

use std::path::Path;
use std::sync::Arc;

use fixture::{chains, compile, executable, frames, function, run, shown, skipped, source, symbolizer};
use symbolizer::{Content, Executable, Failure, Symbolizer};

/// Every chain in `outer` of `inlined.c`; compilers may add a place of their own (epilogue), never leave one of these out.
const OUTER: [&str; 4] = [
    "outer inlined.c:13@12",
    "inner inlined.c:4@3 < middle inlined.c:9@8 < outer inlined.c:14@12",
    "inner inlined.c:5@3 < middle inlined.c:9@8 < outer inlined.c:14@12",
    "outer inlined.c:15@12",
];

fn assert_outer(symbolizer: &Symbolizer, executable: &Arc<Executable>, program: &Path, what: &str) {
    let found = chains(symbolizer, executable, function(program, "outer"));
    for expected in OUTER {
        assert!(found.contains(expected), "{what}: no {expected:?} in {found:#?}");
    }
    for chain in &found {
        assert!(chain.ends_with("@12") && chain.contains("outer inlined.c:1"), "{what}: {chain:?}");
    }
}

#[test]
fn every_shape_of_dwarf_gives_the_same_chains() {
    for options in [
        &["-gdwarf-5"][..],
        &["-gdwarf-4"],
        &["-gdwarf-3"],
        &["-gdwarf-2"],
        &["-gdwarf-5", "-gz=zlib"],
        &["-gdwarf-5", "-gsplit-dwarf"],
        &["-gdwarf-4", "-gsplit-dwarf"],
        &["-gdwarf-5", "-ffunction-sections", "-Wl,--gc-sections"],
        &["-gdwarf-5", "-flto"],
        &["-gdwarf-5", "-static"],
        &["-gdwarf-5", "-no-pie"],
    ] {
        let directory = tempfile::tempdir().unwrap();
        let options = [&["-O2"][..], options].concat();
        let Some(program) = compile("inlined.c", &options, directory.path()) else { continue };
        assert_whole(&program, &options.join(" "));
    }
}

fn assert_whole(program: &Path, what: &str) {
    let symbolizer = symbolizer();
    assert_outer(&symbolizer, &executable(1, program), program, what);
    let statistics = symbolizer.statistics();
    let failures: Vec<_> = Failure::ALL.iter().filter(|failure| statistics.failure(**failure) > 0).collect();
    assert_eq!(failures, [&Failure::NoSymbols; 0], "{what}");
}

/// Packed by objcopy: as a compiler's option, zstd is newer than the compilers of many distributions.
#[test]
fn sections_that_zstd_has_packed_give_the_same_chains() {
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compile("inlined.c", &["-O2", "-gdwarf-5"], directory.path()) else { return };
    let packed = directory.path().join("packed");
    if run("objcopy", &[&"--compress-debug-sections=zstd", &program, &packed], directory.path()) {
        assert_whole(&packed, "zstd");
    }
}

#[test]
fn without_inlined_calls_the_outermost_function_keeps_the_innermost_place() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile("inlined.c", &["-O2", "-g"], directory.path()).unwrap();
    let options = symbolizer::Options { inlined: false, ..symbolizer::Options::default() };
    let symbolizer = Symbolizer::new(options).unwrap();
    let found = chains(&symbolizer, &executable(1, &program), function(&program, "outer"));
    assert!(found.contains("outer inlined.c:4@12"), "{found:?}");
    assert!(found.iter().all(|chain| !chain.contains('<')), "{found:?}");
}

/// A program without debug information whose debug file is elsewhere.
fn separated(directory: &Path, link: bool) -> Option<(std::path::PathBuf, std::path::PathBuf, std::path::PathBuf)> {
    let full = compile("inlined.c", &["-O2", "-g", "-Wl,--build-id=sha1"], directory)?;
    let (debug, program) = (directory.join("program.debug"), directory.join("stripped"));
    let ok = run("objcopy", &[&"--only-keep-debug", &full, &debug], directory)
        && run("objcopy", &[&"--strip-all", &full, &program], directory)
        && (!link || run("objcopy", &[&"--add-gnu-debuglink", &debug, &program], directory));
    ok.then_some((full, program, debug))
}

fn build_id_file(root: &Path, program: &Path) -> std::path::PathBuf {
    use object::Object;
    let bytes = std::fs::read(program).unwrap();
    let id = object::File::parse(&*bytes).unwrap().build_id().unwrap().unwrap().to_vec();
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let directory = root.join("usr/lib/debug/.build-id").join(&hex[..2]);
    std::fs::create_dir_all(&directory).unwrap();
    directory.join(format!("{}.debug", &hex[2..]))
}

#[test]
fn a_debug_file_is_found_beside_the_program_and_in_the_targets_root() {
    let directory = tempfile::tempdir().unwrap();
    let Some((full, program, debug)) = separated(directory.path(), true) else { return };
    let symbolizer = symbolizer();
    assert_outer(&symbolizer, &executable(1, &program), &full, "debug link");

    let root = tempfile::tempdir().unwrap();
    let inside = build_id_file(root.path(), &program);
    std::fs::rename(&debug, &inside).unwrap();
    assert!(chains(&symbolizer, &executable(2, &program), function(&full, "outer")).contains(""), "no debug file now");
    let rooted = |key, root: &Path| {
        let root = Some(std::fs::File::open(root).unwrap().into());
        Arc::new(Executable { root, ..(*executable(key, &program)).clone() })
    };
    assert_outer(&symbolizer, &rooted(3, root.path()), &full, "build id in the root");
    assert_eq!(symbolizer.statistics().debug_files, 2);

    // A link that leads out of the root leads nowhere.
    let outside = directory.path().join("moved.debug");
    std::fs::rename(&inside, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &inside).unwrap();
    assert!(chains(&symbolizer, &rooted(4, root.path()), function(&full, "outer")).contains(""));
}

#[test]
fn a_debug_file_of_another_build_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let Some((full, program, debug)) = separated(directory.path(), true) else { return };
    let Some(_) = compile("inlined.c", &["-O1", "-g", "-Wl,--build-id=sha1"], directory.path()) else { return };
    assert!(run("objcopy", &[&"--only-keep-debug", &full, &debug], directory.path()));
    let symbolizer = symbolizer();
    let range = function(&full, "outer");
    assert_eq!(shown(&frames(&symbolizer, &executable(1, &program), vec![range.start])[0]), "");
    assert_eq!(symbolizer.statistics().failure(Failure::DebugFileMismatch), 1);
}

#[test]
fn entries_that_dwz_moved_to_a_common_file_are_found() {
    for options in [&["-O2", "-gdwarf-4"], &["-O2", "-gdwarf-5"]] {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let Some(program) = compile("inlined.c", options, one.path()) else { continue };
        let Some(second) = compile("inlined.c", options, other.path()) else { continue };
        let common = one.path().join("common.debug");
        let version: &[&dyn AsRef<std::ffi::OsStr>] = if options[1] == "-gdwarf-5" { &[&"--dwarf-5"] } else { &[] };
        let arguments = [version, &[&"-r" as &dyn AsRef<std::ffi::OsStr>, &"-m", &common, &program, &second]].concat();
        if !run("dwz", &arguments, one.path()) || !common.exists() {
            skipped("dwz made no common file");
            continue;
        }
        assert_outer(&symbolizer(), &executable(1, &program), &program, "dwz");
        std::fs::remove_file(&common).unwrap();
        let symbolizer = symbolizer();
        let found = chains(&symbolizer, &executable(2, &program), function(&program, "outer"));
        assert!(found.iter().all(|chain| chain.contains("outer")), "{found:#?}");
        assert_eq!(symbolizer.statistics().failure(Failure::SupplementaryMissing), 1);
    }
}

#[test]
fn mini_debug_information_names_functions_that_the_dynamic_table_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let Some(full) = compile("inlined.c", &["-O2"], path) else { return };
    let (mini, program) = (path.join("mini"), path.join("stripped"));
    let made = run("objcopy", &[&"--only-keep-debug", &full, &mini], path)
        && run("xz", &[&mini], path)
        && run("objcopy", &[&"--strip-all", &full, &program], path)
        && run("objcopy", &[&"--add-section", &".gnu_debugdata=mini.xz", &program], path);
    if !made {
        return;
    }
    let found = chains(&symbolizer(), &executable(1, &program), function(&full, "outer"));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["outer ?:0@0"]);
}

#[test]
fn rust_closures_and_iterators_are_frames_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    let input = source("inlined.rs");
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    assert!(run(&compiler, &[&"-O", &"-g", &"--crate-name", &"inlined", &"-o", &program, &input], directory.path()));
    let found = chains(&symbolizer(), &executable(1, &program), function(&program, "5outer"));
    let whole = |chain: &&String| {
        chain.contains("inlined::inner inlined.rs:5@4 < inlined::outer::{closure#0} inlined.rs:10@10 < ")
            || chain.contains("inlined::inner inlined.rs:5@4 < inlined::outer::{{closure}} inlined.rs:10@10 < ")
    };
    let chain = found.iter().find(whole).unwrap_or_else(|| panic!("{found:#?}"));
    assert!(chain.contains("for_each") && chain.ends_with("< inlined::outer inlined.rs:10@9"), "{chain}");
}

#[test]
fn stripped_go_has_the_same_chains_as_with_debug_information() {
    for options in [&["-buildmode=exe"], &["-buildmode=pie"]] {
        let (full, stripped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let Some(full) = fixture::compile_go(options, full.path()).map(|path| (path, full)) else { return };
        let options = [&options[..], &["-ldflags=-s -w"]].concat();
        let Some(stripped) = fixture::compile_go(&options, stripped.path()).map(|path| (path, stripped)) else {
            return;
        };
        let (full, stripped) = (&full.0, &stripped.0);
        let range = function(full, "main.outer");
        let symbolizer = symbolizer();
        let with_dwarf = chains(&symbolizer, &executable(1, full), range.clone());
        let with_table = chains(&symbolizer, &executable(2, stripped), range);
        for expected in [
            "main.outer inlined.go:14@14",
            "main.inner inlined.go:6@5 < main.middle inlined.go:10@9 < main.outer inlined.go:16@14",
        ] {
            assert!(with_table.contains(expected), "{with_table:#?}");
        }
        assert_eq!(with_table, with_dwarf);
    }
}

#[test]
fn the_vdso_is_symbolized_from_memory() {
    use object::{Object, ObjectSymbol};
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let Some(line) = maps.lines().find(|line| line.ends_with("[vdso]")) else { return skipped("no vDSO") };
    let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
    let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
    let mut bytes = vec![0; (end - start) as usize];
    std::fs::File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, start).unwrap();

    let file = object::File::parse(&*bytes).unwrap();
    let wanted: Vec<(u64, String)> = file
        .dynamic_symbols()
        .filter(|symbol| symbol.kind() == object::SymbolKind::Text && symbol.size() > 0)
        .map(|symbol| (symbol.address(), symbol.name().unwrap().to_owned()))
        .collect();
    assert!(!wanted.is_empty());
    let content = Content::Bytes(bytes.as_slice().into());
    let executable = Arc::new(Executable { key: 1, content, path: "[vdso]".into(), root: None });
    let found = frames(&symbolizer(), &executable, wanted.iter().map(|(address, _)| *address).collect());
    for ((address, name), frames) in wanted.iter().zip(&found) {
        let aliases: Vec<&str> = wanted.iter().filter(|(other, _)| other == address).map(|(_, name)| &**name).collect();
        assert!(aliases.contains(&&*frames[0].linkage_name), "{name}: {frames:?}");
    }
}
