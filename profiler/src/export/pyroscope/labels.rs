//! The labels of a series: legal names, each once, in order.

use std::collections::BTreeMap;

use pprof_proto::push::LabelPair;

use crate::export::text::TextCounters;
use crate::profile::Identity;

/// Most labels of a series. The server takes 30 by default, and adds some of its own.
pub const MAX_LABELS: usize = 24;
/// Longest value, bytes; the server's own default.
pub const MAX_VALUE_BYTES: usize = 2048;
/// Longest name, bytes; the server takes 1,024.
const MAX_NAME_BYTES: usize = 256;

/// Labels by their names.
struct Labels<'counters> {
    by_name: BTreeMap<String, String>,
    counters: &'counters TextCounters,
}

impl Labels<'_> {
    /// An empty value is no label; the first one of a name stays.
    fn add(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let mut name =
            self.counters.legal(name, MAX_NAME_BYTES, |letter| letter.is_ascii_alphanumeric() || letter == '_');
        if name.starts_with(|first: char| first.is_ascii_digit()) {
            TextCounters::count(&self.counters.replaced);
            name.to_mut().insert(0, '_');
        }
        if name.is_empty() || self.by_name.contains_key(&*name) || self.by_name.len() >= MAX_LABELS {
            TextCounters::count(&self.counters.left_out);
            return;
        }
        let value = self.counters.legal(value, MAX_VALUE_BYTES, |letter| !letter.is_control());
        self.by_name.insert(name.into_owned(), value.into_owned());
    }

    /// A label whose name is not ours to choose: names that begin with `__` mean something to the server.
    fn add_foreign(&mut self, name: &str, value: &str) {
        if name.starts_with("__") {
            TextCounters::count(&self.counters.left_out);
        } else {
            self.add(name, value);
        }
    }
}

/// The labels of an owner's series; `configured` ones count where the owner's own say nothing.
pub(super) fn labels(
    owner: &Identity,
    host: &str,
    configured: &[(String, String)],
    counters: &TextCounters,
) -> Vec<LabelPair> {
    let mut labels = Labels { by_name: BTreeMap::new(), counters };
    let own = [
        ("__name__", "process_cpu"),
        ("service_name", &owner.service),
        ("service_version", &owner.version),
        ("deployment_environment_name", &owner.environment),
        ("namespace", &owner.namespace),
        ("pod", &owner.pod),
        ("container", &owner.container),
        ("node", if owner.node.is_empty() { host } else { &owner.node }),
    ];
    for (name, value) in own {
        labels.add(name, value);
    }
    if owner.pod.is_empty() {
        // Nothing else tells two containers outside Kubernetes apart.
        labels.add("container_id", &owner.container_id);
    }
    let kind = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"]
        .into_iter()
        .find(|kind| **kind == *owner.workload_kind);
    if let Some(kind) = kind {
        labels.add(&kind.to_ascii_lowercase(), &owner.workload);
    }
    for (name, value) in configured {
        // What an owner says of itself is not an error of the configuration.
        if !labels.by_name.contains_key(name) {
            labels.add_foreign(name, value);
        }
    }
    for (name, value) in &owner.labels {
        labels.add_foreign(name, value);
    }
    labels.by_name.into_iter().map(|(name, value)| LabelPair { name, value }).collect()
}
