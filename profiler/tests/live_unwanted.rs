//! Processes of which nothing is wanted cost no record and no stack copy, and lose nothing when they become wanted.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod live;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fixtures::{Flavour, build_or_skip};
use live::{Recorded, Running};
use profiler::engine::{Engine, Options, Precedence, Target};
use profiler_common::{Counter, filter};

/// The name that the tests ask for.
const NAME: &str = "wanted-name";
/// Long enough for a process to be seen, judged and marked, on a busy machine as well.
const PATIENCE: Duration = Duration::from_secs(20);

/// What has the name, and nothing else.
fn named() -> Target {
    Target::named(vec![NAME.into()])
}

/// Samples of this process only, as far as they are wanted; hits that get beyond the filters are counted by pid.
fn options(pid: u32, target: Target) -> Options {
    let filter = filter::PIDS | filter::COUNT_PIDS;
    Options { frequency_hz: 999, filter, pids: vec![pid], target, ..Options::default() }
}

/// What the programs counted so far.
struct Counts {
    /// Hits of the process that were not filtered.
    hits: u64,
    copies: u64,
    recorded: u64,
    filtered: u64,
}

fn counts(engine: &mut Engine, pid: u32) -> Counts {
    let hits: HashMap<u32, u64> = engine.hits_by_pid().unwrap().into_iter().collect();
    let all = engine.program_counters().unwrap();
    let of = |counter: Counter| all[counter as usize];
    Counts {
        hits: hits.get(&pid).copied().unwrap_or(0),
        copies: of(Counter::Copies),
        recorded: of(Counter::Recorded),
        filtered: of(Counter::Filtered),
    }
}

/// Ticks as long as `wanted` says so, at most [`PATIENCE`].
fn tick_while(engine: &mut Engine, mut wanted: impl FnMut(&mut Engine) -> bool) {
    let started = Instant::now();
    while started.elapsed() < PATIENCE && wanted(engine) {
        std::thread::sleep(engine.round());
        engine.tick().unwrap();
    }
}

/// Starts the engine, and ticks until the process was sampled and then is not any more, for ten rounds.
fn tick_until_marked(engine: &mut Engine, pid: u32) {
    engine.start().unwrap();
    let (mut last, mut quiet) = (0, 0);
    tick_while(engine, |engine| {
        let hits = counts(engine, pid).hits;
        quiet = if hits > 0 && hits == last { quiet + 1 } else { 0 };
        last = hits;
        quiet < 10
    });
    assert_eq!(quiet, 10, "it was never marked: {last} hits");
}

/// Processor time of a process, ns.
fn processor_time_ns(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10_000_000
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn an_unwanted_process_costs_no_record_and_no_copy() {
    let _alone = live::alone();
    let Some(file) = build_or_skip("threads", Flavour::OmitFp) else { return };
    let running = Running::fixture(&file, &["4", "600"]);
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", running.pid())).unwrap().trim().to_owned();
    for target in [named(), Target::default().without(vec![comm])] {
        let Some(engine) = live::engine(options(running.pid(), target)) else { return };
        costs_nothing(engine, &running);
    }
}

/// Runs until the process is marked, then half a second of its time longer.
fn costs_nothing(mut engine: Engine, running: &Running) {
    let _precedence = Precedence::take();
    tick_until_marked(&mut engine, running.pid());
    let before = counts(&mut engine, running.pid());
    let time_before = processor_time_ns(running.pid());
    let enough = |pid| processor_time_ns(pid) - time_before > 500_000_000;
    tick_while(&mut engine, |_| !enough(running.pid()));
    let after = counts(&mut engine, running.pid());
    assert!(enough(running.pid()), "it did not run");
    assert_eq!(after.hits, before.hits, "hits that were not filtered");
    assert_eq!(after.copies, before.copies, "stack copies");
    assert_eq!(after.recorded, before.recorded, "records");
    assert!(after.filtered - before.filtered > 100, "hits left out: {}", after.filtered - before.filtered);
    let recording = Recorded::new(engine).recording;
    let ledger = &recording.interval.batch.ledger;
    assert_eq!(ledger.recorded, 0);
    assert!(ledger.filtered >= after.filtered + after.recorded, "the agent's share is counted as well: {ledger:?}");
    assert_eq!(ledger.due + ledger.surplus, ledger.accounted() + ledger.undelivered, "{ledger:?}");
}

/// A shell that is busy, and does `then` once the flag is there.
fn busy_until(flag: &Path, then: &str) -> Running {
    let script = format!("while [ ! -e \"$1\" ]; do :; done; {then}");
    Running::start_silent(Command::new("sh").args(["-c", &script, "sh"]).arg(flag))
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_process_that_becomes_wanted_loses_no_sample() {
    let _alone = live::alone();
    let Some(chain) = build_or_skip("chain", Flavour::OmitFp) else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(chain, folder.path().join(NAME)).unwrap();
    let rename = format!("printf {NAME} >/proc/$$/comm; while :; do :; done");
    let exec = format!("exec {}", folder.path().join(NAME).display());
    // Exec gives a new name as well, before its own hook runs.
    for (how, then) in [("rename", rename), ("exec", exec)] {
        let flag = folder.path().join(format!("flag-{how}"));
        let running = busy_until(&flag, &then);
        let pid = running.pid();
        let Some(mut engine) = live::engine(options(pid, named())) else { return };
        let _precedence = Precedence::take();
        tick_until_marked(&mut engine, pid);
        let hits_before = counts(&mut engine, pid).hits;
        std::fs::write(&flag, "").unwrap();
        let has_name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim_end() == NAME;
        // The shell sees the flag at once; no sample is read meanwhile.
        let mut time_before = processor_time_ns(pid);
        while !has_name() {
            time_before = processor_time_ns(pid);
        }
        let enough = |pid| processor_time_ns(pid) - time_before > 1_000_000_000;
        tick_while(&mut engine, |_| !enough(pid));
        let removed = engine.program_counters().unwrap()[Counter::RenameHook as usize];
        let hits = counts(&mut engine, pid).hits - hits_before;
        let used = processor_time_ns(pid) - time_before;
        let recorded = Recorded::new(engine);
        let samples = recorded.samples(pid).len() as u64;
        println!("{how}: {samples} samples of {hits} hits, {} ms used", used / 1_000_000);
        assert!(removed >= 1, "{how}: the hook took nothing away");
        // The tick that a mark begins and ends with, and what the machine swallows.
        assert!(samples * 1_001_001 * 100 >= used * 90, "{how}: {samples} samples in {used} ns");
        assert!(samples <= hits + 50, "{how}: {samples} samples of {hits} hits");
    }
}
