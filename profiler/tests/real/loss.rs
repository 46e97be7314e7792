//! What is lost when a back end is away and the agent dies meanwhile: at most the interval that was in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use fixtures::{Flavour, build_or_skip};
use profiler::profile::pprof::decode;

use crate::agent::{Agent, files};
use crate::intake::{pushes, uploads};
use crate::live::{self, Running};
use crate::proxy::{Mode, Proxy};
use crate::recorded;
use crate::servers::{Server, wait_at_most, wait_for};

/// One interval, and the time that its names, its encoding and its way to disk may take.
const INTERVAL: Duration = Duration::from_secs(10);
const WORK: Duration = Duration::from_secs(6);
/// Between the cut of an interval and the reading of the wall clock, ns: 0.9 ms were seen on a busy machine.
const CLOCK_READING: u64 = 20_000_000;

/// Start of an interval, ns since the epoch → samples in it.
type Intervals = BTreeMap<u64, u64>;

/// A folder of files as intervals: the same agent's own account of what there was.
fn in_files(folder: &Path) -> Intervals {
    let read = |path: &std::path::PathBuf| {
        let profile = decode(&std::fs::read(path).unwrap()).unwrap();
        let samples = profile.sample.iter().map(|sample| sample.value[0] as u64).sum();
        (profile.time_nanos as u64, samples)
    };
    files(folder).iter().map(read).collect()
}

/// What arrived, by interval, each request once; and the ids that came more than once, with how often more.
struct Arrived {
    intervals: Intervals,
    again: BTreeMap<String, usize>,
}

fn arrived(requests: impl Iterator<Item = (String, Vec<u8>)>) -> Arrived {
    let mut arrived = Arrived { intervals: Intervals::new(), again: BTreeMap::new() };
    let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (id, body) in requests {
        if let Some(before) = bodies.get(&id) {
            assert!(*before == body, "the same id, the same profile: {id}");
            *arrived.again.entry(id).or_default() += 1;
            continue;
        }
        let profile = decode(&body).unwrap();
        let samples: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
        *arrived.intervals.entry(profile.time_nanos as u64).or_default() += samples as u64;
        bodies.insert(id, body);
    }
    arrived
}

fn at_datadog(server: &Server) -> Arrived {
    arrived(uploads(server.folder()).into_iter().map(|upload| {
        // The boundary is the request's id.
        let id = upload.header("Content-Type").unwrap().to_owned();
        (id, upload.form().attachment.to_vec())
    }))
}

fn at_pyroscope(server: &Server) -> Arrived {
    arrived(pushes(server.folder()).into_iter().map(|push| (push.id, push.profile)))
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
        let enough = INTERVAL * (each + 1) + WORK;
        wait_at_most(enough + INTERVAL, "the intervals of a life", || {
            // Both spools hold what the files hold.
            let stored = |metrics: &BTreeMap<String, f64>| {
                let of_sinks = |name: &str| {
                    metrics.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, value)| *value).collect::<Vec<_>>()
                };
                of_sinks("everflame_spool_messages{").iter().filter(|waiting| **waiting > 0.0).count() == 2
            };
            (files(&profiles).len() >= before + each as usize && stored(&agent.metrics())).then_some(())
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
    let agent = Agent::start(&log, &words);
    let began = Instant::now();
    wait_for("the first of what waits", || (crate::intake::count(datadog.folder()) > 0).then_some(()));
    agent.kill();
    let agent = Agent::start(&log, &words);
    wait_at_most(Duration::from_secs(180), "all that waits", || {
        let waiting = agent.metrics().into_iter().filter(|(name, _)| name.starts_with("everflame_spool_messages{"));
        let all = |intervals: &Intervals| known.keys().all(|start| intervals.contains_key(start));
        (waiting.map(|(_, value)| value).sum::<f64>() == 0.0
            && all(&at_datadog(&datadog).intervals)
            && all(&at_pyroscope(&pyroscope).intervals))
        .then_some(())
    });
    let replay = began.elapsed();
    assert!(agent.terminate().success());

    let known = in_files(&profiles);
    for (name, seen) in [("Datadog", at_datadog(&datadog)), ("Pyroscope", at_pyroscope(&pyroscope))] {
        for (start, samples) in &known {
            assert_eq!(seen.intervals.get(start), Some(samples), "{name}: the interval at {start}");
        }
        let unknown: BTreeSet<&u64> = seen.intervals.keys().filter(|start| !known.contains_key(start)).collect();
        assert!(
            unknown.len() <= 3,
            "{name}: an interval that a kill kept from its file may have been spooled: {unknown:?}"
        );
        let again: usize = seen.again.values().sum();
        println!("{name}: {} intervals, {} requests twice, replay {replay:?}", seen.intervals.len(), again);
        assert!(again <= 3, "{name}: at most one for each kill: {:?}", seen.again);
    }
    // What is missing at the end of a killed life is less than an interval and its work; after SIGTERM nothing is.
    let ends = spans(&profiles);
    for (life, (began, ended)) in lives.iter().enumerate() {
        let of_life: Vec<_> = ends.iter().filter(|(start, _)| (began..ended).contains(&start)).collect();
        let last = of_life.iter().map(|(_, end)| *end).max().unwrap();
        let missing = Duration::from_nanos(ended.saturating_sub(last));
        println!("life {life}: {} intervals, {missing:?} at its end are not in one", of_life.len());
        let allowed = if life < 2 { INTERVAL + WORK } else { Duration::from_millis(100) };
        assert!(missing <= allowed, "life {life}: {missing:?}");
        for pair in of_life.windows(2) {
            // Each start is read from the wall clock anew, which is not read at the very moment of the cut.
            assert!(pair[0].1.abs_diff(pair[1].0) < CLOCK_READING, "intervals of a life join: {pair:?}");
        }
    }
}

/// Start and end of each file's interval, ns since the epoch.
fn spans(folder: &Path) -> Vec<(u64, u64)> {
    let read = |path: &std::path::PathBuf| {
        let profile = decode(&std::fs::read(path).unwrap()).unwrap();
        (profile.time_nanos as u64, (profile.time_nanos + profile.duration_nanos) as u64)
    };
    files(folder).iter().map(read).collect()
}
