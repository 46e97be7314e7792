//! What Datadog is sent, byte for byte where it matters: form, event, headers, tags, labels; in halves; from hostile texts.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod owned_batch;
#[path = "../../profiles/tests/pprof_batch/mod.rs"]
mod pprof_batch;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use owned_batch::{CONTAINER, owned_by, web};
use pprof_batch::{info, small_batch};
use pprof_proto::{Label, Profile};
use profiler::export::datadog::{DatadogConfig, DatadogEncoder, Form, Grouping, MAX_TAG_BYTES};
use profiler::export::text::TextCounters;
use profiler::export::{Encode, Message};
use profiler::profile::pprof::decode;
use profiler::profile::{Batch, Identity};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn config(grouping: Grouping) -> DatadogConfig {
    let tags = [("team", "shop"), ("env", "staging")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let (host, tags) = ("host-1".to_owned(), tags.to_vec());
    DatadogConfig { host, tags, grouping, over_unix_socket: false, remote_symbols: false, info: info() }
}

fn encoder(grouping: Grouping) -> (DatadogEncoder, Arc<TextCounters>) {
    let counters = Arc::new(TextCounters::default());
    (DatadogEncoder::new(config(grouping), counters.clone()), counters)
}

fn encode(batch: &Batch, grouping: Grouping) -> Vec<Message> {
    encoder(grouping).0.encode(batch).unwrap()
}

fn header<'message>(message: &'message Message, wanted: &str) -> Option<&'message str> {
    message.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

fn form(message: &Message) -> Form<'_> {
    Form::read(header(message, "content-type").unwrap(), &message.body).unwrap()
}

fn event(message: &Message) -> serde_json::Value {
    serde_json::from_slice(form(message).event).unwrap()
}

fn tags(message: &Message) -> Vec<String> {
    event(message)["tags_profiler"].as_str().unwrap().split(',').map(str::to_owned).collect()
}

fn profile(message: &Message) -> Profile {
    decode(form(message).attachment).unwrap()
}

/// `[COUNT, NANOSECONDS] LABELS` for each sample.
fn rows(profile: &Profile) -> Vec<String> {
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let label = |label: &Label| {
        assert_eq!((label.num, label.num_unit), (0, 0), "all labels are texts");
        format!("{}={}", text(label.key), text(label.str))
    };
    let row = |sample: &pprof_proto::Sample| {
        format!("{:?} {}", sample.value, sample.label.iter().map(label).collect::<Vec<_>>().join(","))
    };
    profile.sample.iter().map(row).collect()
}

fn sums(profile: &Profile) -> [i64; 2] {
    [0, 1].map(|index| profile.sample.iter().map(|sample| sample.value[index]).sum())
}

