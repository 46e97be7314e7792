//! Whose samples are, as attributes of a resource, by the semantic conventions (1.44).
//!
//! Keys and values are plain texts: receivers do not resolve references into the dictionary here, though the protocol has them.

use std::collections::HashSet;

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::dictionary::Value;
use super::tables::executable_name;
use crate::export::architecture::architecture;
use crate::export::text::TextCounters;
use crate::profile::{Batch, Identity, Process};

/// Longest value, bytes: Pyroscope makes labels of them and refuses a request for one of more than 2,048.
pub const MAX_VALUE_BYTES: usize = 2048;
/// Longest key that is not ours, bytes; Pyroscope takes 1,024.
const MAX_KEY_BYTES: usize = 512;
/// Most attributes taken from pod labels.
const MAX_POD_LABELS: usize = 64;

/// What describes the version of the conventions.
pub(super) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

struct Attributes<'counters> {
    all: Vec<KeyValue>,
    keys: HashSet<String>,
    counters: &'counters TextCounters,
}

impl Attributes<'_> {
    /// An empty text is no attribute; the first one of a key stays.
    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            let value = self.counters.cut(value, MAX_VALUE_BYTES).to_owned();
            self.add(key, Value::Text(value).into());
        }
    }

    fn add(&mut self, key: &str, value: AnyValue) {
        if self.keys.insert(key.to_owned()) {
            self.all.push(KeyValue { key: key.to_owned(), value: Some(value), key_strindex: 0 });
        } else {
            TextCounters::count(&self.counters.left_out);
        }
    }

    fn foreign(&mut self, prefix: &str, key: &str, value: &str) {
        if key.is_empty() {
            TextCounters::count(&self.counters.left_out);
            return;
        }
        let key = format!("{prefix}{}", self.counters.cut(key, MAX_KEY_BYTES));
        self.text(&key, value);
    }
}

/// The resource of an owner, or of one of its processes; `configured` attributes count where the owner says nothing.
pub(super) fn resource(
    batch: &Batch,
    owner: &Identity,
    process: Option<&Process>,
    host: &str,
    configured: &[(String, String)],
    counters: &TextCounters,
) -> Resource {
    let mut attributes = Attributes { all: Vec::new(), keys: HashSet::new(), counters };
    attributes.text("service.name", &owner.service);
    attributes.text("service.version", &owner.version);
    attributes.text("deployment.environment.name", &owner.environment);
    attributes.text("container.id", &owner.container_id);
    let (image, tag) = image_and_tag(&owner.image);
    attributes.text("container.image.name", image);
    if !tag.is_empty() {
        let tag = Value::Text(counters.cut(tag, MAX_VALUE_BYTES).to_owned()).into();
        let tags = any_value::Value::ArrayValue(ArrayValue { values: vec![tag] });
        attributes.add("container.image.tags", AnyValue { value: Some(tags) });
    }
    let in_a_pod = !owner.pod.is_empty();
    attributes.text(if in_a_pod { "k8s.container.name" } else { "container.name" }, &owner.container);
    attributes.text("k8s.pod.name", &owner.pod);
    attributes.text("k8s.pod.uid", &owner.pod_uid);
    attributes.text("k8s.namespace.name", &owner.namespace);
    attributes.text("k8s.node.name", &owner.node);
    if let Some(key) = workload_key(&owner.workload_kind) {
        attributes.text(key, &owner.workload);
    }
    if let Some(process) = process {
        attributes.add("process.pid", Value::Number(i64::from(process.pid)).into());
        attributes.text("process.executable.name", executable_name(batch, process.executable, process.comm));
        attributes.text("process.executable.path", batch.strings.get(process.executable));
    }
    attributes.text("host.name", host);
    attributes.text("host.arch", architecture());
    attributes.text("os.type", "linux");
    for (key, value) in configured {
        // What an owner says of itself is not an error of the configuration.
        if !attributes.keys.contains(key) {
            attributes.foreign("", key, value);
        }
    }
    for (number, (key, value)) in owner.labels.iter().enumerate() {
        if number < MAX_POD_LABELS {
            attributes.foreign("k8s.pod.label.", key, value);
        } else {
            TextCounters::count(&counters.left_out);
        }
    }
    Resource { attributes: attributes.all, ..Resource::default() }
}

fn workload_key(kind: &str) -> Option<&'static str> {
    match kind {
        "Deployment" => Some("k8s.deployment.name"),
        "ReplicaSet" => Some("k8s.replicaset.name"),
        "StatefulSet" => Some("k8s.statefulset.name"),
        "DaemonSet" => Some("k8s.daemonset.name"),
        "Job" => Some("k8s.job.name"),
        "CronJob" => Some("k8s.cronjob.name"),
        _ => None,
    }
}

/// `registry:5000/web:1.2@sha256:…` is image `registry:5000/web` with tag `1.2`.
fn image_and_tag(image: &str) -> (&str, &str) {
    let named = image.split('@').next().unwrap_or(image);
    match named.rsplit_once(':') {
        // A colon before a slash belongs to the registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (named, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::image_and_tag;

    #[test]
    fn an_image_is_parted_from_its_tag_and_digest() {
        let cases = [
            ("web", ("web", "")),
            ("registry:5000/shop/web", ("registry:5000/shop/web", "")),
            ("registry:5000/shop/web:1.2", ("registry:5000/shop/web", "1.2")),
            ("web:1.2@sha256:abcd", ("web", "1.2")),
            ("web@sha256:abcd", ("web", "")),
            ("", ("", "")),
        ];
        for (image, expected) in cases {
            assert_eq!(image_and_tag(image), expected, "{image}");
        }
    }
}
