//! [`Followed`]: the chosen pods while they are recorded. Which new cgroups the kernel lets through, and, at the end, whose samples
//! stay. Pure.
//!
//! A container that is restarted has a new cgroup in its pod's. A pod that comes meanwhile may be one that is meant: its samples are
//! let through, and judged once everybody's names are known.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::choice::Choice;
use super::tree::PodCgroup;
use super::wanted::{Wanted, Who};
use crate::identity::cgroup_path;
use crate::profile::Identity;

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Followed {
    wanted: Wanted,
    choice: Choice,
    uids: HashSet<Arc<str>>,
    /// Cgroups that were there and were not chosen: never let through.
    others: HashSet<u64>,
    /// Pods that were there and were not chosen: nor is what they make later.
    other_uids: HashSet<Arc<str>>,
    /// What is let through.
    cgroups: HashMap<u64, PodCgroup>,
    /// Ids of the containers that were chosen.
    containers: HashSet<Arc<str>>,
}

impl Followed {
    /// At the start: what was chosen, out of all cgroups of pods that there are.
    pub fn new(wanted: Wanted, choice: Choice, all: &[PodCgroup]) -> Followed {
        let uids: HashSet<Arc<str>> = choice.pods.iter().map(|pod| pod.cgroup_uid.clone()).collect();
        let cgroups: HashMap<u64, PodCgroup> = choice.cgroups.iter().map(|found| (found.id, found.clone())).collect();
        let others = all.iter().map(|found| found.id).filter(|id| !cgroups.contains_key(id)).collect();
        let other_uids = all.iter().map(|found| found.pod_uid.clone()).filter(|uid| !uids.contains(uid)).collect();
        let containers = choice.cgroups.iter().map(|found| found.container_id.clone()).collect();
        Followed { wanted, choice, uids, others, other_uids, cgroups, containers }
    }

    /// What is followed.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The ids and paths of all cgroups that are let through.
    pub fn cgroups(&self) -> impl Iterator<Item = (u64, &str)> {
        self.cgroups.values().map(|found| (found.id, &*found.path))
    }

    /// The pods' own cgroups, in which their containers' are made.
    pub fn pod_paths(&self) -> impl Iterator<Item = &str> {
        // With -c the pods' own are not let through, and found from a container's.
        let is_pod = |path: &&str| {
            let parsed = cgroup_path::parse(path);
            parsed.container_id.is_none() && parsed.pod_uid.is_some()
        };
        let all = self.cgroups.values().filter(|found| self.uids.contains(&found.pod_uid));
        let own = |found: &'_ PodCgroup| found.container_id.is_empty();
        let paths = all.filter_map(|found| if own(found) { Some(&*found.path) } else { parent(&found.path) });
        paths.filter(is_pod).collect::<HashSet<&str>>().into_iter()
    }

    /// Cgroups that were found now; returns the ids of those that are to be let through from now on.
    pub fn found(&mut self, found: Vec<PodCgroup>) -> Vec<u64> {
        let mut new = Vec::new();
        for cgroup in found {
            let known = self.cgroups.contains_key(&cgroup.id) || self.others.contains(&cgroup.id);
            if !known && self.may_be_wanted(&cgroup) {
                new.push(cgroup.id);
                self.cgroups.insert(cgroup.id, cgroup);
            }
        }
        new
    }

    fn may_be_wanted(&self, cgroup: &PodCgroup) -> bool {
        let container = self.wanted.containers.is_empty() || !cgroup.container_id.is_empty();
        let may_be_meant = self.awaits_pods() && !self.other_uids.contains(&cgroup.pod_uid);
        container && (self.uids.contains(&cgroup.pod_uid) || may_be_meant)
    }

    /// Whether a pod that comes later may be one that is meant.
    pub fn awaits_pods(&self) -> bool {
        self.choice.is_told && !matches!(self.wanted.who, Who::Uids(_))
    }

    /// Whether one of the chosen pods still has a cgroup among these.
    pub fn any_lives(&self, all: &[PodCgroup]) -> bool {
        all.iter().any(|cgroup| self.uids.contains(&cgroup.pod_uid))
    }

    /// Whether new pods may be meant, so that the end of the first ones is not the end.
    pub fn goes_on_without(&self) -> bool {
        matches!(self.wanted.who, Who::Selected { .. })
    }

    /// Whether samples from this cgroup stay, now that it is known whose they are.
    pub fn keeps(&self, cgroup_id: u64, identity: Option<&Identity>) -> bool {
        let place = self.cgroups.get(&cgroup_id);
        let is_chosen = match place {
            Some(place) => self.uids.contains(&place.pod_uid),
            None => identity.is_some_and(|identity| self.uids.contains(&identity.pod_uid)),
        };
        if !is_chosen && !identity.is_some_and(|identity| self.means(identity)) {
            return false;
        }
        if self.wanted.containers.is_empty() {
            return true;
        }
        let by_id = place.is_some_and(|place| self.containers.contains(&place.container_id));
        by_id || identity.is_some_and(|who| self.wanted.wants_container(&who.container, &who.container_id))
    }

    /// Whether a pod that was not there at the start is one of those that were asked for.
    fn means(&self, identity: &Identity) -> bool {
        if identity.pod.is_empty() {
            return false;
        }
        match &self.wanted.who {
            Who::Uids(_) => false,
            // Of the name alone, which pod was meant was clear at the start.
            Who::Named { name, .. } => {
                *identity.pod == **name && self.choice.pods.iter().any(|chosen| chosen.namespace == identity.namespace)
            }
            Who::Selected { namespace, labels, .. } => {
                namespace.as_ref().is_none_or(|namespace| **namespace == *identity.namespace)
                    && labels.matches(&identity.labels)
            }
        }
    }
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

#[cfg(test)]
#[path = "followed_tests.rs"]
mod tests;
