//! [`Roster`]: the pods that the API server and the container runtime tell of, asked once.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::ListParams;

use super::choice::ChosenPod;
use super::refusal::Refusal;
use super::tree::{self, PodCgroup};
use super::wanted::{Wanted, Who};
use crate::identity::pod_object::{self, PodObject};
use crate::identity::pods::{MAX_PODS, PodReport};
use crate::identity::watch::innermost;
use crate::identity::{ApiServer, RuntimeSocket, Sockets, cri, watch};

/// How long the API server may take for one list.
const API_PATIENCE: Duration = Duration::from_secs(10);
/// How long a runtime may.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(3);
/// What of an answer is shown, characters.
const MAX_SHOWN: usize = 200;

/// A pod that somebody told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownPod {
    /// The pod with its containers.
    pub report: PodReport,
    /// Where the API server has put it; empty if it has not, or was not asked.
    pub node: Arc<str>,
    /// `Running`, `Succeeded` …; empty if the API server was not asked.
    pub phase: Arc<str>,
}

impl KnownPod {
    /// As people write it.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.report.pod.namespace, self.report.pod.name)
    }

    /// The pod with the uid that its cgroups have; `None` if there is none among `running`.
    pub(super) fn chosen(&self, running: &HashSet<&str>) -> Option<ChosenPod> {
        let pod = &self.report.pod;
        let cgroup_uid = [&pod.uid, &pod.config_hash].into_iter().find(|uid| running.contains(&***uid))?;
        Some(ChosenPod { cgroup_uid: cgroup_uid.clone(), namespace: pod.namespace.clone(), name: pod.name.clone() })
    }
}

/// See the module documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// This node's name.
    pub node: String,
    /// Pods of this node.
    pub pods: Vec<KnownPod>,
    /// Pods of the name that was asked for, on other nodes or on none.
    pub elsewhere: Vec<KnownPod>,
    /// Whether anybody answered.
    pub is_told: bool,
    /// Why others did not.
    pub silent: Vec<String>,
}

/// Whom to ask.
#[derive(Clone)]
pub struct Sources {
    /// This node's name.
    pub node: String,
    /// The API server.
    pub api: ApiServer,
    /// The container runtime.
    pub runtime: RuntimeSocket,
}

impl Roster {
    /// Asks the API server and the runtimes. Never fails: who does not answer is in [`Roster::silent`].
    pub async fn ask(sources: &Sources, wanted: &Wanted) -> Roster {
        let label_keys: Vec<Arc<str>> = wanted.label_keys().iter().map(|key| key.as_str().into()).collect();
        let mut roster = Roster { node: sources.node.clone(), ..Roster::default() };
        roster.ask_api(&sources.api, wanted, &label_keys).await;
        let sockets = Sockets::of(&sources.runtime, Path::new("/"));
        if sockets.cri.is_empty() {
            roster.silent.push("no container runtime's socket".to_owned());
        }
        for socket in &sockets.cri {
            match cri::list(socket, RUNTIME_PATIENCE, &label_keys).await {
                Ok(reports) => roster.add_runtime(reports),
                Err(error) => roster.silent.push(shown(&error.to_string())),
            }
        }
        if roster.is_told && sockets.cri.is_empty() {
            // The API server knows more than a runtime does; that there is none is no news then.
            roster.silent.pop();
        }
        roster
    }

    async fn ask_api(&mut self, api: &ApiServer, wanted: &Wanted, label_keys: &[Arc<str>]) {
        let client = match api {
            ApiServer::Off => {
                self.silent.push("the API server is not to be asked".to_owned());
                return;
            }
            ApiServer::Client(client) => Ok(client.clone()),
            ApiServer::Found => watch::client().await,
        };
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                self.silent.push(shown(&error.to_string()));
                return;
            }
        };
        let pods: Api<PodObject> = Api::all(client);
        match list(&pods, &format!("spec.nodeName={}", self.node), label_keys).await {
            Ok(found) => {
                self.is_told = true;
                self.pods = found;
            }
            Err(why) => {
                self.silent.push(why);
                return;
            }
        }
        let Who::Named { namespace, name } = &wanted.who else { return };
        let is_meant = |known: &KnownPod| {
            let pod = &known.report.pod;
            *pod.name == **name && namespace.as_ref().is_none_or(|namespace| **namespace == *pod.namespace)
        };
        if !self.pods.iter().any(is_meant) {
            match list(&pods, &format!("metadata.name={name}"), label_keys).await {
                Ok(found) => self.elsewhere = found,
                Err(why) => self.silent.push(why),
            }
        }
    }

    /// Pods that the runtime has and the API server did not tell of; containers of those that it did.
    pub fn add_runtime(&mut self, reports: Vec<PodReport>) {
        self.is_told = true;
        for report in reports {
            let uid = &report.pod.uid;
            let same = |known: &&mut KnownPod| known.report.pod.uid == *uid || known.report.pod.config_hash == *uid;
            if let Some(known) = self.pods.iter_mut().find(same) {
                known.report.containers.extend(report.containers);
            } else if self.pods.len() < MAX_PODS {
                self.pods.push(KnownPod { report, ..KnownPod::default() });
            }
        }
    }

    /// The name of a container with this id; empty if nobody told.
    pub fn container_name(&self, id: &str) -> &str {
        let all = self.pods.iter().chain(&self.elsewhere).flat_map(|known| &known.report.containers);
        all.filter(|(known, _)| **known == *id).map(|(_, container)| &*container.name).next().unwrap_or_default()
    }

    /// An error if nobody answered.
    pub(super) fn heard(&self, cgroups: &[PodCgroup]) -> Result<(), Refusal> {
        if self.is_told {
            return Ok(());
        }
        Err(Refusal::NobodyKnows { why: self.silent.clone(), uids: tree::uids(cgroups) })
    }
}

async fn list(pods: &Api<PodObject>, fields: &str, label_keys: &[Arc<str>]) -> Result<Vec<KnownPod>, String> {
    let asked = ListParams::default().fields(fields).limit(MAX_PODS as u32);
    let failed = |why: &str| format!("the API server, asked for pods with {fields}: {}", shown(why));
    let found = match tokio::time::timeout(API_PATIENCE, pods.list(&asked)).await {
        Err(_) => return Err(failed(&format!("no answer in {} s", API_PATIENCE.as_secs()))),
        Ok(Err(kube::Error::Api(status))) => return Err(failed(&status.message)),
        Ok(Err(error)) => return Err(failed(&innermost(&error))),
        Ok(Ok(found)) => found,
    };
    let known = |object: &PodObject| {
        let (node, phase) = pod_object::standing(object);
        Some(KnownPod { report: pod_object::report(object, label_keys)?, node, phase })
    };
    Ok(found.items.iter().take(MAX_PODS).filter_map(known).collect())
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
