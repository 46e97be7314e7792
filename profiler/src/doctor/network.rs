//! The rim towards the network: asks the API server, the container runtime and the sinks, delivers nothing. Each question has an end.

use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api as KubeApi;
use kube::api::ListParams;

use super::delivery::{Answer, FolderState, NotListening};
use super::node::{Api, ApiAnswer, Runtime};
use crate::export::address::{Address, Server, Wire};
use crate::export::counters::Answered;
use crate::export::settings::SinkSettings;
use crate::export::transport::{self, TransportError, http};
use crate::export::{Message, Outcome};
use crate::identity::{RuntimeSocket, Sockets, cri, docker, watch};

/// How long one question may take in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// What of an answer is shown, characters.
const MAX_SHOWN: usize = 200;
/// Pyroscope's word for a push without profiles, in Connect's answers: whose it is was looked at before, and found good.
const NO_PROFILES: &str = "invalid_argument";

/// Asks the API server for the own node and for one of its pods.
pub async fn api_server(node: &str) -> Api {
    let client = match watch::client().await {
        Ok(client) => client,
        Err(watch::ClientError::Nowhere) => return Api::Nowhere,
        Err(error) => return Api::Broken(shown(&error.to_string())),
    };
    let pods: KubeApi<Pod> = KubeApi::all(client.clone());
    let of_node = ListParams::default().fields(&format!("spec.nodeName={node}")).limit(1);
    let pods = answer(tokio::time::timeout(PATIENCE, pods.list(&of_node)).await);
    let nodes: KubeApi<Node> = KubeApi::all(client);
    let node = answer(tokio::time::timeout(PATIENCE, nodes.get(node)).await);
    Api::Asked { node, pods }
}

