//! [`Pods`]: the pods and containers of this node as one source (the API server, the container runtime) tells them. Only the
//! fields that are used; data and rules, no I/O.
//!
//! What ended stays known for a while: samples of a finished container are shipped after its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::environment::Declared;

/// Most pods that are kept, about 1 KiB each: 16 MiB when full. The kubelet's default is 110, the largest in use about 500; there is
/// room for 10,000, and for some thousand that have just ended.
pub const MAX_PODS: usize = 16 << 10;
/// Most containers that are kept, about 400 bytes each, finished ones and sandboxes included: 25 MiB when full.
pub const MAX_CONTAINERS: usize = 64 << 10;
/// How long a pod or container stays known after its end: longer than any batch is held back.
pub const KEEP_ENDED: Duration = Duration::from_secs(600);

/// What is known of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// The API server's uid.
    pub uid: Arc<str>,
    /// For a static pod the hash of its configuration, which is its uid to kubelet, cgroups and runtime; else empty.
    pub config_hash: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// `Deployment`, `StatefulSet`, `CronJob` …; empty for a bare pod.
    pub workload_kind: Arc<str>,
    /// The workload's name.
    pub workload: Arc<str>,
    /// The labels that were asked for, by key.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// Labels `tags.datadoghq.com/service`, `env`, `version`.
    pub tags: Declared,
    /// Annotations `resource.opentelemetry.io/service.name` …
    pub annotations: Declared,
    /// Labels `app.kubernetes.io/name`, `version`.
    pub recommended_labels: Declared,
}

impl Pod {
    /// Whether the other is the same pod, told by somebody else: a static pod has two uids.
    pub fn is_same(&self, other: &Pod) -> bool {
        let is = |uid: &str, hash: &str| !hash.is_empty() && uid == hash;
        self.uid == other.uid || is(&self.uid, &other.config_hash) || is(&other.uid, &self.config_hash)
    }
}

/// What is known of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name in the pod, or the runtime's.
    pub name: Arc<str>,
    /// Image as the pod's spec names it.
    pub image: Arc<str>,
    /// Labels `tags.datadoghq.com/NAME.service` …, or Docker's `com.datadoghq.tags.service` …
    pub tags: Declared,
}

/// A pod with the ids of its containers, finished and running ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodReport {
    /// The pod.
    pub pod: Pod,
    /// Container ids without a scheme, each with its container.
    pub containers: Vec<(Arc<str>, Container)>,
}

/// A container's or process's place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The pod; `None` for a container outside Kubernetes.
    pub pod: Option<Arc<Pod>>,
    /// The container; `None` if only its pod is known.
    pub container: Option<Arc<Container>>,
    /// Whether the path named another pod than the container's.
    pub contradicts: bool,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    round: u64,
    ended: Option<Instant>,
}

