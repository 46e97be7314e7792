//! First samples: processes of about 10 ms processor time, one after the other, half of them executables that nobody has seen
//! before. Of the timer hits that the kernel counted in them, most must come out whole and named.
//!
//! Whole and named: a user stack that reaches its entry through the program's own functions, or through the dynamic linker's
//! while it starts, or the kernel's part of a process that is still being made. Hits between fork and exec count too.
//! `EVERFLAME_LONG=1` runs 500 processes instead of 60.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod live;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use fixtures::{Flavour, build_or_skip};
use live::{Recorded, Seen};
use profiler::engine::Options;
use profiler_common::filter;
use unwind::end::End;

/// At least this share of the hits, in percent, over 500 processes. A short run on a machine that does other things as well
/// must still show most: files of programs that ended before the engine had its turn are gone.
const WANTED: u64 = 95;
const WANTED_OF_A_SHORT_RUN: u64 = 70;

/// The program with another mark and another build id: for every cache a file of its own.
fn never_seen(program: &[u8], number: usize, path: &Path) {
    const MARK: &[u8] = b"UNIQUE-MARK:";
    const NOTE: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let find = |what: &[u8]| program.windows(what.len()).position(|window| window == what).unwrap() + what.len();
    let mut bytes = program.to_vec();
    for at in [find(MARK), find(NOTE)] {
        bytes[at..at + 16].copy_from_slice(format!("{number:016x}").as_bytes());
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(path).unwrap();
    file.write_all(&bytes).unwrap();
}

/// Whether a sample tells what was going on: it is whole, and its innermost user function has a name.
fn is_told(seen: &Seen) -> bool {
    match seen.end {
        End::Complete => seen.user.iter().all(|name| !name.starts_with('[')),
        // The kernel makes the process, or its exec: there is no user part yet.
        End::NoUser | End::NoMemory => seen.kernel_frames > 0,
        _ => false,
    }
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn processes_of_ten_milliseconds_come_out_whole_and_named() {
    let _alone = live::alone();
    let Some(program) = build_or_skip("spawner", Flavour::OmitFp) else { return };
    let bytes = std::fs::read(&program).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = Options { frequency_hz: 999, filter: filter::COUNT_PIDS, ..Options::default() };
    let Some(mut engine) = live::engine(options) else { return };
    let count = if live::long() { 500 } else { 60 };
    let done = AtomicBool::new(false);
    let pids = std::thread::scope(|scope| {
        let spawner = scope.spawn(|| {
            let mut pids = HashMap::new();
            for number in 0..count {
                let is_new = number % 2 == 0;
                let path = folder.path().join(format!("spawned-{number}"));
                if is_new {
                    never_seen(&bytes, number, &path);
                }
                let file = if is_new { &path } else { &program };
                let mut child = Command::new(file).arg("--child").stdout(Stdio::null()).spawn().unwrap();
                pids.insert(child.id(), is_new);
                assert!(child.wait().unwrap().success());
                if is_new {
                    std::fs::remove_file(&path).unwrap();
                }
            }
            done.store(true, Ordering::Release);
            pids
        });
        live::record_while(&mut engine, std::time::Duration::from_secs(600), |_| !done.load(Ordering::Acquire));
        spawner.join().unwrap()
    });
    let hits: HashMap<u32, u64> = engine.hits_by_pid().unwrap().into_iter().collect();
    let recorded = Recorded::new(engine);
    report(&recorded, &pids, &hits);
}

fn report(recorded: &Recorded, pids: &HashMap<u32, bool>, hits: &HashMap<u32, u64>) {
    let mut by_pid: HashMap<u32, Vec<Seen>> = HashMap::new();
    let batch = &recorded.recording.interval.batch;
    for sample in &batch.samples {
        let pid = batch.processes[sample.process.0 as usize].pid;
        if pids.contains_key(&pid) {
            by_pid.entry(pid).or_default().push(recorded.seen(sample));
        }
    }
    let mut lost: BTreeMap<String, u64> = BTreeMap::new();
    let (mut all_hits, mut all_told) = (0, 0);
    for is_new in [false, true] {
        let of_kind: HashSet<u32> = pids.iter().filter(|(_, new)| **new == is_new).map(|(pid, _)| *pid).collect();
        let hit: u64 = of_kind.iter().filter_map(|pid| hits.get(pid)).sum();
        let samples: Vec<&Seen> = of_kind.iter().filter_map(|pid| by_pid.get(pid)).flatten().collect();
        let told = samples.iter().filter(|seen| is_told(seen)).count() as u64;
        for seen in samples.iter().filter(|seen| !is_told(seen)) {
            let last: Vec<&str> = seen.user.iter().rev().take(3).map(String::as_str).collect();
            *lost
                .entry(format!(
                    "{}{} {}",
                    seen.end.name(),
                    if seen.is_from_copy() { " from a copy" } else { "" },
                    last.join(" < ")
                ))
                .or_default() += 1;
        }
        let name = if is_new { "never seen before" } else { "seen before" };
        println!(
            "{name}: {} processes, {hit} hits, {} samples, {told} whole and named ({:.2} %)",
            of_kind.len(),
            samples.len(),
            100.0 * told as f64 / hit.max(1) as f64
        );
        all_hits += hit;
        all_told += told;
    }
    let mut lost: Vec<_> = lost.into_iter().collect();
    lost.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (how, count) in lost.iter().take(25) {
        println!("    {count:>6} {how}");
    }
    let counters = &recorded.recording.counters;
    println!(
        "copies: {} finished, {} missing, {} lost; files: {:?}",
        counters.finished_from_copy,
        counters.copy_missing,
        counters.copies_lost,
        recorded.recording.executable_counters
    );
    assert!(all_hits as usize > pids.len(), "too few hits to say anything: {all_hits}");
    let wanted = if live::long() { WANTED } else { WANTED_OF_A_SHORT_RUN };
    assert!(all_told * 100 >= all_hits * wanted, "{all_told} of {all_hits} hits are whole and named");
}