fn answer<T>(result: Result<Result<T, kube::Error>, tokio::time::error::Elapsed>) -> ApiAnswer {
    match result {
        Err(_) => ApiAnswer::Failed(format!("no answer in {} s", PATIENCE.as_secs())),
        Ok(Ok(_)) => ApiAnswer::Granted,
        Ok(Err(kube::Error::Api(status))) => match status.code {
            401 | 403 => ApiAnswer::Forbidden(shown(&status.message)),
            404 => ApiAnswer::NotFound,
            _ => ApiAnswer::Failed(shown(&status.message)),
        },
        Ok(Err(error)) => ApiAnswer::Failed(shown(&error.to_string())),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

/// Asks one sink, with its own headers, certificates and time-outs.
pub async fn sink(settings: &SinkSettings) -> Answer {
    match &settings.address {
        Address::Folder(folder) => match super::facts::folder(&folder.path) {
            FolderState::Refused(why) => Answer::FolderRefused(why),
            FolderState::Writable { .. } | FolderState::ToBeMade { .. } => Answer::Folder,
        },
        Address::Server(server) => {
            let wire = match transport::ask(settings, server).await {
                Ok(wire) => wire,
                Err(TransportError::UnknownWire(_)) => return Answer::UnknownWire,
                Err(error) => return Answer::Failed(shown(&error.to_string())),
            };
            match wire {
                Wire::OtlpGrpc | Wire::OtlpHttp | Wire::Pyroscope => send_nothing(settings, wire).await,
                Wire::Datadog => ask(settings, server).await,
            }
        }
    }
}

/// A request without profiles, on the way that those with profiles take. OTLP has it taken: "present and empty is full success"
/// (OTLP specification), and a collector without the signal says UNIMPLEMENTED or 404. Of those who speak Pyroscope's
/// API some take it; Pyroscope itself says what is wrong with it, once it has found tenant and token to be right.
async fn send_nothing(settings: &SinkSettings, wire: Wire) -> Answer {
    let transport = match transport::open(settings, Some(wire)) {
        Ok(transport) => transport,
        Err(error) => return Answer::Failed(shown(&error.to_string())),
    };
    let headers: &[(&str, &str)] = match wire {
        Wire::Pyroscope => &[("content-type", "application/proto"), ("connect-protocol-version", "1")],
        _ => &[("content-type", "application/x-protobuf")],
    };
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    // Neither an ExportProfilesServiceRequest nor a PushRequest with nothing in it has bytes.
    let nothing = Message { id: [0; 16], start_ns: 0, samples: 0, headers, body: Bytes::new() };
    match tokio::time::timeout(PATIENCE, transport.send(&nothing)).await {
        Err(_) => Answer::Failed(format!("no answer in {} s", PATIENCE.as_secs())),
        Ok(transport::Answer { outcome, answered }) => match outcome {
            Outcome::Delivered => Answer::TakesProfiles,
            Outcome::Refused(why) if wire == Wire::Pyroscope && why.contains(NO_PROFILES) => Answer::TakesProfiles,
            // A token or key that is not taken: the server is there.
            Outcome::Retry(_, why) if answered == Answered::Rejected => Answer::Refused(shown(&why)),
            Outcome::Retry(_, why) => Answer::Failed(shown(&why)),
            Outcome::TooLarge(why) | Outcome::Refused(why) => Answer::Refused(shown(&why)),
        },
    }
}

/// Asks each socket that identities would be asked from: CRI for its containers, Docker for one that nobody has.
pub async fn runtime(choice: &RuntimeSocket, root: &std::path::Path) -> Runtime {
    /// No container's id: Docker says that it has none of that name.
    const NOBODY: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    if *choice == RuntimeSocket::Off {
        return Runtime::Off;
    }
    let sockets = Sockets::of(choice, root);
    let mut answers = Vec::new();
    for socket in &sockets.cri {
        let said = cri::list(socket, PATIENCE, &[]).await.map(|_| ()).map_err(|error| shown(&error.to_string()));
        answers.push((socket.display().to_string(), said));
    }
    for socket in &sockets.docker {
        let asked = docker::inspect(socket, NOBODY, PATIENCE).await;
        answers.push((socket.display().to_string(), asked.map(|_| ()).map_err(|error| shown(&error.to_string()))));
    }
    Runtime::Asked(answers)
}

/// Whether an address can be listened on.
///
/// # Errors
/// [`NotListening`], with the system's words.
pub async fn listen(address: &str) -> Result<(), NotListening> {
    tokio::net::TcpListener::bind(address).await.map(|_| ()).map_err(|error| {
        let why = shown(&error.to_string());
        if error.kind() == std::io::ErrorKind::AddrInUse {
            NotListening::Taken(why)
        } else {
            NotListening::Impossible(why)
        }
    })
}

/// Whether it is a Datadog agent that takes profiles.
async fn ask(settings: &SinkSettings, server: &Server) -> Answer {
    let (status, body) = match http::get(settings, server, "/info").await {
        Err(error) => return Answer::Failed(shown(&error.to_string())),
        Ok(Err(why)) => return Answer::Failed(shown(&why)),
        Ok(Ok(answer)) => answer,
    };
    match datadog_agent(&body) {
        Some(agent) => agent,
        // A proxy in front of one that is away.
        None if (500..=599).contains(&status) => Answer::Failed(format!("answers {status}")),
        // Told by its port alone.
        None if server.wire.is_none() => Answer::UnknownWire,
        None => Answer::Http(status),
    }
}

/// The Datadog agent's `/info`: a JSON object with its version and endpoints.
fn datadog_agent(body: &[u8]) -> Option<Answer> {
    let info: serde_json::Value = serde_json::from_slice(body).ok()?;
    let endpoints = info.get("endpoints")?.as_array()?;
    let takes_profiles = endpoints.iter().any(|endpoint| endpoint == Wire::Datadog.request_path());
    let version = info.get("version").and_then(serde_json::Value::as_str).unwrap_or("of unknown version");
    Some(Answer::DatadogAgent { version: shown(version), takes_profiles })
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::{get, post};

    use super::*;
    use crate::export::address;

    async fn serve(routes: Router) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        port
    }

    async fn ask_at(address: &str) -> Answer {
        sink(&SinkSettings::new(address::parse(address).unwrap())).await
    }

    #[tokio::test]
    async fn servers_are_known_by_their_answers() {
        let info = |endpoint: &'static str| {
            let body = format!("{{\"version\":\"7.60.0\",\"endpoints\":[\"/v0.4/traces\",\"{endpoint}\"]}}");
            Router::new().route("/info", get(move || async move { body }))
        };
        let agent = |takes_profiles| Answer::DatadogAgent { version: "7.60.0".into(), takes_profiles };
        let with = serve(info("/profiling/v1/input")).await;
        let without = serve(info("/v0.3/traces")).await;
        let other = serve(Router::new()).await;
        let collector = serve(Router::new().route(Wire::OtlpHttp.request_path(), post(|| async {}))).await;
        let away = serve(Router::new().fallback(|| async { StatusCode::SERVICE_UNAVAILABLE })).await;
        for (address, wanted) in [
            (format!("datadog+http://127.0.0.1:{with}"), agent(true)),
            (format!("http://127.0.0.1:{with}"), agent(true)),
            (format!("datadog+http://127.0.0.1:{without}"), agent(false)),
            (format!("datadog+http://127.0.0.1:{other}"), Answer::Http(404)),
            (format!("http://127.0.0.1:{other}"), Answer::UnknownWire),
            (format!("otlp+http://127.0.0.1:{collector}"), Answer::TakesProfiles),
            (format!("datadog+http://127.0.0.1:{away}"), Answer::Failed("answers 503".into())),
        ] {
            assert_eq!(ask_at(&address).await, wanted, "{address}");
        }
        for scheme in ["otlp+http", "pyroscope+http"] {
            let without_profiles = ask_at(&format!("{scheme}://127.0.0.1:{other}/base")).await;
            assert!(matches!(&without_profiles, Answer::Refused(why) if why.contains("404")), "{without_profiles:?}");
        }
    }

    #[tokio::test]
    async fn pyroscope_is_asked_by_a_push_without_profiles() {
        let answering = |status: StatusCode, body: &'static str| {
            let push = post(move |headers: HeaderMap, body_sent: Bytes| async move {
                assert_eq!((&headers["content-type"], body_sent.len()), (&"application/proto".parse().unwrap(), 0));
                (status, body)
            });
            serve(Router::new().route(&format!("/base{}", Wire::Pyroscope.request_path()), push))
        };
        let no_profiles = r#"{"code":"invalid_argument","message":"no profiles received"}"#;
        let no_tenant = r#"{"code":"unauthenticated","message":"no org id"}"#;
        for (status, body, wanted) in [
            (StatusCode::OK, "", "TakesProfiles"),
            (StatusCode::BAD_REQUEST, no_profiles, "TakesProfiles"),
            (StatusCode::BAD_REQUEST, "what?", "Refused"),
            (StatusCode::UNAUTHORIZED, no_tenant, "Refused"),
            (StatusCode::SERVICE_UNAVAILABLE, "", "Failed"),
        ] {
            let port = answering(status, body).await;
            let answer = ask_at(&format!("pyroscope+http://127.0.0.1:{port}/base")).await;
            assert!(format!("{answer:?}").starts_with(wanted), "{status} {body}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn a_token_that_is_not_taken_is_told_from_a_server_that_is_away() {
        let refusing =
            serve(Router::new().fallback(|| async { (StatusCode::UNAUTHORIZED, "token has expired") })).await;
        for scheme in ["otlp+http", "pyroscope+http"] {
            let answer = ask_at(&format!("{scheme}://127.0.0.1:{refusing}")).await;
            assert!(matches!(&answer, Answer::Refused(why) if why.contains("401")), "{scheme}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_told_from_one_that_can_not_be_listened_on() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = listen(&listener.local_addr().unwrap().to_string()).await;
        assert!(matches!(taken, Err(NotListening::Taken(_))), "{taken:?}");
        assert_eq!(listen("127.0.0.1:0").await, Ok(()));
        // RFC 5737: nobody's.
        for address in ["192.0.2.1:80", "127.0.0.1", "127.0.0.1:99999"] {
            let answer = listen(address).await;
            assert!(matches!(answer, Err(NotListening::Impossible(_))), "{address}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_systems_words() {
        let port = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        for scheme in ["datadog+http", "otlp+grpc", "pyroscope+http"] {
            let answer = ask_at(&format!("{scheme}://127.0.0.1:{port}")).await;
            assert!(matches!(&answer, Answer::Failed(why) if why.contains("refused")), "{scheme}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn runtimes_are_asked_where_their_sockets_are() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(runtime(&RuntimeSocket::Off, root.path()).await, Runtime::Off);
        assert_eq!(runtime(&RuntimeSocket::Auto, root.path()).await, Runtime::Asked(Vec::new()));
        let socket = root.path().join("nobody.sock");
        let Runtime::Asked(answers) = runtime(&RuntimeSocket::At(socket.clone()), root.path()).await else {
            panic!("it was not asked")
        };
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].0, socket.display().to_string());
        assert!(answers[0].1.is_err(), "{answers:?}");
    }

    #[test]
    fn only_an_info_page_is_one() {
        for body in ["", "{}", "{\"endpoints\":3}", "<html>", "[]"] {
            assert_eq!(datadog_agent(body.as_bytes()), None, "{body}");
        }
    }
}