#[derive(Debug)]
struct Listed {
    pod: Arc<Pod>,
    /// Those that were reported last; further ones of it in `by_container` have ended.
    containers: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Placed {
    container: Arc<Container>,
    /// Empty outside Kubernetes.
    pod_uid: Arc<str>,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Pods {
    by_uid: HashMap<Arc<str>, Entry<Listed>>,
    by_container: HashMap<Arc<str>, Entry<Placed>>,
    /// Config hash to uid.
    mirrored: HashMap<Arc<str>, Arc<str>>,
    round: u64,
    refused: u64,
}

impl Pods {
    /// A pod as it is now. Its containers of before that are no longer reported have ended.
    pub fn report(&mut self, report: PodReport, now: Instant) {
        let uid = report.pod.uid.clone();
        if self.by_uid.len() >= MAX_PODS && !self.by_uid.contains_key(&uid) {
            self.refused += 1;
            return;
        }
        self.containers_end(&uid, now);
        if !report.pod.config_hash.is_empty() {
            self.mirrored.insert(report.pod.config_hash.clone(), uid.clone());
        }
        let mut containers = Vec::with_capacity(report.containers.len());
        for (id, container) in report.containers {
            if self.place(id.clone(), container, uid.clone()) {
                containers.push(id);
            }
        }
        let value = Listed { pod: Arc::new(report.pod), containers };
        self.by_uid.insert(uid, Entry { value, round: self.round, ended: None });
    }

    /// A container outside Kubernetes, told once: it ends at once and so stays known for [`KEEP_ENDED`].
    pub fn report_container(&mut self, id: Arc<str>, container: Container, now: Instant) {
        self.place(id.clone(), container, Arc::default());
        if let Some(entry) = self.by_container.get_mut(&id) {
            entry.ended = Some(now);
        }
    }

    /// A pod was deleted.
    pub fn removed(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.by_uid.get_mut(uid) {
            entry.ended = entry.ended.or(Some(now));
        }
        self.containers_end(uid, now);
    }

    /// A complete list begins.
    pub fn list_begins(&mut self) {
        self.round += 1;
    }

    /// A complete list ended: what it did not name has ended.
    pub fn list_ended(&mut self, now: Instant) {
        let round = self.round;
        for entry in self.by_uid.values_mut().filter(|entry| entry.round != round) {
            entry.ended = entry.ended.or(Some(now));
        }
        for entry in self.by_container.values_mut().filter(|entry| entry.round != round) {
            entry.ended = entry.ended.or(Some(now));
        }
        self.forget(now);
    }

    /// Forgets what ended [`KEEP_ENDED`] ago.
    pub fn forget(&mut self, now: Instant) {
        let keep = |ended: Option<Instant>| ended.is_none_or(|ended| now.duration_since(ended) < KEEP_ENDED);
        self.by_container.retain(|_, entry| keep(entry.ended));
        self.by_uid.retain(|_, entry| keep(entry.ended));
        let by_uid = &self.by_uid;
        self.mirrored.retain(|_, uid| by_uid.contains_key(uid));
    }

    /// The container with this id.
    pub fn container(&self, id: &str) -> Option<Found> {
        let placed = &self.by_container.get(id)?.value;
        let pod = self.by_uid.get(&placed.pod_uid).map(|entry| entry.value.pod.clone());
        Some(Found { pod, container: Some(placed.container.clone()), contradicts: false })
    }

    /// The pod with this uid, as the API server or as cgroups have it.
    pub fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        // The server's own uids first: no pod's annotation can stand for another pod.
        let entry = self.by_uid.get(uid).or_else(|| self.by_uid.get(self.mirrored.get(uid)?));
        entry.map(|entry| entry.value.pod.clone())
    }

    /// Pods and containers known.
    pub fn len(&self) -> (usize, usize) {
        (self.by_uid.len(), self.by_container.len())
    }

    /// Pods and containers that found no room since the last call.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// The pod's own list says which they are: a look through all containers for each pod of a list is 100 million with 10,000.
    fn containers_end(&mut self, uid: &str, now: Instant) {
        let Some(pod) = self.by_uid.get(uid) else { return };
        for id in &pod.value.containers {
            if let Some(entry) = self.by_container.get_mut(id).filter(|entry| &*entry.value.pod_uid == uid) {
                entry.ended = entry.ended.or(Some(now));
            }
        }
    }

    /// Whether there was room.
    fn place(&mut self, id: Arc<str>, container: Container, pod_uid: Arc<str>) -> bool {
        if self.by_container.len() >= MAX_CONTAINERS && !self.by_container.contains_key(&id) {
            self.refused += 1;
            return false;
        }
        let value = Placed { container: Arc::new(container), pod_uid };
        self.by_container.insert(id, Entry { value, round: self.round, ended: None });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(uid: &str, name: &str, containers: &[(&str, &str)]) -> PodReport {
        let pod = Pod { uid: uid.into(), name: name.into(), ..Pod::default() };
        let container = |name: &str| Container { name: name.into(), ..Container::default() };
        let containers = containers.iter().map(|(id, name)| ((*id).into(), container(name))).collect();
        PodReport { pod, containers }
    }

    fn names(pods: &Pods, id: &str) -> Option<(String, String)> {
        let found = pods.container(id)?;
        let pod = found.pod.map_or_else(String::new, |pod| pod.name.to_string());
        Some((pod, found.container.map_or_else(String::new, |container| container.name.to_string())))
    }

    fn pair(pod: &str, container: &str) -> Option<(String, String)> {
        Some((pod.into(), container.into()))
    }

    #[test]
    fn a_finished_container_stays_known_for_a_bounded_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pods = Pods::default();
        pods.report(report("u1", "web-1", &[("c1", "app"), ("c2", "sidecar")]), at(0));
        // Its app was restarted.
        pods.report(report("u1", "web-1", &[("c3", "app"), ("c2", "sidecar")]), at(10));
        for (id, name) in [("c1", "app"), ("c2", "sidecar"), ("c3", "app")] {
            assert_eq!(names(&pods, id), pair("web-1", name));
        }
        pods.forget(at(10) + KEEP_ENDED);
        assert_eq!((names(&pods, "c1"), names(&pods, "c3")), (None, pair("web-1", "app")));
        pods.removed("u1", at(700));
        pods.forget(at(701));
        assert_eq!(names(&pods, "c3"), pair("web-1", "app"));
        pods.forget(at(700) + KEEP_ENDED);
        assert_eq!((names(&pods, "c3"), pods.len()), (None, (0, 0)));
    }

    #[test]
    fn a_new_list_ends_what_it_does_not_name() {
        let start = Instant::now();
        let mut pods = Pods::default();
        pods.list_begins();
        pods.report(report("u1", "a", &[("c1", "x")]), start);
        pods.report(report("u2", "b", &[("c2", "y")]), start);
        pods.list_ended(start);
        pods.list_begins();
        pods.report(report("u2", "b", &[("c2", "y")]), start);
        pods.list_ended(start);
        assert_eq!(names(&pods, "c1"), pair("a", "x"));
        pods.forget(start + KEEP_ENDED);
        assert_eq!((names(&pods, "c1"), names(&pods, "c2")), (None, pair("b", "y")));
    }

    #[test]
    fn a_static_pod_is_found_by_its_configuration_s_hash() {
        let now = Instant::now();
        let mut pods = Pods::default();
        let mut mirror = report("u1", "etcd-node", &[]);
        mirror.pod.config_hash = "34dc0b5e626f2c5c4c5170e34b10e765".into();
        pods.report(mirror, now);
        for uid in ["u1", "34dc0b5e626f2c5c4c5170e34b10e765"] {
            assert_eq!(pods.pod(uid).map(|pod| pod.name.to_string()), Some("etcd-node".into()));
        }
        pods.removed("u1", now);
        pods.forget(now + KEEP_ENDED);
        assert_eq!((pods.pod("34dc0b5e626f2c5c4c5170e34b10e765"), pods.mirrored.len()), (None, 0));
    }

    #[test]
    fn a_node_full_of_pods_is_bounded_and_counted() {
        let now = Instant::now();
        let mut pods = Pods::default();
        for number in 0..MAX_PODS + 3 {
            let id = format!("c{number}");
            pods.report(report(&format!("u{number}"), "p", &[(&id, "x")]), now);
        }
        assert_eq!((pods.len(), pods.take_refused()), ((MAX_PODS, MAX_PODS), 3));
        let many: Vec<String> = (0..MAX_CONTAINERS).map(|number| format!("d{number}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|id| (id.as_str(), "x")).collect();
        pods.report(report("u1", "p", &many), now);
        assert_eq!((pods.len().1, pods.take_refused()), (MAX_CONTAINERS, MAX_PODS as u64));
    }
}
