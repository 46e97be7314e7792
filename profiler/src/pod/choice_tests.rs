//! Tables: who is known, what runs here, what was asked for, what comes of it.

use super::*;
use crate::identity::pods::{Container, Pod, PodReport};

const WEB: &str = "f2e1d3c4-1234-4abc-8def-0123456789a1";
const DATA_WEB: &str = "f2e1d3c4-1234-4abc-8def-0123456789a2";
const JOB: &str = "f2e1d3c4-1234-4abc-8def-0123456789a3";
const NEW: &str = "f2e1d3c4-1234-4abc-8def-0123456789a4";
const FAR: &str = "f2e1d3c4-1234-4abc-8def-0123456789a5";
const ETCD: &str = "f2e1d3c4-1234-4abc-8def-0123456789a6";
const ETCD_HASH: &str = "34dc0b5e626f2c5c4c5170e34b10e765";
const STRANGER: &str = "f2e1d3c4-1234-4abc-8def-0123456789a7";

/// A container id: 64 hex digits that begin with `digit`.
fn id(digit: char) -> String {
    std::iter::repeat_n(digit, 64).collect()
}

fn known(uid: &str, name: &str, phase: &str, app: &str, containers: &[(char, &str)]) -> KnownPod {
    let (namespace, name) = name.split_once('/').unwrap();
    let labels = if app.is_empty() { Vec::new() } else { vec![("app".into(), app.into())] };
    let pod = Pod { uid: uid.into(), name: name.into(), namespace: namespace.into(), labels, ..Pod::default() };
    let named = |name: &str| Container { name: name.into(), ..Container::default() };
    let containers = containers.iter().map(|(digit, name)| (id(*digit).as_str().into(), named(name))).collect();
    KnownPod { report: PodReport { pod, containers }, node: "n1".into(), phase: phase.into() }
}

/// A node: two pods called web, one that ended, one that has not begun, a static one; and one elsewhere.
fn roster() -> Roster {
    let mut etcd = known(ETCD, "kube-system/etcd-n1", "Running", "", &[('e', "etcd")]);
    etcd.report.pod.config_hash = ETCD_HASH.into();
    Roster {
        node: "n1".into(),
        pods: vec![
            known(WEB, "shop/web-1", "Running", "web", &[('a', "app"), ('b', "mesh"), ('c', "migrate")]),
            known(DATA_WEB, "data/web-1", "Running", "web", &[('d', "app")]),
            known(JOB, "shop/job-7", "Succeeded", "web", &[('f', "job")]),
            known(NEW, "shop/new-1", "Pending", "web", &[]),
            etcd,
        ],
        elsewhere: Vec::new(),
        is_told: true,
        silent: Vec::new(),
    }
}

fn nobody() -> Roster {
    Roster { node: "n1".into(), silent: vec!["no API server".into()], ..Roster::default() }
}

/// What runs on that node.
fn cgroups() -> Vec<PodCgroup> {
    let under = |uid: &str| format!("/kubepods/burstable/pod{uid}");
    let mut paths = Vec::new();
    for (uid, containers) in [(WEB, &['a', 'b'][..]), (DATA_WEB, &['d']), (ETCD_HASH, &['e']), (STRANGER, &['9'])] {
        paths.push(under(uid));
        paths.extend(containers.iter().map(|digit| format!("{}/{}", under(uid), id(*digit))));
    }
    (1..).zip(paths).map(|(number, path)| PodCgroup::of(number, &path).unwrap()).collect()
}

fn wanted(pod: &str, containers: &[&str]) -> Wanted {
    let containers: Vec<String> = containers.iter().map(|name| (*name).to_owned()).collect();
    let (pod, selector) = match pod.strip_prefix("-l ") {
        Some(selector) => (None, Some(selector)),
        None => (Some(pod), None),
    };
    Wanted::parse(pod, None, selector, &containers).unwrap()
}

/// Pods and the numbers of the cgroups, or the refusal's sentence.
fn outcome(wanted: &Wanted, roster: &Roster) -> Result<(Vec<String>, Vec<u64>), String> {
    let choice = choose(wanted, roster, &cgroups()).map_err(|refusal| refusal.to_string())?;
    let pods = choice.pods.iter().map(ChosenPod::shown).collect();
    Ok((pods, choice.cgroups.iter().map(|cgroup| cgroup.id).collect()))
}