#[test]
fn each_series_is_a_request_with_its_event_headers_and_profile() {
    let messages = encode(&owned_by(web()), Grouping::Series);
    assert_eq!(messages.iter().map(|message| message.samples).collect::<Vec<_>>(), [4, 1]);

    let [server, kernel] = &messages[..] else { panic!("{} messages", messages.len()) };
    let tags = |first: &str, owner: &str, last: &str| {
        let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let profiler = format!("profiler_name:everflame,profiler_version:{VERSION},cpu_arch:{arch},profile_seq:0");
        format!("{first},host:host-1,runtime:native,{profiler}{owner},team:shop{last}")
    };
    let json = |tags: String| {
        let times = r#""start":"2023-11-14T22:13:20.000000000Z","end":"2023-11-14T22:13:30.000000000Z""#;
        format!(
            r#"{{{times},"attachments":["cpu.pprof"],"tags_profiler":"{tags}","family":"native","version":"4","endpoint_counts":null}}"#
        )
    };
    let owner = format!(
        ",container_id:{CONTAINER},kube_container_name:server,pod_name:web-7d9c-x2x,kube_namespace:shop,kube_node:node-1,\
         kube_deployment:web,app.kubernetes.io/name:web"
    );
    let event = |message| String::from_utf8(form(message).event.to_vec()).unwrap();
    assert_eq!(event(server), json(tags("service:web,env:prod,version:1.2", &owner, "")));
    assert_eq!(event(kernel), json(tags("service:kworker/0:1", "", ",env:staging")));

    let boundary = header(server, "content-type").unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
    assert_eq!(boundary.len(), 32);
    let expected = [
        ("content-type", format!("multipart/form-data; boundary={boundary}")),
        ("dd-evp-origin", "everflame".to_owned()),
        ("dd-evp-origin-version", VERSION.to_owned()),
        ("datadog-container-id", CONTAINER.to_owned()),
        ("datadog-entity-id", format!("ci-{CONTAINER}")),
    ];
    assert_eq!(server.headers, expected.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(kernel.headers.len(), 3, "no container, no name of one");
    assert_eq!(server.start_ns, 1_700_000_000_000_000_000);

    let server = profile(server);
    let text = |index: i64| server.string_table[index as usize].as_str();
    let types: Vec<_> = server.sample_type.iter().map(|kind| (text(kind.r#type), text(kind.unit))).collect();
    assert_eq!(types, [("cpu-samples", "count"), ("cpu-time", "nanoseconds")]);
    assert_eq!(text(server.default_sample_type), "cpu-time");
    assert_eq!((server.period_type, server.period), (Some(server.sample_type[1]), 10_101_010));
    assert_eq!(
        rows(&server),
        [
            "[2, 20202020] process name=server,thread name=server,process_id=100,thread id=100",
            "[1, 10101010] process name=server,thread name=worker,unwind=bad_read,provenance=table+fp,process_id=100,\
             thread id=101",
            "[1, 10101010] process name=server,thread name=worker,unwind=truncated,process_id=100,thread id=101",
        ]
    );
    assert_eq!(
        rows(&profile(kernel)),
        ["[1, 10101010] process name=kworker/0:1,thread name=kworker/0:1,process_id=7,thread id=7"]
    );
}

#[test]
fn a_whole_host_is_one_request_with_containers_and_pods_as_labels() {
    let messages = encode(&owned_by(web()), Grouping::WholeHost);
    let [message] = &messages[..] else { panic!("{} messages", messages.len()) };
    assert_eq!((message.samples, message.headers.len()), (5, 3));
    let tags = tags(message);
    assert_eq!(tags[0], "service:everflame");
    let contexts = ["container_id", "container_name", "thread name", "pod_name"];
    assert_eq!(tags[7..11], contexts.map(|label| format!("ddprof.custom_ctx:{label}")));
    assert_eq!(tags[11..], ["team:shop", "env:staging"]);
    let owner = format!("container_id={CONTAINER},container_name=server,pod_name=web-7d9c-x2x");
    assert_eq!(
        rows(&profile(message))[..1],
        [format!("[2, 20202020] process name=server,thread name=server,{owner},process_id=100,thread id=100"),]
    );
    let kernel = "[1, 10101010] process name=kworker/0:1,thread name=kworker/0:1,process_id=7,thread id=7";
    assert_eq!(rows(&profile(message))[3], kernel);

    let mut config = config(Grouping::WholeHost);
    config.tags.push(("service".to_owned(), "node-a".to_owned()));
    config.remote_symbols = true;
    let messages = DatadogEncoder::new(config, Arc::default()).encode(&small_batch()).unwrap();
    let tags = self::tags(&messages[0]);
    assert_eq!(tags.iter().filter(|tag| tag.starts_with("service:")).collect::<Vec<_>>(), ["service:node-a"]);
    assert!(tags.contains(&"remote_symbols:yes".to_owned()));
}

#[test]
fn over_a_unix_socket_what_has_no_container_says_so() {
    for (grouping, expected) in [(Grouping::Series, [CONTAINER, "none"].as_slice()), (Grouping::WholeHost, &["none"])] {
        let config = DatadogConfig { over_unix_socket: true, ..config(grouping) };
        let messages = DatadogEncoder::new(config, Arc::default()).encode(&owned_by(web())).unwrap();
        let names: Vec<&str> = messages.iter().filter_map(|message| header(message, "datadog-container-id")).collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn the_same_batch_is_the_same_request_and_the_next_one_counts_on() {
    let batch = owned_by(web());
    let (mut encoder, _) = encoder(Grouping::Series);
    let first = encoder.encode(&batch).unwrap();
    assert_eq!(encoder.encode(&batch).unwrap(), first, "again");
    assert_eq!(encode(&batch, Grouping::Series), first, "after a restart");
    let mut next = batch.clone();
    next.wall_start_ns += next.duration_ns;
    let second = encoder.encode(&next).unwrap();
    for (first, second) in first.iter().zip(&second) {
        assert_ne!(first.id, second.id);
        assert!(tags(second).contains(&"profile_seq:1".to_owned()), "{:?}", tags(second));
    }
    assert_ne!(first[0].id, first[1].id);
    let mut empty = batch;
    empty.samples.clear();
    assert_eq!(encoder.encode(&empty).unwrap(), []);
}

#[test]
fn halves_hold_what_the_whole_held_until_one_sample_is_left() {
    let (encoder, _) = encoder(Grouping::Series);
    let whole = encode(&owned_by(web()), Grouping::Series).remove(0);
    let halves = encoder.split(&whole).unwrap();
    assert_eq!(halves.iter().map(|half| half.samples).collect::<Vec<_>>(), [2, 2]);
    let profiles: Vec<Profile> = halves.iter().map(profile).collect();
    assert_eq!([rows(&profiles[0]), rows(&profiles[1])].concat(), rows(&profile(&whole)));
    let halved = sums(&profiles[0]).into_iter().zip(sums(&profiles[1])).map(|(first, second)| first + second);
    assert_eq!(halved.collect::<Vec<_>>(), sums(&profile(&whole)));
    for half in &halves {
        assert_eq!(form(half).event, form(&whole).event);
        assert_eq!(half.headers[1..], whole.headers[1..]);
        assert_eq!(half.start_ns, whole.start_ns);
        assert!(half.id != whole.id && half.headers[0] != whole.headers[0]);
    }
    assert_ne!(halves[0].id, halves[1].id);
    assert_eq!(encoder.split(&whole), Some(halves.clone()), "the same each time");
    assert_eq!(encoder.split(&halves[0]), None, "one stack");
    assert_eq!(encoder.split(&halves[1]).map(|quarters| quarters.len()), Some(2));
    let other = Message { body: "not a form".into(), ..whole };
    assert_eq!(encoder.split(&other), None);
}

#[test]
fn hostile_texts_are_cut_and_replaced_and_never_break_the_form() {
    let hostile = "x\r\n--\u{0}\",service:root\u{7f}é".to_owned() + &"y".repeat(64 << 10);
    let text = || Arc::<str>::from(hostile.as_str());
    let owner = Identity {
        container_id: text(),
        pod_uid: text(),
        pod: text(),
        namespace: text(),
        container: text(),
        image: text(),
        node: text(),
        workload_kind: "Job".into(),
        workload: text(),
        service: text(),
        environment: text(),
        version: text(),
        labels: vec![(text(), text()), ("service".into(), "root".into()), ("".into(), "x".into())],
    };
    let mut batch = owned_by(owner);
    batch.processes[0].executable = batch.strings.intern(&hostile);

    let (mut encoder, counters) = encoder(Grouping::Series);
    let messages = encoder.encode(&batch).unwrap();
    let server = &messages[0];
    assert_eq!(header(server, "datadog-container-id"), None);
    for (name, value) in &server.headers {
        assert!(name.bytes().chain(value.bytes()).all(|byte| (b' '..0x7f).contains(&byte)), "{name}: {value}");
    }
    let found = tags(server);
    assert_eq!(found.iter().filter(|tag| tag.starts_with("service:")).count(), 1);
    assert!(found[0].starts_with("service:x__--_\"_service:root_éyyy"), "{}", found[0]);
    for tag in &found {
        assert!(tag.len() <= MAX_TAG_BYTES && !tag.contains(char::is_control), "{tag:?}");
    }
    assert_eq!(found.len(), 17);
    // 10 values and the label's key; its two namesakes and the header are left out.
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!([&counters.cut, &counters.replaced, &counters.left_out].map(count), [11, 11, 3]);
    assert_eq!(sums(&profile(server)), [4, 4 * 10_101_010]);

    let (mut encoder, counters) = self::encoder(Grouping::WholeHost);
    let messages = encoder.encode(&batch).unwrap();
    assert_eq!(sums(&profile(&messages[0]))[0], 5);
    assert_eq!(count(&counters.cut), 3);
    let profile = profile(&messages[0]);
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let labels = profile.sample.iter().flat_map(|sample| &sample.label);
    let longest = labels.filter(|label| text(label.key).starts_with("container")).map(|label| text(label.str).len());
    assert_eq!(longest.max(), Some(profiler::profile::pprof::MAX_OWNER_BYTES));
}
