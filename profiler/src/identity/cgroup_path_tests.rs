//! Every path shape of the runtimes in the field, and what it names.

use super::*;

const ID: &str = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";
const OUTER: &str = "9d5b23edb1ba181e8910389a99906598d69ac9a0ead109ee55730cc416d95f7f";
const UID: &str = "3dd988081e78149dcf8ab2d5e4e5cdb2";
const PU: &str = "f2e1d3c4-1234-4abc-8def-0123456789ab";
const PU_: &str = "f2e1d3c4_1234_4abc_8def_0123456789ab";
const TASK: &str = "34dc0b5e626f2c5c4c5170e34b10e765";

fn fill(text: &str) -> String {
    let filled = text.replace("PU_", PU_).replace("PU", PU).replace("OUTER", OUTER).replace("UID", UID);
    filled.replace("TASK", TASK).replace("ID", ID)
}

use QosClass::{BestEffort, Burstable, Guaranteed};

/// Path, container id, pod uid, class; an empty text is none.
const PATHS: &[(&str, &str, &str, Option<QosClass>)] = &[
    // Docker.
    ("/docker/ID", "ID", "", None),
    ("/system.slice/docker-ID.scope", "ID", "", None),
    ("/system.slice/docker-ID.scope/init", "ID", "", None),
    ("/system.slice/docker-ID.scope/system.slice/nginx.service", "ID", "", None),
    ("/docker/podPU/ID", "ID", "PU", Some(Guaranteed)),
    ("/docker/buildkit/x25abcdefghijklmnopqrstuv", "x25abcdefghijklmnopqrstuv", "", None),
    ("/buildkit/0123456789abcdefghijklmno", "0123456789abcdefghijklmno", "", None),
    ("/buildkit/short", "", "", None),
    ("/ID", "ID", "", None),
    // Kubernetes, cgroupfs driver.
    ("/kubepods/burstable/podPU/ID", "ID", "PU", Some(Burstable)),
    ("/kubepods/besteffort/podPU/ID", "ID", "PU", Some(BestEffort)),
    ("/kubepods/podPU/ID", "ID", "PU", Some(Guaranteed)),
    ("/kubepods/besteffort/podPU/crio-ID", "ID", "PU", Some(BestEffort)),
    ("/foo/kubepods/burstable/podPU/ID", "ID", "PU", Some(Burstable)),
    // Kubernetes, systemd driver.
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPU_.slice/cri-containerd-ID.scope",
        "ID",
        "PU",
        Some(Burstable),
    ),
    ("/kubepods.slice/kubepods-podPU_.slice/cri-containerd-ID.scope", "ID", "PU", Some(Guaranteed)),
    (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podPU_.slice/crio-ID.scope",
        "ID",
        "PU",
        Some(BestEffort),
    ),
    (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podPU_.slice/crio-ID.scope/container",
        "ID",
        "PU",
        Some(BestEffort),
    ),
    ("/kubepods.slice/kubepods-podPU_.slice/docker-ID.scope", "ID", "PU", Some(Guaranteed)),
    ("/kubepods.slice/kubepods-podPU_.slice/ID", "ID", "PU", Some(Guaranteed)),
    ("/foo.slice/foo-kubepods.slice/foo-kubepods-podPU_.slice/cri-containerd-ID.scope", "ID", "PU", Some(Guaranteed)),
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPU_.slice/cri-containerd-ID.scope/init.scope",
        "ID",
        "PU",
        Some(Burstable),
    ),
    ("/kubepods/podPU/ID/system.slice/foo.service", "ID", "PU", Some(Guaranteed)),
    // containerd without systemd's cgroups under a kubelet with them.
    ("/kubepods-burstable-podPU_.slice:cri-containerd:ID", "ID", "PU", Some(Burstable)),
    (
        "/system.slice/containerd.service/kubepods-besteffort-podPU_.slice:cri-containerd:ID",
        "ID",
        "PU",
        Some(BestEffort),
    ),
    (
        "/system.slice/containerd.service/kubepods-besteffort-podPU.slice:cri-containerd:ID",
        "ID",
        "PU",
        Some(BestEffort),
    ),
    ("/system.slice/containerd.service/kubepods-podPU_.slice:cri-containerd:ID", "ID", "PU", Some(Guaranteed)),
    // kind, minikube: a node in a container; the inner container counts.
    (
        "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podPU_.slice/\
         cri-containerd-ID.scope",
        "ID",
        "PU",
        Some(BestEffort),
    ),
    ("/kubelet/kubepods/burstable/podPU/ID", "ID", "PU", Some(Burstable)),
    ("/docker/OUTER/kubelet/kubepods/burstable/podPU/ID", "ID", "PU", Some(Burstable)),
    (
        "/docker/OUTER/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podPU_.slice/cri-containerd-ID.scope",
        "ID",
        "PU",
        Some(Guaranteed),
    ),
    (
        "/system.slice/docker-OUTER.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podPU_.slice/\
         cri-containerd-ID.scope",
        "ID",
        "PU",
        Some(Guaranteed),
    ),
    (
        "/system.slice/docker-OUTER.scope/kubepods.slice/kubepods-podPU_.slice/docker-ID.scope",
        "ID",
        "PU",
        Some(Guaranteed),
    ),
    (
        "/system.slice/docker-OUTER.scope/kubepods.slice/kubepods-podPU_.slice/crio-ID.scope",
        "ID",
        "PU",
        Some(Guaranteed),
    ),
    ("/system.slice/docker-OUTER.scope/system.slice/containerd.service", "OUTER", "", None),
    // A container run inside a pod's container (Docker in Docker).
    ("/kubepods/burstable/podPU/OUTER/docker/ID", "ID", "PU", Some(Burstable)),
    // Other cgroup namespaces; a cgroup that is gone.
    ("/../cri-containerd-ID.scope", "ID", "", None),
    ("/../../kubepods-burstable-podPU_.slice/cri-containerd-ID.scope", "ID", "PU", Some(Burstable)),
    ("/../../../podPU/ID", "ID", "PU", Some(Guaranteed)),
    ("/kubepods/podPU/ID (deleted)", "ID", "PU", Some(Guaranteed)),
    // Static pods: the config's hash is the uid.
    ("/kubepods/podUID/ID", "ID", "UID", Some(Guaranteed)),
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/cri-containerd-ID.scope",
        "ID",
        "UID",
        Some(Burstable),
    ),
    // A pod's own cgroup.
    ("/kubepods/burstable/podPU", "", "PU", Some(Burstable)),
    ("/kubepods.slice/kubepods-podPU_.slice", "", "PU", Some(Guaranteed)),
    ("/docker/OUTER/kubelet/kubepods/burstable/podPU", "", "PU", Some(Burstable)),
    // Podman, nerdctl.
    ("/machine.slice/libpod-ID.scope", "ID", "", None),
    ("/machine.slice/libpod-ID.scope/container", "ID", "", None),
    ("/machine.slice/machine-libpod_pod_OUTER.slice/libpod-ID.scope", "ID", "", None),
    ("/libpod_parent/libpod-ID", "ID", "", None),
    ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container", "ID", "", None),
    ("/system.slice/nginx.service/libpod-payload-ID", "ID", "", None),
    ("/system.slice/nerdctl-ID.scope", "ID", "", None),
    // ECS, Fargate.
    ("/ecs/my-cluster/TASK/ID", "ID", "", None),
    ("/ecs/f2e1d3c4-1234-4abc-8def-0123456789ab/ID", "ID", "", None),
    ("/ecstasks.slice/ecstasks-TASK.slice/docker-ID.scope", "ID", "", None),
    ("/ecs/TASK/TASK-2532581103", "TASK-2532581103", "", None),
    // Cloud Foundry.
    ("/garden/6f265890-5165-7fab-6b52-18d1", "6f265890-5165-7fab-6b52-18d1", "", None),
    ("/system.slice/garden.service/garden/6f265890-5165-7fab-6b52-18d1", "6f265890-5165-7fab-6b52-18d1", "", None),
    // LXC, systemd's machines, containerd without Kubernetes.
    ("/lxc.payload.web01/system.slice/nginx.service", "web01", "", None),
    ("/lxc.payload.web/", "web", "", None),
    ("/lxc/web-2", "web-2", "", None),
    ("/lxc.monitor.web01", "", "", None),
    ("/machine.slice/machine-build.scope", "build", "", None),
    ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", "qemu-1-vm", "", None),
    ("/machine.slice/systemd-nspawn@build.service/payload/init.scope", "build", "", None),
    ("/default/redis", "redis", "", None),
    ("/default/ID", "ID", "", None),
    ("/moby/ID", "ID", "", None),
    ("/k8s.io/ID", "ID", "", None),
    // No container.
    ("/kubepods.slice/kubepods-podPU_.slice/crio-conmon-ID.scope", "", "PU", Some(Guaranteed)),
    ("/machine.slice/libpod-conmon-ID.scope", "", "", None),
    ("/system.slice/docker-ID.mount", "", "", None),
    ("/system.slice/run-containerd-io.containerd.runtime.v2.task-k8s.io-ID-rootfs.mount", "", "", None),
    ("/system.slice/ID.service", "", "", None),
    (
        "/user.slice/user-1000.slice/user@1000.service/apps.slice/apps-org.gnome.Terminal.slice/\
         vte-spawn-f2e1d3c4-1234-4abc-8def-0123456789ab.scope",
        "",
        "",
        None,
    ),
    ("/user.slice/user-1000.slice/session-2.scope", "", "", None),
    ("/system.slice/nginx.service", "", "", None),
    ("/system.slice/containerd.service", "", "", None),
    ("/system.slice/k3s.service", "", "", None),
    ("/kubepods.slice", "", "", None),
    ("/kubepods/burstable/podnot-a-uid", "", "", None),
    ("/init.scope", "", "", None),
    ("/", "", "", None),
    ("", "", "", None),
    // Nearly an id.
    ("/docker/0ID", "", "", None),
    ("/docker/IDa", "", "", None),
    ("/docker/Not-7BE92808767A667F35C8505CBF40D14E931EF6DB5B0210329CF193B15BA9D605", "", "", None),
];

