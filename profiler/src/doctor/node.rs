//! What names samples: the cgroup hierarchy, the node's name, the API server, the container runtime.

use super::Check;

/// What was found at `--cgroup-root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// A hierarchy.
    Found {
        /// Its directory.
        directory: String,
        /// Whether it is version 2.
        version_2: bool,
        /// Whether version 1 is there beside it.
        hybrid: bool,
        /// Version 2: whether this is the whole tree. A root has no `cgroup.type` (cgroup-v2.rst), a part of it has.
        whole: bool,
    },
    /// Nothing.
    Missing,
}

/// The layout, and whether it is the host's.
pub fn cgroups(found: &Cgroups, root: &str, in_pod: bool) -> Check {
    const NAME: &str = "cgroups";
    match found {
        Cgroups::Missing => {
            let fix = "mount the host's /sys/fs/cgroup and give its place as --cgroup-root";
            Check::warn(NAME, "no hierarchy: containers of ended processes stay unknown", root, fix)
        }
        Cgroups::Found { directory, whole: false, .. } => {
            let how = if in_pod {
                "mount the host's /sys/fs/cgroup, as the manifests in deploy/ do"
            } else {
                "share the host's /sys/fs/cgroup"
            };
            let fix = format!("{how}, and give its place as --cgroup-root");
            Check::warn(NAME, "only this container's own part: others that ended stay unknown", directory, fix)
        }
        Cgroups::Found { directory, version_2, hybrid, .. } => {
            let layout = match (version_2, hybrid) {
                (true, false) => "version 2",
                (true, true) => "version 2 beside version 1 (hybrid)",
                (false, _) => "version 1",
            };
            Check::ok(NAME, layout, directory)
        }
    }
}

/// The node's name, and whether somebody gave it.
pub fn node_name(name: &str, given: bool, in_pod: bool) -> Check {
    const NAME: &str = "node-name";
    if name.is_empty() {
        return Check::fail(NAME, "none", "/proc/sys/kernel/hostname", "give --node-name");
    }
    if given {
        return Check::ok(NAME, name, "--node-name, NODE_NAME or KUBERNETES_NODE_NAME");
    }
    if in_pod {
        let fix = "set EVERFLAME_NODE_NAME from fieldRef spec.nodeName; a pod's host name is not its node's";
        return Check::warn(NAME, name, "/proc/sys/kernel/hostname", fix);
    }
    Check::ok(NAME, name, "/proc/sys/kernel/hostname")
}

/// What the container runtime said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// `--cri off`.
    Off,
    /// The sockets that are there, and for each that did not answer, why.
    Asked(Vec<(String, Result<(), String>)>),
}

/// Whether containers that the API server does not tell of can be asked for.
pub fn runtime(runtime: &Runtime, has_api_server: bool) -> Check {
    const NAME: &str = "container-runtime";
    const SOURCE: &str = "--cri";
    let Runtime::Asked(answers) = runtime else { return Check::ok(NAME, "not asked", SOURCE) };
    if let Some((socket, Err(why))) = answers.iter().find(|(_, said)| said.is_err()) {
        let fix = "may this user use the socket, and is it a runtime's? --cri PATH names another, --cri off none";
        return Check::warn(NAME, why.as_str(), socket.as_str(), fix);
    }
    let sockets: Vec<&str> = answers.iter().map(|(socket, _)| socket.as_str()).collect();
    match (sockets.is_empty(), has_api_server) {
        (false, _) => Check::ok(NAME, "answers", sockets.join(", ")),
        (true, true) => Check::ok(NAME, "no socket; the API server names containers", SOURCE),
        // No fault of a machine without containers.
        (true, false) => Check::ok(NAME, "no socket in the usual places: containers have ids and no names", SOURCE),
    }
}

/// What the API server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Api {
    /// `--kubernetes off`.
    Off,
    /// Neither a pod nor `KUBECONFIG`.
    Nowhere,
    /// The answers for the own node and for its pods.
    Asked {
        /// `get` of the node.
        node: ApiAnswer,
        /// `list` of the pods with this `spec.nodeName`.
        pods: ApiAnswer,
    },
    /// No client could be made of what is configured.
    Broken(String),
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiAnswer {
    /// Taken.
    Granted,
    /// 401, 403.
    Forbidden(String),
    /// 404.
    NotFound,
    /// No answer, or another.
    Failed(String),
}

