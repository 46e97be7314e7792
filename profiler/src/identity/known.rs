//! What identity's threads and tasks have found out so far, shared by them. Locks are held for a look-up or an insert, never
//! across I/O.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cgroups::CgroupPaths;
use super::counters::Counters;
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
    /// before the runtime.
    pub fn find(&self, container_id: &str, pod_uid: &str) -> Found {
        let by_id = || self.api().container(container_id).or_else(|| self.runtime().container(container_id));
        let found = Some(container_id).filter(|id| !id.is_empty()).and_then(|_| by_id()).unwrap_or_default();
        let from_api = if pod_uid.is_empty() { None } else { self.api().pod(pod_uid) };
        let pod = from_api.or(found.pod).or_else(|| self.runtime().pod(pod_uid));
        Found { pod, container: found.container }
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
    use super::*;

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
