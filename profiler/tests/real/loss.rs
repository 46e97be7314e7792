//! What is lost when a back end is away and the agent dies meanwhile: at most the interval that was in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use fixtures::{Flavour, build_or_skip};

use crate::agent::{Agent, files};
use crate::intervals::{Intervals, at_datadog, at_pyroscope, in_files, spans};
use crate::live::{self, Running};
use crate::proxy::{Mode, Proxy};
use crate::recorded;
use crate::servers::{PATIENCE, Server, wait_at_most, wait_for};

/// The agent's.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often an agent is killed.
const KILLS: usize = 3;
/// Two intervals with less between them join; a lost one would be ten seconds. Each start is read from the wall clock anew, on a
/// busy machine some time after the cut.
const JOIN: u64 = 5_000_000_000;
/// Part of the labels of all series of a sink, and their beginning for the folder's.
const DATADOG: &str = "sink=\"datadog+";
const PYROSCOPE: &str = "sink=\"pyroscope+";
const FOLDER: &str = "sink=\"file:";

/// Whether everything that was cut is in the folder, and on disk for both servers, of which none answers; so that what a kill
/// costs does not depend on how busy the machine is.
fn all_is_stored(metrics: &BTreeMap<String, f64>) -> bool {
    let of = |name: &str, sink: &str, fate: &str| Agent::sum(metrics, name, &[sink, fate]);
    let messages = |sink: &str, fate: &str| of("everflame_sink_messages_total", sink, fate);
    let samples = |sink: &str, fate: &str| of("everflame_sink_samples_total", sink, fate);
    let [encoded, found, delivered] = ["fate=\"encoded\"", "fate=\"found\"", "fate=\"delivered\""];
    let all = samples(FOLDER, encoded);
    let spooled = |sink: &str| {
        let waiting = of("everflame_spool_messages", sink, "");
        waiting == messages(sink, encoded) + messages(sink, found) && samples(sink, encoded) == all
    };
    // An earlier life's file may have been found in the folder's own spool.
    let in_folder = samples(FOLDER, delivered) == all + samples(FOLDER, found);
    all > 0.0 && in_folder && spooled(DATADOG) && spooled(PYROSCOPE)
}

/// Intervals that were cut and not dropped.
fn cut(metrics: &BTreeMap<String, f64>) -> usize {
    let of = |name: &str| Agent::sum(metrics, name, &[]);
    (of("everflame_intervals_total") - of("everflame_intervals_dropped_total")) as usize
}

fn since_epoch(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
}

