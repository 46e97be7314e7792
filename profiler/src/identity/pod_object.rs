//! A pod as the API server writes it, and the little of it that is kept.
//!
//! Every list may be `null` or absent (the bookmark of a watch is a hollow pod), every text is somebody's free choice within the
//! API's rules and is bounded here again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod as FullPod;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::environment::{Declared, acceptable};
use super::pods::{Container, Pod, PodReport};
use super::workload;

/// Longest name, image or label value that is kept, bytes: a name has at most 253, an image reference with digest about 400.
const MAX_TEXT: usize = 512;
/// Most containers of one pod that are kept, of each of the three lists.
const MAX_CONTAINERS_OF_POD: usize = 256;

/// `v1/Pod` with only these fields: the rest is not even decoded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodObject {
    metadata: ObjectMeta,
    spec: Option<PodSpec>,
    status: Option<PodStatus>,
}

impl Resource for PodObject {
    type DynamicType = ();
    type Scope = <FullPod as Resource>::Scope;

    fn kind(pod: &()) -> Cow<'_, str> {
        FullPod::kind(pod)
    }
    fn group(pod: &()) -> Cow<'_, str> {
        FullPod::group(pod)
    }
    fn version(pod: &()) -> Cow<'_, str> {
        FullPod::version(pod)
    }
    fn plural(pod: &()) -> Cow<'_, str> {
        FullPod::plural(pod)
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// `spec`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
    containers: Option<Vec<ContainerSpec>>,
    init_containers: Option<Vec<ContainerSpec>>,
    ephemeral_containers: Option<Vec<ContainerSpec>>,
}

/// One of `spec.containers` and its like.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ContainerSpec {
    name: Option<String>,
    image: Option<String>,
}

