//! Which pods are meant, on which nodes they are, and why some can't be profiled. Free of I/O: takes what the API server told.

use std::collections::{BTreeMap, HashMap};

use super::objects::{ContainerStatus, Node, Pod};
use super::parcel::shown;
use super::refusal::Refusal;
use crate::identity::cgroup_path::is_pod_uid;

/// Most nodes that are profiled at once: a Job for each.
pub const MAX_NODES: usize = 64;
/// Most pods of one node, by far more than kubelet starts; their uids are words of a command line.
const MAX_PODS_OF_NODE: usize = 1_000;

/// A pod that is profiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its namespace; empty if only its uid is known.
    pub namespace: String,
    /// Its name; likewise.
    pub name: String,
    /// What its cgroups are called by: its uid, of a static pod the hash of its configuration.
    pub cgroup_uid: String,
    /// Names and ids of its containers, those of before a restart too.
    pub containers: Vec<(String, String)>,
}

impl Target {
    /// What a pod object says; `None` without a uid.
    pub fn of(pod: &Pod) -> Option<Target> {
        let meta = &pod.metadata;
        let hash = meta.annotations.get("kubernetes.io/config.mirror");
        let cgroup_uid = hash.unwrap_or(&meta.uid).clone();
        let statuses = [
            &pod.status.container_statuses,
            &pod.status.init_container_statuses,
            &pod.status.ephemeral_container_statuses,
        ];
        let containers = statuses.into_iter().flatten().flat_map(ids).collect();
        is_pod_uid(&cgroup_uid).then(|| Target {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            cgroup_uid,
            containers,
        })
    }

    /// As people write it.
    pub fn shown(&self) -> String {
        if self.name.is_empty() { self.cgroup_uid.clone() } else { format!("{}/{}", self.namespace, self.name) }
    }
}

/// A container's name with each id that it has had.
fn ids(status: &ContainerStatus) -> Vec<(String, String)> {
    let terminated = |state: &super::objects::ContainerState| state.terminated.as_ref().map(|end| end.id.clone());
    let all = [Some(status.id.clone()), terminated(&status.state), terminated(&status.last_state)];
    let bare = |id: String| id.split_once("://").map_or(id.clone(), |(_, id)| id.to_owned());
    let mut ids: Vec<String> = all.into_iter().flatten().map(bare).filter(|id| !id.is_empty()).collect();
    ids.dedup();
    ids.into_iter().map(|id| (status.name.clone(), id)).collect()
}

/// The pods of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePods {
    /// The node's name.
    pub node: String,
    /// At least one.
    pub pods: Vec<Target>,
}

/// The one pod that was named, if it can be profiled.
///
/// # Errors
/// [`Refusal`].
pub fn named(pod: &Pod) -> Result<NodePods, Refusal> {
    let shown_name = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
    let status = &pod.status;
    if pod.spec.node_name.is_empty() {
        let unplaced = status.conditions.iter().find(|condition| condition.kind == "PodScheduled");
        let why = unplaced.map(|condition| shown(&condition.message)).unwrap_or_default();
        return Err(Refusal::Unscheduled { pod: shown_name, why });
    }
    if status.phase != "Running" {
        let waiting = status.container_statuses.iter().find_map(|container| container.state.waiting.as_ref());
        let why = [&status.message, &status.reason].into_iter().find(|text| !text.is_empty()).cloned();
        let why = why.or_else(|| waiting.map(|why| why.reason.clone())).unwrap_or_default();
        return Err(Refusal::NotRunning { pod: shown_name, phase: shown(&status.phase), why: shown(&why) });
    }
    refuse_place(pod)?;
    let Some(target) = Target::of(pod) else {
        return Err(Refusal::NotRunning { pod: shown_name, phase: "without a uid".to_owned(), why: String::new() });
    };
    Ok(NodePods { node: pod.spec.node_name.clone(), pods: vec![target] })
}

/// Pods that a selector found: those that run, by node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// By the node's name.
    pub nodes: Vec<NodePods>,
    /// Pods that match and don't run.
    pub idle: usize,
    /// Why others that run are left out.
    pub refused: Vec<Refusal>,
}

/// Groups what a selector found.
///
/// # Errors
/// [`Refusal`]: nothing can be profiled, or too much at once.
pub fn selected(pods: &[Pod], namespace: &str, selector: &str) -> Result<Selected, Refusal> {
    let mut by_node: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    let mut selected = Selected::default();
    for pod in pods {
        if pod.status.phase != "Running" || pod.spec.node_name.is_empty() {
            selected.idle += 1;
            continue;
        }
        match named(pod) {
            Ok(found) => by_node.entry(found.node).or_default().extend(found.pods),
            Err(refusal) => selected.refused.push(refusal),
        }
    }
    if by_node.is_empty() {
        return Err(selected.refused.pop().unwrap_or_else(|| Refusal::NoMatch {
            namespace: namespace.to_owned(),
            selector: selector.to_owned(),
            idle: selected.idle,
        }));
    }
    if by_node.len() > MAX_NODES {
        return Err(Refusal::TooManyNodes { found: by_node.len(), max: MAX_NODES });
    }
    if by_node.values().any(|pods| pods.len() > MAX_PODS_OF_NODE) {
        return Err(Refusal::TooManyPods(MAX_PODS_OF_NODE));
    }
    selected.nodes = by_node.into_iter().map(|(node, pods)| NodePods { node, pods }).collect();
    Ok(selected)
}