#[test]
fn every_layout_gives_its_container_its_pod_and_its_class() {
    for (path, id, uid, qos) in PATHS {
        let (path, id, uid) = (fill(path), fill(id), fill(uid));
        let found = parse(&path);
        assert_eq!(found.container_id.as_deref().unwrap_or(""), id, "container of {path}");
        assert_eq!(found.pod_uid.as_deref().unwrap_or(""), uid, "pod of {path}");
        assert_eq!(found.qos, *qos, "class of {path}");
    }
}

#[test]
fn every_layout_is_found_in_the_text_of_each_cgroup_version() {
    for (path, id, uid, _) in PATHS.iter().filter(|(path, ..)| path.starts_with('/')) {
        let (path, id, uid) = (fill(path), fill(id), fill(uid));
        for text in [
            format!("0::{path}\n"),
            format!("10:perf_event:/\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}\n"),
            format!("10:perf_event:/\n1:name=systemd:{path}\n0::/system.slice/containerd.service\n"),
            format!("3:cpuset:/\n0::{path}\n"),
        ] {
            let (_, found) = parse_text(&text).unwrap();
            assert_eq!(found.container_id.as_deref().unwrap_or(""), id, "container of {text}");
            assert_eq!(found.pod_uid.as_deref().unwrap_or(""), uid, "pod of {text}");
        }
    }
}

