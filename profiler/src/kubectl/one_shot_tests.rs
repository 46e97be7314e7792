//! A stand-in of an API server that plays a Job's course, and what comes of it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
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
    /// Looks, reads and deletions that fail before one is answered.
    failing_looks: Mutex<u32>,
    failing_reads: Mutex<u32>,
    failing_deletions: Mutex<u32>,
    /// The user may not delete.
    is_deletion_forbidden: bool,
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
type Failure = (StatusCode, Json<Value>);

fn failure(code: StatusCode, message: &str) -> Failure {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "code": code.as_u16()});
    (code, Json(status))
}

/// An error, if there is one left.
fn answers(failing: &Mutex<u32>) -> Result<(), Failure> {
    let mut left = failing.lock().unwrap();
    let fails = *left > 0;
    *left = left.saturating_sub(1);
    if fails { Err(failure(StatusCode::INTERNAL_SERVER_ERROR, "etcd is away")) } else { Ok(()) }
}

async fn create(State(script): Shared, Json(job): Json<Value>) -> Json<Value> {
    script.is_created.store(true, Ordering::Relaxed);
    Json(job)
}

async fn remove(State(script): Shared) -> Result<Json<Value>, Failure> {
    answers(&script.failing_deletions)?;
    if script.is_deletion_forbidden {
        let message = r#"jobs.batch "x" is forbidden: User "dev" cannot delete resource "jobs" in API group "batch""#;
        return Err(failure(StatusCode::FORBIDDEN, message));
    }
    script.is_deleted.store(true, Ordering::Relaxed);
    script.deletion.notify_one();
    Ok(Json(json!({"kind": "Status", "status": "Success"})))
}

async fn pods(State(script): Shared) -> Result<Json<Value>, Failure> {
    answers(&script.failing_looks)?;
    let pod = |state| {
        json!({
            "metadata": {"name": "x-1", "namespace": "shop"},
            "spec": {"nodeName": NODE, "containers": [{"image": "everflame:0.1.0"}]},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "everflame", "state": state}]},
        })
    };
    let items: Vec<Value> = next(&script.states, &script.looks).into_iter().map(pod).collect();
    Ok(Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})))
}

async fn log(State(script): Shared, Query(words): Query<Vec<(String, String)>>) -> Result<Body, Failure> {
    answers(&script.failing_reads)?;
    let text = next(&script.logs, &script.reads).unwrap_or_default();
    let is_followed = words.iter().any(|(key, value)| key == "follow" && value == "true");
    let Some(rest) = script.after_deletion.clone().filter(|_| is_followed) else { return Ok(Body::from(text)) };
    let script = script.clone();
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
    let second = stream::once(async move {
        script.deletion.notified().await;
        Ok(Bytes::from(rest))
    });
    Ok(Body::from_stream(futures_util::StreamExt::chain(first, second)))
}

/// Hears everything, and may want an end of what it hears.
struct Listener {
    wants_an_end: fn(&[News]) -> bool,
    heard: Mutex<Vec<News>>,
}

impl Default for Listener {
    fn default() -> Listener {
        Listener { wants_an_end: |_| false, heard: Mutex::default() }
    }
}

impl Listener {
    /// Wants an end once it is told of samples.
    fn impatient() -> Listener {
        Listener {
            wants_an_end: |heard| heard.iter().any(|news| matches!(news, News::Sampling { .. })),
            ..Listener::default()
        }
    }
}