/// `status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: Option<String>,
    container_statuses: Option<Vec<ContainerStatus>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: Option<String>,
    image: Option<String>,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    state: Option<ContainerState>,
    last_state: Option<ContainerState>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ContainerState {
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Terminated {
    #[serde(rename = "containerID")]
    container_id: Option<String>,
}

/// What is kept of a pod; `None` without uid. `label_keys` are the labels to keep.
pub fn report(object: &PodObject, label_keys: &[Arc<str>]) -> Option<PodReport> {
    let meta = &object.metadata;
    let uid = meta.uid.as_deref().filter(|uid| !uid.is_empty())?;
    let labels = meta.labels.as_ref().unwrap_or(&EMPTY);
    let annotations = meta.annotations.as_ref().unwrap_or(&EMPTY);
    let owner = workload_of(meta, labels);
    let config_hash = annotations.get("kubernetes.io/config.mirror").or(annotations.get("kubernetes.io/config.hash"));
    let pod = Pod {
        uid: text(uid),
        config_hash: optional(config_hash.map(String::as_str)),
        name: optional(meta.name.as_deref()),
        namespace: optional(meta.namespace.as_deref()),
        workload_kind: text(owner.kind),
        workload: text(owner.name),
        ..described(labels, annotations, label_keys)
    };
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let (spec, status) = (object.spec.as_ref().unwrap_or(&no_spec), object.status.as_ref().unwrap_or(&no_status));
    let lists = [
        (&spec.containers, &status.container_statuses),
        // Restartable init containers (sidecars) are init containers that go on.
        (&spec.init_containers, &status.init_container_statuses),
        (&spec.ephemeral_containers, &status.ephemeral_container_statuses),
    ];
    let mut containers = Vec::new();
    for (specs, statuses) in lists {
        for status in statuses.iter().flatten().take(MAX_CONTAINERS_OF_POD) {
            let name = status.name.as_deref().unwrap_or_default();
            let spec = specs.iter().flatten().find(|spec| spec.name.as_deref() == Some(name));
            let image = spec.and_then(|spec| spec.image.as_deref()).or(status.image.as_deref());
            let container = Container { name: text(name), image: optional(image), tags: container_tags(labels, name) };
            for id in ids(status) {
                containers.push((id, container.clone()));
            }
        }
    }
    Some(PodReport { pod, containers })
}

/// Where a pod was put and how far it is: node and phase, empty where the server does not say.
pub fn standing(object: &PodObject) -> (Arc<str>, Arc<str>) {
    let node = object.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
    (optional(node), optional(phase))
}

/// The parts of a [`Pod`] that labels and annotations give.
pub fn described(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    label_keys: &[Arc<str>],
) -> Pod {
    let environment =
        declared(annotations, "resource.opentelemetry.io/", ["", "deployment.environment", ""]).environment;
    let mut from_annotations = declared(
        annotations,
        "resource.opentelemetry.io/",
        ["service.name", "deployment.environment.name", "service.version"],
    );
    from_annotations.fill_from(&Declared { environment, ..Declared::default() });
    Pod {
        labels: label_keys.iter().filter_map(|key| Some((key.clone(), text(labels.get(&**key)?)))).collect(),
        tags: declared(labels, "tags.datadoghq.com/", ["service", "env", "version"]),
        annotations: from_annotations,
        recommended_labels: declared(labels, "app.kubernetes.io/", ["name", "", "version"]),
        ..Pod::default()
    }
}

/// Labels `tags.datadoghq.com/CONTAINER.service`, `.env`, `.version`.
pub fn container_tags(labels: &BTreeMap<String, String>, container: &str) -> Declared {
    let keys = ["service", "env", "version"].map(|key| format!("{container}.{key}"));
    declared(labels, "tags.datadoghq.com/", [&*keys[0], &*keys[1], &*keys[2]])
}

/// Service, environment and version under `prefix`; an empty name is never found.
pub fn declared(from: &BTreeMap<String, String>, prefix: &str, names: [&str; 3]) -> Declared {
    let [service, environment, version] = names.map(|name| {
        let value = (!name.is_empty()).then(|| from.get(&format!("{prefix}{name}"))).flatten();
        value.and_then(|value| acceptable(value)).unwrap_or_default()
    });
    Declared { service, environment, version }
}

/// A text within bounds; what is longer is cut.
pub fn text(text: &str) -> Arc<str> {
    if text.is_empty() {
        return Arc::default();
    }
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

static EMPTY: BTreeMap<String, String> = BTreeMap::new();

fn optional(from: Option<&str>) -> Arc<str> {
    from.map_or_else(Arc::default, text)
}

fn workload_of<'a>(meta: &'a ObjectMeta, labels: &BTreeMap<String, String>) -> workload::Workload<'a> {
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    owner.map_or_else(Default::default, |owner| workload::of_owner(&owner.kind, &owner.name, labels))
}

