//! What identity's threads and tasks have found out so far, shared by them. Locks are held for a look-up or an insert, never
//! across I/O.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cgroups::CgroupPaths;
use super::counters::{Counters, Sizes};
use super::observed::Observed;
use super::pods::{Found, Pods};

/// Most processes that are kept, about 300 bytes each; as many as the engine's own table holds.
pub const MAX_PROCESSES: usize = 64 << 10;
/// How long a process stays known that no batch asked for. It is read again should it come back.
pub const KEEP_PROCESS: Duration = Duration::from_secs(900);

/// A process for ever: pid and start time (CLOCK_MONOTONIC, ns).
pub type ProcessKey = (u32, u64);

#[derive(Debug)]
struct Process {
    /// `None` for one that was gone when it was to be read.
    observed: Option<Arc<Observed>>,
    used: Instant,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Known {
    label_keys: Vec<Arc<str>>,
    processes: Mutex<HashMap<ProcessKey, Process>>,
    cgroups: Mutex<CgroupPaths>,
    api: Mutex<Pods>,
    runtime: Mutex<Pods>,
    counters: Mutex<Counters>,
    walk_wanted: AtomicBool,
}

impl Known {
    /// Nothing yet; of pods' labels these are to be kept.
    pub fn new(label_keys: Vec<Arc<str>>) -> Known {
        Known { label_keys, ..Known::default() }
    }

    /// The pod labels that are kept.
    pub fn label_keys(&self) -> &[Arc<str>] {
        &self.label_keys
    }

    /// What the API server told.
    pub fn api(&self) -> MutexGuard<'_, Pods> {
        lock(&self.api)
    }

    /// What container runtimes told.
    pub fn runtime(&self) -> MutexGuard<'_, Pods> {
        lock(&self.runtime)
    }

    /// cgroup paths.
    pub fn cgroups(&self) -> MutexGuard<'_, CgroupPaths> {
        lock(&self.cgroups)
    }

    /// Somebody met a cgroup that is not known.
    pub fn want_walk(&self) {
        self.walk_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether somebody did since the last walk began.
    pub fn is_walk_wanted(&self) -> bool {
        self.walk_wanted.load(Ordering::Relaxed)
    }

    /// A walk begins, which answers all wishes made before.
    pub fn walk_begins(&self) {
        self.walk_wanted.store(false, Ordering::Relaxed);
    }

    /// Changes the counters.
    pub fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut lock(&self.counters));
    }

    /// The counters now.
    pub fn counters(&self) -> Counters {
        *lock(&self.counters)
    }

    /// Keeps what was read of a process; `None` (it was gone) never replaces what was read before.
    pub fn observed(&self, key: ProcessKey, observed: Option<Observed>, now: Instant) {
        let mut processes = lock(&self.processes);
        if processes.len() >= MAX_PROCESSES && !processes.contains_key(&key) {
            drop(processes);
            self.count(|counters| counters.processes_refused += 1);
            return;
        }
        let process = processes.entry(key).or_insert(Process { observed: None, used: now });
        process.used = now;
        if let Some(observed) = observed {
            process.observed = Some(Arc::new(observed));
        }
    }

    /// What was read of a process; `Some(None)` if it was gone by then, `None` if nobody looked yet.
    pub fn process(&self, key: ProcessKey, now: Instant) -> Option<Option<Arc<Observed>>> {
        let mut processes = lock(&self.processes);
        let process = processes.get_mut(&key)?;
        process.used = now;
        Some(process.observed.clone())
    }

    /// The container with this id and its pod; without the container the pod with this uid. The API server, which knows owners,
    /// before the runtime. Where the two are of different pods the container's own has it, and that is told.
    pub fn find(&self, container_id: &str, pod_uid: &str) -> Found {
        let by_id = || self.api().container(container_id).or_else(|| self.runtime().container(container_id));
        let found = Some(container_id).filter(|id| !id.is_empty()).and_then(|_| by_id()).unwrap_or_default();
        let told_by = |pods: MutexGuard<'_, Pods>| if pod_uid.is_empty() { None } else { pods.pod(pod_uid) };
        let from_api = told_by(self.api());
        let from_runtime = if from_api.is_none() { told_by(self.runtime()) } else { None };
        if let (Some(owner), Some(named)) = (&found.pod, from_api.as_ref().or(from_runtime.as_ref()))
            && !owner.is_same(named)
        {
            let owner = self.api().pod(&owner.uid).unwrap_or_else(|| owner.clone());
            return Found { pod: Some(owner), container: found.container, contradicts: true };
        }
        Found { pod: from_api.or(found.pod).or(from_runtime), container: found.container, contradicts: false }
    }

    /// How many of each are known.
    pub fn sizes(&self) -> Sizes {
        let ((api_pods, api_containers), (runtime_pods, runtime_containers)) = (self.api().len(), self.runtime().len());
        Sizes {
            pods: (api_pods + runtime_pods) as u64,
            containers: (api_containers + runtime_containers) as u64,
            processes: lock(&self.processes).len() as u64,
            cgroups: self.cgroups().len() as u64,
        }
    }

    /// Forgets what nobody asked for in a while.
    pub fn forget(&self, now: Instant) {
        lock(&self.processes).retain(|_, process| now.duration_since(process.used) < KEEP_PROCESS);
        self.api().forget(now);
        self.runtime().forget(now);
    }
}

