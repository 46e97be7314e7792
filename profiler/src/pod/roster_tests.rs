//! Who is asked, and what is made of it: a stand-in API server over HTTP and a stand-in runtime over its socket.

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};

use super::*;
use crate::identity::cri::tests::{Runtime, container, sandbox};
use crate::pod::{PodCgroup, choose};

const UID: &str = "f2e1d3c4-1234-4abc-8def-0123456789a1";

fn pod(name: &str, uid: &str, node: &str, phase: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": uid, "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "reg/app"}]},
        "status": {"phase": phase, "containerStatuses": [
            {"name": "app", "image": "reg/app", "containerID": format!("containerd://{}", "a".repeat(64))}
        ]}
    })
}

/// An API server with one pod on this node and one on another; or one that allows nothing.
async fn api(allows: bool) -> ApiServer {
    let list = move |Query(words): Query<Vec<(String, String)>>| async move {
        if !allows {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                "reason": "Forbidden", "message": "pods is forbidden: User cannot list"});
            return (StatusCode::FORBIDDEN, status.to_string());
        }
        let fields = words.iter().find(|(key, _)| key == "fieldSelector").map(|(_, value)| value.as_str());
        let items = match fields {
            Some("spec.nodeName=n1") => vec![pod("web-1", UID, "n1", "Running")],
            Some("metadata.name=far-1") => vec![pod("far-1", "u2", "n2", "Running")],
            _ => Vec::new(),
        };
        (StatusCode::OK, json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}).to_string())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/api/v1/pods", get(list))).await });
    ApiServer::Client(watch::client_of(kube::Config::new(url)).unwrap())
}

fn wanted(pod: Option<&str>, selector: Option<&str>, container: &str) -> Wanted {
    Wanted::parse(pod, None, selector, &[container.to_owned()]).unwrap()
}

async fn ask(api: ApiServer, runtime: RuntimeSocket, wanted: &Wanted) -> Roster {
    Roster::ask(&Sources { node: "n1".into(), api, runtime }, wanted).await
}

fn cgroups() -> Vec<PodCgroup> {
    vec![PodCgroup::of(1, &format!("/kubepods/burstable/pod{UID}/{}", "a".repeat(64))).unwrap()]
}

#[tokio::test]
async fn the_api_server_tells_names_labels_containers_and_other_nodes() {
    for wanted in
        [wanted(Some("shop/web-1"), None, "app"), wanted(Some(UID), None, "app"), wanted(None, Some("app=web"), "app")]
    {
        let roster = ask(api(true).await, RuntimeSocket::Off, &wanted).await;
        let choice = choose(&wanted, &roster, &cgroups()).unwrap();
        assert_eq!((choice.pods[0].shown().as_str(), choice.cgroups[0].id), ("shop/web-1", 1));
    }
    let far = wanted(Some("far-1"), None, "app");
    let roster = ask(api(true).await, RuntimeSocket::Off, &far).await;
    let refusal = choose(&far, &roster, &cgroups()).unwrap_err().to_string();
    assert_eq!(refusal, "pod shop/far-1 is on node n2, and this is n1: profile it there");
}

#[tokio::test]
async fn a_runtime_tells_what_the_api_server_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cri.sock");
    let sandboxes = vec![sandbox("s1", UID, "web-1", &[("app", "web")])];
    let containers = vec![container(&"a".repeat(64), "s1", "app")];
    Runtime(Some((sandboxes, containers))).serve(socket.clone());
    for api in [ApiServer::Off, api(false).await] {
        let wanted = wanted(None, Some("app=web"), "app");
        let roster = ask(api, RuntimeSocket::At(socket.clone()), &wanted).await;
        let choice = choose(&wanted, &roster, &cgroups()).unwrap();
        assert_eq!((choice.pods[0].shown().as_str(), choice.is_told), ("shop/web-1", true));
    }
}

#[tokio::test]
async fn who_does_not_answer_is_named_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let away = RuntimeSocket::At(directory.path().join("away.sock"));
    let wanted = wanted(Some("web-1"), None, "app");
    let roster = ask(api(false).await, away, &wanted).await;
    let refusal = choose(&wanted, &roster, &cgroups()).unwrap_err().to_string();
    for part in ["nobody here knows", "pods is forbidden: User cannot list", "away.sock", UID] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
}
