//! A stand-in of an API server that plays a Job's course, and somebody who hears of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

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

pub(super) const NODE: &str = "n1";

/// What the server will say, and what it was asked.
#[derive(Default)]
pub(super) struct Script {
    /// States of the container, one for each look at the pod; the last one stays.
    pub(super) states: Vec<Value>,
    /// The log, one for each read; the last one stays.
    pub(super) logs: Vec<String>,
    /// What the followed log says after the Job is deleted.
    pub(super) after_deletion: Option<String>,
    /// The pod is gone at once when the Job is deleted.
    pub(super) is_gone_when_deleted: bool,
    /// Looks, reads and deletions that fail before one is answered.
    pub(super) failing_looks: Mutex<u32>,
    pub(super) failing_reads: Mutex<u32>,
    pub(super) failing_deletions: Mutex<u32>,
    /// Jobs that are made, and the answer is lost.
    pub(super) lost_answers: Mutex<u32>,
    /// Reads whose connection breaks before the last byte.
    pub(super) breaking_reads: Mutex<u32>,
    /// Looks are answered with what makes the client ask again by itself.
    pub(super) is_overloaded: bool,
    /// The user may not delete.
    pub(super) is_deletion_forbidden: bool,
    pub(super) looks: Mutex<usize>,
    pub(super) reads: Mutex<usize>,
    pub(super) is_created: AtomicBool,
    pub(super) is_deleted: AtomicBool,
    pub(super) deletion: Notify,
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

fn failure(code: StatusCode, reason: &str, message: &str) -> Failure {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code.as_u16()});
    (code, Json(status))
}

/// Whether it is so this time.
fn is_left(times: &Mutex<u32>) -> bool {
    let mut left = times.lock().unwrap();
    let is_left = *left > 0;
    *left = left.saturating_sub(1);
    is_left
}

/// An error, if there is one left.
fn answers(failing: &Mutex<u32>) -> Result<(), Failure> {
    if is_left(failing) { Err(failure(StatusCode::INTERNAL_SERVER_ERROR, "", "etcd is away")) } else { Ok(()) }
}

async fn create(State(script): Shared, Json(job): Json<Value>) -> Result<Json<Value>, Failure> {
    if script.is_created.swap(true, Ordering::Relaxed) {
        return Err(failure(StatusCode::CONFLICT, "AlreadyExists", r#"jobs.batch "x" already exists"#));
    }
    if is_left(&script.lost_answers) {
        return Err(failure(StatusCode::GATEWAY_TIMEOUT, "Timeout", "request did not complete within the timeout"));
    }
    Ok(Json(job))
}

async fn remove(State(script): Shared) -> Result<Json<Value>, Failure> {
    answers(&script.failing_deletions)?;
    if script.is_deletion_forbidden {
        let message = r#"jobs.batch "x" is forbidden: User "dev" cannot delete resource "jobs" in API group "batch""#;
        return Err(failure(StatusCode::FORBIDDEN, "Forbidden", message));
    }
    script.is_deleted.store(true, Ordering::Relaxed);
    script.deletion.notify_one();
    Ok(Json(json!({"kind": "Status", "status": "Success"})))
}

async fn pods(State(script): Shared) -> Result<Json<Value>, Failure> {
    answers(&script.failing_looks)?;
    if script.is_overloaded {
        return Err(failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "too many requests"));
    }
    let pod = |state| {
        json!({
            "metadata": {"name": "x-1", "namespace": "shop"},
            "spec": {"nodeName": NODE, "containers": [{"image": "everflame:0.1.0"}]},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "everflame", "state": state}]},
        })
    };
    let is_gone = script.is_gone_when_deleted && script.is_deleted.load(Ordering::Relaxed);
    let state = next(&script.states, &script.looks).filter(|_| !is_gone);
    let items: Vec<Value> = state.into_iter().map(pod).collect();
    Ok(Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})))
}

async fn log(State(script): Shared, Query(words): Query<Vec<(String, String)>>) -> Result<Body, Failure> {
    answers(&script.failing_reads)?;
    let text = next(&script.logs, &script.reads).unwrap_or_default();
    if is_left(&script.breaking_reads) {
        let half = Bytes::from(text[..text.len() / 2].to_owned());
        return Ok(Body::from_stream(stream::iter([Ok(half), Err(std::io::Error::other("broken"))])));
    }
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
pub(super) struct Listener {
    pub(super) wants_an_end: fn(&[News]) -> bool,
    pub(super) heard: Mutex<Vec<News>>,
}

impl Default for Listener {
    fn default() -> Listener {
        Listener { wants_an_end: |_| false, heard: Mutex::default() }
    }
}

impl Listener {
    /// Wants an end once it is told of samples.
    pub(super) fn impatient() -> Listener {
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

/// What comes of it, and the server afterwards.
pub(super) async fn play(
    script: Script,
    listener: &Listener,
    keep: bool,
) -> (Result<HandedOver, Refusal>, Arc<Script>) {
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
