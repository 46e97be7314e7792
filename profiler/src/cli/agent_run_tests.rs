//! Words about pods, from the command line to the bytes that are sent.

use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use unwind::end::End;

use super::super::sink_words::tests::agent as words;
use super::*;
use crate::export::Encode;
use crate::export::datadog::{DatadogConfig, DatadogEncoder, Grouping};
use crate::export::otlp::{MAX_MESSAGE_BYTES, OtlpConfig, OtlpEncoder};
use crate::export::pyroscope::{PyroscopeConfig, PyroscopeEncoder};
use crate::ledger::Ledger;
use crate::profile::{Batch, BatchBuilder, Identity, Process, Sample};

const CONTAINER: &str = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";
const POD_UID: &str = "f2e1d3c4-1234-4abc-8def-0123456789ab";

/// An API server without lists from watches, and with one pod; its port.
async fn api_server() -> u16 {
    async fn answer(uri: Uri) -> (StatusCode, String) {
        let query = uri.query().unwrap_or_default();
        if query.contains("sendInitialEvents") {
            let status = serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no", "reason": "Invalid",
                "code": 422
            });
            return (StatusCode::UNPROCESSABLE_ENTITY, status.to_string());
        }
        if query.contains("watch=true") {
            std::future::pending::<()>().await;
        }
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web-1", "namespace": "shop", "uid": POD_UID, "resourceVersion": "5",
                "labels": {"team": "checkout", "app": "web", "not-asked-for": "hidden"}
            },
            "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "reg/app"}]},
            "status": {"containerStatuses": [
                {"name": "app", "image": "x", "imageID": "", "ready": true, "restartCount": 0,
                 "containerID": format!("containerd://{CONTAINER}")}
            ]}
        });
        let list = serde_json::json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "5"}, "items": [pod]
        });
        (StatusCode::OK, list.to_string())
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/api/v1/pods", get(answer))).await });
    port
}

/// A machine in a directory, with the pod's process 10, which started a second after boot.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("cgroup/cgroup.controllers", "");
    write("proc/10/stat", "10 (x) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 100 1 2\n");
    write("proc/10/cgroup", &format!("0::/kubepods/burstable/pod{POD_UID}/{CONTAINER}\n"));
    write("proc/10/environ", "");
    root
}

/// One sample of that process.
fn batch() -> Batch {
    let mut builder = BatchBuilder::new();
    let text = builder.text("x");
    let process = builder.process(Process {
        pid: 10,
        start_time_ns: 1_000_000_000,
        comm: text,
        executable: text,
        cgroup_id: 0,
        cgroup: text,
        identity: None,
    });
    let stack = builder.stack(Vec::new()).unwrap();
    builder.push(Sample {
        time_ns: 1,
        weight_ns: 10,
        process,
        tid: 10,
        thread_name: text,
        cpu: 0,
        stack,
        end: End::Complete,
        provenance: 0,
    });
    builder.finish(10, Ledger { due: 1, recorded: 1, ..Ledger::default() })
}

