//! The manifests in `deploy/`, and that of the earlier agent's guide, given to a real API server; and what its RBAC then allows the agent.

use std::path::Path;

use crate::cluster::ControlPlane;

/// The manifests that any API server knows, with how many objects are in each, and the last of them.
const MANIFESTS: [(&str, usize, &str); 5] = [
    ("job.yaml", 5, "job.batch/everflame-pods"),
    ("cronjob.yaml", 3, "cronjob.batch/everflame-node"),
    ("privileged-ds.yaml", 5, "daemonset.apps/everflame"),
    ("hardened-ds.yaml", 5, "daemonset.apps/everflame"),
    ("pyroscope.yaml", 7, "service/grafana"),
];
/// The earlier agent's, without what is refused by now.
const EARLIER: &str = include_str!("earlier-ds.yaml");

#[test]
#[ignore = "needs the servers of testservers/: cargo xtask test --real"]
fn the_manifests_are_taken_and_allow_what_the_agent_asks_and_no_more() {
    let Some(plane) = ControlPlane::start() else { return };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for (name, objects, last) in MANIFESTS {
        let file = deploy.join(name).display().to_string();
        // Unknown and doubled fields are errors, not warnings.
        let said = plane.ask(&["apply", "--validate=strict", "-f", &file]);
        assert_eq!(said.lines().count(), objects, "{name}: {said}");
        assert!(said.lines().next_back().unwrap().starts_with(last), "{name}: {said}");
    }
    let daemon_set = plane.ask(&["get", "daemonset", "everflame", "-n", "everflame", "-o", "json"]);
    let daemon_set: serde_json::Value = serde_json::from_str(&daemon_set).unwrap();
    let pod = &daemon_set["spec"]["template"]["spec"];
    assert_eq!(pod["hostPID"], true);
    let added = &pod["containers"][0]["securityContext"]["capabilities"]["add"];
    assert_eq!(added.as_array().map(Vec::len), Some(7), "the last of the two: {added}");

    let account = "system:serviceaccount:everflame:everflame";
    let may = |verb: &str, what: &str, all: bool| {
        let mut words = vec!["auth", "can-i", verb, what, "--as", account];
        if all {
            words.push("--all-namespaces");
        }
        let output = plane.kubectl(&words);
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    for (verb, what, all, allowed) in [
        ("list", "pods", true, true),
        ("watch", "pods", true, true),
        ("get", "nodes", false, true),
        ("get", "pods", true, false),
        ("list", "nodes", false, false),
        ("create", "pods", true, false),
        ("list", "secrets", true, false),
        ("list", "configmaps", true, false),
    ] {
        assert_eq!(may(verb, what, all), allowed, "{verb} {what}");
    }
}

#[test]
#[ignore = "needs the servers of testservers/: cargo xtask test --real"]
fn kubernetes_refuses_an_unmasked_proc_beside_the_host_s_pids_and_takes_the_rest_of_the_earlier_manifest() {
    let Some(plane) = ControlPlane::start() else { return };
    let file = plane.file("earlier.yaml").display().to_string();
    let give = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = plane.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", &file]);
        (output.status.success(), String::from_utf8(output.stderr).unwrap().to_lowercase())
    };
    let (is_taken, said) = give(EARLIER);
    assert!(is_taken, "{said}");
    let unmasked = EARLIER.replace("privileged: true", "privileged: true\n            procMount: Unmasked");
    let of_its_own = unmasked.replace("hostPID: true", "hostPID: true\n      hostUsers: false");
    for (text, words) in
        [(unmasked, ["procmount", "`hostusers` must be false"]), (of_its_own, ["hostpid", "hostusers"])]
    {
        assert_ne!(text, EARLIER);
        let (is_taken, said) = give(&text);
        assert!(!is_taken && words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }
}
