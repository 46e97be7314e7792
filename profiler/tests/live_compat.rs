//! A 32-bit program on a 64-bit kernel: its stack is not walked, and each of its samples tells its leaf and the file that it is in.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod live;

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fixtures::{Flavour, build_or_skip, is_for_another_machine, skip};
use live::{Recorded, Running};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
use profiler::profile::LocationKind;
use unwind::end::End;

/// Where a function's code is in its file.
fn place_in_file(file: &Path, function: &str) -> Range<u64> {
    let bytes = std::fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    assert!(!elf.is_64(), "{} is a 64-bit program", file.display());
    let symbol = elf.symbols().find(|symbol| symbol.name() == Ok(function)).unwrap();
    let holds = |start: u64, size: u64| (start..start + size).contains(&symbol.address());
    let segment = elf.segments().find(|segment| holds(segment.address(), segment.size())).unwrap();
    let start = symbol.address() - segment.address() + segment.file_range().0;
    start..start + symbol.size()
}

/// Whether this kernel runs such programs; says so if not.
fn runs(file: &Path) -> bool {
    match Command::new(file).arg("1").output() {
        Ok(_) => true,
        Err(error) if is_for_another_machine(&error) => {
            skip(format_args!("{}: {error}", file.display()));
            false
        }
        Err(error) => panic!("{}: {error}", file.display()),
    }
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn each_sample_of_a_32_bit_program_is_its_leaf_in_its_file() {
    let _alone = live::alone();
    let Some(file) = build_or_skip("compat", Flavour::Static) else { return };
    if !runs(&file) {
        return;
    }
    let running = Running::fixture(&file, &[]);
    let Some(mut engine) = live::engine(live::options(&[running.pid()])) else { return };
    live::record_while(&mut engine, Duration::from_secs(20), |engine| engine.samples() < 200);
    let recorded = Recorded::new(engine);
    let ends: Vec<End> = recorded.samples(running.pid()).iter().map(|seen| seen.end).collect();
    assert!(ends.len() >= 200, "{} samples", ends.len());
    assert!(ends.iter().all(|end| *end == End::Compat), "{ends:?}");

    let (path, burn) = (file.canonicalize().unwrap(), place_in_file(&file, "burn"));
    let batch = &recorded.recording.interval.batch;
    let mut in_burn = 0;
    for sample in &batch.samples {
        let stack = &batch.stacks[sample.stack.0 as usize].locations;
        let locations = stack.iter().map(|index| &batch.locations[index.0 as usize]);
        let is_user = |kind| !matches!(kind, LocationKind::Kernel | LocationKind::KernelModule | LocationKind::Bpf);
        let user: Vec<_> = locations.filter(|location| is_user(location.kind)).collect();
        let [leaf] = user[..] else { panic!("{} user frames", user.len()) };
        let mapped = leaf.mapping.map(|at| batch.strings.get(batch.mappings[at.0 as usize].filename));
        assert_eq!(mapped, path.to_str());
        in_burn += usize::from(burn.contains(&leaf.address));
    }
    // It does nothing else since it said that it was ready, and that may have been a moment before.
    assert!(in_burn * 100 >= ends.len() * 99, "{in_burn} of {} leaves are in burn", ends.len());
}