#[test]
fn pods_are_chosen_by_name_uid_and_labels() {
    for (pod, containers, pods, chosen) in [
        ("shop/web-1", &[][..], &["shop/web-1"][..], &[1, 2, 3][..]),
        ("data/web-1", &[], &["data/web-1"], &[4, 5]),
        (WEB, &[], &["shop/web-1"], &[1, 2, 3]),
        ("shop/web-1", &["mesh"], &["shop/web-1"], &[3]),
        ("shop/web-1", &["mesh", "app"], &["shop/web-1"], &[2, 3]),
        ("shop/web-1", &[&id('a')[..12]], &["shop/web-1"], &[2]),
        // A static pod's cgroups have its hash, the API server another uid.
        ("etcd-n1", &[], &["kube-system/etcd-n1"], &[6, 7]),
        (ETCD, &[], &["kube-system/etcd-n1"], &[6, 7]),
        (ETCD_HASH, &["etcd"], &["kube-system/etcd-n1"], &[7]),
        // One that nobody told of is there all the same.
        (STRANGER, &[], &[STRANGER], &[8, 9]),
        ("-l app=web", &[], &["shop/web-1", "data/web-1"], &[1, 2, 3, 4, 5]),
        ("-l app=web", &["mesh"], &["shop/web-1", "data/web-1"], &[3]),
    ] {
        let expected = Ok((pods.iter().map(|pod| (*pod).to_owned()).collect(), chosen.to_vec()));
        assert_eq!(outcome(&wanted(pod, containers), &roster()), expected, "{pod} {containers:?}");
    }
}

#[test]
fn of_several_uids_those_that_run_here_are_chosen() {
    for (uids, expected) in [
        (&[WEB, DATA_WEB][..], Ok((vec!["shop/web-1".to_owned(), "data/web-1".to_owned()], vec![1, 2, 3, 4, 5]))),
        (&[FAR, STRANGER, STRANGER], Ok((vec![STRANGER.to_owned()], vec![8, 9]))),
        (&[JOB, FAR], Err("pod shop/job-7 has ended (it is Succeeded)".to_owned())),
    ] {
        let uids: Vec<String> = uids.iter().map(|uid| (*uid).to_owned()).collect();
        assert_eq!(outcome(&Wanted::of_uids(&uids, &[]).unwrap(), &roster()), expected, "{uids:?}");
    }
}

#[test]
fn a_sandbox_counts_as_a_container_only_where_no_names_are_known() {
    let mut cgroups = cgroups();
    cgroups.push(PodCgroup::of(20, &format!("/kubepods/burstable/pod{WEB}/{}", id('7'))).unwrap());
    for (roster, containers) in [(roster(), 2), (nobody(), 3)] {
        let choice = choose(&wanted(WEB, &[]), &roster, &cgroups).unwrap();
        assert_eq!((choice.containers, choice.cgroups.len()), (containers, 4));
    }
}

#[test]
fn without_anybody_who_knows_names_a_uid_is_enough_and_a_name_is_not() {
    assert_eq!(outcome(&wanted(WEB, &[]), &nobody()), Ok((vec![WEB.to_owned()], vec![1, 2, 3])));
    assert_eq!(outcome(&wanted(WEB, &[&id('b')[..20]]), &nobody()), Ok((vec![WEB.to_owned()], vec![3])));
    for pod in ["shop/web-1", "-l app=web"] {
        let refusal = outcome(&wanted(pod, &[]), &nobody()).unwrap_err();
        assert!(refusal.contains("nobody here knows pods by their names (no API server)"), "{refusal}");
        assert!(refusal.contains(WEB) && refusal.contains(ETCD_HASH), "{refusal}");
    }
    let refusal = outcome(&wanted(WEB, &["app"]), &nobody()).unwrap_err();
    assert_eq!(refusal, format!("no container of pod {WEB} that runs is called app; their names are not known here"));
}

