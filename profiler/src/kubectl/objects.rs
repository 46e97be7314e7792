//! Pods, nodes and events as the API server writes them: the little of each that is looked at.
//!
//! Everything may be absent or `null`; texts are somebody's free choice, and are cut where they are shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// A list of objects.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct ListOf<T> {
    /// Of it.
    #[serde(default)]
    pub metadata: ListMeta,
    /// Its objects.
    #[serde(default, deserialize_with = "or_default")]
    pub items: Vec<T>,
}

/// `metadata` of a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ListMeta {
    /// Not empty if there is more.
    #[serde(rename = "continue", deserialize_with = "or_default")]
    pub more: String,
}

/// `metadata`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Namespace; a node has none.
    #[serde(deserialize_with = "or_default")]
    pub namespace: String,
    /// Uid.
    #[serde(deserialize_with = "or_default")]
    pub uid: String,
    /// Labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
}

/// `v1/Pod`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: PodSpec,
    /// `status`.
    pub status: PodStatus,
}

/// `spec` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Empty until it is scheduled.
    #[serde(deserialize_with = "or_default")]
    pub node_name: String,
    /// What nodes it may be on.
    #[serde(deserialize_with = "or_default")]
    pub node_selector: BTreeMap<String, String>,
    /// Its containers.
    #[serde(deserialize_with = "or_default")]
    pub containers: Vec<ContainerSpec>,
    /// `os.name`.
    #[serde(deserialize_with = "or_default")]
    pub os: Named,
}

/// One of `spec.containers`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Its image as it was asked for.
    #[serde(deserialize_with = "or_default")]
    pub image: String,
    /// The words of its command line.
    #[serde(deserialize_with = "or_default")]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<Variable>,
}

/// A variable of a container's environment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Variable {
    /// Its name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Its value, if it is written there.
    #[serde(deserialize_with = "or_default")]
    pub value: String,
}

/// Something with a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    /// The name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
}

/// `status` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running` …
    #[serde(deserialize_with = "or_default")]
    pub phase: String,
    /// `Evicted`, `NodeLost`, `OutOfcpu` …
    #[serde(deserialize_with = "or_default")]
    pub reason: String,
    /// The same for people.
    #[serde(deserialize_with = "or_default")]
    pub message: String,
    /// `PodScheduled` and the like.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
    /// Its containers.
    #[serde(deserialize_with = "or_default")]
    pub container_statuses: Vec<ContainerStatus>,
    /// Those that run before, sidecars among them.
    #[serde(deserialize_with = "or_default")]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Those that were added by `kubectl debug`.
    #[serde(deserialize_with = "or_default")]
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// A condition of a pod, a node or a Job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Which.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    #[serde(deserialize_with = "or_default")]
    pub status: String,
    /// Why, in a word.
    #[serde(deserialize_with = "or_default")]
    pub reason: String,
    /// Why, for people.
    #[serde(deserialize_with = "or_default")]
    pub message: String,
}

/// One container's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    /// Its name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// `containerd://…`.
    #[serde(rename = "containerID", deserialize_with = "or_default")]
    pub id: String,
    /// How it is.
    #[serde(deserialize_with = "or_default")]
    pub state: ContainerState,
    /// How it was before it was restarted.
    #[serde(rename = "lastState", deserialize_with = "or_default")]
    pub last_state: ContainerState,
}

/// At most one of them is there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// It does not run yet.
    pub waiting: Option<Why>,
    /// It runs.
    pub running: Option<serde::de::IgnoredAny>,
    /// It ran.
    pub terminated: Option<Terminated>,
}

/// `waiting`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Why {
    /// In a word.
    #[serde(deserialize_with = "or_default")]
    pub reason: String,
    /// For people.
    #[serde(deserialize_with = "or_default")]
    pub message: String,
}

/// `terminated`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// Its exit code.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled` …
    #[serde(deserialize_with = "or_default")]
    pub reason: String,
    /// The end of its log, since that is asked for.
    #[serde(deserialize_with = "or_default")]
    pub message: String,
    /// Its id.
    #[serde(rename = "containerID", deserialize_with = "or_default")]
    pub id: String,
}

/// `v1/Node`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// `metadata`.
    pub metadata: Meta,
    /// `status`.
    pub status: NodeStatus,
}

/// `status` of a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// `Ready` and the like.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
    /// What kubelet says of the machine.
    #[serde(deserialize_with = "or_default")]
    pub node_info: NodeInfo,
}

/// `nodeInfo`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeInfo {
    /// `linux`, `windows`.
    #[serde(deserialize_with = "or_default")]
    pub operating_system: String,
    /// `amd64`, `arm64` …
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    /// `v1.34.1`, `v1.31.4-eks-…`, `v1.19.10-vk-azure-aci-…`
    #[serde(deserialize_with = "or_default")]
    pub kubelet_version: String,
}

/// `v1/Event`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    /// `FailedCreate`, `Pulling` …
    #[serde(deserialize_with = "or_default")]
    pub reason: String,
    /// For people.
    #[serde(deserialize_with = "or_default")]
    pub message: String,
    /// `Normal` or `Warning`.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
}

/// `null` is what is not there.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
