//! The watch against a server on loopback that answers as API servers do.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::identity::pods::{Container, MAX_PODS, Pod, PodReport};

/// One answer of the server: status, body, and whether the connection then stays open as that of a watch does.
struct Answer {
    status: &'static str,
    body: String,
    stays_open: bool,
}

fn lines(lines: &[serde_json::Value], stays_open: bool) -> Answer {
    let body = lines.iter().map(|line| format!("{line}\n")).collect();
    Answer { status: "200 OK", body, stays_open }
}

fn failure(status: &'static str, code: u16, reason: &str) -> Answer {
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{reason} happened"), "reason": reason, "code": code
    });
    Answer { status, body: body.to_string(), stays_open: false }
}

fn pod(name: &str, version: u32, container: &str) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": version.to_string()},
        "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "reg/app"}]},
        "status": {"containerStatuses": [
            {"name": "app", "image": "x", "imageID": "", "ready": true, "restartCount": 0,
             "containerID": format!("containerd://{container}")}
        ]}
    })
}

fn event(kind: &str, object: serde_json::Value) -> serde_json::Value {
    serde_json::json!({"type": kind, "object": object})
}

/// As recorded from Kubernetes 1.34: a pod without anything in it.
fn bookmark(version: u32, ends_list: bool) -> serde_json::Value {
    let annotations =
        if ends_list { serde_json::json!({"k8s.io/initial-events-end": "true"}) } else { serde_json::json!({}) };
    event(
        "BOOKMARK",
        serde_json::json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null, "annotations": annotations},
            "spec": {"containers": null}, "status": {}
        }),
    )
}

fn list(version: u32, pods: &[serde_json::Value]) -> Answer {
    let body = serde_json::json!({
        "kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()}, "items": pods
    });
    Answer { status: "200 OK", body: body.to_string(), stays_open: false }
}

/// A server that gives these answers in order and keeps what it was asked; then it leaves requests without an answer.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: Vec<Answer>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (noted, answers) = (noted.clone(), answers.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let (mut request, mut line) = (String::new(), String::new());
                    while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
                        if request.is_empty() {
                            request = line.split(' ').nth(1).unwrap_or_default().to_owned();
                        }
                        line.clear();
                    }
                    noted.lock().unwrap().push(request);
                    let answer = answers.lock().unwrap().pop_front();
                    if let Some(Answer { status, body, stays_open }) = answer {
                        let head =
                            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n");
                        let _ = stream.write_all((head + &body).as_bytes()).await;
                        if !stays_open {
                            return;
                        }
                    }
                    // Until the client goes.
                    let _ = stream.read_line(&mut line).await;
                });
            }
        });
        Server { port, asked }
    }

    fn client(&self) -> Client {
        client_at(self.port)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn client_at(port: u16) -> Client {
    let mut config = Config::new(format!("http://127.0.0.1:{port}").parse().unwrap());
    config.default_retry = false;
    client_of(config).unwrap()
}

/// Runs the watch until `done`, with patience.
async fn watch_until(client: Client, known: &Known, done: impl Fn(&Known) -> bool) {
    let met = async {
        while !done(known) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        _ = follow(client, "n1", known) => {}
        () = met => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("not in a minute: {:?}", known.counters()),
    }
}

fn knows(known: &Known, container: &str) -> Option<String> {
    known.api().container(container)?.pod.map(|pod| pod.name.to_string())
}

#[tokio::test]
async fn a_list_from_the_watch_is_taken_pod_by_pod_and_then_followed() {
    let server = Server::start(vec![lines(
        &[
            event("ADDED", pod("web-1", 5, "c1")),
            event("ADDED", pod("web-2", 6, "c2")),
            bookmark(7, true),
            event("MODIFIED", pod("web-2", 8, "c3")),
            event("DELETED", pod("web-1", 9, "c1")),
            bookmark(10, false),
            event("ADDED", pod("web-3", 11, "c4")),
        ],
        true,
    )])
    .await;
    let known = Known::default();
    watch_until(server.client(), &known, |known| knows(known, "c4").is_some()).await;
    let found = ["c1", "c2", "c3", "c4"].map(|id| knows(&known, id));
    assert_eq!(found.map(Option::unwrap), ["web-1", "web-2", "web-2", "web-3"]);
    let counters = known.counters();
    assert_eq!((counters.api_events, counters.api_lists, counters.api_errors), (5, 1, 0));
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    for part in
        ["/api/v1/pods?", "fieldSelector=spec.nodeName%3Dn1", "sendInitialEvents=true", "allowWatchBookmarks=true"]
    {
        assert!(asked[0].contains(part), "{part} in {}", asked[0]);
    }
}

#[tokio::test]
async fn a_server_without_such_lists_is_asked_for_one_from_its_cache() {
    let server = Server::start(vec![
        failure("422 Unprocessable Entity", 422, "Invalid"),
        list(20, &[pod("web-1", 5, "c1")]),
        lines(&[bookmark(21, false), event("ADDED", pod("web-2", 22, "c2"))], true),
    ])
    .await;
    let known = Known::default();
    watch_until(server.client(), &known, |known| knows(known, "c2").is_some()).await;
    assert_eq!(knows(&known, "c1").as_deref(), Some("web-1"), "{:?}", server.asked());
    assert_eq!((known.counters().api_lists, known.counters().api_errors), (1, 0));
    let asked = server.asked();
    assert!(asked[1].contains("resourceVersion=0") && !asked[1].contains("limit="), "{}", asked[1]);
    assert!(asked[2].contains("watch=true") && asked[2].contains("resourceVersion=20"), "{}", asked[2]);
}

#[tokio::test]
async fn a_watch_that_is_too_old_lists_again_and_forgets_what_is_gone() {
    let gone = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version: 7 (99)", "reason": "Expired", "code": 410
    });
    let server = Server::start(vec![
        lines(&[event("ADDED", pod("web-1", 5, "c1")), bookmark(7, true), event("ERROR", gone)], true),
        lines(&[event("ADDED", pod("web-2", 90, "c2")), bookmark(99, true)], true),
    ])
    .await;
    let known = Known::default();
    watch_until(server.client(), &known, |known| known.counters().api_lists == 2).await;
    assert_eq!((known.counters().api_errors, server.asked().len()), (1, 2));
    assert_eq!(knows(&known, "c1").as_deref(), Some("web-1"), "it ended, and stays known for a while");
    known.api().forget(Instant::now() + super::super::pods::KEEP_ENDED);
    assert_eq!((knows(&known, "c1"), knows(&known, "c2").as_deref()), (None, Some("web-2")));
}

