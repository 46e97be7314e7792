//! [`Refusal`]: why a pod can't be profiled here, one sentence each, with what to do about it.

/// Names that a sentence lists at most.
const MAX_LISTED: usize = 8;

/// See the module documentation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Names are asked for, and nobody tells any.
    #[error("nobody here knows pods by their names ({}); give a pod's uid instead{}", why.join("; "), in_cgroups(uids))]
    NobodyKnows {
        /// Why each source told nothing.
        why: Vec<String>,
        /// Pods that run here, as cgroups name them.
        uids: Vec<String>,
    },
    /// No such pod, anywhere that was looked.
    #[error("there is no pod {pod} on this node ({node}){}{}", similar_to(similar), unheard(why))]
    NoSuchPod {
        /// As it was asked for.
        pod: String,
        /// This node.
        node: String,
        /// Pods with names like it.
        similar: Vec<String>,
        /// What could not be asked.
        why: Vec<String>,
    },
    /// No cgroup has that uid.
    #[error("no pod with the uid {uid} runs on this node ({node}){}", in_cgroups(uids))]
    NoSuchUid {
        /// As it was asked for.
        uid: String,
        /// This node.
        node: String,
        /// Pods that run here.
        uids: Vec<String>,
    },
    /// It runs on another node.
    #[error("pod {pod} is on node {other}, and this is {node}: profile it there")]
    Elsewhere {
        /// With its namespace.
        pod: String,
        /// Where it is.
        other: String,
        /// This node.
        node: String,
    },
    /// It is on no node.
    #[error("pod {pod} is on no node yet: the scheduler has found no place for it")]
    Unscheduled {
        /// With its namespace.
        pod: String,
    },
    /// It ran.
    #[error("pod {pod} has ended{}", in_phase(phase))]
    Ended {
        /// With its namespace.
        pod: String,
        /// As the API server calls it, empty if it did not tell.
        phase: String,
    },
    /// It does not run yet.
    #[error("pod {pod} has no container on this node yet{}", in_phase(phase))]
    NotStarted {
        /// With its namespace.
        pod: String,
        /// As the API server calls it.
        phase: String,
    },
    /// Several have the name.
    #[error("{} pods are called {name}: {}; write one of them as NAMESPACE/POD", pods.len(), listed(pods))]
    Ambiguous {
        /// As it was asked for.
        name: String,
        /// All of them.
        pods: Vec<String>,
    },
    /// Labels that no pod has.
    #[error("no pod that runs on this node ({node}) matches -l {selector}{}{}", in_namespace(namespace.as_deref()), unheard(why))]
    NoMatch {
        /// As it was asked for.
        selector: String,
        /// If one was given.
        namespace: Option<String>,
        /// This node.
        node: String,
        /// What could not be asked.
        why: Vec<String>,
    },
    /// No such container.
    #[error("no container of {pod} that runs is called {}{}", wanted.join(" or "), it_has(has))]
    NoContainer {
        /// Pod, or what selected several.
        pod: String,
        /// As they were asked for.
        wanted: Vec<String>,
        /// Those that run.
        has: Vec<String>,
    },
    /// More than fit into the kernel's set.
    #[error("the pods have {0} cgroups, more than the {max} that can be chosen at once: choose fewer", max = profiler_common::filter::MAX_LISTED)]
    TooManyCgroups(usize),
}

/// A list for people: long ones are cut.
pub(super) fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MAX_LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn in_cgroups(uids: &[String]) -> String {
    if uids.is_empty() { "; no cgroup here is a pod's".to_owned() } else { format!("; here run {}", listed(uids)) }
}

fn similar_to(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", listed(names)) }
}

fn unheard(why: &[String]) -> String {
    if why.is_empty() { String::new() } else { format!("; not everybody could be asked: {}", why.join("; ")) }
}

fn in_phase(phase: &str) -> String {
    if phase.is_empty() { String::new() } else { format!(" (it is {phase})") }
}

fn in_namespace(namespace: Option<&str>) -> String {
    namespace.map_or_else(String::new, |namespace| format!(" in the namespace {namespace}"))
}

fn it_has(names: &[String]) -> String {
    if names.is_empty() { "; their names are not known here".to_owned() } else { format!("; it has {}", listed(names)) }
}