#[test]
fn of_a_process_s_lines_the_one_that_tells_most_is_taken() {
    let cases = [
        // Text, the path that is taken.
        ("0::/\n", "/"),
        ("0::/init.scope\n", "/init.scope"),
        ("2:cpu:/\n1:name=systemd:/\n0::/system.slice/a.service\n", "/system.slice/a.service"),
        ("4:memory:/parent/ID\n3:cpu:/ID\n", "/parent/ID"),
        (
            "4:memory:/docker/OUTER\n3:cpu:/docker/OUTER/kubelet/kubepods/podPU/ID\n",
            "/docker/OUTER/kubelet/kubepods/podPU/ID",
        ),
        ("4:memory:/kubepods/podPU\n0::/kubepods/podPU/ID\n", "/kubepods/podPU/ID"),
        ("1:name=systemd:/kubepods/podPU/ID\n4:cpu,cpuacct:/x/kubepods/podPU/ID\n", "/x/kubepods/podPU/ID"),
        ("0::/kubepods/podPU/ID (deleted)\n", "/kubepods/podPU/ID"),
        ("4:cpu:/a:b:cri-containerd:ID\n", "/a:b:cri-containerd:ID"),
    ];
    for (text, path) in cases {
        assert_eq!(parse_text(&fill(text)).map(|(path, _)| path.to_owned()), Some(fill(path)), "{text}");
    }
    for text in ["", "\n\n", "x:y\n", "a:cpu:/b\n", "1:cpu:relative\n", ":::\n"] {
        assert_eq!(parse_text(text), None, "{text:?}");
    }
}

#[test]
fn hostile_paths_of_four_kibibytes_end_in_time_and_name_nothing() {
    let long = |piece: &str| piece.repeat(MAX_PATH / piece.len());
    for piece in ["/", "a", "/a", "-", ":", "/..", "-pod", "/pod", "é", "/\\x2d", ".slice", "/kubepods-pod", "0"] {
        let path = long(piece);
        let found = parse(&path);
        assert_eq!((found.container_id, found.pod_uid), (None, None), "{piece}");
    }
    // The token is looked for at the end, whatever is before it.
    let path = format!("{}/{ID}", long("/aé-"));
    assert_eq!(parse(&path).container_id.as_deref(), Some(ID));
    let path = format!("/{ID}{}", long("/b"));
    assert_eq!(parse(&path).container_id, None, "more than a path can hold is cut off at its beginning");
}
