//! What API servers really answered, and the sentence that comes of it.

use super::*;

/// A `Status` as the server sends it.
fn status(code: u16, reason: &str, message: &str) -> Status {
    let json = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn each_answer_of_the_server_is_a_sentence_that_says_what_to_do() {
    for (code, reason, message, expected) in [
        (
            403,
            "Forbidden",
            r#"jobs.batch is forbidden: User "dev" cannot create resource "jobs" in API group "batch" in the namespace "shop""#,
            "you may not create jobs.batch in the namespace shop as dev: the role in docs/kubectl.md gives that right",
        ),
        (
            403,
            "Forbidden",
            r#"nodes "n1" is forbidden: User "system:serviceaccount:shop:ci" cannot get resource "nodes" in API group "" at the cluster scope"#,
            "you may not get nodes as system:serviceaccount:shop:ci: the role in docs/kubectl.md gives that right",
        ),
        (
            403,
            "Forbidden",
            r#"pods "web-1" is forbidden: User "dev" cannot create resource "pods/portforward" in API group "" in the namespace "everflame""#,
            "you may not create pods/portforward in the namespace everflame as dev: the role in docs/kubectl.md gives that right",
        ),
        (
            403,
            "Forbidden",
            r#"pods "everflame-0" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true), privileged (container "everflame" must not set securityContext.privileged=true)"#,
            r#"the namespace shop lets no privileged pod in, its Pod Security level is baseline:latest: run the profiler in one that does with --in-namespace (it forbids host namespaces (hostPID=true), privileged (container "everflame" must not set securityContext.privileged=true))"#,
        ),
        (
            403,
            "Forbidden",
            r#"pods "everflame-0" is forbidden: exceeded quota: small, requested: pods=1, used: pods=10, limited: pods=10"#,
            "the quota of the namespace shop leaves no room for the profiler's pod: exceeded quota: small, requested: pods=1, used: pods=10, limited: pods=10",
        ),
        (
            403,
            "Forbidden",
            r#"pods "everflame-0" is forbidden: unable to validate against any security context constraint: [provider "restricted-v2": Forbidden: not usable by user or serviceaccount]"#,
            r#"the cluster's admission refuses the profiler's pod in the namespace shop: unable to validate against any security context constraint: [provider "restricted-v2": Forbidden: not usable by user or serviceaccount]"#,
        ),
        (
            400,
            "",
            r#"admission webhook "warden-validating.common-webhooks.networking.gke.io" denied the request: GKE Warden rejected the request because it violates one or more constraints."#,
            r#"the cluster's admission refuses the profiler's pod in the namespace shop: admission webhook "warden-validating.common-webhooks.networking.gke.io" denied the request: GKE Warden rejected the request because it violates one or more constraints."#,
        ),
        (
            401,
            "Unauthorized",
            "Unauthorized",
            "the API server does not accept your credentials: log in again (it says: Unauthorized)",
        ),
        (
            404,
            "NotFound",
            r#"namespaces "shpo" not found"#,
            r#"the API server, asked to create the Job: namespaces "shpo" not found"#,
        ),
        (500, "InternalError", "etcd\u{1b}[2J gone", "the API server, asked to create the Job: etcd [2J gone"),
    ] {
        let found = Refusal::of_status(&status(code, reason, message), "create the Job", "shop");
        assert_eq!(found.to_string(), expected);
        assert_eq!(found.is_rbac(), message.contains(" cannot "));
    }
}

#[test]
fn answers_that_only_look_like_it_do_no_harm() {
    for message in [
        "",
        " cannot  resource ",
        "User \" cannot x resource \"",
        "violates PodSecurity ",
        "violates PodSecurity \"",
        &"x".repeat(10_000),
    ] {
        let found = Refusal::of_status(&status(403, "Forbidden", message), "list pods", "shop");
        assert!(matches!(found, Refusal::Admission { .. }), "{message:.40}: {found:?}");
        assert!(found.to_string().len() < 1000);
    }
}