/// The content is whole after each statement, so a thread that panicked elsewhere does not make it useless.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::pods::{Container, Pod, PodReport};
    use super::*;

    /// A pod with one container that has its name.
    fn pod(uid: &str, config_hash: &str, name: &str, workload: &str, container: &str) -> PodReport {
        let pod = Pod {
            uid: uid.into(),
            config_hash: config_hash.into(),
            name: name.into(),
            workload: workload.into(),
            ..Pod::default()
        };
        PodReport { pod, containers: vec![(container.into(), Container { name: name.into(), ..Container::default() })] }
    }

    #[test]
    fn where_id_and_path_are_of_different_pods_the_container_s_own_pod_has_it() {
        let (known, now) = (Known::default(), Instant::now());
        known.api().report(pod("u1", "", "one", "of-api", "c1"), now);
        known.api().report(pod("u2", "", "two", "of-api", "c2"), now);
        known.runtime().report(pod("u1", "", "one", "of-runtime", "c3"), now);
        known.runtime().report(pod("u4", "", "four", "of-runtime", "c4"), now);
        known.runtime().report_container("c5".into(), Container::default(), now);
        // Container id, uid in the path, the pod, its workload, whether they contradict each other.
        let cases = [
            ("c1", "u1", "one", "of-api", false),
            ("c1", "u2", "one", "of-api", true),
            ("c3", "u1", "one", "of-api", false),
            ("c3", "u2", "one", "of-api", true),
            ("c1", "u4", "one", "of-api", true),
            ("c4", "u1", "four", "of-runtime", true),
            ("c4", "u4", "four", "of-runtime", false),
            // Nobody knows the other pod, or the container, or a pod of the container's: nothing to compare.
            ("c1", "u9", "one", "of-api", false),
            ("c1", "", "one", "of-api", false),
            ("inner", "u2", "two", "of-api", false),
            ("c5", "u2", "two", "of-api", false),
            ("", "u4", "four", "of-runtime", false),
        ];
        for (container, uid, name, workload, contradicts) in cases {
            let found = known.find(container, uid);
            let pod = found.pod.map(|pod| (pod.name.to_string(), pod.workload.to_string()));
            let expected = (Some((name.to_owned(), workload.to_owned())), contradicts);
            assert_eq!((pod, found.contradicts), expected, "{container} in {uid}");
        }
        assert_eq!(known.find("nobody", "nobody"), Found::default());
    }

    #[test]
    fn a_static_pod_is_one_pod_under_both_of_its_uids() {
        const HASH: &str = "34dc0b5e626f2c5c4c5170e34b10e765";
        let (known, now) = (Known::default(), Instant::now());
        // The server's mirror has a uid of its own; to the kubelet, and so to runtime and cgroups, the hash is the uid.
        let mut mirror = pod("u1", HASH, "etcd", "of-api", "");
        mirror.containers.clear();
        known.api().report(mirror, now);
        known.runtime().report(pod(HASH, "", "etcd", "of-runtime", "c1"), now);
        for uid in [HASH, "u1"] {
            let found = known.find("c1", uid);
            assert_eq!((found.pod.unwrap().workload.to_string(), found.contradicts), ("of-api".into(), false), "{uid}");
        }
    }

    #[test]
    fn a_reused_pid_does_not_inherit_and_a_process_that_is_gone_is_not_forgotten() {
        let now = Instant::now();
        let known = Known::default();
        let observed = Observed { cgroup: "/a".into(), ..Observed::default() };
        known.observed((7, 100), Some(observed), now);
        known.observed((7, 100), None, now);
        let cgroup = |key| known.process(key, now).map(|found| found.map(|found| found.cgroup.to_string()));
        assert_eq!(cgroup((7, 100)), Some(Some("/a".into())));
        assert_eq!(cgroup((7, 200)), None);
        known.observed((7, 200), None, now);
        assert_eq!(cgroup((7, 200)), Some(None));
    }

    #[test]
    fn a_node_full_of_processes_is_bounded_and_counted() {
        let start = Instant::now();
        let known = Known::default();
        for pid in 0..MAX_PROCESSES as u32 + 2 {
            known.observed((pid, 1), None, start);
        }
        assert_eq!(known.counters().processes_refused, 2);
        let later = start + KEEP_PROCESS;
        assert!(known.process((5, 1), later).is_some());
        known.forget(later);
        assert_eq!(lock(&known.processes).len(), 1, "the one that was asked for stays");
    }
}
