//! Pods as kubelets describe them, and how far they are.

use serde_json::{Value, json};

use super::*;

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"nodeName": "n1", "containers": [{"image": "everflame:0.1.0"}]}, "status": status})).unwrap()
}

fn container(state: &Value) -> Pod {
    pod(json!({"phase": "Pending", "containerStatuses": [{"name": "everflame", "state": state}]}))
}

#[test]
fn a_pod_goes_from_accepted_to_ended() {
    for (pod, expected) in [
        (pod(json!({"phase": "Pending"})), Stage::Accepted),
        (pod(json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]})), Stage::Accepted),
        (container(&json!({"waiting": {"reason": "ContainerCreating"}})), Stage::Starting),
        // The first failure may pass.
        (container(&json!({"waiting": {"reason": "ErrImagePull", "message": "i/o timeout"}})), Stage::Starting),
        (container(&json!({})), Stage::Starting),
        (container(&json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})), Stage::Running),
        (container(&json!({"terminated": {"exitCode": 0, "reason": "Completed"}})), Stage::Ended(0)),
        (container(&json!({"terminated": {"exitCode": 1, "reason": "Error"}})), Stage::Ended(1)),
    ] {
        assert_eq!(stage(&pod), Ok(expected), "{pod:?}");
    }
}

#[test]
fn what_stopped_it_is_a_sentence() {
    for (pod, expected) in [
        (
            container(&json!({"waiting": {"reason": "ImagePullBackOff", "message":
                "Back-off pulling image \"everflame:0.1.0\": ErrImagePull: failed to pull and unpack image: not found"}})),
            "node n1 can't pull the image everflame:0.1.0: Back-off pulling image \"everflame:0.1.0\": ErrImagePull: failed to pull and unpack image: not found; give one that it can with --image",
        ),
        (
            container(&json!({"waiting": {"reason": "InvalidImageName",
                "message": "Failed to apply default image tag \"A:B:C\": couldn't parse image name"}})),
            "node n1 can't pull the image everflame:0.1.0: Failed to apply default image tag \"A:B:C\": couldn't parse image name; give one that it can with --image",
        ),
        (
            container(
                &json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"x\" not found"}}),
            ),
            "node n1 can't start the profiler: secret \"x\" not found",
        ),
        (
            container(&json!({"terminated": {"exitCode": 128, "reason": "StartError",
                "message": "exec: \"/everflame\": stat /everflame: no such file or directory: unknown"}})),
            "node n1 can't start the profiler: exec: \"/everflame\": stat /everflame: no such file or directory: unknown",
        ),
        (
            pod(json!({"phase": "Failed", "reason": "OutOfmemory",
                "message": "Pod was rejected: Node didn't have enough resource: memory"})),
            "node n1 does not keep the profiler's pod: OutOfmemory, Pod was rejected: Node didn't have enough resource: memory",
        ),
        (
            pod(json!({"phase": "Failed", "reason": "Evicted", "message": "The node had condition: [DiskPressure]."})),
            "node n1 does not keep the profiler's pod: Evicted, The node had condition: [DiskPressure].",
        ),
        (pod(json!({"phase": "Failed", "reason": "NodeLost"})), "node n1 does not keep the profiler's pod: NodeLost"),
        (
            pod(json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": "0/1 nodes are available"}]})),
            "node n1 does not keep the profiler's pod: 0/1 nodes are available",
        ),
    ] {
        assert_eq!(stage(&pod).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_profiler_that_failed_is_heard() {
    let ended = |reason: &str, message: &str| {
        container(&json!({"terminated": {"exitCode": 1, "reason": reason, "message": message}}))
    };
    let log = "everflame: profiling pod x (1 container)\neverflame/1 progress 0 1 0\n\
        everflame: the kernel is locked down (confidentiality): it lets nobody read its memory\n";
    for (pod, said, expected) in [
        (
            ended("Error", log),
            None,
            "on node n1: the kernel is locked down (confidentiality): it lets nobody read its memory",
        ),
        (ended("Error", log), Some("profiling needs CAP_BPF"), "on node n1: profiling needs CAP_BPF"),
        (ended("Error", "Killed"), None, "on node n1: the profiler ended with exit code 1 and handed nothing over"),
        (
            ended("OOMKilled", log),
            None,
            "on node n1: the profiler was killed for using more memory than its container may: take a lower -F, less time or fewer pods",
        ),
        (
            pod(json!({"phase": "Failed", "reason": "DeadlineExceeded"})),
            None,
            "on node n1: the profiler was not through at its Job's deadline",
        ),
        (Pod::default(), None, "on node : the profiler ended with exit code 0 and handed nothing over"),
    ] {
        assert_eq!(verdict(&pod, said).to_string(), expected);
    }
}
