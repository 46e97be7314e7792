//! What Pyroscope is sent: series labels, profiles without sample labels; in halves; from hostile texts.
#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod owned_batch;
#[path = "../../profiles/tests/pprof_batch/mod.rs"]
mod pprof_batch;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use owned_batch::{CONTAINER, owned_by, web};
use pprof_batch::info;
use pprof_proto::Profile;
use pprof_proto::push::PushRequest;
use profiler::export::pyroscope::{MAX_LABELS, MAX_VALUE_BYTES, PyroscopeConfig, PyroscopeEncoder};
use profiler::export::text::TextCounters;
use profiler::export::{Encode, Message};
use profiler::profile::Identity;
use profiler::profile::pprof::decode;
use prost::Message as _;

fn encoder(sample_labels: bool) -> (PyroscopeEncoder, Arc<TextCounters>) {
    let counters = Arc::new(TextCounters::default());
    let labels = [("region", "north"), ("deployment_environment_name", "staging"), ("__tenant__", "x")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let config = PyroscopeConfig { host: "host-1".to_owned(), labels, sample_labels, info: info() };
    (PyroscopeEncoder::new(config, counters.clone()), counters)
}

fn labels(message: &Message) -> Vec<(String, String)> {
    let request = PushRequest::decode(&*message.body).unwrap();
    assert_eq!((request.series.len(), request.series[0].samples.len()), (1, 1));
    let labels: Vec<_> = request.series[0].labels.iter().map(|pair| (pair.name.clone(), pair.value.clone())).collect();
    for (name, _) in &labels {
        assert!(!name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
    }
    assert!(labels.is_sorted_by(|first, second| first.0 < second.0), "each name once, in order: {labels:?}");
    labels
}

fn profile(message: &Message) -> Profile {
    decode(&PushRequest::decode(&*message.body).unwrap().series[0].samples[0].raw_profile).unwrap()
}

fn values(profile: &Profile) -> Vec<Vec<i64>> {
    profile.sample.iter().map(|sample| sample.value.clone()).collect()
}

#[test]
fn each_series_is_a_request_with_its_labels() {
    let messages = encoder(false).0.encode(&owned_by(web())).unwrap();
    let [server, kernel] = &messages[..] else { panic!("{} messages", messages.len()) };
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let expected = [
        ("__name__", "process_cpu"),
        ("app_kubernetes_io_name", "web"),
        ("container", "server"),
        ("deployment", "web"),
        ("deployment_environment_name", "prod"),
        ("namespace", "shop"),
        ("node", "node-1"),
        ("pod", "web-7d9c-x2x"),
        ("region", "north"),
        ("service_name", "web"),
        ("service_version", "1.2"),
    ];
    assert_eq!(labels(server), owned(&expected));
    let expected = [
        ("__name__", "process_cpu"),
        ("deployment_environment_name", "staging"),
        ("node", "host-1"),
        ("region", "north"),
        ("service_name", "kworker/0:1"),
    ];
    assert_eq!(labels(kernel), owned(&expected));
    assert_eq!(server.headers, owned(&[("content-type", "application/proto"), ("connect-protocol-version", "1")]));
    assert_eq!((server.samples, kernel.samples, server.start_ns), (4, 1, 1_700_000_000_000_000_000));

    let id = PushRequest::decode(&*server.body).unwrap().series.remove(0).samples.remove(0).id;
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!((lengths, &id[14..15]), (vec![8, 4, 4, 4, 12], "8"), "{id}");
    assert_eq!(encoder(false).0.encode(&owned_by(web())).unwrap(), messages, "after a restart");
}

#[test]
fn profiles_have_no_sample_labels_unless_they_are_wanted() {
    let server = encoder(false).0.encode(&owned_by(web())).unwrap().remove(0);
    let profile = self::profile(&server);
    assert!(profile.sample.iter().all(|sample| sample.label.is_empty()));
    assert_eq!(values(&profile), [[2, 20_202_020], [1, 10_101_010], [1, 10_101_010]]);
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let types: Vec<_> = profile.sample_type.iter().map(|kind| (text(kind.r#type), text(kind.unit))).collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);

    let server = encoder(true).0.encode(&owned_by(web())).unwrap().remove(0);
    assert!(self::profile(&server).sample.iter().all(|sample| sample.label.len() >= 4));
}

#[test]
fn a_container_outside_kubernetes_is_told_apart_by_its_id() {
    let owner = Identity { container_id: CONTAINER.into(), service: "web".into(), ..Identity::default() };
    let messages = encoder(false).0.encode(&owned_by(owner)).unwrap();
    assert!(labels(&messages[0]).contains(&("container_id".to_owned(), CONTAINER.to_owned())));
}

#[test]
fn halves_hold_what_the_whole_held() {
    let (mut encoder, _) = encoder(false);
    let whole = encoder.encode(&owned_by(web())).unwrap().remove(0);
    let halves = encoder.split(&whole).unwrap();
    assert_eq!(halves.iter().map(|half| half.samples).collect::<Vec<_>>(), [2, 2]);
    let halved: Vec<_> = halves.iter().flat_map(|half| values(&profile(half))).collect();
    assert_eq!(halved, values(&profile(&whole)));
    for half in &halves {
        assert_eq!((labels(half), &half.headers, half.start_ns), (labels(&whole), &whole.headers, whole.start_ns));
        assert_ne!(half.id, whole.id);
    }
    assert_ne!(halves[0].id, halves[1].id);
    assert_eq!(encoder.split(&halves[0]), None);
    assert_eq!(encoder.split(&Message { body: "no protobuf".into(), ..whole }), None);
}

#[test]
fn hostile_labels_are_made_legal_cut_and_left_out() {
    let long: Arc<str> = format!("a\nb\u{0}\"{}", "y".repeat(64 << 10)).into();
    let mut owner = Identity { pod: long.clone(), ..web() };
    let labels =
        [("__name__", "memory"), ("9lives", "1"), ("a-b", "1"), ("a.b", "2"), ("", "3"), ("é", "4"), ("pod", "5")];
    owner.labels = labels.map(|(name, value)| (name.into(), value.into())).to_vec();
    owner.labels.push((long.clone(), "6".into()));
    owner.labels.extend((0..100).map(|number| (format!("more{number}").into(), "7".into())));
    let (mut encoder, counters) = encoder(false);
    let messages = encoder.encode(&owned_by(owner)).unwrap();
    let found = self::labels(&messages[0]);
    assert_eq!(found.len(), MAX_LABELS);
    let value = |wanted: &str| found.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    assert_eq!(
        (value("__name__"), value("_9lives"), value("a_b"), value("_")),
        (Some("process_cpu"), Some("1"), Some("1"), Some("4"))
    );
    let pod = value("pod").unwrap();
    assert!(pod.len() == MAX_VALUE_BYTES && pod.starts_with("a_b_\"yyy"));
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    // Nine own labels and `region`, three of the first seven and the long one leave room for ten of the hundred.
    assert_eq!(count(&counters.left_out), 4 + 90 + 2, "and the operator's `__tenant__` in both series");
    assert_eq!(count(&counters.cut), 2);
    assert_eq!(count(&counters.replaced), 6);
}
