//! Intervals: cutting loses and doubles nothing, each interval's ledger balances, and a change of rate keeps samples true.

#![expect(clippy::unwrap_used, reason = "a test")]

mod live;

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

use fixtures::{Flavour, build_or_skip};
use live::Running;
use profiler::engine::{Interval, Options, monotonic_ns};

fn run_for(engine: &mut profiler::engine::Engine, time: Duration) -> Interval {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::thread::sleep(engine.round());
        engine.tick().unwrap();
    }
    engine.cut().unwrap()
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn intervals_join_without_a_gap_whatever_the_rate() {
    let _alone = live::alone();
    let Some(file) = build_or_skip("chain", Flavour::OmitFp) else { return };
    let running = Running::start(&mut Command::new(&file));
    let Some(mut engine) = live::engine(Options { frequency_hz: 499, ..Options::default() }) else { return };
    engine.start().unwrap();
    let began = monotonic_ns();
    let mut intervals = Vec::new();
    for hz in [499, 499, 99, 997] {
        engine.set_frequency(hz).unwrap();
        intervals.push(run_for(&mut engine, Duration::from_secs(1)));
    }
    let recording = engine.finish().unwrap();
    let ended = monotonic_ns();
    intervals.push(recording.interval);
    drop(running);

    let mut seen = HashSet::new();
    let mut samples = 0;
    let mut weight = 0;
    for (number, interval) in intervals.iter().enumerate() {
        let (batch, ledger) = (&interval.batch, &interval.batch.ledger);
        println!("{number}: {:.3} s, {ledger:?}", batch.duration_ns as f64 / 1e9);
        assert_eq!(ledger.due + ledger.surplus, ledger.accounted() + ledger.undelivered, "{ledger:?}");
        assert_eq!(ledger.recorded, batch.samples.len() as u64);
        assert_eq!(ledger.dropped_total(), 0, "{ledger:?}");
        assert_eq!(interval.code.len(), batch.mappings.len());
        samples += batch.samples.len();
        for sample in &batch.samples {
            assert!(seen.insert((sample.cpu, sample.time_ns)), "a sample came twice");
            weight += sample.weight_ns;
        }
        if let Some(next) = intervals.get(number + 1) {
            assert_eq!(batch.monotonic_start_ns + batch.duration_ns, next.batch.monotonic_start_ns);
        }
    }
    assert_eq!(samples as u64, recording.counters.samples);
    // The program keeps one CPU busy; others may be idle.
    let wall = ended - began;
    assert!(weight > wall / 2, "{weight} ns sampled of {wall} ns");
    assert!(weight < wall * u64::from(recording.cpus) * 102 / 100, "{weight} ns sampled of {wall} ns");
}
