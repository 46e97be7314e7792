//! Questions to a stand-in of an API server, and kubeconfigs that are there, wrong or absent.

use axum::extract::Query;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::*;

async fn cluster(router: Router) -> Cluster {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(server, router).await });
    Cluster::of(client_of(Config::new(url.parse().unwrap())).unwrap(), "shop")
}

fn pods_of(namespace: &str, words: &[(String, String)]) -> Json<Value> {
    let mut asked: Vec<String> = words.iter().map(|(key, value)| format!("{key}={value}")).collect();
    asked.sort_unstable();
    // What was asked is the pod's name: the test sees it.
    Json(json!({"metadata": {}, "items": [{"metadata": {"name": asked.join("&"), "namespace": namespace}}]}))
}

#[tokio::test]
async fn only_pods_of_the_agents_namespace_are_taken_for_agents() {
    type Words = Query<Vec<(String, String)>>;
    let router =
        Router::new().route("/api/v1/pods", get(|Query(words): Words| async move { pods_of("tenant", &words) })).route(
            "/api/v1/namespaces/everflame/pods",
            get(|Query(words): Words| async move { pods_of("everflame", &words) }),
        );
    let found = cluster(router).await.agents("everflame", "n1").await.unwrap();
    let found: Vec<_> = found.iter().map(|pod| (&*pod.metadata.namespace, &*pod.metadata.name)).collect();
    let asked = "fieldSelector=spec.nodeName=n1&labelSelector=app.kubernetes.io/name=everflame&limit=2000";
    assert_eq!(found, [("everflame", asked)]);
}

#[test]
fn a_service_account_stands_in_only_where_there_is_no_kubeconfig() {
    let folder = tempfile::tempdir().unwrap();
    let [there, missing] = ["config", "missing"].map(|name| folder.path().join(name));
    std::fs::write(&there, "clusters: [").unwrap();
    let read = |path: &Path| Kubeconfig::read_from(path).unwrap_err();
    let both = std::env::join_paths([&missing, &there]).unwrap();
    for (error, named, expected) in [
        (KubeconfigError::FindPath, None, true),
        (read(&missing), None, true),
        (read(&missing), Some(missing.as_os_str()), true),
        (read(&missing), Some(both.as_os_str()), false),
        (read(&there), None, false),
        (read(folder.path()), None, false),
        (KubeconfigError::CurrentContextNotSet, None, false),
    ] {
        assert_eq!(is_absent(&error, named), expected, "{error:?} {named:?}");
    }
}