#[tokio::test]
async fn without_permission_errors_are_counted_and_the_watch_goes_on_once_it_is_given() {
    let server = Server::start(vec![
        failure("403 Forbidden", 403, "Forbidden"),
        lines(&[event("ADDED", pod("web-1", 5, "c1")), bookmark(7, true)], true),
    ])
    .await;
    let known = Known::default();
    watch_until(server.client(), &known, |known| known.counters().api_lists == 1).await;
    assert_eq!((known.counters().api_errors, knows(&known, "c1").as_deref()), (1, Some("web-1")));
}

#[tokio::test]
async fn a_server_that_is_away_costs_counters_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let known = Known::default();
    watch_until(client_at(port), &known, |known| known.counters().api_errors >= 1).await;
    assert_eq!(known.api().len(), (0, 0));
}

#[test]
fn the_node_s_name_is_the_given_one_before_the_environment_before_the_host() {
    let cases = [
        (Some("given"), &[("NODE_NAME", "a")][..], "given", NameSource::Given),
        (Some(" "), &[("NODE_NAME", "a")], "a", NameSource::Variable("NODE_NAME")),
        (None, &[("NODE_NAME", "a"), ("KUBERNETES_NODE_NAME", "b")], "a", NameSource::Variable("NODE_NAME")),
        (None, &[("NODE_NAME", ""), ("KUBERNETES_NODE_NAME", "b")], "b", NameSource::Variable("KUBERNETES_NODE_NAME")),
        (None, &[("NODE_NAME", " ")], "ip-10-0-0-1.ec2.internal", NameSource::Host),
        (None, &[], "ip-10-0-0-1.ec2.internal", NameSource::Host),
    ];
    for (given, environment, wanted, source) in cases {
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let (name, said_by) = sourced_node_name(given, variable, "IP-10-0-0-1.ec2.internal\n");
        assert_eq!((&*name, said_by), (wanted, source));
    }
}

#[test]
fn a_pod_beyond_the_bound_is_counted_and_the_others_keep_their_names() {
    let (known, now) = (Known::default(), Instant::now());
    let name = |number: usize| format!("pod-{number}");
    for number in 0..MAX_PODS {
        let pod = Pod { uid: format!("u{number}").into(), name: name(number).into(), ..Pod::default() };
        let containers = vec![(format!("c{number}").into(), Container::default())];
        known.api().report(PodReport { pod, containers }, now);
    }
    assert_eq!(known.api().len(), (MAX_PODS, MAX_PODS));
    assert_eq!(known.api().take_refused(), 0);
    let mut state = State::default();
    let too_many = serde_json::from_value(pod("too-many", 5, "too-many")).unwrap();
    state.apply(Event::Apply(too_many), "n1", &known);
    assert_eq!((known.counters().pods_refused, knows(&known, "too-many")), (1, None));
    let keeps = |number: usize| knows(&known, &format!("c{number}")) == Some(name(number));
    assert!((0..MAX_PODS).all(keeps));
}
