//! Pods and containers from the runtime's own API (CRI `runtime.v1`, gRPC over a Unix socket): for nodes where the API server can't
//! be asked.
//!
//! Two questions tell everything, so nothing is asked container by container. Each list makes its own connection: a runtime that
//! was restarted has a new socket at the same path.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use pprof_proto::cri::{
    Container as CriContainer, ListContainersRequest, ListContainersResponse, ListPodSandboxRequest,
    ListPodSandboxResponse, PodSandbox,
};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::pod_object::{container_tags, described, text};
use super::pods::{Container, Pod, PodReport};
use super::workload;

/// Largest answer, bytes: what the kubelet takes. A container is about 1.5 KiB.
const MAX_ANSWER: usize = 16 << 20;
const LIST_CONTAINERS: &str = "/runtime.v1.RuntimeService/ListContainers";
const LIST_POD_SANDBOX: &str = "/runtime.v1.RuntimeService/ListPodSandbox";

/// Why a runtime told nothing.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No connection.
    #[error("cannot connect to {socket}: {why}")]
    Connect {
        /// Path of the socket.
        socket: String,
        /// What the connection said.
        why: String,
    },
    /// It answered with an error, or with nothing that we understand.
    #[error("{request} at {socket}: {why}")]
    Answer {
        /// Path of the socket.
        socket: String,
        /// What was asked.
        request: String,
        /// What came.
        why: String,
    },
    /// No answer in time.
    #[error("{socket} gave no answer within {after:?}")]
    Timeout {
        /// Path of the socket.
        socket: String,
        /// How long was waited.
        after: Duration,
    },
}

/// All pods with all their containers, those included that ended and are still there.
pub async fn list(socket: &Path, timeout: Duration, label_keys: &[Arc<str>]) -> Result<Vec<PodReport>, RuntimeError> {
    let both = async {
        let mut client = Grpc::new(connect(socket).await?).max_decoding_message_size(MAX_ANSWER);
        let sandboxes: ListPodSandboxResponse =
            ask(&mut client, socket, LIST_POD_SANDBOX, ListPodSandboxRequest {}).await?;
        let containers: ListContainersResponse =
            ask(&mut client, socket, LIST_CONTAINERS, ListContainersRequest {}).await?;
        Ok(reports(sandboxes.items, containers.containers, label_keys))
    };
    let late = |_| RuntimeError::Timeout { socket: socket.display().to_string(), after: timeout };
    tokio::time::timeout(timeout, both).await.map_err(late)?
}

async fn connect(socket: &Path) -> Result<Channel, RuntimeError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is of no use, but HTTP/2 wants an authority.
    let connected = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
    connected.map_err(|error| RuntimeError::Connect { socket: socket.display().to_string(), why: chain(&error) })
}

async fn ask<Q, A>(
    client: &mut Grpc<Channel>,
    socket: &Path,
    path: &'static str,
    question: Q,
) -> Result<A, RuntimeError>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let failed = |why: String| RuntimeError::Answer { socket: socket.display().to_string(), request: path.into(), why };
    client.ready().await.map_err(|error| failed(chain(&error)))?;
    let path = PathAndQuery::from_static(path);
    let answer = client.unary(tonic::Request::new(question), path, ProstCodec::default()).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| failed(format!("{:?}: {}", status.code(), status.message())))
}

/// An error with what caused it: the transport's own text alone is `transport error`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Joins containers with their pods. A pod that was started anew has several sandboxes: they are one pod here.
fn reports(sandboxes: Vec<PodSandbox>, containers: Vec<CriContainer>, label_keys: &[Arc<str>]) -> Vec<PodReport> {
    let mut reports: Vec<PodReport> = Vec::new();
    let mut labels: Vec<BTreeMap<String, String>> = Vec::new();
    let mut by_uid: HashMap<Arc<str>, usize> = HashMap::new();
    let mut by_sandbox: HashMap<String, usize> = HashMap::new();
    for sandbox in sandboxes {
        let meta = sandbox.metadata.unwrap_or_default();
        let uid = text(&meta.uid);
        if uid.is_empty() {
            continue;
        }
        let at = *by_uid.entry(uid.clone()).or_insert_with(|| {
            let owner = workload::of_pod(&meta.name, &sandbox.labels);
            let pod = Pod {
                uid,
                name: text(&meta.name),
                namespace: text(&meta.namespace),
                workload_kind: text(owner.kind),
                workload: text(owner.name),
                ..described(&sandbox.labels, &sandbox.annotations, label_keys)
            };
            reports.push(PodReport { pod, containers: Vec::new() });
            labels.push(sandbox.labels);
            reports.len() - 1
        });
        // The sandbox is a container too (`pause`), one without a name.
        reports[at].containers.push((text(&sandbox.id), Container::default()));
        by_sandbox.insert(sandbox.id, at);
    }
    for container in containers {
        let Some(at) = by_sandbox.get(&container.pod_sandbox_id).copied() else { continue };
        let name = container.metadata.map(|meta| meta.name).unwrap_or_default();
        let image = container.image.map(|image| image.image).unwrap_or_default();
        let tags = container_tags(&labels[at], &name);
        let known = Container { name: text(&name), image: text(&image), tags };
        reports[at].containers.push((text(&container.id), known));
    }
    reports
}

#[cfg(test)]
#[path = "cri_tests.rs"]
pub(crate) mod tests;