impl Host for Listener {
    fn is_stopped(&self) -> bool {
        (self.wants_an_end)(&self.heard.lock().unwrap())
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

/// A log in two: up to what says that it samples, and the rest.
fn log_in_two() -> (String, String) {
    let log = whole_log();
    let (progress, _) = log.match_indices('\n').nth(1).unwrap();
    let (first, rest) = log.split_at(progress + 1);
    assert!(first.contains("progress") && rest.starts_with("everflame/1 summary"), "{first}");
    (first.to_owned(), rest.to_owned())
}

#[tokio::test]
async fn whoever_wants_an_end_gets_what_was_sampled_and_leaves_no_job() {
    let (first, rest) = log_in_two();
    let script = || Script {
        states: vec![running()],
        logs: vec![first.clone()],
        after_deletion: Some(rest.clone()),
        ..Script::default()
    };
    let listener = Listener::impatient();
    let (result, played) = play(script(), &listener, false).await;
    assert_eq!(result.map(|found| found.bytes), Ok(profile()));
    assert!(played.is_deleted.load(Ordering::Relaxed));
    assert!(listener.heard.lock().unwrap().contains(&News::Ending));

    // Whoever wants to keep the Job leaves it.
    let (result, played) = play(script(), &Listener::impatient(), true).await;
    assert_eq!(result, Err(Refusal::Left { namespace: "shop".into(), job: "x".into() }));
    assert!(!played.is_deleted.load(Ordering::Relaxed));

    // A server that fails is asked again, while the log goes on being followed.
    let failing = Script { failing_deletions: Mutex::new(2), ..script() };
    let (result, played) = play(failing, &Listener::impatient(), false).await;
    assert_eq!(result.map(|found| found.bytes), Ok(profile()));
    assert!(played.is_deleted.load(Ordering::Relaxed));
    assert_eq!(*played.reads.lock().unwrap(), 1);
}

#[tokio::test]
async fn whoever_wants_an_end_before_there_are_samples_leaves_no_job_either() {
    let script = |failing| Script {
        states: vec![waiting("ContainerCreating")],
        failing_deletions: Mutex::new(failing),
        ..Script::default()
    };
    let stopped = Err(Refusal::Stopped { node: NODE.into() });
    let while_it_starts: fn(&[News]) -> bool =
        |heard| heard.iter().any(|news| matches!(news, News::Starting(what) if !what.is_empty()));
    for failing in [0, 1] {
        let listener = Listener { wants_an_end: while_it_starts, ..Listener::default() };
        let (result, played) = play(script(failing), &listener, false).await;
        assert_eq!(result, stopped);
        assert!(played.is_deleted.load(Ordering::Relaxed), "{failing}");
    }
    let listener = Listener { wants_an_end: |_| true, ..Listener::default() };
    let (result, played) = play(script(0), &listener, false).await;
    assert_eq!(result, stopped);
    assert!(!played.is_created.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_server_that_is_away_for_a_moment_costs_nothing_and_is_told_of() {
    let script = Script {
        states: vec![running()],
        logs: vec![whole_log()],
        failing_looks: Mutex::new(2),
        failing_reads: Mutex::new(1),
        failing_deletions: Mutex::new(1),
        ..Script::default()
    };
    let listener = Listener::default();
    let (result, played) = play(script, &listener, false).await;
    let found = result.unwrap();
    assert_eq!((found.bytes, found.notes.len()), (profile(), 2));
    assert!(played.is_deleted.load(Ordering::Relaxed));
    let heard = listener.heard.lock().unwrap();
    let away: Vec<_> = heard.iter().filter(|news| matches!(news, News::Away(_))).collect();
    assert_eq!(away.len(), 3, "{heard:?}");
    assert_eq!(away[0], &News::Away("the API server, asked to list the Job's pods: etcd is away".into()));
}

#[tokio::test]
async fn a_job_that_stays_is_named_whatever_else_happened() {
    let undeleted = "the Job x in the namespace shop could not be deleted (you may not delete jobs.batch as dev: the role in \
                     docs/kubectl.md gives that right) and goes away by itself";
    let fails = || Script {
        states: vec![ended(1)],
        logs: vec!["everflame: the kernel is locked down\n".into()],
        is_deletion_forbidden: true,
        ..Script::default()
    };
    let (result, _) = play(fails(), &Listener::default(), false).await;
    assert_eq!(result.unwrap_err().to_string(), format!("on node n1: the kernel is locked down; {undeleted}"));
    let (result, _) = play(fails(), &Listener::default(), true).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "on node n1: the kernel is locked down; the Job x in the namespace shop is kept"
    );
    let script =
        Script { states: vec![ended(0)], logs: vec![whole_log()], is_deletion_forbidden: true, ..Script::default() };
    let (result, _) = play(script, &Listener::default(), false).await;
    assert_eq!(result.unwrap().notes.last().map(String::as_str), Some(undeleted));
}
