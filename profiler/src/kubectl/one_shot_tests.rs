//! A stand-in of an API server that plays a Job's course, and what comes of it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::stream;
use kube::Config;
use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::identity::watch::client_of;
use crate::kubectl::parcel::{PART_BYTES, progress, summary, wrap};

const NODE: &str = "n1";

/// What the server will say, and what it was asked.
#[derive(Default)]
struct Script {
    /// States of the container, one for each look at the pod; the last one stays.
    states: Vec<Value>,
    /// The log, one for each read; the last one stays.
    logs: Vec<String>,
    /// What the followed log says after the Job is deleted.
    after_deletion: Option<String>,
    looks: Mutex<usize>,
    reads: Mutex<usize>,
    is_created: AtomicBool,
    is_deleted: AtomicBool,
    deletion: Notify,
}

/// The entry for this time, and the number of the next one.
fn next<T: Clone>(entries: &[T], at: &Mutex<usize>) -> Option<T> {
    let mut at = at.lock().unwrap();
    let entry = entries.get(*at).or(entries.last()).cloned();
    *at += 1;
    entry
}

type Shared = State<Arc<Script>>;

async fn create(State(script): Shared, Json(job): Json<Value>) -> Json<Value> {
    script.is_created.store(true, Ordering::Relaxed);
    Json(job)
}

async fn remove(State(script): Shared) -> Json<Value> {
    script.is_deleted.store(true, Ordering::Relaxed);
    script.deletion.notify_one();
    Json(json!({"kind": "Status", "status": "Success"}))
}

async fn pods(State(script): Shared) -> Json<Value> {
    let pod = |state| {
        json!({
            "metadata": {"name": "x-1", "namespace": "shop"},
            "spec": {"nodeName": NODE, "containers": [{"image": "everflame:0.1.0"}]},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "everflame", "state": state}]},
        })
    };
    let items: Vec<Value> = next(&script.states, &script.looks).into_iter().map(pod).collect();
    Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

async fn log(State(script): Shared, Query(words): Query<Vec<(String, String)>>) -> Body {
    let text = next(&script.logs, &script.reads).unwrap_or_default();
    let is_followed = words.iter().any(|(key, value)| key == "follow" && value == "true");
    let Some(rest) = script.after_deletion.clone().filter(|_| is_followed) else { return Body::from(text) };
    let script = script.clone();
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
    let second = stream::once(async move {
        script.deletion.notified().await;
        Ok(Bytes::from(rest))
    });
    Body::from_stream(futures_util::StreamExt::chain(first, second))
}

/// Hears everything, and wants an end once it is told of samples, if it is impatient.
#[derive(Default)]
struct Listener {
    is_impatient: bool,
    heard: Mutex<Vec<News>>,
}

impl Host for Listener {
    fn is_stopped(&self) -> bool {
        self.is_impatient && self.heard.lock().unwrap().iter().any(|news| matches!(news, News::Sampling { .. }))
    }

    fn hears(&self, news: News) {
        self.heard.lock().unwrap().push(news);
    }
}

async fn play(script: Script, listener: &Listener, keep: bool) -> (Result<HandedOver, Refusal>, Arc<Script>) {
    let script = Arc::new(script);
    let jobs = "/apis/batch/v1/namespaces/shop/jobs";
    let router = Router::new()
        .route(jobs, post(create))
        .route(&format!("{jobs}/{{name}}"), delete(remove))
        .route("/api/v1/namespaces/shop/pods", get(pods))
        .route("/api/v1/namespaces/shop/pods/x-1/log", get(log))
        .with_state(script.clone());
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(server, router).await });
    let cluster = Cluster::of(client_of(Config::new(url.parse().unwrap())).unwrap(), "shop");
    let settings = Settings {
        namespace: "shop".into(),
        image: "everflame:0.1.0".into(),
        tolerations: Vec::new(),
        service_account: None,
        duration: Duration::from_secs(30),
        frequency: 99,
        words: Vec::new(),
    };
    let one_shot = OneShot { name: "x".into(), node: NODE.into(), uids: Vec::new(), containers: Vec::new() };
    (run(&cluster, &settings, &one_shot, keep, listener).await, script)
}

fn profile() -> Vec<u8> {
    (0..2 * PART_BYTES + 5).map(|at| at as u8).collect()
}

/// A log with all that there is to it.
fn whole_log() -> String {
    let seconds = Duration::from_secs;
    let begin = format!("everflame: profiling pod x (1 container)\n{}", progress(seconds(1), seconds(30), 5));
    begin
        + &summary("30.0 s, 2 CPUs")
        + "everflame: nothing of y ran on a processor in that time\n"
        + &wrap(&profile()).unwrap()
}

