//! Pods of one container each that keep a processor busy, and what their samples must be like.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::live;
use crate::node::{self, Node};
use crate::samples::{Sample, count};
use crate::servers::wait_for;

/// Samples of each pod, at least: of 3 s at 99 Hz it has a part of two processors.
const ENOUGH: u64 = 10;
/// What their images run, root first.
const C: [&str; 4] = ["main", "level_1", "level_20", "burn"];
const GO: [&str; 3] = ["main.worker", "main.middle", "main.spin"];

/// As the API server tells of it.
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    container: String,
    pub(crate) container_id: String,
    pids: BTreeSet<i32>,
    load: &'static [&'static str],
}

/// So many pods of these namespaces, by name, once their containers run.
pub(crate) fn running(node: &Node, namespaces: &[&str], number: usize) -> Vec<Pod> {
    let is_ours = |pod: &Value| namespaces.iter().any(|ours| pod["metadata"]["namespace"] == *ours);
    let mut pods = wait_for("the pods to run", || {
        let running: Vec<Pod> = node.list("pods").iter().filter(|pod| is_ours(pod)).filter_map(Pod::read).collect();
        (running.len() == number).then_some(running)
    });
    pods.sort_by_key(Pod::shown);
    pods
}

impl Pod {
    /// `None` until its container runs.
    fn read(pod: &Value) -> Option<Pod> {
        let status = &pod["status"]["containerStatuses"][0];
        status["state"]["running"].as_object()?;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let container_id = text(&status["containerID"]).strip_prefix("containerd://")?.to_owned();
        let (_, cgroup) = node::containers().into_iter().find(|(id, _)| *id == container_id)?;
        let pids: BTreeSet<i32> = node::numbers(&cgroup.join("cgroup.procs")).into_iter().collect();
        Some(Pod {
            namespace: text(&pod["metadata"]["namespace"]),
            name: text(&pod["metadata"]["name"]),
            uid: text(&pod["metadata"]["uid"]),
            container: text(&status["name"]),
            container_id,
            pids: Some(pids).filter(|pids| !pids.is_empty())?,
            load: if text(&status["image"]).contains("go-load") { &GO } else { &C },
        })
    }

    pub(crate) fn shown(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// User time of its processes.
    pub(crate) fn seconds(&self) -> f64 {
        self.pids.iter().map(|pid| live::ticks(pid.cast_unsigned()) as f64 / 100.0).sum()
    }

    /// Whether the sample's labels say that it is this pod's.
    pub(crate) fn is_named_by(&self, sample: &Sample) -> bool {
        let names = [("namespace", &self.namespace), ("pod", &self.name), ("container", &self.container)];
        names.iter().all(|(key, value)| sample.label(key) == *value)
    }

    /// Whether this is the first thread of one of its processes.
    pub(crate) fn runs(&self, thread: i64) -> bool {
        self.pids.iter().any(|pid| i64::from(*pid) == thread)
    }

    /// Whether the sample is of one of its processes, and in its container.
    pub(crate) fn has_done(&self, sample: &Sample) -> bool {
        sample.label("container_id") == self.container_id
            && sample.label("pid").parse().is_ok_and(|pid| self.pids.contains(&pid))
    }

    /// Whether samples of its, taken while it got so much processor time, are what they should be.
    pub(crate) fn judge(&self, words: &str, samples: &[&Sample], seconds: f64) {
        let pod = self.shown();
        let all = count(samples.iter().copied());
        let of_load = count(samples.iter().copied().filter(|sample| sample.goes_through(self.load)));
        let sampled = samples.iter().map(|sample| sample.cpu_ns).sum::<u64>() as f64 / 1e9;
        println!(
            "{words:<44} {pod:<28} {all:>5} samples, {of_load:>5} of its load, {sampled:>5.2} s of {seconds:>5.2} s"
        );
        assert!(all >= ENOUGH, "{words}: {all} samples of {pod}");
        assert!(of_load * 10 >= all * 9, "{words}: {of_load} of {all} samples go through {:?}", self.load);
        // It ran before and after the recording as well; the kernel's clock counts in steps of 10 ms.
        assert!(sampled <= seconds * 1.1 + 0.1, "{words}: more than {pod} used");
    }
}

/// A kubeconfig for a service account.
pub(crate) fn as_account(node: &Node, namespace: &str, account: &str) -> PathBuf {
    let token = node.plane.ask(&["create", "token", account, "-n", namespace]);
    let config = std::fs::read_to_string(node.plane.kubeconfig()).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["users"][0]["user"] = json!({"token": token.trim()});
    let file = node.plane.file(&format!("{namespace}-{account}.kubeconfig"));
    std::fs::write(&file, config.to_string()).unwrap();
    file
}
