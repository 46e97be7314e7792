//! [`choose`]: which pods are meant, out of those that are known and those that have cgroups here. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use super::refusal::Refusal;
use super::roster::{KnownPod, Roster};
use super::tree::{self, PodCgroup};
use super::wanted::{Wanted, Who};

/// Phases in which no container runs any more.
const ENDED: [&str; 2] = ["Succeeded", "Failed"];

/// A pod that is meant and has cgroups here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenPod {
    /// Its uid as cgroups have it.
    pub cgroup_uid: Arc<str>,
    /// Empty where only cgroups tell of it.
    pub namespace: Arc<str>,
    /// Likewise.
    pub name: Arc<str>,
}

impl ChosenPod {
    /// As people write it.
    pub fn shown(&self) -> String {
        if self.name.is_empty() { self.cgroup_uid.to_string() } else { format!("{}/{}", self.namespace, self.name) }
    }
}

/// What is profiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// At least one.
    pub pods: Vec<ChosenPod>,
    /// Their cgroups that are wanted, with a container's own ones.
    pub cgroups: Vec<PodCgroup>,
    /// How many containers these are, as people count them.
    pub containers: usize,
    /// Whether somebody tells who new pods and containers are.
    pub is_told: bool,
}

/// Chooses.
///
/// # Errors
/// [`Refusal`]: nothing is meant, or it is not clear what, or it does not run here.
pub fn choose(wanted: &Wanted, roster: &Roster, cgroups: &[PodCgroup]) -> Result<Choice, Refusal> {
    let running: HashSet<&str> = cgroups.iter().map(|cgroup| &*cgroup.pod_uid).collect();
    let pods = match &wanted.who {
        Who::Uids(uids) => by_uids(uids, roster, cgroups, &running)?,
        Who::Named { namespace, name } => {
            vec![by_name(namespace.as_deref(), name, roster, cgroups, &running)?]
        }
        Who::Selected { namespace, labels, text } => {
            let found: Vec<ChosenPod> = roster
                .pods
                .iter()
                .filter(|known| is_in(known, namespace.as_deref()) && labels.matches(&known.report.pod.labels))
                .filter_map(|known| known.chosen(&running))
                .collect();
            if found.is_empty() {
                roster.heard(cgroups)?;
                let (selector, namespace) = (text.clone(), namespace.clone());
                let (node, why) = (roster.node.clone(), roster.silent.clone());
                return Err(Refusal::NoMatch { selector, namespace, node, why });
            }
            found
        }
    };
    let of_pods: Vec<&PodCgroup> = cgroups.iter().filter(|cgroup| is_of(cgroup, &pods)).collect();
    let kept: Vec<PodCgroup> =
        of_pods.iter().filter(|cgroup| is_wanted(wanted, roster, cgroup)).map(|cgroup| (*cgroup).clone()).collect();
    if kept.is_empty() {
        return Err(no_container(wanted, roster, &pods, &of_pods));
    }
    if kept.len() > profiler_common::filter::MAX_LISTED {
        return Err(Refusal::TooManyCgroups(kept.len()));
    }
    let containers = containers(roster, &kept);
    Ok(Choice { pods, cgroups: kept, containers, is_told: roster.is_told })
}

/// A runtime keeps a container more in each pod, its sandbox, which nobody named: only where no names are known it counts.
fn containers(roster: &Roster, cgroups: &[PodCgroup]) -> usize {
    let all: HashSet<&str> = cgroups.iter().map(|cgroup| &*cgroup.container_id).filter(|id| !id.is_empty()).collect();
    match all.iter().filter(|id| !roster.container_name(id).is_empty()).count() {
        0 => all.len(),
        named => named,
    }
}

/// Those that run here: of several, some may have ended since they were listed. An error where none does.
fn by_uids(
    uids: &[String],
    roster: &Roster,
    cgroups: &[PodCgroup],
    running: &HashSet<&str>,
) -> Result<Vec<ChosenPod>, Refusal> {
    let (mut chosen, mut refusal) = (Vec::<ChosenPod>::new(), None);
    for uid in uids {
        match by_uid(uid, roster, cgroups, running) {
            Ok(pod) if chosen.contains(&pod) => {}
            Ok(pod) => chosen.push(pod),
            Err(why) => refusal = refusal.or(Some(why)),
        }
    }
    match refusal {
        Some(why) if chosen.is_empty() => Err(why),
        _ => Ok(chosen),
    }
}