fn without_line(log: &str, beginning: &str) -> String {
    log.lines().filter(|line| !line.starts_with(beginning)).map(|line| format!("{line}\n")).collect()
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": "not found"}})
}

fn running() -> Value {
    json!({"running": {}})
}

fn ended(code: i32) -> Value {
    json!({"terminated": {"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }}})
}

#[tokio::test]
async fn a_profile_is_handed_over_whatever_befalls_the_log() {
    let log = whole_log();
    let cut = log[..log.len() / 2].to_owned();
    let damaged = log.replace("part 1 3 ", "part 1 3 0");
    for (name, states, logs) in [
        ("all goes well", vec![waiting("ContainerCreating"), running()], vec![log.clone()]),
        ("it was quick", vec![ended(0)], vec![log.clone()]),
        ("the connection breaks", vec![running()], vec![cut.clone(), log.clone()]),
        ("the connection breaks, and it has ended then", vec![running(), ended(0)], vec![cut, log.clone()]),
        ("a part is damaged", vec![running(), ended(0)], vec![damaged.clone(), log.clone()]),
        // Each read has something that the other lacks.
        ("the log was rotated", vec![running(), ended(0)], vec![damaged, without_line(&log, "everflame/1 part 0")]),
        ("it failed in the end, and handed over", vec![running(), ended(1)], vec![log]),
    ] {
        let (result, script) = play(Script { states, logs, ..Script::default() }, &Listener::default(), false).await;
        if name == "the log was rotated" {
            // Part 1 is in the second log alone, part 0 in the first.
            assert_eq!(result.map(|found| found.bytes), Ok(profile()), "{name}");
        } else {
            let expected = HandedOver {
                bytes: profile(),
                summary: "30.0 s, 2 CPUs".into(),
                notes: vec![
                    "profiling pod x (1 container)".into(),
                    "nothing of y ran on a processor in that time".into(),
                ],
            };
            assert_eq!(result, Ok(expected), "{name}");
        }
        assert!(script.is_created.load(Ordering::Relaxed) && script.is_deleted.load(Ordering::Relaxed), "{name}");
    }
}

#[tokio::test]
async fn what_stopped_it_is_said_and_the_job_deleted() {
    let log = whole_log();
    let locked = "everflame: the kernel is locked down\n".to_owned();
    for (name, states, logs, expected) in [
        (
            "no image",
            vec![waiting("ErrImagePull"), waiting("ImagePullBackOff")],
            vec![],
            "can't pull the image everflame:0.1.0",
        ),
        ("no start", vec![waiting("CreateContainerError")], vec![], "node n1 can't start the profiler: not found"),
        ("an error there", vec![running(), ended(1)], vec![locked], "on node n1: the kernel is locked down"),
        ("says nothing", vec![ended(137)], vec![String::new()], "ended with exit code 137 and handed nothing over"),
        (
            "a part is lost",
            vec![ended(0)],
            vec![without_line(&log, "everflame/1 part 2")],
            "1 of the profile's 3 parts are missing or damaged",
        ),
        ("another version", vec![running()], vec![log.replace("everflame/1 ", "everflame/2 ")], "of another version"),
    ] {
        let (result, script) = play(Script { states, logs, ..Script::default() }, &Listener::default(), false).await;
        let refusal = result.unwrap_err().to_string();
        assert!(refusal.contains(expected), "{name}: {refusal}");
        assert!(script.is_deleted.load(Ordering::Relaxed), "{name}");
    }
}

#[tokio::test]
async fn whoever_wants_an_end_gets_what_was_sampled_and_leaves_no_job() {
    let impatient = || Listener { is_impatient: true, ..Listener::default() };
    let (first, rest) = whole_log().split_at(120).0.to_owned().rsplit_once('\n').map_or_else(
        || (String::new(), whole_log()),
        |(first, _)| (format!("{first}\n"), whole_log()[first.len() + 1..].to_owned()),
    );
    assert!(first.contains("progress"), "{first}");
    let script = || Script {
        states: vec![running()],
        logs: vec![first.clone()],
        after_deletion: Some(rest.clone()),
        ..Script::default()
    };
    let listener = impatient();
    let (result, played) = play(script(), &listener, false).await;
    assert_eq!(result.map(|found| found.bytes), Ok(profile()));
    assert!(played.is_deleted.load(Ordering::Relaxed));
    assert!(listener.heard.lock().unwrap().contains(&News::Ending));

    // Whoever wants to keep the Job leaves it.
    let (result, played) = play(script(), &impatient(), true).await;
    assert_eq!(result, Err(Refusal::Left { namespace: "shop".into(), job: "x".into() }));
    assert!(!played.is_deleted.load(Ordering::Relaxed));
}
