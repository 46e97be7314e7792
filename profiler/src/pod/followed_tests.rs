//! What comes and goes while a pod is recorded.

use super::super::choice::{Choice, ChosenPod};
use super::*;

const WEB: &str = "f2e1d3c4-1234-4abc-8def-0123456789a1";
const OTHER: &str = "f2e1d3c4-1234-4abc-8def-0123456789a2";
const LATER: &str = "f2e1d3c4-1234-4abc-8def-0123456789a3";

fn id(digit: char) -> String {
    std::iter::repeat_n(digit, 64).collect()
}

fn cgroup(number: u64, uid: &str, container: Option<char>) -> PodCgroup {
    let own = format!("/kubepods/burstable/pod{uid}");
    let path = container.map_or(own.clone(), |digit| format!("{own}/{}", id(digit)));
    PodCgroup::of(number, &path).unwrap()
}

/// A pod with the containers a and b, and another one with c.
fn all() -> Vec<PodCgroup> {
    vec![
        cgroup(1, WEB, None),
        cgroup(2, WEB, Some('a')),
        cgroup(3, WEB, Some('b')),
        cgroup(4, OTHER, None),
        cgroup(5, OTHER, Some('c')),
    ]
}

fn followed(pod: &str, containers: &[&str], chosen: &[u64], is_told: bool) -> Followed {
    let containers: Vec<String> = containers.iter().map(|name| (*name).to_owned()).collect();
    let (pod, selector) = match pod.strip_prefix("-l ") {
        Some(selector) => (None, Some(selector)),
        None => (Some(pod), None),
    };
    let wanted = Wanted::parse(pod, None, selector, &containers).unwrap();
    let web = ChosenPod { cgroup_uid: WEB.into(), namespace: "shop".into(), name: "web-1".into() };
    let cgroups = all().into_iter().filter(|cgroup| chosen.contains(&cgroup.id)).collect();
    Followed::new(wanted, Choice { pods: vec![web], cgroups, containers: 0, is_told }, &all())
}

fn identity(pod: &str, container: &str, uid: &str, app: &str) -> Identity {
    let (namespace, pod) = pod.split_once('/').unwrap();
    Identity {
        namespace: namespace.into(),
        pod: pod.into(),
        container: container.into(),
        pod_uid: uid.into(),
        labels: vec![("app".into(), app.into())],
        ..Identity::default()
    }
}

#[test]
fn a_restarted_container_is_let_through_and_other_pods_never() {
    let new = || {
        vec![
            cgroup(6, WEB, Some('d')),
            cgroup(7, OTHER, Some('e')),
            cgroup(8, LATER, None),
            cgroup(9, LATER, Some('f')),
            cgroup(10, WEB, None),
        ]
    };
    for (pod, containers, chosen, is_told, expected) in [
        // By uid: what is made in the pod, whoever knows names.
        (WEB, &[][..], &[1, 2, 3][..], false, &[6, 10][..]),
        (WEB, &[], &[1, 2, 3], true, &[6, 10]),
        // By name or labels a pod that comes later may be one that is meant.
        ("shop/web-1", &[], &[1, 2, 3], true, &[6, 8, 9, 10]),
        ("-l app=web", &[], &[1, 2, 3], true, &[6, 8, 9, 10]),
        // Of one container: a new one of the pod may be it, the pod's own cgroup is not.
        ("shop/web-1", &["app"], &[2], true, &[6, 9]),
    ] {
        let mut followed = followed(pod, containers, chosen, is_told);
        assert!(followed.found(all()).is_empty(), "{pod}: nothing is new");
        assert_eq!(followed.found(new()), expected, "{pod} {containers:?}");
        assert!(followed.found(new()).is_empty(), "{pod}: each is said once");
    }
}

#[test]
fn samples_stay_that_are_of_a_chosen_pod_and_container() {
    let web = identity("shop/web-1", "app", WEB, "web");
    let mesh = identity("shop/web-1", "mesh", WEB, "web");
    let recreated = identity("shop/web-1", "app", LATER, "web");
    let same_name = identity("data/web-1", "app", LATER, "web");
    let other = identity("shop/db-1", "db", LATER, "db");
    for (pod, containers, chosen, cgroup_id, who, expected) in [
        // Paths are enough.
        (WEB, &[][..], &[1, 2, 3][..], 2, None, true),
        (WEB, &[], &[1, 2, 3], 99, None, false),
        (WEB, &[], &[1, 2, 3], 99, Some(&web), true),
        (WEB, &[], &[1, 2, 3], 99, Some(&recreated), false),
        ("shop/web-1", &[], &[1, 2, 3], 9, Some(&recreated), true),
        ("shop/web-1", &[], &[1, 2, 3], 9, Some(&same_name), false),
        ("shop/web-1", &[], &[1, 2, 3], 9, Some(&other), false),
        ("shop/web-1", &[], &[1, 2, 3], 9, None, false),
        ("-l app=web", &[], &[1, 2, 3], 9, Some(&same_name), true),
        ("-l app=web", &[], &[1, 2, 3], 9, Some(&other), false),
        // The container that was chosen stays one, whoever knows its name by then.
        ("shop/web-1", &["app"], &[2], 2, None, true),
        ("shop/web-1", &["app"], &[2], 6, None, false),
        ("shop/web-1", &["app"], &[2], 6, Some(&web), true),
        ("shop/web-1", &["app"], &[2], 6, Some(&mesh), false),
    ] {
        let mut followed = followed(pod, containers, chosen, true);
        followed.found(vec![cgroup(6, WEB, Some('d')), cgroup(9, LATER, Some('f'))]);
        assert_eq!(followed.keeps(cgroup_id, who), expected, "{pod} {containers:?} {cgroup_id} {who:?}");
    }
}

#[test]
fn where_new_containers_appear_is_looked_at_also_for_one_container() {
    for (containers, chosen) in [(&[][..], &[1, 2, 3][..]), (&["app"], &[2])] {
        let followed = followed("shop/web-1", containers, chosen, true);
        let paths: Vec<&str> = followed.pod_paths().collect();
        assert_eq!(paths, [format!("/kubepods/burstable/pod{WEB}")], "{containers:?}");
    }
}

#[test]
fn a_pod_lives_as_long_as_it_has_a_cgroup() {
    let by_name = followed("shop/web-1", &[], &[1, 2, 3], true);
    assert!(by_name.any_lives(&[cgroup(1, WEB, None)]));
    assert!(!by_name.any_lives(&[cgroup(4, OTHER, None), cgroup(8, LATER, None)]));
    assert!(!by_name.goes_on_without());
    assert!(followed("-l app=web", &[], &[1, 2, 3], true).goes_on_without());
}
