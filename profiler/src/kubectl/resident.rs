//! An agent that runs on a node already, and a way to its page: a listener on loopback whose connections the API server forwards.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod as FullPod;
use kube::Api;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::cluster::Cluster;
use super::objects::Pod;
use super::refusal::Refusal;
use crate::identity::watch::innermost;

/// How long a forwarded connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(15);
/// Connections at a time; one is needed.
const MAX_CONNECTIONS: usize = 8;
/// Where `everflame live` has its page if nothing is said.
const DEFAULT_PORT: u16 = 7654;

/// An agent's pod with a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The page's port.
    pub port: u16,
}

/// The first of these pods that is ready and has a page.
pub fn resident(pods: &[Pod]) -> Option<Resident> {
    let is_ready = |pod: &Pod| {
        pod.status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
    };
    pods.iter().filter(|pod| is_ready(pod)).find_map(|pod| {
        let (namespace, name) = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        Some(Resident { namespace, pod: name, port: page_port(pod)? })
    })
}

/// The port of its page, by its environment or its command line.
fn page_port(pod: &Pod) -> Option<u16> {
    pod.spec.containers.iter().find_map(|container| {
        let words = &container.args;
        let after = |at: usize| words.get(at + 1).map(String::as_str);
        let by_word = words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--page") {
            Some("") => after(at),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        });
        let by_environment = container
            .env
            .iter()
            .find(|variable| variable.name == "EVERFLAME_PAGE")
            .map(|variable| variable.value.as_str());
        match by_word.or(by_environment) {
            Some(address) => address.rsplit_once(':')?.1.parse().ok(),
            None => words.first().is_some_and(|word| word == "live").then_some(DEFAULT_PORT),
        }
    })
}

/// Ends with its drop.
#[derive(Debug)]
pub struct Bridge {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bridge {
    /// A bridge to an agent's page; whether the server forwards there at all is tried first.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn to(cluster: &Cluster, resident: &Resident) -> Result<Bridge, Refusal> {
        let api = cluster.forwarder(&resident.namespace);
        let doing = format!("forward a port to the agent {}/{}", resident.namespace, resident.pod);
        let failed = |why: String| Refusal::Server { doing: doing.clone(), why };
        match timeout(PATIENCE, api.portforward(&resident.pod, &[resident.port])).await {
            Ok(Ok(first)) => first.abort(),
            Ok(Err(error)) => return Err(Refusal::of(&error, &doing, &resident.namespace)),
            Err(_) => return Err(failed(format!("no answer in {} s", PATIENCE.as_secs()))),
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| failed(innermost(&error)))?;
        let address = listener.local_addr().map_err(|error| failed(innermost(&error)))?;
        let task = tokio::spawn(serve(listener, api, resident.clone()));
        Ok(Bridge { address, task })
    }
}

async fn serve(listener: TcpListener, api: Api<FullPod>, resident: Resident) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { return };
        let (api, resident) = (api.clone(), resident.clone());
        connections.spawn(async move {
            forward(stream, &api, &resident).await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Whoever connected sees an error as a connection that ends.
async fn forward(mut near: TcpStream, api: &Api<FullPod>, resident: &Resident) {
    let Ok(Ok(mut forwarder)) = timeout(PATIENCE, api.portforward(&resident.pod, &[resident.port])).await else {
        return;
    };
    let Some(mut far) = forwarder.take_stream(resident.port) else { return };
    let _ = copy_bidirectional(&mut near, &mut far).await;
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, ready: &str, container: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "everflame"},
            "spec": {"containers": [container]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn an_agent_that_is_ready_and_has_a_page_is_found_with_its_port() {
        let environment = |value: &str| json!({"args": ["agent"], "env": [{"name": "EVERFLAME_PAGE", "value": value}]});
        for (container, expected) in [
            (environment("127.0.0.1:7654"), Some(7654)),
            (environment("[::1]:80"), Some(80)),
            (environment("off"), None),
            (environment("127.0.0.1:70000"), None),
            (json!({"args": ["agent", "--page", "127.0.0.1:1234"]}), Some(1234)),
            (json!({"args": ["agent", "--page=127.0.0.1:1234"], "env": null}), Some(1234)),
            (json!({"args": ["agent", "--page"]}), None),
            (json!({"args": ["agent", "--page-token-file=/x:1"]}), None),
            (json!({"args": ["live"]}), Some(DEFAULT_PORT)),
            (json!({"args": ["agent"]}), None),
            (json!({}), None),
        ] {
            let found =
                resident(&[pod("starts", "False", environment("127.0.0.1:1")), pod("a", "True", container.clone())]);
            let expected =
                expected.map(|port| Resident { namespace: "everflame".to_owned(), pod: "a".to_owned(), port });
            assert_eq!(found, expected, "{container}");
        }
    }
}
