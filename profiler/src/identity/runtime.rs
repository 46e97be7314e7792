//! Which container runtime to ask and when: only for containers that nobody else knows, each list at most every
//! `BETWEEN_LISTS`, one at a time.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

use super::known::Known;
use super::{cri, docker};

/// Where runtimes listen, most likely first; `/var/run` is a link to `/run` on all of these nodes.
const CRI_SOCKETS: [&str; 9] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/cri-dockerd.sock",
    "/run/dockershim.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/k0s/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/system/run/containerd/containerd.sock",
];
/// Docker's API and Podman's like it.
const DOCKER_SOCKETS: [&str; 2] = ["/run/docker.sock", "/run/podman/podman.sock"];
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two lists of everything: about 1 ms of the runtime's work for 100 containers.
const BETWEEN_LISTS: Duration = Duration::from_secs(2);
/// Most containers that wait to be asked for.
pub(super) const MAX_WANTED: usize = 1024;

/// Which runtime to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RuntimeSocket {
    /// None.
    Off,
    /// Those whose sockets are in their usual places.
    #[default]
    Auto,
    /// The one that listens here; Docker's API if the file's name is `docker.sock` or `podman.sock`, else CRI.
    At(PathBuf),
}

impl FromStr for RuntimeSocket {
    type Err = std::convert::Infallible;

    /// `off`, `auto`, a path, or `unix://` and a path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "off" => RuntimeSocket::Off,
            "auto" => RuntimeSocket::Auto,
            path => RuntimeSocket::At(path.strip_prefix("unix://").unwrap_or(path).into()),
        })
    }
}

/// The sockets of both sorts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// That speak CRI.
    pub cri: Vec<PathBuf>,
    /// That speak Docker's API.
    pub docker: Vec<PathBuf>,
}

impl Sockets {
    /// The sockets to ask; usual places are given below `root` (`/`).
    pub fn of(choice: &RuntimeSocket, root: &Path) -> Sockets {
        let existing = |usual: &[&str]| {
            let paths = usual.iter().map(|path| root.join(path.trim_start_matches('/')));
            paths.filter(|path| path.exists()).collect()
        };
        match choice {
            RuntimeSocket::Off => Sockets::default(),
            RuntimeSocket::Auto => Sockets { cri: existing(&CRI_SOCKETS), docker: existing(&DOCKER_SOCKETS) },
            RuntimeSocket::At(path) => {
                let is_docker = path.file_name().is_some_and(|name| name == "docker.sock" || name == "podman.sock");
                let paths = vec![path.clone()];
                if is_docker {
                    Sockets { docker: paths, ..Sockets::default() }
                } else {
                    Sockets { cri: paths, ..Sockets::default() }
                }
            }
        }
    }

    /// Whether there is nobody to ask.
    pub fn is_empty(&self) -> bool {
        self.cri.is_empty() && self.docker.is_empty()
    }
}

/// Answers wishes until the last one who could have one is gone.
pub(super) async fn answer(sockets: Sockets, known: &Known, mut wanted: Receiver<Arc<str>>) {
    let mut listed: Option<Instant> = None;
    let mut failing = false;
    while let Some(id) = wanted.recv().await {
        if let Some(listed) = listed
            && known.runtime().container(&id).is_none()
        {
            tokio::time::sleep_until((listed + BETWEEN_LISTS).into()).await;
        }
        // Others that came meanwhile are answered by the same list.
        let mut ids = vec![id];
        while let Ok(id) = wanted.try_recv() {
            ids.push(id);
        }
        ids.retain(|id| known.runtime().container(id).is_none());
        if ids.is_empty() {
            continue;
        }
        let mut asked = Asked { known, failed: None };
        asked.lists(&sockets.cri).await;
        listed = Some(Instant::now());
        for id in ids {
            if known.runtime().container(&id).is_none() {
                asked.inspect(&sockets.docker, &id).await;
            }
        }
        if let Some(error) = asked.failed.as_ref().filter(|_| !failing) {
            tracing::warn!(%error, "container runtime does not answer; trying again when asked");
        }
        failing = asked.failed.is_some();
    }
}

struct Asked<'a> {
    known: &'a Known,
    failed: Option<cri::RuntimeError>,
}

impl Asked<'_> {
    async fn lists(&mut self, sockets: &[PathBuf]) {
        let mut lists = Vec::new();
        for socket in sockets {
            self.known.count(|counters| counters.runtime_requests += 1);
            match cri::list(socket, TIMEOUT, self.known.label_keys()).await {
                Ok(list) => lists.extend(list),
                Err(error) => self.note(error),
            }
        }
        if lists.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut runtime = self.known.runtime();
        runtime.list_begins();
        for report in lists {
            runtime.report(report, now);
        }
        runtime.list_ended(now);
        let refused = runtime.take_refused();
        drop(runtime);
        self.known.count(|counters| counters.pods_refused += refused);
    }

    async fn inspect(&mut self, sockets: &[PathBuf], id: &Arc<str>) {
        for socket in sockets {
            self.known.count(|counters| counters.runtime_requests += 1);
            match docker::inspect(socket, id, TIMEOUT).await {
                Ok(Some(container)) => {
                    self.known.runtime().report_container(id.clone(), container, Instant::now());
                    return;
                }
                Ok(None) => {}
                Err(error) => self.note(error),
            }
        }
    }

    fn note(&mut self, error: cri::RuntimeError) {
        self.known.count(|counters| counters.runtime_errors += 1);
        self.failed = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_read_from_a_flag() {
        for (text, wanted) in [
            ("off", RuntimeSocket::Off),
            ("auto", RuntimeSocket::Auto),
            ("/run/x.sock", RuntimeSocket::At("/run/x.sock".into())),
            ("unix:///run/x.sock", RuntimeSocket::At("/run/x.sock".into())),
        ] {
            assert_eq!(text.parse(), Ok(wanted));
        }
    }

    #[test]
    fn only_sockets_that_are_there_are_asked() {
        let root = tempfile::tempdir().unwrap();
        for socket in ["run/k3s/containerd/containerd.sock", "run/docker.sock"] {
            let path = root.path().join(socket);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = Sockets::of(&RuntimeSocket::Auto, root.path());
        let wanted = Sockets {
            cri: vec![root.path().join("run/k3s/containerd/containerd.sock")],
            docker: vec![root.path().join("run/docker.sock")],
        };
        assert_eq!(found, wanted);
        assert!(Sockets::of(&RuntimeSocket::Off, root.path()).is_empty());
        let at = |path: &str| Sockets::of(&RuntimeSocket::At(path.into()), root.path());
        assert_eq!((at("/x/docker.sock").docker.len(), at("/x/other.sock").cri.len()), (1, 1));
    }
}