#[test]
fn each_refusal_is_a_sentence_that_says_what_to_do() {
    let mut far = known(FAR, "shop/far-1", "Running", "web", &[]);
    far.node = "n2".into();
    let mut homeless = known(NEW, "shop/homeless-1", "Pending", "web", &[]);
    homeless.node = "".into();
    let done = KnownPod { node: "n2".into(), ..known(JOB, "shop/done-1", "Failed", "", &[]) };
    let roster = Roster { elsewhere: vec![far, homeless, done], ..roster() };
    for (pod, containers, expected) in [
        ("web-1", &[][..], "2 pods are called web-1: data/web-1, shop/web-1; write one of them as NAMESPACE/POD"),
        ("shop/far-1", &[], "pod shop/far-1 is on node n2, and this is n1: profile it there"),
        ("homeless-1", &[], "pod shop/homeless-1 is on no node yet: the scheduler has found no place for it"),
        ("done-1", &[], "pod shop/done-1 has ended (it is Failed)"),
        ("job-7", &[], "pod shop/job-7 has ended (it is Succeeded)"),
        (JOB, &[], "pod shop/job-7 has ended (it is Succeeded)"),
        ("new-1", &[], "pod shop/new-1 has no container on this node yet (it is Pending)"),
        ("shop/web", &[], "there is no pod shop/web on this node (n1); did you mean data/web-1, shop/web-1?"),
        ("cart", &[], "there is no pod cart on this node (n1)"),
        ("-l app=cart", &[], "no pod that runs on this node (n1) matches -l app=cart"),
        // The pod is there, and that container is not among those that run.
        ("shop/web-1", &["migrate"], "no container of pod shop/web-1 that runs is called migrate; it has app, mesh"),
        ("-l app=web", &["x", "y"], "no container of these 2 pods that runs is called x or y; it has app, mesh"),
    ] {
        assert_eq!(outcome(&wanted(pod, containers), &roster), Err(expected.to_owned()), "{pod}");
    }
    let unknown = NEW.replace("a4", "ff");
    let refusal = outcome(&wanted(&unknown, &[]), &roster).unwrap_err();
    assert!(
        refusal.starts_with(&format!("no pod with the uid {unknown} runs on this node (n1); here run ")),
        "{refusal}"
    );
}

#[test]
fn a_pod_whose_cgroups_are_here_is_here_whatever_the_node_is_called() {
    let mut pod = known(WEB, "shop/web-1", "Running", "web", &[('a', "app")]);
    pod.node = "another-name".into();
    let roster = Roster { node: "n1".into(), elsewhere: vec![pod], is_told: true, ..Roster::default() };
    assert_eq!(outcome(&wanted("shop/web-1", &["app"]), &roster), Ok((vec!["shop/web-1".to_owned()], vec![2])));
}

#[test]
fn of_two_pods_of_one_name_the_one_that_runs_is_meant() {
    let mut roster = roster();
    // A runtime remembers the pod that was there before under this name.
    roster.pods.insert(0, known(FAR, "data/web-1", "", "web", &[]));
    assert_eq!(outcome(&wanted("data/web-1", &[]), &roster), Ok((vec!["data/web-1".to_owned()], vec![4, 5])));
}

#[test]
fn a_runtime_adds_containers_to_known_pods_and_pods_that_nobody_told_of() {
    let mut roster = roster();
    let same = known(ETCD_HASH, "kube-system/etcd-n1", "", "", &[('7', "etcd")]).report;
    let new = known(STRANGER, "shop/bare", "", "", &[('9', "bare")]).report;
    roster.add_runtime(vec![same, new]);
    assert_eq!((roster.pods.len(), roster.container_name(&id('7'))), (6, "etcd"));
    assert_eq!(outcome(&wanted("bare", &["bare"]), &roster), Ok((vec!["shop/bare".to_owned()], vec![9])));
}

#[test]
fn more_cgroups_than_the_kernel_s_set_holds_are_refused() {
    let most = profiler_common::filter::MAX_LISTED as u64;
    let many = |count: u64| -> Vec<PodCgroup> {
        (0..count).map(|number| PodCgroup::of(number, &format!("/kubepods/pod{WEB}/{number}")).unwrap()).collect()
    };
    assert!(choose(&wanted(WEB, &[]), &roster(), &many(most)).is_ok());
    let refusal = choose(&wanted(WEB, &[]), &roster(), &many(most + 1)).unwrap_err();
    assert_eq!(refusal, Refusal::TooManyCgroups(most as usize + 1));
}
