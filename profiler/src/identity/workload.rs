//! Which workload a pod belongs to: what its owner made it for, by name, without asking for the owners' owners.

use std::collections::BTreeMap;

/// A kind and a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload<'a> {
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `CronJob`, …; empty for none.
    pub kind: &'a str,
    /// Name; empty for none.
    pub name: &'a str,
}

/// Labels of controllers: the hash that ends the name of what they made.
const HASHES: [(&str, &str); 2] = [("pod-template-hash", "Deployment"), ("rollouts-pod-template-hash", "Rollout")];

/// The workload behind a pod's controlling owner.
pub fn of_owner<'a>(kind: &'a str, name: &'a str, labels: &BTreeMap<String, String>) -> Workload<'a> {
    match kind {
        // The node "owns" the mirror of a static pod.
        "Node" => Workload::default(),
        "ReplicaSet" => HASHES
            .into_iter()
            .find_map(|(label, kind)| Some(Workload { kind, name: without_hash(name, labels.get(label)?)? }))
            .unwrap_or(Workload { kind, name }),
        "Job" => of_job(name),
        _ => Workload { kind, name },
    }
}

/// The workload as the names and labels of a pod show it, for a source that does not know owners (the container runtime).
pub fn of_pod<'a>(pod: &'a str, labels: &'a BTreeMap<String, String>) -> Workload<'a> {
    let generated = |name: &'a str| name.rsplit_once('-').map(|(head, _)| head);
    for (label, kind) in HASHES {
        if let Some(name) = labels.get(label).and_then(|hash| without_hash(generated(pod)?, hash)) {
            return Workload { kind, name };
        }
    }
    if let Some(job) = labels.get("batch.kubernetes.io/job-name").or_else(|| labels.get("job-name")) {
        return of_job(job);
    }
    let kind = if labels.contains_key("statefulset.kubernetes.io/pod-name") {
        "StatefulSet"
    } else if labels.contains_key("controller-revision-hash") && labels.contains_key("pod-template-generation") {
        "DaemonSet"
    } else {
        return Workload::default();
    };
    generated(pod).map_or_else(Workload::default, |name| Workload { kind, name })
}

/// A CronJob's jobs are named after it and their minute since 1970 (before Kubernetes 1.21: second).
fn of_job(name: &str) -> Workload<'_> {
    match name.rsplit_once('-') {
        Some((cron, minute))
            if (8..=10).contains(&minute.len()) && minute.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            Workload { kind: "CronJob", name: cron }
        }
        _ => Workload { kind: "Job", name },
    }
}

fn without_hash<'a>(name: &'a str, hash: &str) -> Option<&'a str> {
    name.strip_suffix(hash)?.strip_suffix('-').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn owners_lead_to_the_workload_that_people_made() {
        let hash: &[(&str, &str)] = &[("pod-template-hash", "7d4b9c")];
        let rollout: &[(&str, &str)] = &[("rollouts-pod-template-hash", "7d4b9c")];
        let cases = [
            ("ReplicaSet", "web-7d4b9c", hash, "Deployment", "web"),
            ("ReplicaSet", "web-7d4b9c", rollout, "Rollout", "web"),
            ("ReplicaSet", "web-other", hash, "ReplicaSet", "web-other"),
            ("ReplicaSet", "web", &[], "ReplicaSet", "web"),
            ("ReplicaSet", "-7d4b9c", hash, "ReplicaSet", "-7d4b9c"),
            ("StatefulSet", "db", &[], "StatefulSet", "db"),
            ("DaemonSet", "agent", &[], "DaemonSet", "agent"),
            ("Job", "backup-29384756", &[], "CronJob", "backup"),
            ("Job", "backup-1700000000", &[], "CronJob", "backup"),
            ("Job", "backup-2024", &[], "Job", "backup-2024"),
            ("Job", "backup", &[], "Job", "backup"),
            ("Node", "node-1", &[], "", ""),
            ("Workflow", "build", &[], "Workflow", "build"),
        ];
        for (kind, name, given, wanted_kind, wanted) in cases {
            let found = of_owner(kind, name, &labels(given));
            assert_eq!((found.kind, found.name), (wanted_kind, wanted), "{kind} {name}");
        }
    }

    #[test]
    fn without_owners_names_and_labels_tell() {
        let cases = [
            ("web-7d4b9c-x2k4q", &[("pod-template-hash", "7d4b9c")][..], "Deployment", "web"),
            ("web-x2k4q", &[("pod-template-hash", "7d4b9c")], "", ""),
            ("db-0", &[("statefulset.kubernetes.io/pod-name", "db-0")], "StatefulSet", "db"),
            (
                "agent-9f8xk",
                &[("controller-revision-hash", "a"), ("pod-template-generation", "1")],
                "DaemonSet",
                "agent",
            ),
            ("b-29384756-abcde", &[("batch.kubernetes.io/job-name", "b-29384756")], "CronJob", "b"),
            ("migrate-abcde", &[("job-name", "migrate")], "Job", "migrate"),
            ("lonely", &[], "", ""),
            ("", &[("pod-template-hash", "")], "", ""),
        ];
        for (pod, given, kind, name) in cases {
            let given = labels(given);
            let found = of_pod(pod, &given);
            assert_eq!((found.kind, found.name), (kind, name), "{pod}");
        }
    }
}