fn by_uid(uid: &str, roster: &Roster, cgroups: &[PodCgroup], running: &HashSet<&str>) -> Result<ChosenPod, Refusal> {
    let known = roster.pods.iter().find(|known| &*known.report.pod.uid == uid || &*known.report.pod.config_hash == uid);
    match known {
        Some(known) => known.chosen(running).ok_or_else(|| not_running(known)),
        None if running.contains(uid) => {
            Ok(ChosenPod { cgroup_uid: uid.into(), namespace: Arc::default(), name: Arc::default() })
        }
        None => Err(Refusal::NoSuchUid { uid: uid.to_owned(), node: roster.node.clone(), uids: tree::uids(cgroups) }),
    }
}

fn by_name(
    namespace: Option<&str>,
    name: &str,
    roster: &Roster,
    cgroups: &[PodCgroup],
    running: &HashSet<&str>,
) -> Result<ChosenPod, Refusal> {
    let is_it = |known: &&KnownPod| &*known.report.pod.name == name && is_in(known, namespace);
    let here: Vec<&KnownPod> = roster.pods.iter().filter(is_it).collect();
    // A pod that the server has on another node and whose cgroups are here is here: the node has another name than we think.
    let all = || here.iter().copied().chain(roster.elsewhere.iter().filter(is_it));
    let mut chosen: Vec<ChosenPod> = all().filter_map(|known| known.chosen(running)).collect();
    match (chosen.pop(), chosen.is_empty()) {
        (Some(one), true) => return Ok(one),
        (Some(last), false) => {
            chosen.push(last);
            let mut pods: Vec<String> = chosen.iter().map(ChosenPod::shown).collect();
            pods.sort_unstable();
            return Err(Refusal::Ambiguous { name: name.to_owned(), pods });
        }
        (None, _) => {}
    }
    if let Some(known) = here.first() {
        return Err(not_running(known));
    }
    if let Some(known) = roster.elsewhere.iter().find(is_it) {
        let pod = known.shown();
        return Err(match &*known.node {
            _ if ENDED.contains(&&*known.phase) => not_running(known),
            "" => Refusal::Unscheduled { pod },
            other => Refusal::Elsewhere { pod, other: other.to_owned(), node: roster.node.clone() },
        });
    }
    roster.heard(cgroups)?;
    let mut similar: Vec<String> = roster
        .pods
        .iter()
        .filter(|known| known.report.pod.name.starts_with(name) && known.chosen(running).is_some())
        .map(KnownPod::shown)
        .collect();
    similar.sort_unstable();
    let pod = namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"));
    Err(Refusal::NoSuchPod { pod, node: roster.node.clone(), similar, why: roster.silent.clone() })
}

fn is_in(known: &KnownPod, namespace: Option<&str>) -> bool {
    namespace.is_none_or(|namespace| namespace == &*known.report.pod.namespace)
}

fn is_of(cgroup: &PodCgroup, pods: &[ChosenPod]) -> bool {
    pods.iter().any(|pod| pod.cgroup_uid == cgroup.pod_uid)
}

fn is_wanted(wanted: &Wanted, roster: &Roster, cgroup: &PodCgroup) -> bool {
    if wanted.containers.is_empty() {
        return true;
    }
    !cgroup.container_id.is_empty()
        && wanted.wants_container(roster.container_name(&cgroup.container_id), &cgroup.container_id)
}

fn no_container(wanted: &Wanted, roster: &Roster, pods: &[ChosenPod], cgroups: &[&PodCgroup]) -> Refusal {
    let names = cgroups.iter().map(|cgroup| roster.container_name(&cgroup.container_id));
    let mut has: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    has.sort_unstable();
    has.dedup();
    let pod = match pods {
        [one] => format!("pod {}", one.shown()),
        several => format!("these {} pods", several.len()),
    };
    Refusal::NoContainer { pod, wanted: wanted.containers.clone(), has }
}

fn not_running(known: &KnownPod) -> Refusal {
    let (pod, phase) = (known.shown(), known.phase.to_string());
    if phase.is_empty() || ENDED.contains(&&*phase) {
        Refusal::Ended { pod, phase }
    } else {
        Refusal::NotStarted { pod, phase }
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
