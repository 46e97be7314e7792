//! What an OTLP receiver is sent: the same stacks as pprof, resources, times, dictionary; in halves; from hostile texts.
#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod otlp_stacks;
mod otlp_validity;
mod owned_batch;
#[path = "../../profiles/tests/pprof_batch/mod.rs"]
mod pprof_batch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use otlp_stacks::{attributes, pprof_stacks, resolved, stacks};
use owned_batch::{CONTAINER, owned_by, web};
use pprof_batch::{Builder, info, small_batch};
use profiler::export::otlp::{MAX_MESSAGE_BYTES, MAX_VALUE_BYTES, OtlpConfig, OtlpEncoder, Request, parse};
use profiler::export::text::TextCounters;
use profiler::export::{Encode, Message};
use profiler::profile::pprof::encode as to_pprof;
use profiler::profile::{Batch, Identity, IdentityIndex, LocationIndex, LocationKind, StackIndex};
use unwind::end::{End, provenance};

fn config() -> OtlpConfig {
    let attributes = [("deployment.environment.name", "staging"), ("cloud.region", "north")];
    OtlpConfig {
        host: "host-1".to_owned(),
        attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        resource_per_process: true,
        message_bytes: MAX_MESSAGE_BYTES,
    }
}

fn encode_with(config: OtlpConfig, batch: &Batch) -> Vec<Message> {
    OtlpEncoder::new(config, Arc::default()).encode(batch).unwrap()
}

fn request(message: &Message) -> Request {
    parse(&message.body).unwrap()
}

fn encode(batch: &Batch) -> Request {
    let messages = encode_with(config(), batch);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].samples, batch.samples.len() as u64);
    request(&messages[0])
}

fn resources(request: &Request) -> Vec<BTreeMap<String, String>> {
    request
        .resource_profiles
        .iter()
        .map(|resource| attributes(&resource.resource.as_ref().unwrap().attributes))
        .collect()
}

