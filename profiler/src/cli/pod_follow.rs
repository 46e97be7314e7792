//! The companion of `everflame pod`'s recording: keeps the kernel's set of cgroups up to date, finds out whose samples are, and
//! leaves out what was not asked for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::recording::{Companion, Part};
use super::say::say;
use super::stop::Stop;
use crate::engine::{Engine, Interval};
use crate::identity::{self, Hierarchy, Identities};
use crate::pod::{Choice, ChosenPod, Followed, PartNames, Tree};
use crate::profile::{Batch, Identity, Parts, Process, select};

/// Between two walks of the whole hierarchy, which find pods that come anew: some 10 ms for 1,000 cgroups.
const BETWEEN_WALKS: Duration = Duration::from_secs(2);
/// Between two looks at whether what is missing is known by now.
const LOOK: Duration = Duration::from_millis(100);
/// The end waits no longer for names of containers, whatever `Identities` waits for.
const LONGEST_HOLD: Duration = Duration::from_secs(8);

/// See the module documentation.
pub(super) struct PodCompanion {
    pub(super) followed: Followed,
    pub(super) tree: Tree,
    pub(super) tokio: Runtime,
    /// Where identity looks; taken when the engine is loaded.
    pub(super) options: identity::Options,
    pub(super) split: bool,
    identities: Option<Identities>,
    walked: Instant,
    /// Cgroups that found no room in the kernel's set.
    refused: u64,
}

impl PodCompanion {
    pub(super) fn new(
        followed: Followed,
        tree: Tree,
        tokio: Runtime,
        options: identity::Options,
        split: bool,
    ) -> PodCompanion {
        PodCompanion { followed, tree, tokio, options, split, identities: None, walked: Instant::now(), refused: 0 }
    }

    fn let_through(&mut self, engine: &mut Engine, ids: Vec<u64>) {
        for id in ids {
            if engine.cgroup_filter().allow(id).is_err() {
                self.refused += 1;
            }
        }
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.followed.choice().pods.iter().map(ChosenPod::shown).collect();
        names.join(", ")
    }
}

impl Companion for PodCompanion {
    fn loaded(&mut self, engine: &mut Engine) -> anyhow::Result<()> {
        let hierarchy = engine
            .cgroup_hierarchy()
            .map(|found| Hierarchy { directory: found.mount.clone(), has_perf_records: found.has_perf_records });
        let options = identity::Options { hierarchy, ..self.options.clone() };
        let identities = Identities::start(options, self.tokio.handle())?;
        engine.announce_to(identities.listener());
        self.identities = Some(identities);
        Ok(())
    }

    fn started(&mut self, _: &mut Engine, _: &Stop) -> anyhow::Result<()> {
        say(format_args!("profiling {}", described(self.followed.choice())));
        Ok(())
    }

    fn round(&mut self, engine: &mut Engine) -> anyhow::Result<bool> {
        let below = self.tree.below(self.followed.pod_paths());
        let some_live = !below.is_empty();
        let new = self.followed.found(below);
        self.let_through(engine, new);
        let pause = match (some_live, self.followed.awaits_pods()) {
            (true, false) => return Ok(true),
            (true, true) => BETWEEN_WALKS,
            // The first ones have ended; others may come.
            (false, _) if self.followed.goes_on_without() => BETWEEN_WALKS,
            (false, _) => LOOK,
        };
        if self.walked.elapsed() < pause {
            return Ok(true);
        }
        self.walked = Instant::now();
        let all = self.tree.all();
        let lives = self.followed.any_lives(&all);
        let new = self.followed.found(all);
        self.let_through(engine, new);
        if !lives && !self.followed.goes_on_without() {
            say(format_args!("pod {} has ended; so does the recording", self.names()));
            return Ok(false);
        }
        Ok(true)
    }

    fn finished(&mut self, interval: &mut Interval) -> anyhow::Result<()> {
        let Some(identities) = &mut self.identities else { return Ok(()) };
        identities.cgroups_made(&interval.cgroups);
        identities.cgroups_found(self.followed.cgroups());
        let began = Instant::now();
        while identities.pending(&interval.batch, Instant::now()) && began.elapsed() < LONGEST_HOLD {
            std::thread::sleep(LOOK);
        }
        identities.identify(&mut interval.batch, Instant::now());
        let batch = &interval.batch;
        let followed = &self.followed;
        interval.batch = select(batch, |process| followed.keeps(process.cgroup_id, identity(batch, process)))?;
        if self.refused > 0 {
            say(format_args!("{} new cgroups found no room in the kernel's set and were not sampled", self.refused));
        }
        if interval.batch.samples.is_empty() {
            say(format_args!("nothing of {} ran on a processor in that time", self.names()));
        }
        Ok(())
    }

    fn parts(&self, batch: &Batch) -> anyhow::Result<Vec<Part>> {
        if !self.split {
            return Ok(Vec::new());
        }
        let (mut numbers, mut part_names): (HashMap<String, u32>, _) = (HashMap::new(), PartNames::default());
        let mut names: Vec<(String, String)> = Vec::new();
        let of_process = |process: &Process| {
            let (title, name) = pod_of(identity(batch, process)?)?;
            Some(*numbers.entry(title.clone()).or_insert_with(|| {
                let number = names.len() as u32;
                names.push((title, part_names.of(&name)));
                number
            }))
        };
        let part_of: Vec<Option<u32>> = batch.processes.iter().map(of_process).collect();
        let parts = Parts::new(batch, &part_of)?;
        let mut made = Vec::new();
        for (number, (title, name)) in (0..).zip(names) {
            made.push(Part { name, title: format!("pod {title}"), batch: parts.batch(number)? });
        }
        Ok(made)
    }
}

/// Pods that the line names at most.
const MAX_NAMED: usize = 5;

fn described(choice: &Choice) -> String {
    let mut names: Vec<String> = choice.pods.iter().take(MAX_NAMED).map(ChosenPod::shown).collect();
    if choice.pods.len() > MAX_NAMED {
        names.push(format!("{} more", choice.pods.len() - MAX_NAMED));
    }
    let pods = if choice.pods.len() == 1 { "pod" } else { "pods" };
    let plural = if choice.containers == 1 { "container" } else { "containers" };
    format!("{pods} {} ({} {plural})", names.join(", "), choice.containers)
}

fn identity<'batch>(batch: &'batch Batch, process: &Process) -> Option<&'batch Identity> {
    batch.identities.get(process.identity?.0 as usize)
}

/// A pod as people write it, and what a part of a file's name is made of.
fn pod_of(identity: &Identity) -> Option<(String, String)> {
    if identity.pod.is_empty() {
        let uid = identity.pod_uid.to_string();
        return (!uid.is_empty()).then(|| (uid.clone(), uid));
    }
    let (namespace, pod) = (&identity.namespace, &identity.pod);
    Some((format!("{namespace}/{pod}"), format!("{namespace}-{pod}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_called_by_its_name_or_else_by_its_uid() {
        let of = |namespace: &str, pod: &str, uid: &str| {
            pod_of(&Identity {
                namespace: namespace.into(),
                pod: pod.into(),
                pod_uid: uid.into(),
                ..Identity::default()
            })
        };
        let pair = |left: &str, right: &str| Some((left.to_owned(), right.to_owned()));
        assert_eq!(of("shop", "web-1", "u"), pair("shop/web-1", "shop-web-1"));
        assert_eq!(of("", "", "f2e1-x"), pair("f2e1-x", "f2e1-x"));
        assert_eq!(of("", "", ""), None);
    }
}
