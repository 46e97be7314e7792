//! Which API server tells of this node's pods, if any.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::known::Known;
use super::watch;

/// Which API server is asked for pods.
#[derive(Clone, Default)]
pub enum ApiServer {
    /// None.
    Off,
    /// That of the cluster that this is a pod of, else the one that `KUBECONFIG` names, else none.
    #[default]
    Found,
    /// This one.
    Client(kube::Client),
}

/// Follows the pods of this node for ever; where there is no server, `has_api` is told.
pub(super) async fn follow(api: ApiServer, node: Arc<str>, known: Arc<Known>, has_api: Arc<AtomicBool>) {
    let client = match api {
        ApiServer::Off => return,
        ApiServer::Client(client) => Ok(client),
        ApiServer::Found => watch::client().await,
    };
    match client {
        Ok(client) => {
            watch::follow(client, &node, &known).await;
        }
        Err(error) => {
            has_api.store(false, Ordering::Relaxed);
            if !matches!(error, watch::ClientError::Nowhere) {
                known.count(|counters| counters.api_errors += 1);
            }
            tracing::info!(%error, "pods are not watched");
        }
    }
}
