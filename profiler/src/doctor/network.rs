//! The rim towards the network: asks the API server and the sinks, delivers nothing. Each question has an end.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api as KubeApi;
use kube::api::ListParams;

use super::delivery::{Answer, FolderState};
use super::node::{Api, ApiAnswer};
use crate::export::address::{Address, Endpoint, Server, Wire};
use crate::export::settings::SinkSettings;
use crate::export::transport::http;
use crate::identity::watch;

/// How long one question may take in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// What of an answer is shown, characters.
const MAX_SHOWN: usize = 200;

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
            FolderState::Refused(why) => Answer::Failed(why),
            FolderState::Writable { .. } | FolderState::ToBeMade { .. } => Answer::Folder,
        },
        Address::Server(server) if server.wire == Some(Wire::OtlpGrpc) => connect(settings, server).await,
        Address::Server(server) => ask(settings, server).await,
    }
}

async fn connect(settings: &SinkSettings, server: &Server) -> Answer {
    let Endpoint::Tcp { host, port, .. } = &server.endpoint else { return Answer::Connected };
    let target = (host.trim_start_matches('[').trim_end_matches(']'), *port);
    match tokio::time::timeout(settings.connect_timeout, tokio::net::TcpStream::connect(target)).await {
        Ok(Ok(_)) => Answer::Connected,
        Ok(Err(error)) => Answer::Failed(format!("no connection: {error}")),
        Err(_) => Answer::Failed(format!("no connection in {} s", settings.connect_timeout.as_secs_f32())),
    }
}

async fn ask(settings: &SinkSettings, server: &Server) -> Answer {
    let may_be_datadog = matches!(server.wire, None | Some(Wire::Datadog));
    let path = if may_be_datadog { "/info".to_owned() } else { format!("{}/", server.base_path) };
    let (status, body) = match http::get(settings, server, &path).await {
        Err(error) => return Answer::Failed(shown(&error.to_string())),
        Ok(Err(why)) => return Answer::Failed(shown(&why)),
        Ok(Ok(answer)) => answer,
    };
    match datadog_agent(&body) {
        Some(agent) if may_be_datadog => agent,
        // Told by its port alone, or by nothing.
        _ if server.wire.is_none() && server.wire_by_answer(None).is_none_or(|wire| wire == Wire::Datadog) => {
            Answer::UnknownWire
        }
        _ => Answer::Http(status),
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
    use axum::routing::get;

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
        for (address, wanted) in [
            (format!("datadog+http://127.0.0.1:{with}"), agent(true)),
            (format!("http://127.0.0.1:{with}"), agent(true)),
            (format!("datadog+http://127.0.0.1:{without}"), agent(false)),
            (format!("datadog+http://127.0.0.1:{other}"), Answer::Http(404)),
            (format!("http://127.0.0.1:{other}"), Answer::UnknownWire),
            (format!("otlp+http://127.0.0.1:{other}/base"), Answer::Http(404)),
            (format!("otlp+grpc://127.0.0.1:{other}"), Answer::Connected),
        ] {
            assert_eq!(ask_at(&address).await, wanted, "{address}");
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

    #[test]
    fn only_an_info_page_is_one() {
        for body in ["", "{}", "{\"endpoints\":3}", "<html>", "[]"] {
            assert_eq!(datadog_agent(body.as_bytes()), None, "{body}");
        }
    }
}
