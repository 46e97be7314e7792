//! `everflame agent` as a process: what it logs, and what a processor limit that is far too small does to profiles.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

#[path = "real/agent.rs"]
#[expect(dead_code, reason = "made for the tests against real servers, which use all of it")]
mod agent;
mod live;
#[path = "real/samples.rs"]
#[expect(dead_code, reason = "made for the tests against real servers, which use all of it")]
mod samples;
#[path = "real/servers.rs"]
#[expect(dead_code, reason = "made for the tests against real servers, which use all of it")]
mod servers;

use std::collections::BTreeMap;
use std::path::Path;

use agent::{Agent, files};
use fixtures::{Flavour, build_or_skip};
use live::Running;
use profiler::output;
use profiler::profile::pprof::comment_pairs;
use serde_json::Value;
use servers::wait_for;

/// What is asked for.
const HZ: u64 = 997;
/// Intervals after the one in which the rate was lowered.
const LATER: usize = 3;
/// Seconds of the program: at one hit a second, which is the least, so many samples say more than chance does.
const ENOUGH: f64 = 30.0;

/// What a file says of itself: its period, and its hits by their fate.
struct Facts {
    period_ns: u64,
    ledger: BTreeMap<String, u64>,
}

impl Facts {
    fn of(file: &Path) -> Facts {
        let profile = output::read(file).unwrap();
        let texts = profile.comment.iter().map(|at| profile.string_table[usize::try_from(*at).unwrap()].clone());
        let comments: Vec<String> = texts.collect();
        let pairs = |name: &str| -> BTreeMap<String, u64> {
            let pairs = comment_pairs(&comments, name).unwrap_or_default();
            pairs.into_iter().map(|(key, value)| (key.to_owned(), value.parse().unwrap())).collect()
        };
        let sampling = pairs("sampling");
        assert_eq!((sampling["hz"], sampling["period_ns"]), (HZ, u64::try_from(profile.period).unwrap()));
        Facts { period_ns: sampling["period_ns"], ledger: pairs("ledger") }
    }
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_processor_limit_that_is_too_small_makes_periods_longer_and_leaves_sums_true() {
    let _alone = live::alone();
    if live::engine(live::options(&[])).is_none() {
        return;
    }
    let Some(chain) = build_or_skip("chain", Flavour::OmitFp) else { return };
    let load = Running::fixture(&chain, &[]);
    let folder = tempfile::tempdir().unwrap();
    let profiles = folder.path().join("profiles");
    let to = format!("file://{}", profiles.display());
    let used = || live::ticks(load.pid()) as f64 / 100.0;
    let before = used();
    let hz = HZ.to_string();
    let agent = Agent::start(&folder.path().join("log"), &["--to", &to, "-F", &hz, "--cpu-limit", "0.2"]);
    let ready = used();
    // Intervals before that; the next one ends with the lower rate.
    let before_it = wait_for("the governor to lower the rate", || {
        let metrics = agent.metrics();
        let lowered = metrics["everflame_governor_actions_total{action=\"rate_for_cpu\"}"] > 0.0;
        lowered.then_some(metrics["everflame_intervals_total"] as usize)
    });
    wait_for("later intervals", || {
        (files(&profiles).len() > before_it + LATER && used() - ready >= ENOUGH).then_some(())
    });
    let metrics = agent.metrics();
    let [in_force, wanted] =
        ["everflame_frequency_hertz", "everflame_frequency_wanted_hertz"].map(|name| metrics[name]);
    assert!(in_force < wanted && wanted == HZ as f64, "{in_force} Hz of {wanted}");
    let enough = used();
    assert!(agent.terminate().success());
    let after = used();

    let files = files(&profiles);
    for (number, file) in files.iter().enumerate() {
        let Facts { period_ns, ledger } = Facts::of(file);
        println!("{number}: {:.3} ms, {ledger:?}", period_ns as f64 / 1e6);
        let fates = ledger.iter().filter(|(fate, _)| !["due", "surplus"].contains(&fate.as_str()));
        assert_eq!(ledger["due"] + ledger["surplus"], fates.map(|(_, hits)| hits).sum::<u64>(), "{ledger:?}");
        assert!(number < before_it || period_ns > 1_000_000_000 / HZ, "{number}: as often as ever");
    }
    // A hit stands for the period of its time, so that the program has in all what the kernel accounted: but for chance, and one in
    // a hundred.
    let (mut sampled, mut squares) = (0.0, 0.0);
    for sample in files.iter().flat_map(|file| samples::of_file(file)) {
        if sample.label("pid") == load.pid().to_string() {
            let seconds = sample.cpu_ns as f64 / 1e9;
            sampled += seconds;
            squares += seconds * seconds / sample.count as f64;
        }
    }
    let (least, most) = (enough - ready, after - before);
    let allowed = most / 100.0 + 3.0 * f64::sqrt(squares);
    println!("{sampled:.2} s sampled, of {least:.2} to {most:.2} s, allowed {allowed:.2} s");
    assert!(sampled >= least - allowed && sampled <= most + allowed);
    assert!(least > allowed, "too few samples to say anything");
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn with_log_format_json_each_line_is_an_object_with_level_and_message() {
    let _alone = live::alone();
    if live::engine(live::options(&[])).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (profiles, log) = (folder.path().join("profiles"), folder.path().join("log"));
    let to = format!("file://{}", profiles.display());
    let agent = Agent::start(&log, &["--to", &to, "--log-format", "json", "--log-level", "debug"]);
    wait_for("an interval", || (!files(&profiles).is_empty()).then_some(()));
    assert!(agent.terminate().success());
    let log = std::fs::read_to_string(log).unwrap();
    let mut messages = Vec::new();
    for line in log.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let level = object["level"].as_str().unwrap_or_else(|| panic!("no level: {line}"));
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&level), "{line}");
        let message = object["fields"]["message"].as_str().unwrap_or_else(|| panic!("no message: {line}"));
        messages.push(message.to_owned());
    }
    for expected in [
        "profiles go here",
        "metrics and health are served",
        "sampling starts",
        "delivering what is left",
        "the sink has ended",
    ] {
        assert_eq!(messages.iter().filter(|message| *message == expected).count(), 1, "{expected}: {log}");
    }
}
