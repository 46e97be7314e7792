//! [`Refusal`]: what stopped a profile of a pod from elsewhere, one sentence each, with what to do about it.
//!
//! The API server's answers are texts for people: what is looked for in them is quoted from Kubernetes' sources, and what is not
//! found is passed on in the server's own words.

use kube::client::UpgradeConnectionError;
use kube::core::Status;

use super::parcel::shown;
use crate::identity::watch::innermost;

/// See the module documentation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such pod.
    #[error("there is no pod {name} in the namespace {namespace}: give another one with -n, or as NAMESPACE/POD")]
    NoSuchPod {
        /// Where it was looked for.
        namespace: String,
        /// As it was asked for.
        name: String,
    },
    /// A selector that matches nothing that runs.
    #[error("no pod that runs matches -l {selector} in the namespace {namespace}{}", not_running(*idle))]
    NoMatch {
        /// Where it was looked for.
        namespace: String,
        /// As it was asked for.
        selector: String,
        /// Pods that match and don't run.
        idle: usize,
    },
    /// More than are listed.
    #[error("more than {0} pods match: narrow the selector")]
    TooManyPods(usize),
    /// More nodes than are asked at once.
    #[error("the pods are on {found} nodes, and {max} can be profiled at once: narrow the selector")]
    TooManyNodes {
        /// How many.
        found: usize,
        /// At most.
        max: usize,
    },
    /// On no node.
    #[error("pod {pod} is on no node yet{}", because(why))]
    Unscheduled {
        /// With its namespace.
        pod: String,
        /// What the scheduler says.
        why: String,
    },
    /// On another node than it should be.
    #[error("pod {pod} is on node {node}, not on {asked}: leave --node out")]
    OtherNode {
        /// With its namespace.
        pod: String,
        /// Where it is.
        node: String,
        /// Where it was looked for.
        asked: String,
    },
    /// It does not run (any more).
    #[error("pod {pod} does not run: it is {phase}{}", because(why))]
    NotRunning {
        /// With its namespace.
        pod: String,
        /// `Pending`, `Succeeded`, `Failed`.
        phase: String,
        /// What the server says.
        why: String,
    },
    /// A container that it has not.
    #[error("no container of pod {pod} that runs is called {wanted}; it has {}", has.join(", "))]
    NoContainer {
        /// With its namespace.
        pod: String,
        /// As asked for.
        wanted: String,
        /// Those that run.
        has: Vec<String>,
    },
    /// A node that can't be profiled.
    #[error("node {node} {what}")]
    Node {
        /// Which.
        node: String,
        /// What it is, and why that is no use.
        what: String,
    },
    /// RBAC.
    #[error(
        "you may not {verb} {resource}{}{}: the role in docs/kubectl.md gives that right",
        in_namespace(namespace),
        as_user(user)
    )]
    Rbac {
        /// `create` …
        verb: String,
        /// With its group: `jobs.batch`.
        resource: String,
        /// Empty for what is in none.
        namespace: String,
        /// As the server knows us.
        user: String,
    },
    /// Pod Security Admission.
    #[error(
        "the namespace {namespace} lets no privileged pod in, its Pod Security level is {level}: run the profiler in one that does \
        with --in-namespace (it forbids {what})"
    )]
    PodSecurity {
        /// Where it should have been.
        namespace: String,
        /// `baseline:latest` …
        level: String,
        /// What the pod has that it may not.
        what: String,
    },
    /// Another admission controller.
    #[error("the cluster's admission refuses the profiler's pod in the namespace {namespace}: {why}")]
    Admission {
        /// Where it should have been.
        namespace: String,
        /// Its words.
        why: String,
    },
    /// A quota.
    #[error("the quota of the namespace {namespace} leaves no room for the profiler's pod: {why}")]
    Quota {
        /// Where it should have been.
        namespace: String,
        /// The server's words.
        why: String,
    },
    /// Who we are is not known.
    #[error("the API server does not accept your credentials: log in again (it says: {0})")]
    Unauthorized(String),
    /// Anything else that the API server answers.
    #[error("the API server, asked to {doing}: {why}")]
    Server {
        /// What was asked.
        doing: String,
        /// Its words.
        why: String,
    },
    /// The image can't be pulled.
    #[error("node {node} can't pull the image {image}: {why}; give one that it can with --image")]
    Image {
        /// Which.
        node: String,
        /// Its name.
        image: String,
        /// kubelet's words.
        why: String,
    },
    /// The container can't be started.
    #[error("node {node} can't start the profiler: {why}")]
    Start {
        /// Which.
        node: String,
        /// kubelet's words.
        why: String,
    },
    /// kubelet does not take the pod, or has thrown it out.
    #[error("node {node} does not keep the profiler's pod: {why}")]
    Rejected {
        /// Which.
        node: String,
        /// kubelet's words.
        why: String,
    },
    /// The profiler ended with an error.
    #[error("on node {node}: {why}")]
    Profiler {
        /// Which.
        node: String,
        /// What it said last.
        why: String,
    },
    /// Nothing is heard of kubelet.
    #[error("node {node} has not taken the profiler's pod for {seconds} s: kubelet there is away or overloaded")]
    Silent {
        /// Which.
        node: String,
        /// How long.
        seconds: u64,
    },
    /// No pod came of the Job.
    #[error("no pod came of the Job {job} in {seconds} s{}", because(why))]
    NoPod {
        /// Its name.
        job: String,
        /// How long.
        seconds: u64,
        /// What events say.
        why: String,
    },
    /// The user ended it before there was anything to fetch.
    #[error("ended before anything was sampled on node {node}")]
    Stopped {
        /// Which.
        node: String,
    },
    /// Something else stopped it, and the Job is there still.
    #[error("{refusal}; the Job {job} {what}")]
    JobStays {
        /// What stopped it.
        refusal: Box<Refusal>,
        /// Its name, and where it is.
        job: String,
        /// Why it stays.
        what: String,
    },
    /// The user left, and the Job is to stay.
    #[error("left the Job {job} in the namespace {namespace} as it is; it ends by itself, and its log has the profile")]
    Left {
        /// Where it is.
        namespace: String,
        /// Its name.
        job: String,
    },
    /// The pod is through, and not all of its log can be read.
    #[error(
        "on node {node} the profile was made and can't be read from the pod's log: {why}; take less time or a lower -F, \
        since kubelet keeps 10 MiB of a log"
    )]
    Lost {
        /// Which.
        node: String,
        /// What is missing.
        why: String,
    },
    /// Something deleted the pod.
    #[error("the profiler's pod on node {node} was deleted before it was through")]
    Deleted {
        /// Which.
        node: String,
    },
}

