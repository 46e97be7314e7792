//! A sink whose back end never answers delays nobody else.

use std::collections::BTreeMap;
use std::time::Duration;

use fixtures::{Flavour, build_or_skip};

use crate::agent::Agent;
use crate::intake::uploads;
use crate::live::{self, Running};
use crate::proxy::{Mode, Proxy};
use crate::recorded;
use crate::servers::{Server, wait_at_most};

/// Intervals in each half of the test.
const INTERVALS: usize = 2;
/// A delivery may be so much later than the latest of the first half: other work on the machine.
const NOISE: Duration = Duration::from_secs(2);

/// The end of each interval → how long after it its last request arrived.
fn delays(server: &Server) -> BTreeMap<String, Duration> {
    let mut delays = BTreeMap::new();
    for upload in uploads(server.folder()) {
        let end = upload.event()["end"].as_str().unwrap().to_owned();
        let profile = profiler::profile::pprof::decode(upload.form().attachment).unwrap();
        let ended = Duration::from_nanos((profile.time_nanos + profile.duration_nanos) as u64);
        let arrived = upload.arrived.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let delay = arrived.saturating_sub(ended);
        let latest = delays.entry(end).or_default();
        *latest = delay.max(*latest);
    }
    delays
}

fn wait_for_intervals(server: &Server, wanted: usize) -> Vec<Duration> {
    let patience = Duration::from_secs(15) * (INTERVALS as u32 + 2);
    wait_at_most(patience, "intervals to arrive", || {
        let delays = delays(server);
        (delays.len() >= wanted).then(|| delays.into_values().collect())
    })
}

#[test]
#[ignore = "needs the servers of testservers/ and root: cargo xtask test --real"]
fn a_black_hole_delays_neither_the_other_sinks_nor_sampling() {
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
    hole.set(Mode::BlackHole);
    let at_the_hole = delays(third).len();
    let all = wait_for_intervals(first, before.len() + INTERVALS + 1);
    let others = wait_for_intervals(second, before.len() + INTERVALS + 1);
    let metrics = agent.metrics();
    let latest = |delays: &[Duration]| delays.iter().copied().max().unwrap();
    println!(
        "latest delivery: {:?} before, {:?} and {:?} with the black hole",
        latest(&before),
        latest(&all),
        latest(&others)
    );
    assert!(latest(&all) <= latest(&before) + NOISE);
    assert!(latest(&others) <= latest(&before) + NOISE);
    assert!(delays(third).len() <= at_the_hole + 1, "the hole swallows");

    let of_hole =
        |name: &str| metrics.iter().find(|(key, _)| key.starts_with(name) && key.contains(&hole.address())).unwrap().1;
    assert!(*of_hole("everflame_spool_messages{") >= 1.0);
    let timeouts =
        format!("everflame_sink_retries_total{{sink=\"datadog+http://{}\",answer=\"timeout\"}}", hole.address());
    assert!(metrics[&timeouts] >= 1.0);
    for (name, value) in &metrics {
        if name.starts_with("everflame_timer_hits_dropped") || name.starts_with("everflame_intervals_dropped") {
            assert_eq!(*value, 0.0, "{name}");
        }
    }
    // Nothing of it is lost either.
    hole.set(Mode::Pass);
    let wanted = all.len();
    wait_at_most(Duration::from_secs(120), "the third to catch up", || (delays(third).len() >= wanted).then_some(()));
    assert!(agent.terminate().success());
}