fn encoders() -> [Box<dyn Encode>; 3] {
    let host = || "n1".to_owned();
    let info = || ProfileInfo { frequency_hz: 99, cpus: 1, kernel_release: "6.1".to_owned() };
    let datadog = DatadogConfig {
        host: host(),
        tags: Vec::new(),
        grouping: Grouping::Series,
        over_unix_socket: false,
        remote_symbols: false,
        info: info(),
    };
    let otlp = OtlpConfig {
        host: host(),
        attributes: Vec::new(),
        resource_per_process: false,
        message_bytes: MAX_MESSAGE_BYTES,
    };
    let pyroscope = PyroscopeConfig { host: host(), labels: Vec::new(), sample_labels: false, info: info() };
    [
        Box::new(DatadogEncoder::new(datadog, Arc::default())),
        Box::new(OtlpEncoder::new(otlp, Arc::default())),
        Box::new(PyroscopeEncoder::new(pyroscope, Arc::default())),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chosen_pod_label_reaches_every_back_end_and_no_other_does() {
    let root = machine();
    let at = |flag: &str, folder: &str| format!("--{flag}={}", root.path().join(folder).display());
    let (proc_root, cgroup_root) = (at("proc-root", "proc"), at("cgroup-root", "cgroup"));
    let words = words(&["--pod-label=team,absent", "--pod-selector=app=web", "--cri=off", &proc_root, &cgroup_root]);
    let (selector, options) = owners(&words, "n1").unwrap();
    assert_eq!(options.label_keys, ["team", "absent", "app"]);

    let mut config = kube::Config::new(format!("http://127.0.0.1:{}", api_server().await).parse().unwrap());
    config.default_retry = false;
    let api = ApiServer::Client(watch::client_of(config).unwrap());
    let options = identity::Options { api, hold: Duration::from_secs(60), ..options };
    let mut identities = Identities::start(options, &tokio::runtime::Handle::current()).unwrap();
    let mut batch = batch();
    while identities.pending(&batch, Instant::now()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    identities.identify(&mut batch, Instant::now());
    assert!(selector.wants(&batch.identities[0]), "{:?}", batch.identities);

    let sent = ["team:checkout", "k8s.pod.label.team", "team"];
    for (mut encoder, key) in encoders().into_iter().zip(sent) {
        let messages = encoder.encode(&batch).unwrap();
        let body = String::from_utf8_lossy(&messages[0].body).into_owned();
        assert!(body.contains(key) && body.contains("checkout"), "{key}: {body}");
        assert!(!body.contains("hidden"), "{body}");
    }
}

#[test]
fn the_end_tells_what_a_sink_did_not_get_and_promises_a_spool_only_where_one_would_have_kept_it() {
    const SERVER: &str = "otlp+grpc://c:4317";
    const HINT: &str = "; with --spool DIRECTORY what is not delivered waits on disk";
    let amount = |messages, samples| Amount { messages, samples, bytes: 0 };
    let with = |fates: &[(DropReason, Amount)]| {
        let mut seen = crate::export::counters::Counters::default().snapshot();
        fates.iter().for_each(|(reason, amount)| seen.dropped[*reason as usize] = *amount);
        seen
    };
    let everything = with(&[]);
    assert_eq!(not_delivered(SERVER, &everything, false), None);
    let refused = Snapshot { refused: amount(2, 30), ..everything };
    let ended = with(&[(DropReason::Ended, amount(1, 9))]);
    let never_encoded = with(&[(DropReason::NotEncoded, amount(0, 70))]);
    let both = with(&[(DropReason::NotEncoded, amount(0, 70)), (DropReason::MemoryFull, amount(1, 9))]);
    for (sink, seen, has_spool, fates, hint) in [
        (SERVER, &refused, false, "refused 30", ""),
        (SERVER, &ended, false, "ended 9", HINT),
        (SERVER, &ended, true, "ended 9", ""),
        ("file:///x", &ended, false, "ended 9", ""),
        (SERVER, &never_encoded, false, "not_encoded 70", ""),
        (SERVER, &both, false, "not_encoded 70, memory_full 9", HINT),
    ] {
        let sentence = format!("the sink did not get everything; samples by fate: {fates}{hint}");
        assert_eq!(not_delivered(sink, seen, has_spool), Some(sentence));
    }
}

#[test]
fn a_key_that_is_asked_for_twice_is_kept_once_and_one_that_is_none_is_refused() {
    let words =
        words(&["--pod-label=team,app", "--pod-label=team", "--pod-selector=app", "--exclude-pod-selector=tier=x"]);
    let (_, options) = owners(&words, "n1").unwrap();
    assert_eq!(options.label_keys, ["team", "app", "tier"]);
    for key in ["team=x", "", "a b", &"x".repeat(318)] {
        let words = ["everflame", "agent", "--pod-label", key];
        let error = <super::super::args::Arguments as clap::Parser>::try_parse_from(words).unwrap_err().to_string();
        assert!(error.contains("write the key of a label"), "{key}: {error}");
    }
}

#[test]
fn a_cgroup_that_can_t_be_compared_is_refused_where_it_is_said() {
    let parsed = |path: &str| {
        let words = ["everflame", "agent", "--exclude-cgroup", path];
        <super::super::args::Arguments as clap::Parser>::try_parse_from(words).map(drop)
    };
    for path in ["/a/../b", "..", "a/..", ".", "./", ""] {
        let error = parsed(path).unwrap_err().to_string();
        assert!(error.contains("--exclude-cgroup") && error.contains("without .."), "{path:?}: {error}");
    }
    for path in ["/", "/a//b/", "./a", "a/./b", "/sys/fs/cgroup/a..b,c"] {
        parsed(path).unwrap();
    }
}

#[test]
fn excluded_pods_are_not_wanted_whatever_selects_them() {
    let words = words(&["--namespace=shop", "--exclude-pod-selector=app in (batch,cron)"]);
    let (selector, _) = owners(&words, "n1").unwrap();
    let pod = |app: &str| Identity {
        namespace: "shop".into(),
        pod: "p".into(),
        labels: vec![("app".into(), app.into())],
        ..Identity::default()
    };
    assert!(selector.wants(&pod("web")) && !selector.wants(&pod("batch")) && !selector.takes_everything());
    let broken = owners(&super::super::sink_words::tests::agent(&["--exclude-pod-selector=a b"]), "n1");
    assert_eq!(broken.err().unwrap().to_string(), "--exclude-pod-selector a b");
}