impl Refusal {
    /// What an error of the API server means; `doing` continues "asked to".
    pub fn of(error: &kube::Error, doing: &str, namespace: &str) -> Refusal {
        match error {
            kube::Error::Api(status) => Refusal::of_status(status, doing, namespace),
            // The answer to an upgrade has no body that the client would show.
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) if code.as_u16() == 403 => {
                Refusal::Rbac {
                    verb: "get and create".to_owned(),
                    resource: "pods/portforward".to_owned(),
                    namespace: namespace.to_owned(),
                    user: String::new(),
                }
            }
            other => Refusal::Server { doing: doing.to_owned(), why: shown(&innermost(other)) },
        }
    }

    /// The same of the server's answer.
    pub fn of_status(status: &Status, doing: &str, namespace: &str) -> Refusal {
        let message = &status.message;
        let (namespace, why) = (namespace.to_owned(), shown(message));
        match status.code {
            401 => Refusal::Unauthorized(why),
            403 => forbidden(message, namespace.clone()).unwrap_or_else(|| {
                if message.contains("quota") {
                    Refusal::Quota { namespace, why: after_forbidden(message) }
                } else {
                    Refusal::Admission { namespace, why: after_forbidden(message) }
                }
            }),
            _ if message.contains("admission webhook") => Refusal::Admission { namespace, why },
            _ => Refusal::Server { doing: doing.to_owned(), why },
        }
    }

    /// Whether it may be another answer the next time: a server that is away, overloaded, or can't look credentials up.
    pub fn may_pass(&self) -> bool {
        matches!(self, Refusal::Server { .. } | Refusal::Unauthorized(_))
    }

    /// The same as a result: an error is what asking again does not help against.
    ///
    /// # Errors
    /// Itself.
    pub fn passing(self) -> Result<Refusal, Refusal> {
        if self.may_pass() { Ok(self) } else { Err(self) }
    }

    /// Whether it is RBAC's.
    pub fn is_rbac(&self) -> bool {
        matches!(self, Refusal::Rbac { .. })
    }
}

/// What a message of a 403 says, if it is RBAC's or the Pod Security admission's.
fn forbidden(message: &str, namespace: String) -> Option<Refusal> {
    // `pods is forbidden: User "dev" cannot list resource "pods" in API group "" in the namespace "shop"`
    if let Some((before, rest)) = message.split_once(" cannot ")
        && let Some((verb, rest)) = rest.split_once(" resource ")
    {
        let (resource, rest) = quoted(rest)?;
        let group = rest.split_once("in API group ").and_then(|(_, rest)| quoted(rest)).map_or("", |(group, _)| group);
        let at = rest.split_once("in the namespace ").and_then(|(_, rest)| quoted(rest)).map_or("", |(name, _)| name);
        let user = before.split_once("User ").and_then(|(_, rest)| quoted(rest)).map_or("", |(user, _)| user);
        let dot = if group.is_empty() { "" } else { "." };
        return Some(Refusal::Rbac {
            verb: shown(verb),
            resource: shown(&format!("{resource}{dot}{group}")),
            namespace: shown(at),
            user: shown(user),
        });
    }
    // `pods "x" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true), privileged (…)`
    let (_, rest) = message.split_once("violates PodSecurity ")?;
    let (level, rest) = quoted(rest)?;
    let what = shown(rest.trim_start_matches([':', ' ']));
    Some(Refusal::PodSecurity { namespace, level: shown(level), what })
}

/// The text in the quotes that come first, and what follows them.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.trim_start().strip_prefix('"')?.split_once('"')
}

/// `pods "x" is forbidden: WHY`, of which WHY is news.
fn after_forbidden(message: &str) -> String {
    shown(message.split_once(" is forbidden: ").map_or(message, |(_, why)| why))
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

fn not_running(idle: usize) -> String {
    if idle == 0 { String::new() } else { format!(" ({idle} that match don't run)") }
}

fn in_namespace(namespace: &str) -> String {
    if namespace.is_empty() { String::new() } else { format!(" in the namespace {namespace}") }
}

fn as_user(user: &str) -> String {
    if user.is_empty() { String::new() } else { format!(" as {user}") }
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