/// Whether pods' names can be had.
pub fn api_server(api: &Api, node: &str, in_pod: bool) -> Check {
    const NAME: &str = "api-server";
    const SOURCE: &str = "service account, KUBECONFIG";
    let without = "containers keep their id and pod's uid alone";
    let (node_answer, pods) = match api {
        Api::Off => return Check::ok(NAME, "not asked", "--kubernetes off"),
        Api::Nowhere if in_pod => {
            let fix = "give the pod its serviceAccountName, or say --kubernetes off";
            return Check::warn(NAME, format!("no token of a service account; {without}"), SOURCE, fix);
        }
        Api::Nowhere => return Check::ok(NAME, "none: this is no pod", SOURCE),
        Api::Broken(why) => {
            return Check::warn(NAME, format!("{why}; {without}"), SOURCE, "give the pod its serviceAccountName");
        }
        Api::Asked { node, pods } => (node, pods),
    };
    let source = format!("list pods with spec.nodeName={node}, get node");
    match (pods, node_answer) {
        (ApiAnswer::Granted, ApiAnswer::NotFound) => {
            let fix = "set EVERFLAME_NODE_NAME from fieldRef spec.nodeName";
            Check::fail(NAME, format!("there is no node {node}: no pod would be found"), source, fix)
        }
        (ApiAnswer::Granted, ApiAnswer::Granted) => Check::ok(NAME, "answers, and may be asked", source),
        // The watch needs no node object.
        (ApiAnswer::Granted, _) => Check::ok(NAME, "answers for pods; the node may not be read", source),
        (ApiAnswer::Forbidden(why), _) => {
            let fix = "bind the ClusterRole of deploy/: list and watch on pods";
            Check::warn(NAME, format!("forbidden: {why}; {without}"), source, fix)
        }
        (ApiAnswer::NotFound, _) => {
            Check::warn(NAME, format!("answers 404; {without}"), source, "is this an API server?")
        }
        (ApiAnswer::Failed(why), _) => {
            let fix = "let the agent's pods reach the API server (network policies, proxies), or say --kubernetes off";
            Check::warn(NAME, format!("{why}; {without}"), source, fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_layout_is_named_and_a_part_is_no_whole() {
        let found = |version_2, hybrid, whole| Cgroups::Found { directory: "/x".into(), version_2, hybrid, whole };
        for (cgroups_found, verdict, text) in [
            (found(true, false, true), Verdict::Ok, "version 2"),
            (found(true, true, true), Verdict::Ok, "hybrid"),
            (found(false, false, true), Verdict::Ok, "version 1"),
            (found(true, false, false), Verdict::Warn, "own part"),
            (Cgroups::Missing, Verdict::Warn, "no hierarchy"),
        ] {
            let check = cgroups(&cgroups_found, "/sys/fs/cgroup", true);
            assert_eq!(check.verdict, verdict, "{check:?}");
            assert!(check.found.contains(text), "{check:?}");
        }
    }

    #[test]
    fn a_pods_host_name_is_no_node_name() {
        assert_eq!(node_name("n1", true, true).verdict, Verdict::Ok);
        assert_eq!(node_name("n1", false, false).verdict, Verdict::Ok);
        assert!(node_name("everflame-x7k2p", false, true).fix.contains("spec.nodeName"));
        assert_eq!(node_name("", false, false).verdict, Verdict::Fail);
    }

    #[test]
    fn a_runtime_that_does_not_answer_is_named_with_its_socket() {
        let answers = |said: &[Result<(), String>]| {
            Runtime::Asked(said.iter().enumerate().map(|(n, said)| (format!("/run/{n}.sock"), said.clone())).collect())
        };
        for (found, has_api_server, verdict, text) in [
            (Runtime::Off, false, Verdict::Ok, "not asked (--cri)"),
            (answers(&[]), true, Verdict::Ok, "API server names"),
            (answers(&[]), false, Verdict::Ok, "ids and no names"),
            (answers(&[Ok(()), Ok(())]), false, Verdict::Ok, "answers (/run/0.sock, /run/1.sock)"),
            (answers(&[Ok(()), Err("refused".into())]), true, Verdict::Warn, "refused (/run/1.sock)"),
        ] {
            let check = runtime(&found, has_api_server);
            assert_eq!(check.verdict, verdict, "{check:?}");
            let said = format!("{} ({})", check.found, check.source);
            assert!(said.contains(text), "{said}");
        }
    }

    #[test]
    fn the_api_servers_answers_have_their_own_fixes() {
        let asked = |pods, node| Api::Asked { node, pods };
        let forbidden = || ApiAnswer::Forbidden("403".into());
        for (api, verdict, text) in [
            (Api::Off, Verdict::Ok, ""),
            (Api::Nowhere, Verdict::Warn, "serviceAccountName"),
            (Api::Broken("no token".into()), Verdict::Warn, "serviceAccountName"),
            (asked(ApiAnswer::Granted, ApiAnswer::Granted), Verdict::Ok, ""),
            (asked(ApiAnswer::Granted, forbidden()), Verdict::Ok, ""),
            (asked(ApiAnswer::Granted, ApiAnswer::NotFound), Verdict::Fail, "spec.nodeName"),
            (asked(forbidden(), ApiAnswer::Granted), Verdict::Warn, "ClusterRole"),
            (asked(ApiAnswer::Failed("timeout".into()), ApiAnswer::Granted), Verdict::Warn, "--kubernetes off"),
        ] {
            let check = api_server(&api, "n1", true);
            assert_eq!(check.verdict, verdict, "{check:?}");
            assert!(check.fix.contains(text), "{check:?}");
        }
        assert_eq!(api_server(&Api::Nowhere, "n1", false).verdict, Verdict::Ok);
    }
}
