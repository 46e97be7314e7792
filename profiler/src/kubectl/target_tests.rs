//! Pods and nodes as API servers describe them, and what is made of them.

use serde_json::{Value, json};

use super::*;

const UID: &str = "f2e1d3c4-1234-4abc-8def-0123456789a1";
const HASH: &str = "34dc0b5e626f2c5c4c5170e34b10e765";

fn pod_json(name: &str, node: &str, phase: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": UID, "labels": {"app": "web"}, "annotations": null},
        "spec": {"nodeName": node, "containers": [{"name": "app"}]},
        "status": {
            "phase": phase,
            "containerStatuses": [{
                "name": "app", "containerID": "containerd://aa11", "ready": true,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                "lastState": {"terminated": {"containerID": "containerd://aa00", "exitCode": 1}},
            }],
            "initContainerStatuses": [{"name": "mesh", "containerID": "cri-o://bb22", "state": {"running": {}}}],
        },
    })
}

fn pod(name: &str, node: &str, phase: &str) -> Pod {
    serde_json::from_value(pod_json(name, node, phase)).unwrap()
}

fn with(pointer: &str, value: Value) -> Pod {
    let mut json = pod_json("web-1", "n1", "Running");
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap()[key] = value;
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_pod_has_the_uid_of_its_cgroups_and_the_ids_of_all_its_containers() {
    let target = Target::of(&pod("web-1", "n1", "Running")).unwrap();
    let pairs: Vec<_> = target.containers.iter().map(|(name, id)| (name.as_str(), id.as_str())).collect();
    assert_eq!(pairs, [("app", "aa11"), ("app", "aa00"), ("mesh", "bb22")]);
    assert_eq!((target.shown(), &*target.cgroup_uid), ("shop/web-1".to_owned(), UID));
    let is_static = with("/metadata/annotations", json!({"kubernetes.io/config.mirror": HASH}));
    assert_eq!(Target::of(&is_static).unwrap().cgroup_uid, HASH);
    // It becomes a word of a command line on the node.
    assert_eq!(Target::of(&with("/metadata/uid", json!("--output=/x"))), None);
    assert_eq!(Target::of(&Pod::default()), None);
}

#[test]
fn a_pod_that_can_t_be_profiled_is_refused_in_a_sentence() {
    let unscheduled = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient cpu."}]);
    let mut homeless = with("/status/conditions", unscheduled);
    homeless.spec.node_name.clear();
    let mut evicted = with("/status/reason", json!("Evicted"));
    (evicted.status.phase, evicted.status.message) = ("Failed".into(), "The node was low on resource: memory.".into());
    let mut waiting = with(
        "/status/containerStatuses",
        json!([{"name": "app", "state": {"waiting": {"reason": "ContainerCreating"}}}]),
    );
    waiting.status.phase = "Pending".into();
    for (pod, expected) in [
        (homeless, "pod shop/web-1 is on no node yet: 0/3 nodes are available: 3 Insufficient cpu."),
        (evicted, "pod shop/web-1 does not run: it is Failed: The node was low on resource: memory."),
        (pod("web-1", "n1", "Succeeded"), "pod shop/web-1 does not run: it is Succeeded"),
        (waiting, "pod shop/web-1 does not run: it is Pending: ContainerCreating"),
        (with("/spec/os", json!({"name": "windows"})), "node n1 runs Windows: Everflame profiles Linux"),
        (
            with("/metadata/labels", json!({"eks.amazonaws.com/fargate-profile": "all"})),
            "node n1 is a Fargate node: it has no kernel that could be profiled, and takes no privileged pod",
        ),
        (
            pod("web-1", "fargate-ip-10-0-0-1.ec2.internal", "Running"),
            "node fargate-ip-10-0-0-1.ec2.internal is a Fargate node: it has no kernel that could be profiled, and takes no privileged pod",
        ),
        (
            with("/spec/nodeSelector", json!({"type": "virtual-kubelet"})),
            "node n1 is a virtual node: there is no kernel behind it that could be profiled",
        ),
        (
            with("/spec/nodeSelector", json!({"kubernetes.io/arch": "arm64"})),
            "node n1 has arm64 processors: Everflame profiles x86-64 (amd64) so far",
        ),
    ] {
        assert_eq!(named(&pod).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_node_that_can_t_be_profiled_is_refused_in_a_sentence() {
    let node = |labels: Value, info: Value, conditions: Value| -> Node {
        let json = json!({"metadata": {"name": "n1", "labels": labels},
            "status": {"nodeInfo": info, "conditions": conditions}});
        serde_json::from_value(json).unwrap()
    };
    let linux = json!({"operatingSystem": "linux", "architecture": "amd64", "kubeletVersion": "v1.34.1"});
    let ready = json!([{"type": "Ready", "status": "True"}]);
    for (found, expected) in [
        (node(Value::Null, linux.clone(), ready.clone()), None),
        (node(Value::Null, Value::Null, Value::Null), None),
        (node(json!({"kubernetes.io/os": "windows"}), Value::Null, ready.clone()), Some("runs Windows")),
        (node(Value::Null, json!({"operatingSystem": "windows"}), ready.clone()), Some("runs Windows")),
        (node(json!({"eks.amazonaws.com/compute-type": "fargate"}), linux.clone(), ready.clone()), Some("Fargate")),
        (node(json!({"type": "virtual-kubelet"}), linux.clone(), ready.clone()), Some("virtual node")),
        (node(Value::Null, json!({"architecture": "arm64"}), ready), Some("has arm64 processors")),
        (
            node(
                Value::Null,
                linux,
                json!([{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}]),
            ),
            Some("is not ready, so nothing can be started there: Kubelet stopped posting node status."),
        ),
    ] {
        let refusal = refuse_node(&found).err().map(|refusal| refusal.to_string());
        match (refusal, expected) {
            (None, None) => {}
            (Some(refusal), Some(expected)) => assert!(refusal.contains(expected), "{refusal}"),
            (refusal, expected) => panic!("{refusal:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn pods_of_a_selector_are_grouped_by_node_and_those_that_do_not_run_are_counted() {
    let pods = [
        pod("b", "n2", "Running"),
        pod("a", "n1", "Running"),
        pod("c", "n2", "Running"),
        pod("d", "n2", "Pending"),
        pod("e", "", "Pending"),
        pod("f", "fargate-1", "Running"),
    ];
    let found = selected(&pods, "shop", "app=web").unwrap();
    let names: Vec<(&str, Vec<&str>)> = found
        .nodes
        .iter()
        .map(|group| (group.node.as_str(), group.pods.iter().map(|pod| pod.name.as_str()).collect()))
        .collect();
    assert_eq!(names, [("n1", vec!["a"]), ("n2", vec!["b", "c"])]);
    assert_eq!((found.idle, found.refused.len()), (2, 1));

    let sentence = |pods: &[Pod]| selected(pods, "shop", "app=web").unwrap_err().to_string();
    assert_eq!(sentence(&[]), "no pod that runs matches -l app=web in the namespace shop");
    assert_eq!(
        sentence(&pods[3..5]),
        "no pod that runs matches -l app=web in the namespace shop (2 that match don't run)"
    );
    assert!(sentence(&pods[5..]).contains("Fargate"), "the only one there is says why");
    let many: Vec<Pod> = (0..=MAX_NODES).map(|number| pod("web", &format!("n{number}"), "Running")).collect();
    assert_eq!(sentence(&many), "the pods are on 65 nodes, and 64 can be profiled at once: narrow the selector");
}

#[test]
fn containers_are_found_by_their_names() {
    let pods = [Target::of(&pod("web-1", "n1", "Running")).unwrap()];
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(container_ids(&pods, &[]), Ok(Vec::new()));
    assert_eq!(container_ids(&pods, &names(&["mesh", "app"])), Ok(names(&["bb22", "aa11", "aa00"])));
    assert_eq!(
        container_ids(&pods, &names(&["db"])).unwrap_err().to_string(),
        "no container of pod shop/web-1 that runs is called db; it has app, mesh"
    );
}

#[test]
fn a_node_that_is_named_beside_a_pod_is_the_pod_s() {
    let found = named(&pod("web-1", "n1", "Running")).unwrap();
    assert_eq!(on_node(found.clone(), None).as_ref(), Ok(&found));
    assert_eq!(on_node(found.clone(), Some("n1")).as_ref(), Ok(&found));
    assert_eq!(
        on_node(found, Some("n2")).unwrap_err().to_string(),
        "pod shop/web-1 is on node n1, not on n2: leave --node out"
    );
}

#[test]
fn containers_of_a_restart_are_known_beside_those_before_it() {
    let before = [Target::of(&pod("web-1", "n1", "Running")).unwrap()];
    let ids = |pods: &[Target]| pods[0].containers.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>();
    let restarted = with("/status/containerStatuses", json!([{"name": "app", "containerID": "containerd://aa22"}]));
    assert_eq!(ids(&with_restarts(&before, &[restarted])), ["aa11", "aa00", "bb22", "aa22", "bb22"]);
    // Another pod of the same name, and none.
    let other = with("/metadata/uid", json!("00000000-1234-4abc-8def-0123456789a1"));
    assert_eq!(with_restarts(&before, &[other]), before);
    assert_eq!(with_restarts(&before, &[]), before);
}