/// Ids of the container that runs, of the one that ended, and of the one before it, without their schemes.
fn ids(status: &ContainerStatus) -> Vec<Arc<str>> {
    let ended = |state: &Option<ContainerState>| state.as_ref()?.terminated.as_ref()?.container_id.clone();
    let mut found: Vec<Arc<str>> = Vec::new();
    for id in [status.container_id.clone(), ended(&status.state), ended(&status.last_state)].into_iter().flatten() {
        let id = text(id.split_once("://").map_or(&*id, |(_, id)| id));
        if !id.is_empty() && !found.contains(&id) {
            found.push(id);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &serde_json::Value) -> PodReport {
        let object: PodObject = serde_json::from_value(json.clone()).unwrap();
        report(&object, &["team".into(), "absent".into()]).unwrap()
    }

    #[test]
    fn all_sorts_of_containers_are_known_running_and_ended() {
        let found = parse(&serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web-7d4b9c-x2k4q", "namespace": "shop", "uid": "u1",
                "labels": {
                    "pod-template-hash": "7d4b9c", "team": "cart", "app.kubernetes.io/name": "web",
                    "app.kubernetes.io/version": "3", "tags.datadoghq.com/service": "shop-web",
                    "tags.datadoghq.com/app.service": "shop-app", "tags.datadoghq.com/app.env": "prod"
                },
                "annotations": {
                    "resource.opentelemetry.io/service.name": "otel-web",
                    "resource.opentelemetry.io/deployment.environment": "qa"
                },
                "ownerReferences": [
                    {"apiVersion": "x", "kind": "Other", "name": "other", "uid": "o"},
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c", "uid": "r", "controller": true}
                ]
            },
            "spec": {
                "nodeName": "n", "containers": [{"name": "app", "image": "reg/app:3", "env": [{"name": "SECRET", "value": "x"}]}],
                "initContainers": [{"name": "mesh", "image": "reg/mesh", "restartPolicy": "Always"}, {"name": "setup"}],
                "ephemeralContainers": [{"name": "debug", "image": "busybox"}]
            },
            "status": {
                "containerStatuses": [{
                    "name": "app", "image": "sha256:1", "containerID": "containerd://c2",
                    "state": {"running": {}}, "lastState": {"terminated": {"containerID": "containerd://c1", "exitCode": 1}}
                }],
                "initContainerStatuses": [
                    {"name": "mesh", "containerID": "cri-o://i1", "image": "x"},
                    {"name": "setup", "image": "reg/setup", "state": {"terminated": {"containerID": "docker://i2"}}}
                ],
                "ephemeralContainerStatuses": [{"name": "debug", "containerID": "containerd://e1"}]
            }
        }));
        let listed: Vec<_> = found.containers.iter().map(|(id, c)| (&**id, &*c.name, &*c.image)).collect();
        assert_eq!(
            listed,
            [
                ("c2", "app", "reg/app:3"),
                ("c1", "app", "reg/app:3"),
                ("i1", "mesh", "reg/mesh"),
                ("i2", "setup", "reg/setup"),
                ("e1", "debug", "busybox"),
            ]
        );
        let app = &found.containers[0].1.tags;
        assert_eq!((&*app.service, &*app.environment, &*app.version), ("shop-app", "prod", ""));
        let pod = &found.pod;
        assert_eq!((&*pod.namespace, &*pod.workload_kind, &*pod.workload), ("shop", "Deployment", "web"));
        assert_eq!(pod.labels, [("team".into(), "cart".into())]);
        assert_eq!((&*pod.tags.service, &*pod.recommended_labels.version), ("shop-web", "3"));
        assert_eq!((&*pod.annotations.service, &*pod.annotations.environment), ("otel-web", "qa"));
    }

    #[test]
    fn hollow_and_half_made_pods_are_understood() {
        for (spec, status) in [
            (serde_json::json!({"containers": null}), serde_json::json!({})),
            (serde_json::json!({}), serde_json::json!(null)),
            (serde_json::json!({"containers": [{}]}), serde_json::json!({"containerStatuses": null})),
            (serde_json::json!({}), serde_json::json!({"containerStatuses": [{"name": "a", "containerID": ""}]})),
        ] {
            let found = parse(&serde_json::json!({"metadata": {"uid": "u"}, "spec": spec, "status": status}));
            assert_eq!(found, PodReport { pod: Pod { uid: "u".into(), ..Pod::default() }, containers: vec![] });
        }
        let object: PodObject = serde_json::from_str(r#"{"metadata":{},"spec":{"containers":null}}"#).unwrap();
        assert_eq!(report(&object, &[]), None);
    }

    #[test]
    fn the_mirror_of_a_static_pod_has_its_hash_and_no_workload() {
        let found = parse(&serde_json::json!({
            "metadata": {
                "uid": "u", "name": "etcd-n", "annotations": {"kubernetes.io/config.mirror": "34dc0b5e626f2c5c4c5170e34b10e765"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "x", "controller": true}]
            },
            "spec": {}
        }));
        assert_eq!((&*found.pod.config_hash, &*found.pod.workload), ("34dc0b5e626f2c5c4c5170e34b10e765", ""));
    }

    #[test]
    fn long_texts_are_cut_and_bad_tags_left_out() {
        let found = parse(&serde_json::json!({
            "metadata": {"uid": "u", "name": "é".repeat(MAX_TEXT), "labels": {"tags.datadoghq.com/service": "a\nb"}},
            "spec": {}
        }));
        assert_eq!(found.pod.name.len(), MAX_TEXT);
        assert_eq!(found.pod.tags, Declared::default());
    }
}