/// The same, if it is on the node that is asked for as well.
///
/// # Errors
/// [`Refusal::OtherNode`].
pub fn on_node(found: NodePods, asked: Option<&str>) -> Result<NodePods, Refusal> {
    match asked.filter(|asked| *asked != found.node) {
        None => Ok(found),
        Some(asked) => {
            let pod = found.pods.iter().map(Target::shown).collect::<Vec<_>>().join(", ");
            Err(Refusal::OtherNode { pod, node: found.node, asked: shown(asked) })
        }
    }
}

/// The pods with the containers that they have by now, as far as they were found again, besides those that they had.
pub fn with_restarts(pods: &[Target], found: &[Pod]) -> Vec<Target> {
    let now: HashMap<String, Target> =
        found.iter().filter_map(Target::of).map(|pod| (pod.cgroup_uid.clone(), pod)).collect();
    let mut pods = pods.to_vec();
    for pod in &mut pods {
        if let Some(now) = now.get(&pod.cgroup_uid) {
            pod.containers.extend(now.containers.iter().cloned());
        }
    }
    pods
}

/// Ids of the containers with these names, in all pods of a node; none are wanted if none is named.
///
/// # Errors
/// [`Refusal::NoContainer`].
pub fn container_ids(pods: &[Target], names: &[String]) -> Result<Vec<String>, Refusal> {
    let mut ids = Vec::new();
    for name in names {
        let before = ids.len();
        let of_name = pods.iter().flat_map(|pod| &pod.containers).filter(|(known, _)| known == name);
        ids.extend(of_name.map(|(_, id)| id.clone()));
        if ids.len() == before {
            let mut has: Vec<String> =
                pods.iter().flat_map(|pod| &pod.containers).map(|(name, _)| name.clone()).collect();
            has.sort_unstable();
            has.dedup();
            let pod = pods.iter().map(Target::shown).collect::<Vec<_>>().join(", ");
            return Err(Refusal::NoContainer { pod: shown(&pod), wanted: name.clone(), has });
        }
    }
    Ok(ids)
}

/// What only Linux nodes with a kernel of their own have.
const WINDOWS: &str = "runs Windows: Everflame profiles Linux";
const FARGATE: &str = "is a Fargate node: it has no kernel that could be profiled, and takes no privileged pod";
const VIRTUAL: &str = "is a virtual node: there is no kernel behind it that could be profiled";

/// What the pod itself tells of its node, for those who may not read nodes.
fn refuse_place(pod: &Pod) -> Result<(), Refusal> {
    let node = &pod.spec.node_name;
    let selects = |key: &str, value: &str| pod.spec.node_selector.get(key).is_some_and(|found| found == value);
    let is_fargate = pod.metadata.labels.contains_key("eks.amazonaws.com/fargate-profile")
        || node.starts_with("fargate-")
        || selects("eks.amazonaws.com/compute-type", "fargate");
    let what = if pod.spec.os.name == "windows" || selects("kubernetes.io/os", "windows") {
        WINDOWS.to_owned()
    } else if is_fargate {
        FARGATE.to_owned()
    } else if node.starts_with("virtual-node-aci")
        || node.starts_with("virtual-kubelet")
        || selects("type", "virtual-kubelet")
    {
        VIRTUAL.to_owned()
    } else if let Some(other) = pod.spec.node_selector.get("kubernetes.io/arch").filter(|arch| *arch != "amd64") {
        of_other_architecture(other)
    } else {
        return Ok(());
    };
    Err(Refusal::Node { node: node.clone(), what })
}

fn of_other_architecture(architecture: &str) -> String {
    format!("has {} processors: Everflame profiles x86-64 (amd64) so far", shown(architecture))
}

/// Why a node can't be profiled.
///
/// # Errors
/// [`Refusal::Node`].
pub fn refuse_node(node: &Node) -> Result<(), Refusal> {
    let label = |key: &str| node.metadata.labels.get(key).map_or("", String::as_str);
    let info = &node.status.node_info;
    let is_os = |os: &str| info.operating_system == os || label("kubernetes.io/os") == os;
    let architecture = if info.architecture.is_empty() { label("kubernetes.io/arch") } else { &info.architecture };
    let ready = node.status.conditions.iter().find(|condition| condition.kind == "Ready");
    let what = if is_os("windows") {
        WINDOWS.to_owned()
    } else if label("eks.amazonaws.com/compute-type") == "fargate" {
        FARGATE.to_owned()
    } else if label("type") == "virtual-kubelet" {
        VIRTUAL.to_owned()
    } else if !matches!(architecture, "" | "amd64") {
        of_other_architecture(architecture)
    } else if let Some(ready) = ready.filter(|condition| condition.status != "True") {
        format!("is not ready, so nothing can be started there: {}", shown(&ready.message))
    } else {
        return Ok(());
    };
    Err(Refusal::Node { node: node.metadata.name.clone(), what })
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