fn words(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_sample_says_what_it_says_in_pprof() {
    let batch = owned_by(web());
    let expected = pprof_stacks(&to_pprof(&batch, &info()).unwrap());
    assert_eq!(expected.len(), 4);
    assert_eq!(stacks([&encode(&batch)]), expected);
    let by_service = encode_with(OtlpConfig { resource_per_process: false, ..config() }, &batch);
    assert_eq!(stacks([&request(&by_service[0])]), expected);
}

#[test]
fn a_process_is_a_resource_with_all_that_is_known_of_it() {
    let request = encode(&owned_by(web()));
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let server = [
        ("cloud.region", "north"),
        ("container.id", CONTAINER),
        ("container.image.name", "registry/web"),
        ("container.image.tags", "1.2"),
        ("deployment.environment.name", "prod"),
        ("host.arch", arch),
        ("host.name", "host-1"),
        ("k8s.container.name", "server"),
        ("k8s.deployment.name", "web"),
        ("k8s.namespace.name", "shop"),
        ("k8s.node.name", "node-1"),
        ("k8s.pod.label.app.kubernetes.io/name", "web"),
        ("k8s.pod.name", "web-7d9c-x2x"),
        ("k8s.pod.uid", "5ee0b67a-3b0c-4f0b-9b5c-1f2b3c4d5e6f"),
        ("os.type", "linux"),
        ("process.executable.name", "server"),
        ("process.executable.path", "/usr/bin/server"),
        ("process.pid", "100"),
        ("service.name", "web"),
        ("service.version", "1.2"),
    ];
    let kernel = [
        ("cloud.region", "north"),
        ("deployment.environment.name", "staging"),
        ("host.arch", arch),
        ("host.name", "host-1"),
        ("os.type", "linux"),
        ("process.executable.name", "kworker/0:1"),
        ("process.pid", "7"),
        ("service.name", "kworker/0:1"),
    ];
    assert_eq!(resources(&request), [words(&server), words(&kernel)]);
    for resource in &request.resource_profiles {
        assert_eq!(resource.schema_url, "https://opentelemetry.io/schemas/1.44.0");
        let scope = resource.scope_profiles[0].scope.as_ref().unwrap();
        assert_eq!((scope.name.as_str(), scope.version.as_str()), ("everflame", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_service_is_one_resource_if_processes_are_not() {
    let mut batch = owned_by(web());
    batch.processes[1].identity = Some(IdentityIndex(0));
    let messages = encode_with(OtlpConfig { resource_per_process: false, ..config() }, &batch);
    let request = request(&messages[0]);
    let resources = resources(&request);
    assert_eq!(resources.len(), 1);
    assert!(!resources[0].contains_key("process.pid"));
    let dictionary = request.dictionary.as_ref().unwrap();
    let sample = &request.resource_profiles[0].scope_profiles[0].profiles[0].samples[0];
    let expected = [
        ("process.executable.name", "server"),
        ("process.pid", "100"),
        ("thread.id", "100"),
        ("thread.name", "server"),
    ];
    assert_eq!(resolved(dictionary, &sample.attribute_indices), words(&expected));
}

#[test]
fn a_process_that_changed_its_name_is_one_resource() {
    let mut batch = owned_by(web());
    let renamed = batch.strings.intern("renamed");
    let mut process = batch.processes[0].clone();
    process.comm = renamed;
    batch.processes.push(process);
    batch.samples[1].process = profiler::profile::ProcessIndex(2);
    let request = encode(&batch);
    assert_eq!(request.resource_profiles.len(), 2);
    assert_eq!(request.resource_profiles[0].scope_profiles[0].profiles[0].samples[0].timestamps_unix_nano.len(), 2);
}

#[test]
fn the_profile_counts_samples_by_their_times_and_has_the_period_that_makes_cpu_time_of_them() {
    let batch = owned_by(web());
    let request = encode(&batch);
    let dictionary = request.dictionary.as_ref().unwrap();
    let text = |index: i32| dictionary.string_table[index as usize].as_str();
    let profile = &request.resource_profiles[0].scope_profiles[0].profiles[0];
    let (sample_type, period_type) = (profile.sample_type.unwrap(), profile.period_type.unwrap());
    assert_eq!((text(sample_type.type_strindex), text(sample_type.unit_strindex)), ("samples", "count"));
    assert_eq!((text(period_type.type_strindex), text(period_type.unit_strindex)), ("cpu", "nanoseconds"));
    let (start, period) = (1_700_000_000_000_000_000, 10_101_010);
    assert_eq!((profile.period, profile.time_unix_nano, profile.duration_nano), (period as i64, start, 10_000_000_000));
    let times: Vec<_> = profile.samples.iter().map(|sample| sample.timestamps_unix_nano.clone()).collect();
    assert_eq!(times, [vec![start, start + period], vec![start + 2 * period], vec![start + 3 * period]]);
    assert!(profile.samples.iter().all(|sample| sample.values.is_empty()));
    let ids: Vec<_> =
        request.resource_profiles.iter().map(|resource| &resource.scope_profiles[0].profiles[0].profile_id).collect();
    assert!(ids[0].len() == 16 && ids[1].len() == 16 && ids[0] != ids[1]);
}

#[test]
fn samples_of_another_period_are_another_profile_and_a_late_sample_widens_the_time() {
    let mut batch = small_batch();
    batch.samples[4].weight_ns = 50_000_000;
    batch.samples[1].weight_ns = 50_000_000;
    batch.samples[0].time_ns = 4_000;
    batch.samples[4].time_ns = 5_000 + batch.duration_ns;
    let request = encode(&batch);
    let profiles = &request.resource_profiles[0].scope_profiles[0].profiles;
    assert_eq!(profiles.iter().map(|profile| profile.period).collect::<Vec<_>>(), [10_101_010, 50_000_000]);
    assert_eq!(stacks([&request]), pprof_stacks(&to_pprof(&batch, &info()).unwrap()));
    let span = (profiles[0].time_unix_nano, profiles[0].duration_nano);
    assert_eq!(span, (batch.wall_start_ns - 1_000, batch.duration_ns + 1_000 + 1));
}

#[test]
fn frames_have_their_type_and_mappings_their_build_id() {
    let request = encode(&small_batch());
    let dictionary = request.dictionary.as_ref().unwrap();
    let types: Vec<_> = dictionary.location_table[1..]
        .iter()
        .map(|location| {
            resolved(dictionary, &location.attribute_indices).remove("profile.frame.type").unwrap_or_default()
        })
        .collect();
    assert_eq!(types, ["kernel", "native", "native", "native", ""], "in the order of use; the last one is [truncated]");
    let mappings: Vec<_> = dictionary.mapping_table[1..]
        .iter()
        .map(|mapping| {
            assert_eq!((mapping.memory_start, mapping.memory_limit, mapping.file_offset), (0, u64::MAX, 0));
            let build_id = resolved(dictionary, &mapping.attribute_indices).remove("process.executable.build_id.gnu");
            (dictionary.string_table[mapping.filename_strindex as usize].as_str(), build_id.unwrap_or_default())
        })
        .collect();
    let expected = [("[kernel.kallsyms]", ""), ("/usr/bin/server", "bb22"), ("/usr/lib/libc.so.6", "aa11")];
    assert_eq!(mappings, expected.map(|(name, build_id)| (name, build_id.to_owned())));
}

#[test]
fn a_request_has_the_field_numbers_of_its_protocol() {
    let mut builder = Builder::new();
    let location = builder.location(LocationKind::Unknown, None, 9, &[]);
    let stack = builder.stack(&[location]);
    let process = builder.process(1, "", "");
    builder.sample(process, 2, "", stack, End::Complete, provenance::TABLE);
    let message = encode_with(config(), &builder.0).remove(0);
    assert_eq!(message.headers, [("content-type".to_owned(), "application/x-protobuf".to_owned())]);
    let dictionary = b"\x12\x4c\x0a\0\x12\0\x12\x02\x10\x09\x1a\0\x22\0\x2a\0\x2a\x09thread.id\x2a\x07samples\x2a\x05count\x2a\x03cpu\
                       \x2a\x0bnanoseconds\x32\0\x32\x06\x08\x01\x12\x02\x18\x02\x3a\0\x3a\x03\x0a\x01\x01";
    let tail = &message.body[message.body.len() - dictionary.len()..];
    assert_eq!(tail.escape_ascii().to_string(), dictionary.escape_ascii().to_string());
    // Sample{stack_index 1, attribute_indices 2, timestamps_unix_nano 5} in Profile{sample_type 1, samples 2, …}.
    let sample = [
        &b"\x0a\x04\x08\x02\x10\x03\x12\x0f\x08\x01\x12\x01\x01\x2a\x08"[..],
        &1_700_000_000_000_000_000_u64.to_le_bytes(),
    ]
    .concat();
    assert!(message.body.windows(sample.len()).any(|window| window == sample), "{}", message.body.escape_ascii());
}

#[test]
fn the_same_batch_is_the_same_request() {
    let batch = owned_by(web());
    assert_eq!(encode_with(config(), &batch), encode_with(config(), &batch));
    let mut empty = batch;
    empty.samples.clear();
    assert_eq!(encode_with(config(), &empty), []);
}

#[test]
fn halves_hold_what_the_whole_held_down_to_one_sample() {
    let batch = owned_by(web());
    let encoder = OtlpEncoder::new(config(), Arc::default());
    let whole = encode_with(config(), &batch).remove(0);
    let halves = encoder.split(&whole).unwrap();
    assert_eq!(halves.iter().map(|half| half.samples).collect::<Vec<_>>(), [2, 3]);
    let requests: Vec<Request> = halves.iter().map(request).collect();
    assert_eq!(stacks(&requests), stacks([&request(&whole)]));
    assert_eq!(resources(&requests[0]), resources(&request(&whole))[..1]);
    assert_eq!(resources(&requests[1]), resources(&request(&whole)));
    for half in &halves {
        assert_eq!((&half.headers, half.start_ns), (&whole.headers, whole.start_ns));
        assert_ne!(half.id, whole.id);
    }
    assert_ne!(halves[0].id, halves[1].id);

    let mut small = vec![whole.clone()];
    while let Some(at) = small.iter().position(|message| message.samples > 1) {
        let message = small.swap_remove(at);
        small.extend(encoder.split(&message).unwrap());
    }
    assert_eq!(small.len(), 5);
    assert!(small.iter().all(|message| encoder.split(message).is_none()));
    assert_eq!(stacks(&small.iter().map(request).collect::<Vec<_>>()), stacks([&request(&whole)]));
    assert_eq!(encoder.split(&Message { body: "no protobuf".into(), ..whole }), None);
}

#[test]
fn a_batch_that_is_too_large_is_several_messages_at_once() {
    let batch = owned_by(web());
    let whole = encode_with(config(), &batch).remove(0);
    let limit = whole.body.len() - 1;
    let messages = encode_with(OtlpConfig { message_bytes: limit, ..config() }, &batch);
    assert!(messages.len() > 1 && messages.iter().all(|message| message.body.len() <= limit));
    assert_eq!(stacks(&messages.iter().map(request).collect::<Vec<_>>()), stacks([&request(&whole)]));
    let messages = encode_with(OtlpConfig { message_bytes: 0, ..config() }, &batch);
    assert_eq!(messages.len(), 5, "one sample can't be halved");
}

#[test]
fn hostile_texts_are_cut_and_keys_stay_single() {
    let long: Arc<str> = format!("a\r\nb\u{0}\"{}", "y".repeat(64 << 10)).into();
    let mut owner = Identity { service: long.clone(), pod: long.clone(), ..web() };
    owner.labels =
        vec![("k".into(), "1".into()), ("k".into(), "2".into()), ("".into(), "3".into()), (long.clone(), "4".into())];
    owner.labels.extend((0..100).map(|number| (format!("more{number}").into(), "5".into())));
    let mut batch = owned_by(owner);
    batch.processes[0].executable = batch.strings.intern(&long);
    batch.samples[0].thread_name = batch.strings.intern("thread\n\u{0}");
    let counters = Arc::new(TextCounters::default());
    let messages = OtlpEncoder::new(config(), counters.clone()).encode(&batch).unwrap();
    let request = request(&messages[0]);
    assert_eq!(stacks([&request]).values().map(|sums| sums.0).sum::<u64>(), 5);
    let found = resources(&request).remove(0);
    assert_eq!(found["service.name"].len(), MAX_VALUE_BYTES);
    assert!(found.values().all(|value| value.len() <= MAX_VALUE_BYTES));
    assert_eq!(found["k8s.pod.label.k"], "1");
    assert_eq!(found.keys().filter(|key| key.starts_with("k8s.pod.label.")).count(), 62);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    // The second `k`, the empty key, and 40 of 104 labels.
    assert_eq!(count(&counters.left_out), 42);
    // Service, pod, executable's name and path, one label's key.
    assert_eq!(count(&counters.cut), 5);
}

#[test]
fn a_batch_that_does_not_hold_together_is_an_error() {
    let mut batch = small_batch();
    batch.samples[0].stack = StackIndex(99);
    let error = OtlpEncoder::new(config(), Arc::default()).encode(&batch).unwrap_err();
    assert_eq!(error.to_string(), "cannot encode for otlp: the batch refers to stack 99, which it does not have");
}

/// Marsaglia's xorshift: the same numbers on each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn stacks_are_those_of_pprof_whatever_the_batch() {
    let mut random = Random(0x5eed);
    for round in 0..100 {
        let mut builder = Builder::new();
        let mappings = [
            builder.mapping("/bin/p", "aa"),
            builder.mapping("[kernel.kallsyms]", ""),
            builder.mapping("/bin/p", "aa"),
        ];
        let kinds = [LocationKind::Native, LocationKind::Kernel, LocationKind::Jit, LocationKind::Unknown];
        let places: Vec<LocationIndex> = (0..1 + random.below(6))
            .map(|place| {
                let function = builder.function(&format!("f{}", place % 3), "s", "", 0);
                let lines = vec![(function, place as u32); random.below(3) as usize];
                let mapping = mappings.get(random.below(4) as usize).copied();
                // Places of which nothing is known at all have a name in OTLP and none in pprof: not here.
                builder.location(kinds[random.below(4) as usize], mapping, place + 1, &lines)
            })
            .collect();
        let stack = |random: &mut Random| -> Vec<LocationIndex> {
            (0..random.below(4)).map(|_| places[random.below(places.len() as u64) as usize]).collect()
        };
        let stacks_of: Vec<StackIndex> = (0..1 + random.below(5)).map(|_| builder.stack(&stack(&mut random))).collect();
        let processes = [builder.process(1, "one", "/bin/p"), builder.process(2, "two", "")];
        for _ in 0..1 + random.below(50) {
            let process = processes[random.below(2) as usize];
            let stack = stacks_of[random.below(stacks_of.len() as u64) as usize];
            let end = End::ALL[random.below(End::ALL.len() as u64) as usize];
            builder.sample(process, random.below(3) as u32, "t", stack, end, random.below(16) as u8);
        }
        let batch = builder.0;
        let resource_per_process = round % 2 == 0;
        let whole = encode_with(OtlpConfig { resource_per_process, ..config() }, &batch);
        let expected = pprof_stacks(&to_pprof(&batch, &info()).unwrap());
        assert_eq!(stacks([&request(&whole[0])]), expected, "round {round}");
        if let Some(halves) = OtlpEncoder::new(config(), Arc::default()).split(&whole[0]) {
            assert_eq!(stacks(&halves.iter().map(request).collect::<Vec<_>>()), expected, "round {round}");
        }
    }
}
