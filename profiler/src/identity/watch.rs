//! The watch of this node's pods at the API server: one, with `spec.nodeName` as its selector.
//!
//! Without a cluster, without permission, with a server that is away: nothing fails, a counter counts and one line is logged.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::config::KubeConfigOptions;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config, ResourceExt as _};

use super::known::Known;
use super::pod_object::{self, PodObject};

/// How long a connection to the API server may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither in a cluster nor with `KUBECONFIG`.
    #[error("no API server: neither in a pod nor with KUBECONFIG set")]
    Nowhere,
    /// A broken `KUBECONFIG`.
    #[error("KUBECONFIG: {0}")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// What is configured makes no client (a certificate that can't be read …).
    #[error("client of the API server: {0}")]
    Client(#[source] kube::Error),
}

/// A client of the cluster that this is a pod of, else of the one that `KUBECONFIG` names. Never of `~/.kube/config`: an agent
/// that was started on a workstation has no business with what its user administers.
pub async fn client() -> Result<Client, ClientError> {
    let mut config = match Config::incluster() {
        Ok(config) => config,
        Err(_) if std::env::var_os("KUBECONFIG").is_some() => {
            Config::from_kubeconfig(&KubeConfigOptions::default()).await.map_err(ClientError::Kubeconfig)?
        }
        Err(_) => return Err(ClientError::Nowhere),
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    client_of(config)
}

/// A client with this configuration.
pub fn client_of(config: Config) -> Result<Client, ClientError> {
    // Once for the whole process; an error says that somebody else was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_from(config).map_err(ClientError::Client)
}

/// What caused an error in the end: the outer words of a client's are `client error (Connect)`.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// Who said this node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// It was given.
    Given,
    /// This variable.
    Variable(&'static str),
    /// Nobody: it is the host's.
    Host,
}

/// This node's name in the cluster: as given, else the environment's `NODE_NAME` or `KUBERNETES_NODE_NAME` (what a DaemonSet
/// fills from `spec.nodeName`), else the host's name as kubelet takes it: in lower case. A blank name is none.
pub fn node_name(given: Option<&str>, variable: impl Fn(&str) -> Option<String>, hostname: &str) -> Arc<str> {
    sourced_node_name(given, variable, hostname).0
}

/// [`node_name`], and who said it.
pub fn sourced_node_name(
    given: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
    hostname: &str,
) -> (Arc<str>, NameSource) {
    let said = |name: &str| Some(name.trim()).filter(|name| !name.is_empty()).map(Arc::<str>::from);
    if let Some(name) = given.and_then(said) {
        return (name, NameSource::Given);
    }
    let mut variables = ["NODE_NAME", "KUBERNETES_NODE_NAME"].into_iter();
    let found = variables.find_map(|name| Some((said(&variable(name)?)?, NameSource::Variable(name))));
    found.unwrap_or_else(|| (hostname.trim().to_lowercase().into(), NameSource::Host))
}

/// Follows the pods of `node` for ever.
pub(super) async fn follow(client: Client, node: &str, known: &Known) -> Infallible {
    let api: Api<PodObject> = Api::all(client);
    let of_node = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    // A list from the watch itself (Kubernetes 1.32, KEP-3157) comes pod by pod. Else the list comes whole, and from the
    // server's cache: as many agents as nodes, each asking etcd for all pods, are a burden when all start at once.
    let mut streaming = true;
    loop {
        let config = if streaming { of_node.clone().streaming_lists() } else { whole_list(of_node.clone()) };
        let mut events = pin!(watcher::watcher(api.clone(), config).default_backoff());
        let mut state = State::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => state.apply(event, node, known),
                Err(error) if streaming && is_no_streaming(&error) => {
                    streaming = false;
                    break;
                }
                Err(error) => state.failed(&error, node, known),
            }
        }
    }
}

fn whole_list(mut config: watcher::Config) -> watcher::Config {
    // With a page size the client leaves the resource version out, and the list comes from etcd.
    config.page_size = None;
    config.any_semantic()
}

/// A server that knows no lists from watches says that the request is invalid; the client finds that in the watch's first line.
fn is_no_streaming(error: &watcher::Error) -> bool {
    let (watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error)) = error else { return false };
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 422))
}

#[derive(Default)]
struct State {
    listing: bool,
    /// The last thing that was logged was an error.
    failing: bool,
    /// Some list was complete.
    listed: bool,
}

impl State {
    fn apply(&mut self, event: Event<PodObject>, node: &str, known: &Known) {
        let now = Instant::now();
        if !self.listing && matches!(event, Event::Init | Event::InitApply(_) | Event::InitDone) {
            self.listing = true;
            known.api().list_begins();
        }
        match event {
            Event::Init => {}
            Event::Apply(pod) | Event::InitApply(pod) => {
                if let Some(report) = pod_object::report(&pod, known.label_keys()) {
                    known.api().report(report, now);
                }
                known.count(|counters| counters.api_events += 1);
            }
            Event::Delete(pod) => {
                known.api().removed(&pod.uid().unwrap_or_default(), now);
                known.count(|counters| counters.api_events += 1);
            }
            Event::InitDone => {
                self.listing = false;
                known.api().list_ended(now);
                known.count(|counters| counters.api_lists += 1);
                if self.failing || !self.listed {
                    let (pods, containers) = known.api().len();
                    tracing::info!(node, pods, containers, "pods of this node are known");
                }
                (self.failing, self.listed) = (false, true);
            }
        }
        let refused = known.api().take_refused();
        known.count(|counters| counters.pods_refused += refused);
    }

    fn failed(&mut self, error: &watcher::Error, node: &str, known: &Known) {
        // The next list begins anew.
        self.listing = false;
        known.count(|counters| counters.api_errors += 1);
        if !self.failing {
            self.failing = true;
            tracing::warn!(node, %error, "pods can't be watched; trying again, samples go out with what is known");
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
