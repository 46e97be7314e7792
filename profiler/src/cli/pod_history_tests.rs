//! Questions to a stand-in of an agent's page, and what comes of its answers.

use axum::Router;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;

use super::*;

const RANGE: Extent = Extent { from: 1_000, to: 31_000 };
const NEVER: fn() -> bool = || false;
const SILENT: fn(String) = |_| ();

fn patience() -> Patience<'static> {
    Patience::new(LONGEST_OUTAGE, &NEVER, &SILENT)
}

/// Answers as a page does whose history has a pod `web-1` in two namespaces, `db-0` in one and `job-0` in more than it lists without being
/// asked for one; asks for the token `sesame`.
fn page() -> Router {
    let values = |Query(words): Query<Vec<(String, String)>>| async move {
        let has = |filter: &str| words.iter().any(|(key, value)| key == "where" && value == filter);
        let asked = |label: &str| words.iter().any(|(key, value)| key == "label" && value == label);
        let list = match () {
            () if asked("container") => r#"{"value":"db","cpu_ns":9},{"value":"","cpu_ns":1}"#,
            () if has("pod=job-0") && has("namespace=small") => r#"{"value":"small","cpu_ns":1}"#,
            () if has("namespace=small") => "",
            () if has("pod=web-1") || has("pod=job-0") => r#"{"value":"shop","cpu_ns":9},{"value":"data","cpu_ns":4}"#,
            () if has("pod=db-0") => r#"{"value":"data","cpu_ns":4}"#,
            () => "",
        };
        format!("{{\"values\":[{list}],\"distinct\":2,\"other_ns\":0,\"skipped\":0}}")
    };
    let status = |headers: HeaderMap| async move {
        if headers.get("authorization").is_some_and(|value| value == "Bearer sesame-sesame-sesame") {
            (StatusCode::OK, r#"{"node":"n1","now":40000,"history":{"from":0,"to":31000},"lost":0}"#.to_owned())
        } else {
            (StatusCode::UNAUTHORIZED, "{}".to_owned())
        }
    };
    let download = || async { (StatusCode::NOT_FOUND, "{\"error\":\"there are no samples\"}") };
    Router::new()
        .route("/at/api/v1/values", get(values))
        .route("/at/api/v1/status", get(status))
        .route("/at/api/v1/download", get(download))
}

/// Where it is.
async fn served(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/at/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn agent(token: bool) -> Agent {
    let url = served(page()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "sesame-sesame-sesame\n").unwrap();
    Agent::new(&url, token.then(|| Token::read(file.path()).unwrap())).unwrap()
}

#[tokio::test]
async fn a_pod_is_found_in_the_namespace_that_has_it() {
    let agent = agent(true).await;
    for (name, namespace, containers, expected) in [
        ("db-0", None, &[][..], Ok(("data", &["db", ""][..]))),
        ("web-1", Some("shop"), &[], Ok(("shop", &["db", ""]))),
        ("job-0", Some("small"), &[], Ok(("small", &["db", ""]))),
        ("db-0", Some("small"), &[], Err("the agent on node n1 has no samples of the pod small/db-0 in these 30 s")),
        ("db-0", None, &["db", "mesh"], Ok(("data", &["db"]))),
        ("web-1", None, &[], Err("2 pods are called web-1: data/web-1, shop/web-1")),
        ("db-0", Some("shop"), &[], Err("the agent on node n1 has no samples of the pod shop/db-0 in these 30 s")),
        ("cart-0", None, &[], Err("the agent on node n1 has no samples of the pod cart-0 in these 30 s")),
        ("db-0", None, &["mesh"], Err("no container of pod data/db-0 that runs is called mesh; it has db")),
    ] {
        let containers: Vec<String> = containers.iter().map(|name| (*name).to_owned()).collect();
        let asked = Asked { name, namespace, containers: &containers, node: "n1" };
        let found = asked.find(&agent, RANGE).await.map_err(|error| error.to_string());
        let found = found.map(|found| (found.namespace, found.containers));
        match (found, expected) {
            (Ok((namespace, containers)), Ok(expected)) => assert_eq!(
                (&*namespace, containers),
                (expected.0, expected.1.iter().map(|name| (*name).to_owned()).collect()),
                "{name}"
            ),
            (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{name}: {found}"),
            (found, expected) => panic!("{name}: {found:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn what_an_agent_refuses_is_said_in_its_words() {
    let (known, unknown) = (agent(true).await, agent(false).await);
    let status = known.status().await.unwrap();
    let (node, range) = known.range(status, Duration::from_secs(10), false, &mut patience()).await.unwrap();
    assert_eq!((node.as_str(), range), ("n1", Extent { from: 21_000, to: 31_000 }));
    let error = unknown.status().await.unwrap_err().to_string();
    assert!(error.ends_with("asks for a token: give --page-token-file"), "{error}");
    let error = known.get("download", RANGE, &[("form", "pb.gz")], &[]).await.unwrap_err().to_string();
    assert!(error.ends_with("answers: there are no samples"), "{error}");
    let error = known.get("elsewhere", RANGE, &[], &[]).await.unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("not the page of an everflame agent"), "{error}");
}

#[tokio::test]
async fn an_agent_that_does_not_answer_for_a_moment_costs_nothing_of_the_time_that_was_waited_for() {
    // Of three looks the second fails; the first is the one by which the waiting begins.
    let looks = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let status = move || {
        let look = looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            match look {
                0 => (StatusCode::OK, r#"{"node":"n1","now":1000,"history":{"from":0,"to":500}}"#),
                1 => (StatusCode::BAD_GATEWAY, "the connection is broken"),
                _ => (StatusCode::OK, r#"{"node":"n1","now":40000,"history":{"from":0,"to":31000}}"#),
            }
        }
    };
    let agent = Agent::new(&served(Router::new().route("/at/api/v1/status", get(status))).await, None).unwrap();
    let first = agent.status().await.unwrap();
    let (node, range) = agent.range(first, Duration::from_secs(30), true, &mut patience()).await.unwrap();
    assert_eq!((&*node, range), ("n1", RANGE));
}

#[tokio::test]
async fn nothing_that_a_page_says_reaches_a_terminal_raw() {
    let hostile = "\\u001b[2J\\u202e";
    let status = format!(r#"{{"node":"n{hostile}1","now":40000,"history":null}}"#);
    let values = format!(r#"{{"values":[{{"value":"a{hostile}"}},{{"value":"b{hostile}"}}]}}"#);
    let failure = format!(r#"{{"error":"broken{hostile}"}}"#);
    let says = |code: StatusCode, text: String| get(move || std::future::ready((code, text.clone())));
    let router = Router::new()
        .route("/at/api/v1/status", says(StatusCode::OK, status))
        .route("/at/api/v1/values", says(StatusCode::OK, values))
        .route("/at/api/v1/download", says(StatusCode::NOT_FOUND, failure));
    let agent = Agent::new(&served(router).await, None).unwrap();
    let status = agent.status().await.unwrap();
    let node = status.node.clone();
    let no_history = agent.range(status, Duration::from_secs(1), false, &mut patience()).await.unwrap_err();
    let failed = agent.get("download", RANGE, &[], &[]).await.unwrap_err();
    let containers = ["c".to_owned()];
    let asked = |namespace, containers| Asked { name: "web-1", namespace, containers, node: &node };
    let ambiguous = asked(None, &[]).find(&agent, RANGE).await.err().unwrap();
    let raw = "a\u{1b}[2J\u{202e}";
    let no_container = asked(Some(raw), &containers).find(&agent, RANGE).await.err().unwrap();
    for (error, expected) in [
        (no_history, "n [2J?1"),
        (failed, "broken [2J?"),
        (ambiguous, "a [2J?/web-1, b [2J?/web-1"),
        (no_container, "a [2J?/web-1 that runs is called c; it has a [2J?, b [2J?"),
    ] {
        assert!(error.to_string().contains(expected), "{error:?}");
    }
}

#[test]
fn each_container_is_asked_for_by_itself_and_named() {
    let containers = ["db".to_owned(), String::new()].into();
    let found = Found { namespace: "data".into(), name: "db-0".into(), containers, node: "n1".into() };
    let of_pod = [("namespace", "data"), ("pod", "db-0")];
    assert_eq!(found.filters(Some("db")), ["pod=db-0", "namespace=data", "container=db"]);
    assert_eq!(found.labels("db"), [&of_pod[..], &[("container", "db")]].concat());
    assert_eq!(found.filters(Some("")), ["pod=db-0", "namespace=data", "container="]);
    assert_eq!(found.labels(""), of_pod);
}

#[test]
fn the_last_seconds_are_no_more_than_the_history_has() {
    let history = Extent { from: 5_000, to: 31_000 };
    assert_eq!(last(history, 10_000), Extent { from: 21_000, to: 31_000 });
    assert_eq!(last(history, 60_000), history);
    assert_eq!(last(history, u64::MAX), history);
}

#[test]
fn addresses_are_checked_before_anything_is_asked() {
    for url in ["", "ftp://x", "http://", "unix:///x"] {
        assert!(Agent::new(url, None).is_err(), "{url}");
    }
    let agent = Agent::new("localhost:7654", None).unwrap();
    let url = agent.url("values", Some(RANGE), &[("label", "pod")], &["pod=a&b".to_owned()]);
    assert_eq!(url.as_str(), "http://localhost:7654/api/v1/values?label=pod&from=1000&to=31000&where=pod%3Da%26b");
}

#[test]
fn every_sample_gets_the_labels() {
    let sample = pprof_proto::Sample { value: vec![1], ..Default::default() };
    let mut profile =
        Profile { string_table: vec![String::new()], sample: vec![sample.clone(), sample], ..Profile::default() };
    label(&mut profile, &[("namespace", "shop"), ("pod", "web-1")]);
    let text = |index: i64| profile.string_table[index as usize].as_str();
    for sample in &profile.sample {
        let labels: Vec<_> = sample.label.iter().map(|label| (text(label.key), text(label.str))).collect();
        assert_eq!(labels, [("namespace", "shop"), ("pod", "web-1")]);
    }
}
