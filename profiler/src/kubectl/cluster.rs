//! The API server, asked as the user of a kubeconfig. Each answer that is an error becomes a [`Refusal`].

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use futures_util::io::AsyncBufRead;
use http::Request;
use k8s_openapi::api::core::v1::Pod as FullPod;
use kube::api::{DeleteParams, GetParams, ListParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Request as Ask;
use kube::{Api, Client, Config};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::manifest::CONTAINER;
use super::objects::{Event, ListOf, Node, Pod};
use super::refusal::Refusal;
use crate::identity::watch::client_of;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take that is no stream.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most pods of one selector.
const MAX_PODS: u32 = 2_000;
/// Most events of one object that are looked at.
const MAX_EVENTS: u32 = 50;

/// Why there is nobody to ask.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No kubeconfig, no context of that name, a certificate that can't be read …
    #[error("kubeconfig: {}", told(.0))]
    Kubeconfig(KubeconfigError),
    /// What is configured makes no client.
    #[error(transparent)]
    Client(#[from] crate::identity::watch::ClientError),
}

/// The crate's sentence, but for the one that people meet: no file where it is looked for.
fn told(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(why, path) => {
            format!("cannot read {}: {why}; name one by --kubeconfig FILE or KUBECONFIG", path.display())
        }
        error => error.to_string(),
    }
}

