//! Batches whose processes belong to somebody, shared by the tests of what is sent.

use std::sync::Arc;

use profiler::profile::{Batch, Identity, IdentityIndex};

use crate::pprof_batch::small_batch;

/// 64 hex digits.
pub(crate) const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A container of a deployment's pod, with everything known.
pub(crate) fn web() -> Identity {
    let text = Arc::<str>::from;
    Identity {
        container_id: text(CONTAINER),
        pod_uid: text("5ee0b67a-3b0c-4f0b-9b5c-1f2b3c4d5e6f"),
        pod: text("web-7d9c-x2x"),
        namespace: text("shop"),
        container: text("server"),
        image: text("registry/web:1.2"),
        node: text("node-1"),
        workload_kind: text("Deployment"),
        workload: text("web"),
        service: text("web"),
        environment: text("prod"),
        version: text("1.2"),
        labels: vec![(text("app.kubernetes.io/name"), text("web"))],
    }
}

/// [`small_batch`] with this owner for `server`; the kernel's thread belongs to nobody.
pub(crate) fn owned_by(owner: Identity) -> Batch {
    let mut batch = small_batch();
    batch.identities = vec![owner];
    batch.processes[0].identity = Some(IdentityIndex(0));
    batch
}
