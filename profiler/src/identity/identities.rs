//! [`Identities`]: the front of this module. The engine tells it of processes, the driver holds a batch back while it is
//! [`Identities::pending`] and then has it [`Identities::identify`]-ed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::api_server::{self, ApiServer};
use super::cgroup_path;
use super::cgroups::Hierarchy;
use super::counters::{Counters, Sizes};
use super::known::{Known, ProcessKey};
use super::observed::Observed;
use super::pods::Found;
use super::runtime::{self, MAX_WANTED, RuntimeSocket, Sockets};
use super::service::{self, Sources};
use super::{reader, watch};
use crate::engine::Sampled;
use crate::profile::{Batch, Identity, IdentityIndex, Process};

/// Most containers, and most processes, that are waited for, about 150 bytes each; further ones are not waited for.
const MAX_WAITING: usize = 8192;
/// After how long a runtime is asked again for a container that it did not know.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How long it is remembered that something was waited for.
const KEEP_WAITING: Duration = Duration::from_secs(900);

/// Where identity looks, and how long it waits.
#[derive(Clone)]
pub struct Options {
    /// Where `/proc` of the host's pid namespace is.
    pub proc_root: PathBuf,
    /// Where the host's cgroup file systems are.
    pub cgroup_root: PathBuf,
    /// The cgroup hierarchy that samples' ids are of; `None` for [`Hierarchy::find`].
    pub hierarchy: Option<Hierarchy>,
    /// This node's name; `None` for [`watch::node_name`]'s other sources.
    pub node: Option<String>,
    /// The API server.
    pub api: ApiServer,
    /// The container runtime.
    pub runtime: RuntimeSocket,
    /// Keys of pod labels that identities carry, those that a [`super::Selector`] looks at included.
    pub label_keys: Vec<String>,
    /// How long a batch is held back for a container that is not known yet. The kubelet reports a new container's id one to
    /// three seconds after its start.
    pub hold: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            proc_root: "/proc".into(),
            cgroup_root: "/sys/fs/cgroup".into(),
            hierarchy: None,
            node: None,
            api: ApiServer::default(),
            runtime: RuntimeSocket::default(),
            label_keys: Vec::new(),
            hold: Duration::from_secs(5),
        }
    }
}

struct Waiting {
    since: Instant,
    asked: Instant,
    in_vain: bool,
}

/// See the module documentation. Dropping it ends its tasks and, once the engine has dropped its sender, its thread.
pub struct Identities {
    known: Arc<Known>,
    listener: SyncSender<Sampled>,
    node: Arc<str>,
    hold: Duration,
    cgroups_told: bool,
    has_api: Arc<AtomicBool>,
    wanted: Option<mpsc::Sender<Arc<str>>>,
    containers: HashMap<Arc<str>, Waiting>,
    processes: HashMap<ProcessKey, Waiting>,
    tasks: Vec<JoinHandle<()>>,
}

/// Where a process belongs, as far as paths tell.
struct Place {
    observed: Option<Arc<Observed>>,
    was_read: bool,
    cgroup: Arc<str>,
    container_id: String,
    pod_uid: String,
}

impl Identities {
    /// Starts the thread that reads processes, and on `tokio` the watch and the questions to the runtime.
    pub fn start(options: Options, tokio: &Handle) -> std::io::Result<Identities> {
        let known = Arc::new(Known::new(options.label_keys.iter().map(|key| key.as_str().into()).collect()));
        let hierarchy = options.hierarchy.or_else(|| Hierarchy::find(&options.cgroup_root));
        let cgroups_told = hierarchy.as_ref().is_some_and(|hierarchy| hierarchy.has_perf_records);
        let hostname = std::fs::read_to_string(options.proc_root.join("sys/kernel/hostname")).unwrap_or_default();
        let node = watch::node_name(options.node.as_deref(), |name| std::env::var(name).ok(), &hostname);
        let listener = reader::start(known.clone(), options.proc_root, hierarchy)?;
        let has_api = Arc::new(AtomicBool::new(!matches!(options.api, ApiServer::Off)));
        let mut tasks = Vec::new();
        if has_api.load(Ordering::Relaxed) {
            tasks.push(tokio.spawn(api_server::follow(options.api, node.clone(), known.clone(), has_api.clone())));
        }
        let sockets = Sockets::of(&options.runtime, Path::new("/"));
        let wanted = (!sockets.is_empty()).then(|| {
            let (sender, receiver) = mpsc::channel(MAX_WANTED);
            let known = known.clone();
            tasks.push(tokio.spawn(async move { runtime::answer(sockets, &known, receiver).await }));
            sender
        });
        Ok(Identities {
            known,
            listener,
            node,
            hold: options.hold,
            cgroups_told,
            has_api,
            wanted,
            containers: HashMap::new(),
            processes: HashMap::new(),
            tasks,
        })
    }