/// See the module documentation.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    /// As kubectl does it: the file that is named, or that `KUBECONFIG` names, or `~/.kube/config`; where none of them exists, in a pod
    /// its service account.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn connect(file: Option<&Path>, context: Option<&str>) -> Result<Cluster, ClusterError> {
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        let config = match file {
            Some(file) => match Kubeconfig::read_from(file) {
                Ok(read) => Config::from_custom_kubeconfig(read, &options).await,
                Err(error) => Err(error),
            },
            None => Config::from_kubeconfig(&options).await,
        };
        let mut config = match config {
            Ok(config) => config,
            Err(error) => {
                let named = std::env::var_os("KUBECONFIG");
                let may_be_in_a_pod = file.is_none() && context.is_none() && is_absent(&error, named.as_deref());
                match may_be_in_a_pod.then(Config::incluster) {
                    Some(Ok(config)) => config,
                    Some(Err(_)) | None => return Err(ClusterError::Kubeconfig(error)),
                }
            }
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let namespace = config.default_namespace.clone();
        Ok(Cluster { client: client_of(config)?, namespace })
    }

    /// With a client that is there already.
    pub fn of(client: Client, namespace: &str) -> Cluster {
        Cluster { client, namespace: namespace.to_owned() }
    }

    /// The context's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A pod, if there is one of that name.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, Refusal> {
        let request = pods(namespace).get(name, &GetParams::default());
        self.ask_optional(request, &format!("get the pod {namespace}/{name}"), namespace).await
    }

    /// The pods that a selector matches.
    ///
    /// # Errors
    /// [`Refusal`], also if there are more than are looked at.
    pub async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>, Refusal> {
        self.list(namespace, ListParams::default().labels(selector)).await
    }

    /// Those of them that are on a node.
    ///
    /// # Errors
    /// [`Refusal`], also if there are more than are looked at.
    pub async fn pods_on(&self, namespace: &str, selector: &str, node: &str) -> Result<Vec<Pod>, Refusal> {
        let params = ListParams::default().labels(selector).fields(&format!("spec.nodeName={node}"));
        self.list(namespace, params).await
    }

    /// The agent's pods on a node. Only those of its own namespace: whoever may make pods elsewhere could make one that looks like it,
    /// and would be given the page's token.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn agents(&self, namespace: &str, node: &str) -> Result<Vec<Pod>, Refusal> {
        self.pods_on(namespace, "app.kubernetes.io/name=everflame", node).await
    }

    async fn list(&self, namespace: &str, params: ListParams) -> Result<Vec<Pod>, Refusal> {
        let request = pods(namespace).list(&params.limit(MAX_PODS));
        let found: ListOf<Pod> = self.ask(request, &format!("list pods in {namespace}"), namespace).await?;
        if found.metadata.more.is_empty() { Ok(found.items) } else { Err(Refusal::TooManyPods(MAX_PODS as usize)) }
    }

    /// A node, if there is one of that name.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn node(&self, name: &str) -> Result<Option<Node>, Refusal> {
        let request = Ask::new("/api/v1/nodes").get(name, &GetParams::default());
        self.ask_optional(request, &format!("get the node {name}"), "").await
    }

    /// Whether the server would take this pod; nothing is made.
    ///
    /// # Errors
    /// [`Refusal`]: what stands against it.
    pub async fn would_take(&self, namespace: &str, pod: &Value) -> Result<(), Refusal> {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let request = pods(namespace).create(&params, pod.to_string().into_bytes());
        let _: IgnoredAny = self.ask(request, "take the profiler's pod (dry run)", namespace).await?;
        Ok(())
    }

    /// Makes a Job. Its name is nobody else's: one that exists is ours, and the answer to the first try was lost (the client asks again by
    /// itself after a 503 or 504).
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn create_job(&self, namespace: &str, job: &Value) -> Result<(), Refusal> {
        let request = jobs(namespace).create(&PostParams::default(), job.to_string().into_bytes());
        let doing = "create the profiler's Job";
        match self.answer::<IgnoredAny>(request).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(kube::Error::Api(status))) if status.is_already_exists() => Ok(()),
            Some(Err(error)) => Err(Refusal::of(&error, doing, namespace)),
            None => Err(late(doing)),
        }
    }

    /// Deletes a Job and then, without waiting for it, its pod. One that is gone is deleted.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn delete_job(&self, namespace: &str, name: &str) -> Result<(), Refusal> {
        let request = jobs(namespace).delete(name, &DeleteParams::background());
        let _: Option<IgnoredAny> = self.ask_optional(request, &format!("delete the Job {name}"), namespace).await?;
        Ok(())
    }

    /// The pod of a Job, once there is one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn pod_of_job(&self, namespace: &str, job: &str) -> Result<Option<Pod>, Refusal> {
        let params = ListParams::default().labels(&format!("job-name={job}")).limit(1);
        let found: ListOf<Pod> = self.ask(pods(namespace).list(&params), "list the Job's pods", namespace).await?;
        Ok(found.items.into_iter().next())
    }

    /// What warnings say of an object; empty if they may not be read.
    pub async fn warnings(&self, namespace: &str, name: &str) -> Vec<String> {
        let params = ListParams::default().fields(&format!("involvedObject.name={name}")).limit(MAX_EVENTS);
        let request = Ask::new(format!("/api/v1/namespaces/{namespace}/events")).list(&params);
        let found: Result<ListOf<Event>, Refusal> = self.ask(request, "list events", namespace).await;
        let events = found.map(|found| found.items).unwrap_or_default();
        events.into_iter().filter(|event| event.kind == "Warning").map(|event| event.message).collect()
    }

    /// A pod's log, from its beginning; one that is followed ends with the container.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn log(&self, namespace: &str, pod: &str, follow: bool) -> Result<impl AsyncBufRead + use<>, Refusal> {
        let params = LogParams { container: Some(CONTAINER.to_owned()), follow, ..LogParams::default() };
        let refused = |error: &kube::Error| Refusal::of(error, &format!("read the log of the pod {pod}"), namespace);
        let request = pods(namespace).logs(pod, &params).map_err(|error| refused(&kube::Error::BuildRequest(error)))?;
        let answer = tokio::time::timeout(PATIENCE, self.client.request_stream(request)).await;
        match answer {
            Ok(answer) => answer.map_err(|error| refused(&error)),
            Err(_) => Err(late(&format!("read the log of the pod {pod}"))),
        }
    }

    /// Connections to a pod's ports are made by this.
    pub fn forwarder(&self, namespace: &str) -> Api<FullPod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn ask_optional<T: DeserializeOwned>(
        &self,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
        doing: &str,
        namespace: &str,
    ) -> Result<Option<T>, Refusal> {
        match self.answer(request).await {
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
            Some(Err(error)) => Err(Refusal::of(&error, doing, namespace)),
            None => Err(late(doing)),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
        doing: &str,
        namespace: &str,
    ) -> Result<T, Refusal> {
        match self.answer(request).await {
            Some(answer) => answer.map_err(|error| Refusal::of(&error, doing, namespace)),
            None => Err(late(doing)),
        }
    }

    /// `None` if there is none in time.
    async fn answer<T: DeserializeOwned>(
        &self,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Option<Result<T, kube::Error>> {
        let request = match request {
            Ok(request) => request,
            Err(error) => return Some(Err(kube::Error::BuildRequest(error))),
        };
        tokio::time::timeout(PATIENCE, self.client.request(request)).await.ok()
    }
}

/// Whether there is no kubeconfig at all. One that is there and wrong was meant: what it should have said is not to be done by somebody
/// else's rights, on another cluster.
fn is_absent(error: &KubeconfigError, named: Option<&OsStr>) -> bool {
    let is_missing = match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(why, _) => why.kind() == ErrorKind::NotFound,
        _ => false,
    };
    is_missing && !named.is_some_and(|paths| std::env::split_paths(paths).any(|path| path.exists()))
}

fn late(doing: &str) -> Refusal {
    Refusal::Server { doing: doing.to_owned(), why: format!("no answer in {} s", PATIENCE.as_secs()) }
}

fn pods(namespace: &str) -> Ask {
    Ask::new(format!("/api/v1/namespaces/{namespace}/pods"))
}

fn jobs(namespace: &str) -> Ask {
    Ask::new(format!("/apis/batch/v1/namespaces/{namespace}/jobs"))
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
