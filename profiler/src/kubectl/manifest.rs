//! The Job that profiles pods of one node and goes away by itself. Free of I/O: settings in, manifest out.
//!
//! What it needs is what the DaemonSet in `deploy/` needs, and nothing is kept. The host's cgroup hierarchy is below `/proc/1/root` as
//! well, but not where process 1 has more capabilities than the runtime gives to privileged containers: nodes in sandboxes.

use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value, json};

/// What is pulled where nothing else is said; the name that `deploy/Dockerfile` is built with.
pub const DEFAULT_IMAGE: &str = concat!("everflame:", env!("CARGO_PKG_VERSION"));
/// What a Job's pods are found by, and what tells them from the agent's.
pub const NAME_LABEL: &str = "everflame-one-shot";
/// The container.
pub const CONTAINER: &str = "everflame";

/// How long an image may be pulled; not part of the time that is sampled.
const PULL_ALLOWANCE: Duration = Duration::from_secs(600);
/// How long loading before and naming after the samples may take together.
const MARGIN: Duration = Duration::from_secs(300);
/// How long a Job that has ended stays, for those who want its log, if nobody deletes it.
pub const KEPT_AFTER_END: Duration = Duration::from_secs(600);
/// How long a pod that is deleted has for naming and handing over what it has sampled: naming alone may wait two minutes for a file
/// (`naming::unhurried`), and kubelet kills what is not through.
pub const GRACE: Duration = Duration::from_secs(180);

/// A toleration as `--toleration` writes it: `KEY=VALUE:EFFECT`, `KEY:EFFECT` or `KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    key: String,
    value: Option<String>,
    effect: Option<String>,
}

/// Why a text is no toleration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: write KEY[=VALUE][:EFFECT], with an effect of {EFFECTS_TEXT}")]
pub struct TolerationError(String);

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const EFFECTS_TEXT: &str = "NoSchedule, PreferNoSchedule or NoExecute";

impl FromStr for Toleration {
    type Err = TolerationError;

    fn from_str(text: &str) -> Result<Toleration, TolerationError> {
        let refused = || TolerationError(text.to_owned());
        let (rest, effect) = match text.split_once(':') {
            Some((rest, effect)) if EFFECTS.contains(&effect) => (rest, Some(effect.to_owned())),
            Some(_) => return Err(refused()),
            None => (text, None),
        };
        let (key, value) = rest.split_once('=').map_or((rest, None), |(key, value)| (key, Some(value.to_owned())));
        if key.is_empty() { Err(refused()) } else { Ok(Toleration { key: key.to_owned(), value, effect }) }
    }
}

impl Toleration {
    fn json(&self) -> Value {
        let mut found = match &self.value {
            Some(value) => json!({"key": self.key, "operator": "Equal", "value": value}),
            None => json!({"key": self.key, "operator": "Exists"}),
        };
        if let Some(effect) = &self.effect {
            found["effect"] = json!(effect);
        }
        found
    }
}

/// What the Jobs of all nodes have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where they are made.
    pub namespace: String,
    /// The image.
    pub image: String,
    /// Instead of all taints.
    pub tolerations: Vec<Toleration>,
    /// The pods' service account; `None` for the namespace's default one. Its token is not mounted.
    pub service_account: Option<String>,
    /// How long is sampled.
    pub duration: Duration,
    /// Samples per second on each CPU.
    pub frequency: u32,
    /// Words that are passed on, such as `--user-only`.
    pub words: Vec<String>,
}

/// One Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneShot {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub node: String,
    /// The pods' uids.
    pub uids: Vec<String>,
    /// Ids of the only containers that are wanted; all if there is none.
    pub containers: Vec<String>,
}

impl OneShot {
    /// The manifest.
    pub fn job(&self, settings: &Settings) -> Value {
        let deadline = PULL_ALLOWANCE + settings.duration + MARGIN;
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": self.name, "namespace": settings.namespace, "labels": labels()},
            "spec": {
                // A second try would sample another time.
                "backoffLimit": 0,
                "activeDeadlineSeconds": deadline.as_secs(),
                "ttlSecondsAfterFinished": KEPT_AFTER_END.as_secs(),
                "template": {
                    "metadata": {
                        "labels": labels(),
                        "annotations": {
                            // A node that is emptied to save money may wait that long.
                            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                            "linkerd.io/inject": "disabled",
                        },
                    },
                    "spec": self.pod_spec(settings),
                },
            },
        })
    }

    /// The same pod without the Job, to ask whether it would be let in: a Job is, whatever its pods are.
    pub fn pod(&self, settings: &Settings) -> Value {
        let job = self.job(settings);
        let template = &job["spec"]["template"];
        let mut metadata = template["metadata"].clone();
        metadata["name"] = json!(self.name);
        metadata["namespace"] = json!(settings.namespace);
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    }

    fn pod_spec(&self, settings: &Settings) -> Value {
        let mut spec = json!({
            "restartPolicy": "Never",
            // Past the scheduler: a node that is full or cordoned is profiled as well.
            "nodeName": self.node,
            // The programs see the host's pids: in another pid namespace every process would be a stranger.
            "hostPID": true,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": GRACE.as_secs(),
            "tolerations": match &*settings.tolerations {
                [] => json!([{"operator": "Exists"}]),
                some => some.iter().map(Toleration::json).collect(),
            },
            "containers": [{
                "name": CONTAINER,
                "image": settings.image,
                "imagePullPolicy": "IfNotPresent",
                "args": self.words(settings),
                // The last lines of the log are in the status, where they outlive it.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"memory": "1Gi"},
                },
                "securityContext": {"privileged": true, "runAsUser": 0, "readOnlyRootFilesystem": true},
                "volumeMounts": [{"name": "cgroups", "mountPath": "/host/sys/fs/cgroup", "readOnly": true}],
            }],
            "volumes": [{"name": "cgroups", "hostPath": {"path": "/sys/fs/cgroup", "type": "Directory"}}],
        });
        if let Some(account) = &settings.service_account {
            spec["serviceAccountName"] = json!(account);
        }
        spec
    }

    /// The command line.
    fn words(&self, settings: &Settings) -> Vec<String> {
        let mut words: Vec<String> = ["pod", "--hand-over", "--kubernetes=off", "--cri=off"].map(str::to_owned).into();
        words.push(format!("--node-name={}", self.node));
        words.push(format!("--duration={}ms", settings.duration.as_millis()));
        words.push(format!("--frequency={}", settings.frequency));
        words.extend(settings.words.iter().cloned());
        words.extend(self.containers.iter().map(|id| format!("--container={id}")));
        words.extend(self.uids.iter().cloned());
        words
    }
}

fn labels() -> Value {
    json!({
        "app.kubernetes.io/name": NAME_LABEL,
        "app.kubernetes.io/managed-by": "kubectl-everflame",
        // A sidecar would not end, and the Job with it.
        "sidecar.istio.io/inject": "false",
    })
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
