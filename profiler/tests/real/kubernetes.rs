//! The manifests in `deploy/`, given to a real API server; and what its RBAC then allows the agent.

use std::path::Path;

use crate::cluster::ControlPlane;

#[test]
#[ignore = "needs the servers of testservers/: cargo xtask test --real"]
fn the_manifests_are_taken_and_allow_what_the_agent_asks_and_no_more() {
    let Some(plane) = ControlPlane::start() else { return };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for name in ["privileged-ds.yaml", "hardened-ds.yaml"] {
        let file = deploy.join(name).display().to_string();
        // Unknown and doubled fields are errors, not warnings.
        let said = plane.ask(&["apply", "--validate=strict", "-f", &file]);
        assert_eq!(said.lines().count(), 5, "{name}: {said}");
        assert!(said.contains("daemonset.apps/everflame"), "{name}: {said}");
    }
    let daemon_set = plane.ask(&["get", "daemonset", "everflame", "-n", "everflame", "-o", "json"]);
    let daemon_set: serde_json::Value = serde_json::from_str(&daemon_set).unwrap();
    let pod = &daemon_set["spec"]["template"]["spec"];
    assert_eq!(pod["hostPID"], true);
    let added = &pod["containers"][0]["securityContext"]["capabilities"]["add"];
    assert_eq!(added.as_array().map(Vec::len), Some(7), "the last one applied: {added}");

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