#[test]
#[ignore = "needs the servers of testservers/ and root: cargo xtask test --real"]
fn a_dead_back_end_and_a_killed_agent_cost_at_most_the_interval_in_memory() {
    let _alone = live::alone();
    let (Some(datadog), Some(pyroscope)) = (Server::start("datadog"), Server::start("pyroscope")) else { return };
    let Some(chain) = build_or_skip("chain", Flavour::OmitFp) else { return };
    let _load = Running::fixture(&chain, &[]);
    let folder = tempfile::tempdir().unwrap();
    let proxies = [&datadog, &pyroscope].map(|server| Proxy::new(&server.address, Mode::Refuse));
    let profiles = folder.path().join("profiles");
    let to = format!(
        "datadog+http://{},pyroscope+http://{},file://{}",
        proxies[0].address(),
        proxies[1].address(),
        recorded::shown(&profiles)
    );
    let spool = recorded::shown(&folder.path().join("spool"));
    let words = ["--to", &to, "--spool", &spool];
    let log = folder.path().join("log");
    // Each of the three lives sees so many intervals with the back ends away: 40 s in all, or ten minutes.
    let each = if live::long() { 20 } else { 1 };

    // Lives one and two end by kill -9, life three by SIGTERM; nobody answers in any of them.
    let mut lives: Vec<(u64, u64)> = Vec::new();
    for life in 0..3 {
        let began = since_epoch(SystemTime::now());
        let before = in_files(&profiles).len();
        let agent = Agent::start(&log, &words);
        wait_at_most(INTERVAL * each + PATIENCE, "the intervals of a life to be stored", || {
            let metrics = agent.metrics();
            let written = files(&profiles).len() - before;
            // No interval but the one that is being sampled is in memory.
            (written >= each as usize && cut(&metrics) <= written && all_is_stored(&metrics)).then_some(())
        });
        let ended = since_epoch(SystemTime::now());
        if life < 2 {
            agent.kill();
        } else {
            assert!(agent.terminate().success());
        }
        lives.push((began, ended));
    }
    assert_eq!(at_datadog(&datadog).intervals, Intervals::new(), "nobody answered");

    // They come back. The fourth life is killed in the middle of what it replays, the fifth ends well.
    let known = in_files(&profiles);
    proxies.iter().for_each(|proxy| proxy.set(Mode::Pass));
    let fourth_began = since_epoch(SystemTime::now());
    let agent = Agent::start(&log, &words);
    let began = Instant::now();
    wait_for("the first of what waits", || (crate::intake::count(datadog.folder()) > 0).then_some(()));
    let retries = |agent: &Agent, sink: &str| Agent::sum(&agent.metrics(), "everflame_sink_retries_total", &[sink]);
    let retries_before = [DATADOG, PYROSCOPE].map(|sink| retries(&agent, sink));
    agent.kill();
    let fourth = fourth_began..since_epoch(SystemTime::now());
    let agent = Agent::start(&log, &words);
    wait_at_most(INTERVAL * each * 3 + PATIENCE, "all that waits", || {
        let waiting = Agent::sum(&agent.metrics(), "everflame_spool_messages", &[]);
        let all = |intervals: &Intervals| known.keys().all(|start| intervals.contains_key(start));
        (waiting == 0.0 && all(&at_datadog(&datadog).intervals) && all(&at_pyroscope(&pyroscope).intervals))
            .then_some(())
    });
    let replay = began.elapsed();
    let retries_after = [DATADOG, PYROSCOPE].map(|sink| retries(&agent, sink));
    assert!(agent.terminate().success());

    let in_file = in_files(&profiles);
    let seen = [("Datadog", at_datadog(&datadog)), ("Pyroscope", at_pyroscope(&pyroscope))];
    for ((name, seen), retries) in seen.into_iter().zip(std::iter::zip(retries_before, retries_after)) {
        // The kill may have come between an interval's file and its place in this sink's spool: it was in memory.
        let in_memory =
            in_file.keys().filter(|start| fourth.contains(start) && !seen.intervals.contains_key(start)).count();
        assert!(in_memory <= 1, "{name}: {in_memory} intervals are missing after one kill");
        let kept = in_file.iter().filter(|(start, _)| !fourth.contains(start) || seen.intervals.contains_key(start));
        for (start, samples) in kept {
            assert_eq!(seen.intervals.get(start), Some(samples), "{name}: the interval at {start}");
        }
        let unknown: BTreeSet<&u64> = seen.intervals.keys().filter(|start| !in_file.contains_key(start)).collect();
        assert!(
            unknown.len() <= KILLS,
            "{name}: an interval that a kill kept from its file may have been spooled: {unknown:?}"
        );
        let again: usize = seen.again.values().sum();
        // A server that is slow may have taken what was then sent again.
        let retries = (retries.0 + retries.1) as usize;
        println!(
            "{name}: {} intervals, {again} requests twice ({KILLS} kills, {retries} retries), replay {replay:?}",
            seen.intervals.len()
        );
        assert!(again <= KILLS + retries, "{name}: at most one for each kill: {:?}", seen.again);
    }
    // What a kill cost is the interval that was being sampled, seen above; after SIGTERM nothing is missing.
    let ends = spans(&profiles);
    for (life, (began, ended)) in lives.iter().enumerate() {
        let of_life: Vec<_> = ends.iter().filter(|(start, _)| (began..ended).contains(&start)).collect();
        let last = of_life.iter().map(|(_, end)| *end).max().unwrap();
        let missing = Duration::from_nanos(ended.saturating_sub(last));
        println!("life {life}: {} intervals, {missing:?} at its end are not in one", of_life.len());
        assert!(life < 2 || missing.is_zero(), "{missing:?} are missing after SIGTERM");
        for pair in of_life.windows(2) {
            assert!(pair[0].1.abs_diff(pair[1].0) < JOIN, "intervals of a life join: {pair:?}");
        }
    }
}
