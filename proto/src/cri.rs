//! The few messages of the Kubernetes container runtime interface, `runtime.v1` (cri-api `pkg/apis/runtime/v1/api.proto`), that
//! tell which container belongs to which pod. Written by hand; fields that nobody here reads are left out and skipped in decoding.

use std::collections::BTreeMap;

use prost::Message;

/// Request of `/runtime.v1.RuntimeService/ListContainers`; without a filter: all, ended ones included.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ListContainersRequest {}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ListContainersResponse {
    /// All containers but the pods' sandboxes.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<Container>,
}

/// A container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Container {
    /// Its id: 64 hex digits.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Id of the pod's sandbox.
    #[prost(string, tag = "2")]
    pub pod_sandbox_id: String,
    /// Its name in the pod.
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<ContainerMetadata>,
    /// The image that was asked for.
    #[prost(message, optional, tag = "4")]
    pub image: Option<ImageSpec>,
    /// Labels of the container, not of its pod.
    #[prost(btree_map = "string, string", tag = "8")]
    pub labels: BTreeMap<String, String>,
}

/// A container's name.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ContainerMetadata {
    /// Name in the pod's spec.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Counts restarts.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
}

/// An image reference.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ImageSpec {
    /// Name or id.
    #[prost(string, tag = "1")]
    pub image: String,
}

/// Request of `/runtime.v1.RuntimeService/ListPodSandbox`; without a filter: all.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ListPodSandboxRequest {}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ListPodSandboxResponse {
    /// All sandboxes, one for each pod and attempt.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<PodSandbox>,
}

/// A pod as the runtime knows it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PodSandbox {
    /// Id of the sandbox, which is a container itself.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Which pod.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<PodSandboxMetadata>,
    /// The pod's labels, all of them.
    #[prost(btree_map = "string, string", tag = "5")]
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations.
    #[prost(btree_map = "string, string", tag = "6")]
    pub annotations: BTreeMap<String, String>,
}

/// Names of a pod.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PodSandboxMetadata {
    /// Pod name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Pod uid; of a static pod the hash of its configuration.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// Namespace.
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// Counts sandboxes of the same pod.
    #[prost(uint32, tag = "4")]
    pub attempt: u32,
}