    /// Where the engine announces sampled processes ([`crate::engine::Engine::announce_to`]): each one is read soon after.
    pub fn listener(&self) -> SyncSender<Sampled> {
        self.listener.clone()
    }

    /// Has a process read, again if it runs another program now. Never waits: a full queue is counted.
    pub fn note(&self, pid: u32, start_time_ns: u64) {
        if self.listener.try_send(Sampled { pid, start_time_ns, cgroup_id: 0 }).is_err() {
            self.known.count(|counters| counters.notes_dropped += 1);
        }
    }

    /// Takes perf's records of new cgroups: id and path from the hierarchy's root.
    pub fn cgroups_made(&self, cgroups: &[(u64, Vec<u8>)]) {
        if !self.cgroups_told {
            // Their ids are of another hierarchy than the samples'.
            return;
        }
        let mut known = self.known.cgroups();
        for (id, path) in cgroups {
            known.made(*id, path);
        }
    }

    /// Takes cgroups that somebody found by walking the samples' hierarchy: id and path from its root.
    pub fn cgroups_found<'a>(&self, cgroups: impl IntoIterator<Item = (u64, &'a str)>) {
        let mut known = self.known.cgroups();
        for (id, path) in cgroups {
            known.made(id, path.as_bytes());
        }
    }

    /// Whether it is worth holding `batch` back: some process was not read yet, or some container is not known yet, and was
    /// first asked for less than [`Options::hold`] ago. Asks for what is missing; ask once more in a few hundred milliseconds.
    pub fn pending(&mut self, batch: &Batch, now: Instant) -> bool {
        let mut pending = false;
        for process in &batch.processes {
            let place = self.place(process, now);
            if !place.was_read {
                pending |= self.await_process(process, now);
            }
            if !place.container_id.is_empty() && self.find(&place).container.is_none() {
                pending |= self.await_container(&place.container_id, now);
            }
        }
        pending
    }

    /// Fills [`Process::identity`], [`Process::cgroup`] and [`Batch::identities`] with what is known by now.
    pub fn identify(&mut self, batch: &mut Batch, now: Instant) {
        let mut samples = vec![0u64; batch.processes.len()];
        for sample in &batch.samples {
            if let Some(count) = samples.get_mut(sample.process.0 as usize) {
                *count += 1;
            }
        }
        let mut index: HashMap<Identity, IdentityIndex> = HashMap::new();
        for (at, count) in samples.into_iter().enumerate() {
            let place = self.place(&batch.processes[at], now);
            let found = self.find(&place);
            self.account(&place, &found, count);
            let executable = batch.strings.get(batch.processes[at].executable);
            let comm = batch.strings.get(batch.processes[at].comm);
            let identity = self.identity(&place, &found, executable, comm);
            let identities = &mut batch.identities;
            let which = *index.entry(identity).or_insert_with_key(|identity| {
                identities.push(identity.clone());
                IdentityIndex(identities.len() as u32 - 1)
            });
            let process = &mut batch.processes[at];
            process.identity = Some(which);
            process.cgroup = batch.strings.intern(&place.cgroup);
        }
        let keep = |waiting: &Waiting| now.duration_since(waiting.since) < KEEP_WAITING;
        self.containers.retain(|_, waiting| keep(waiting));
        self.processes.retain(|_, waiting| keep(waiting));
    }

    /// What was found, missed and left out since the start.
    pub fn counters(&self) -> Counters {
        self.known.counters()
    }

    /// Who a container is by now, as far as a [`super::Selector`] looks: pod, labels and container; `None` if nobody knows it
    /// (any more).
    pub fn container(&self, container_id: &str, pod_uid: &str) -> Option<Identity> {
        let found = self.known.find(container_id, pod_uid);
        let (pod, container) = (found.pod?, found.container?);
        Some(Identity {
            container_id: container_id.into(),
            pod_uid: pod.uid.clone(),
            pod: pod.name.clone(),
            namespace: pod.namespace.clone(),
            container: container.name.clone(),
            labels: pod.labels.clone(),
            ..Identity::default()
        })
    }

    /// The path of a cgroup that is there, or lately was, from its hierarchy's root, as far as is known; of one that is not, the
    /// next walk may tell.
    pub fn cgroup_path(&self, id: u64) -> Option<Arc<str>> {
        let path = self.known.cgroups().path(id);
        if path.is_none() {
            self.known.want_walk();
        }
        path
    }

    /// Whether there is such a cgroup: [`Identities::cgroup_path`].
    pub fn knows_cgroup(&self, id: u64) -> bool {
        self.cgroup_path(id).is_some()
    }

    /// What is kept.
    pub fn sizes(&self) -> Sizes {
        self.known.sizes()
    }

    /// Pods and containers that the API server told of, as it is now; for status pages.
    pub fn pods_known(&self) -> (usize, usize) {
        self.known.api().len()
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    fn place(&self, process: &Process, now: Instant) -> Place {
        let read = self.known.process((process.pid, process.start_time_ns), now);
        let was_read = read.is_some();
        let observed = read.flatten();
        let own = observed.as_ref().map(|observed| observed.cgroup.clone()).unwrap_or_default();
        let in_container = |path: &str| cgroup_path::parse(path).container_id.is_some();
        let mut cgroup = own;
        if !in_container(&cgroup) && process.cgroup_id != 0 {
            // It is gone; or it was read before the runtime put it where its samples are from.
            match self.known.cgroups().path(process.cgroup_id) {
                Some(path) if cgroup.is_empty() || in_container(&path) => cgroup = path,
                Some(_) => {}
                None => self.known.want_walk(),
            }
        }
        let parsed = cgroup_path::parse(&cgroup);
        let container_id = parsed.container_id.map(String::from).unwrap_or_default();
        let pod_uid = parsed.pod_uid.map(String::from).unwrap_or_default();
        Place { observed, was_read, cgroup, container_id, pod_uid }
    }

    fn find(&self, place: &Place) -> Found {
        if place.container_id.is_empty() && place.pod_uid.is_empty() {
            return Found::default();
        }
        self.known.find(&place.container_id, &place.pod_uid)
    }

    fn await_process(&mut self, process: &Process, now: Instant) -> bool {
        let key = (process.pid, process.start_time_ns);
        if let Some(waiting) = self.processes.get(&key) {
            return now.duration_since(waiting.since) < self.hold;
        }
        self.note(process.pid, process.start_time_ns);
        let there_is_room = self.processes.len() < MAX_WAITING;
        if there_is_room {
            self.processes.insert(key, Waiting { since: now, asked: now, in_vain: false });
        }
        there_is_room
    }

    fn await_container(&mut self, id: &str, now: Instant) -> bool {
        if !self.containers.contains_key(id) && self.containers.len() >= MAX_WAITING {
            return false;
        }
        let mut ask = false;
        let waiting = self.containers.entry(id.into()).or_insert_with(|| {
            ask = true;
            Waiting { since: now, asked: now, in_vain: false }
        });
        if now.duration_since(waiting.asked) >= ASK_AGAIN {
            (ask, waiting.asked) = (true, now);
        }
        let since = waiting.since;
        if ask
            && let Some(wanted) = &self.wanted
            && wanted.try_send(id.into()).is_err()
        {
            self.known.count(|counters| counters.runtime_dropped += 1);
        }
        let somebody_knows = self.wanted.is_some() || self.has_api.load(Ordering::Relaxed);
        somebody_knows && now.duration_since(since) < self.hold
    }

    fn account(&mut self, place: &Place, found: &Found, samples: u64) {
        let mut in_vain = 0;
        if found.container.is_none()
            && let Some(waiting) = self.containers.get_mut(place.container_id.as_str())
            && !waiting.in_vain
        {
            waiting.in_vain = true;
            in_vain = 1;
        }
        self.known.count(|counters| {
            counters.waited_in_vain += in_vain;
            counters.contradictions += if found.contradicts { samples } else { 0 };
            let which = match (found.container.is_some(), found.pod.is_some(), place.container_id.is_empty()) {
                (true, ..) => &mut counters.tagged,
                (false, true, _) => &mut counters.pod_only,
                (false, false, false) => &mut counters.container_unknown,
                (false, false, true) => &mut counters.host,
            };
            *which += samples;
        });
    }

    fn identity(&self, place: &Place, found: &Found, executable: &str, comm: &str) -> Identity {
        let (pod, container) = (found.pod.as_deref(), found.container.as_deref());
        let declared = service::resolve(&Sources {
            environment: place.observed.as_ref().map(|observed| &observed.environment),
            container_tags: container.map(|container| &container.tags),
            pod_tags: pod.map(|pod| &pod.tags),
            annotations: pod.map(|pod| &pod.annotations),
            recommended_labels: pod.map(|pod| &pod.recommended_labels),
            workload: pod.map_or("", |pod| &pod.workload),
            container: container.map_or("", |container| &container.name),
            executable,
            comm,
            kernel_thread: place.observed.as_ref().is_some_and(|observed| observed.kernel_thread),
        });
        let of_pod = pod.cloned().unwrap_or_default();
        let of_container = container.cloned().unwrap_or_default();
        Identity {
            container_id: place.container_id.as_str().into(),
            pod_uid: if of_pod.uid.is_empty() { place.pod_uid.as_str().into() } else { of_pod.uid },
            pod: of_pod.name,
            namespace: of_pod.namespace,
            container: of_container.name,
            image: of_container.image,
            node: self.node.clone(),
            workload_kind: of_pod.workload_kind,
            workload: of_pod.workload,
            service: declared.service,
            environment: declared.environment,
            version: declared.version,
            labels: of_pod.labels,
        }
    }
}

impl Drop for Identities {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[cfg(test)]
#[path = "identities_tests.rs"]
mod tests;
