//! `tags_profiler`: `key:value` joined by commas, without any way to write a comma in a value.

use crate::export::architecture::architecture;
use crate::export::text::TextCounters;
use crate::profile::Identity;

/// Longest tag that the back end keeps, bytes of `key:value`.
pub const MAX_TAG_BYTES: usize = 200;
/// Most tags of one profile taken from pod labels.
const MAX_LABEL_TAGS: usize = 64;
/// Keys that have one value, which is ours to say.
const RESERVED: [&str; 12] = [
    "service",
    "env",
    "version",
    "host",
    "runtime",
    "family",
    "profiler_name",
    "profiler_version",
    "profile_seq",
    "cpu_arch",
    "remote_symbols",
    "container_id",
];

/// Tags in the making.
pub(super) struct Tags<'counters> {
    text: String,
    counters: &'counters TextCounters,
}

impl<'counters> Tags<'counters> {
    pub(super) fn new(counters: &'counters TextCounters) -> Tags<'counters> {
        Tags { text: String::new(), counters }
    }

    /// Adds a tag; an empty value is no tag.
    pub(super) fn add(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let legal = |character: char| character != ',' && !character.is_control();
        // The key is cut first, so that some of the value is left.
        let key = self.counters.legal(key, MAX_TAG_BYTES / 2, |character| legal(character) && character != ':');
        let value = self.counters.legal(value, MAX_TAG_BYTES - 1 - key.len(), legal);
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.extend([&key, ":", &value]);
    }

    /// What every profile says.
    pub(super) fn add_profiler(&mut self, host: &str, sequence: u64, remote_symbols: bool) {
        self.add("host", host);
        self.add("runtime", "native");
        self.add("profiler_name", env!("CARGO_PKG_NAME"));
        self.add("profiler_version", env!("CARGO_PKG_VERSION"));
        self.add("cpu_arch", architecture());
        self.add("profile_seq", &sequence.to_string());
        if remote_symbols {
            self.add("remote_symbols", "yes");
        }
    }

    /// Whose the samples are, under the names that the back end's own agent gives.
    pub(super) fn add_owner(&mut self, owner: &Identity) {
        self.add("container_id", &owner.container_id);
        let in_a_pod = !owner.pod.is_empty();
        self.add(if in_a_pod { "kube_container_name" } else { "container_name" }, &owner.container);
        self.add("pod_name", &owner.pod);
        self.add("kube_namespace", &owner.namespace);
        self.add("kube_node", &owner.node);
        if let Some(key) = workload_key(&owner.workload_kind) {
            self.add(key, &owner.workload);
        }
        for (number, (key, value)) in owner.labels.iter().enumerate() {
            if number < MAX_LABEL_TAGS && !key.is_empty() && !RESERVED.contains(&&**key) {
                self.add(key, value);
            } else {
                TextCounters::count(&self.counters.left_out);
            }
        }
    }

    /// The operator's own tags. What has one value, and has it already, is left as it is.
    pub(super) fn add_configured(&mut self, tags: &[(String, String)], taken: &[&str]) {
        for (key, value) in tags {
            if !taken.contains(&key.as_str()) {
                self.add(key, value);
            }
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

fn workload_key(kind: &str) -> Option<&'static str> {
    match kind {
        "Deployment" => Some("kube_deployment"),
        "ReplicaSet" => Some("kube_replica_set"),
        "StatefulSet" => Some("kube_stateful_set"),
        "DaemonSet" => Some("kube_daemon_set"),
        "Job" => Some("kube_job"),
        "CronJob" => Some("kube_cronjob"),
        _ => None,
    }
}
