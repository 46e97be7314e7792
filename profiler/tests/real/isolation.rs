//! A sink whose back end never answers holds up nobody else.
//!
//! Nothing here is measured in time but what is printed: on a busy machine a delivery is late by as much as the machine is busy.

use std::collections::BTreeMap;
use std::time::Duration;

use fixtures::{Flavour, build_or_skip};

use crate::agent::Agent;
use crate::intake::uploads;
use crate::intervals::{Intervals, at_datadog};
use crate::live::{self, Running};
use crate::proxy::{Mode, Proxy};
use crate::recorded;
use crate::servers::{PATIENCE, Server, wait_at_most, wait_for};

/// Intervals in each half of the test.
const INTERVALS: usize = 2;
/// The agent's.
const INTERVAL: Duration = Duration::from_secs(10);

/// The latest delivery of all: how long after its interval's end.
fn latest_delivery(server: &Server) -> Duration {
    let delays = uploads(server.folder()).into_iter().map(|upload| {
        let profile = profiler::profile::pprof::decode(upload.form().attachment).unwrap();
        let ended = Duration::from_nanos((profile.time_nanos + profile.duration_nanos) as u64);
        upload.arrived.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().saturating_sub(ended)
    });
    delays.max().unwrap_or_default()
}

fn wait_for_intervals(server: &Server, wanted: usize) -> Intervals {
    wait_at_most(INTERVAL * wanted as u32 + PATIENCE, "intervals to arrive", || {
        let intervals = at_datadog(server).intervals;
        (intervals.len() >= wanted).then_some(intervals)
    })
}

/// What a sink lost, by the counter's name.
fn losses(metrics: &BTreeMap<String, f64>) -> Vec<(&String, &f64)> {
    const LOSSES: [&str; 7] =
        ["refused", "inbox_full", "not_encoded", "memory_full", "spool_full", "gave_up", "damaged"];
    let is_loss = |key: &str| {
        key.starts_with("everflame_sink_samples_total{")
            && LOSSES.iter().any(|fate| key.contains(&format!("fate=\"{fate}\"")))
    };
    metrics.iter().filter(|(key, value)| is_loss(key) && **value > 0.0).collect()
}

#[test]
#[ignore = "needs the servers of testservers/ and root: cargo xtask test --real"]
fn a_black_hole_holds_up_neither_the_other_sinks_nor_sampling() {
    let _alone = live::alone();
    let servers: Vec<Server> = (0..3).map_while(|_| Server::start("datadog")).collect();
    let [first, second, third] = &servers[..] else { return };
    let Some(chain) = build_or_skip("chain", Flavour::OmitFp) else { return };
    let _load = Running::fixture(&chain, &[]);
    let folder = tempfile::tempdir().unwrap();
    let hole = Proxy::new(&third.address, Mode::Pass);
    let to =
        format!("datadog+http://{},datadog+http://{},datadog+http://{}", first.address, second.address, hole.address());
    let spool = recorded::shown(&folder.path().join("spool"));
    let agent = Agent::start(&folder.path().join("log"), &["--to", &to, "--spool", &spool]);

    let before = wait_for_intervals(first, INTERVALS);
    let latest_before = latest_delivery(first);
    wait_for_intervals(third, INTERVALS);
    hole.set(Mode::BlackHole);
    let at_the_hole = at_datadog(third).intervals.len();
    // From here on the hole answers nothing: whoever waited for it would wait for ever.
    let wanted = before.len() + INTERVALS + 1;
    wait_for_intervals(first, wanted);
    wait_for_intervals(second, wanted);
    assert!(at_datadog(third).intervals.len() <= at_the_hole + 1, "the hole swallows");
    println!(
        "latest delivery after the interval's end: {latest_before:?} before, {:?} and {:?} with the black hole",
        latest_delivery(first),
        latest_delivery(second)
    );
    let sink = format!("sink=\"datadog+http://{}\"", hole.address());
    let metrics = wait_for("the hole to be counted as one", || {
        let metrics = agent.metrics();
        let of_hole = |name: &str, words: &[&str]| Agent::sum(&metrics, name, &[&[sink.as_str()], words].concat());
        let (waiting, timeouts) = (
            of_hole("everflame_spool_messages", &[]),
            of_hole("everflame_sink_retries_total", &["answer=\"timeout\""]),
        );
        (waiting >= 1.0 && timeouts >= 1.0).then_some(metrics)
    });
    assert!(losses(&metrics).is_empty(), "{:?}", losses(&metrics));
    assert_eq!(Agent::sum(&metrics, "everflame_timer_hits_dropped_total", &[]), 0.0, "sampling goes on");

    // Nothing of it is lost either: in the end each of the three has every interval, and all of each.
    hole.set(Mode::Pass);
    assert!(agent.terminate().success());
    let [first, second, third] = [first, second, third].map(|server| at_datadog(server).intervals);
    assert!(first.len() >= wanted);
    assert_eq!(first, second);
    assert_eq!(first, third);
}
