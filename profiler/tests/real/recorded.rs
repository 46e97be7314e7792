//! A batch of this machine, and what `go tool pprof` reads out of a profile.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fixtures::{Flavour, build_or_skip};
use profiler::engine::Options;
use profiler::export::settings::SinkSettings;
use profiler::export::{Encode, Message, Outcome, address, transport};
use profiler::profile::pprof::ProfileInfo;
use profiler::profile::{Batch, Identity, IdentityIndex};

use crate::live::{self, Recorded, Running};

/// 64 hex digits.
pub(crate) const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Two seconds of two programs and the kernel below them; one of the two belongs to a container. `None` where nothing can be
/// recorded.
pub(crate) fn batch() -> Option<Batch> {
    let (chain, recursion) = (build_or_skip("chain", Flavour::OmitFp)?, build_or_skip("recursion", Flavour::OmitFp)?);
    let owned = Running::fixture(&chain, &[]);
    let other = Running::fixture(&recursion, &["60"]);
    // Not the whole machine: naming whatever a compiler runs on a busy one takes minutes.
    let options = Options { frequency_hz: 499, ..live::options(&[owned.pid(), other.pid()]) };
    let mut engine = live::engine(options)?;
    live::record_while(&mut engine, Duration::from_secs(2), |_| true);
    let pid = owned.pid();
    // Rows are built and names read at low priority: not against two programs that keep both CPUs busy.
    drop((owned, other));
    let mut batch = Recorded::new(engine).recording.interval.batch;
    batch.identities = vec![owner()];
    let process = batch.processes.iter_mut().find(|process| process.pid == pid).unwrap();
    process.identity = Some(IdentityIndex(0));
    Some(batch)
}

/// A container of a deployment's pod.
fn owner() -> Identity {
    let text = Arc::<str>::from;
    Identity {
        container_id: text(CONTAINER),
        pod_uid: text("5ee0b67a-3b0c-4f0b-9b5c-1f2b3c4d5e6f"),
        pod: text("web-7d9c-x2x"),
        namespace: text("shop"),
        container: text("server"),
        node: text("node-1"),
        workload_kind: text("Deployment"),
        workload: text("web"),
        service: text("web"),
        environment: text("prod"),
        version: text("1.2"),
        ..Identity::default()
    }
}

pub(crate) fn info() -> ProfileInfo {
    ProfileInfo { frequency_hz: 499, cpus: 2, kernel_release: "6.0".to_owned() }
}

/// Encodes a batch and sends all messages to `to`, each of which must be taken.
pub(crate) fn send(to: &str, encoder: &mut dyn Encode, batch: &Batch) -> Vec<Message> {
    let messages = encoder.encode(batch).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let settings = SinkSettings::new(address::parse(to).unwrap());
        let address::Address::Server(server) = settings.address.clone() else { panic!("{to} is no server") };
        let wire = transport::ask(&settings, &server).await.unwrap();
        let transport = transport::open(&settings, Some(wire)).unwrap();
        for message in &messages {
            assert_eq!(transport.send(message).await.outcome, Outcome::Delivered);
        }
    });
    messages
}

/// `VALUES | FRAMES`, leaf first → how often: what `go tool pprof -raw` makes of a profile.
pub(crate) type Raw = BTreeMap<String, u64>;

/// Runs `go tool pprof -raw`.
pub(crate) fn go_pprof_raw(profile: &[u8]) -> Raw {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile.pb.gz");
    std::fs::write(&file, profile).unwrap();
    let output = Command::new("go").args(["tool", "pprof", "-symbolize=none", "-raw"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read_raw(&String::from_utf8(output.stdout).unwrap())
}

/// `     1: 0x4011f6 M=1 burn chain.c:6:0 s=5`, inlined callers on lines of their own.
fn read_raw(text: &str) -> Raw {
    let section = |name: &'static str| text.lines().skip_while(move |line| *line != name).skip(1);
    let mut frames: BTreeMap<u64, String> = BTreeMap::new();
    let mut last = 0;
    for line in section("Locations").take_while(|line| *line != "Mappings") {
        let described = match line.trim_start().split_once(": 0x") {
            Some((id, rest)) if id.bytes().all(|byte| byte.is_ascii_digit()) => {
                last = id.parse().unwrap();
                rest.split_once(' ').map_or("", |(_, rest)| rest.trim_start())
            }
            _ => line.trim_start(),
        };
        let described = match described.strip_prefix("M=") {
            Some(rest) => rest.split_once(' ').map_or("", |(_, rest)| rest),
            None => described,
        };
        // `NAME FILE:LINE:COLUMN s=START`; names may hold spaces, ours of files do not.
        let name =
            described.rsplit_once(" s=").and_then(|(rest, _)| rest.rsplit_once(' ')).map_or("", |(name, _)| name);
        frames.entry(last).or_default().push_str(&format!("({name})"));
    }
    let mut raw = Raw::new();
    for line in section("Samples:").skip(1).take_while(|line| *line != "Locations") {
        let Some((values, ids)) = line.split_once(": ") else { continue };
        if !values.trim_start().starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        let stack: String = ids.split_whitespace().map(|id| frames[&id.parse().unwrap()].as_str()).collect();
        let values = values.split_whitespace().collect::<Vec<_>>().join(" ");
        *raw.entry(format!("{values} | {stack}")).or_default() += 1;
    }
    raw
}

/// The same of a profile in its own bytes, read by the project's own types.
pub(crate) fn own_raw(profile: &pprof_proto::Profile) -> Raw {
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let mut raw = Raw::new();
    for sample in &profile.sample {
        let mut stack = String::new();
        for id in &sample.location_id {
            let location = &profile.location[*id as usize - 1];
            for line in &location.line {
                stack += &format!("({})", text(profile.function[line.function_id as usize - 1].name));
            }
            if location.line.is_empty() {
                stack += "()";
            }
        }
        let values = sample.value.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
        *raw.entry(format!("{values} | {stack}")).or_default() += 1;
    }
    raw
}

/// The whole of a file, gunzipped if need be, is what `go tool pprof` is to see.
pub(crate) fn assert_go_reads(profile: &[u8]) -> pprof_proto::Profile {
    let own = profiler::profile::pprof::decode(profile).unwrap();
    let (expected, seen) = (own_raw(&own), go_pprof_raw(profile));
    assert_eq!(seen.values().sum::<u64>(), own.sample.len() as u64);
    assert_eq!(seen, expected);
    own
}

/// Where a fixture's own functions must be, leaf first.
pub(crate) fn is_chain(stack: &str) -> bool {
    stack.contains("(burn)(level_20)(level_19)") && stack.contains("(level_2)(level_1)(main)")
}

/// A path as text.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}
