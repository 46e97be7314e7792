//! [`LeftOut`]: which cgroups the kernel need not sample, because nobody wants what is in them. Pure.
//!
//! Only what is certain is left out there: a cgroup whose processes are all unwanted and whose owner is known. Everything else is
//! sampled and judged by the agent, so that a new pod loses nothing. What is left out is judged again after each interval: labels
//! change. One hit left out in the kernel costs some 100 ns, one that the agent throws away a stack walk and a record.

use std::collections::HashMap;

use profiler_common::filter::MAX_LISTED;

use crate::profile::{Batch, Identity, Process};

/// A change for the kernel's set of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The cgroup's id, of the engine's hierarchy.
    pub cgroup_id: u64,
    /// Leave it out; else sample it again.
    pub leave_out: bool,
}

/// Who is in a cgroup that is left out.
#[derive(Debug)]
struct Owner {
    /// Empty for a cgroup of the host, and for one that is excluded whoever is in it.
    container_id: String,
    pod_uid: String,
}

/// See the module documentation. Holds at most [`MAX_LISTED`] cgroups, some 150 bytes each.
#[derive(Debug, Default)]
pub struct LeftOut {
    cgroups: HashMap<u64, Owner>,
}

impl LeftOut {
    /// What changes after an interval whose identities are filled in. `wanted` judges an identity; `is_excluded` a process's cgroup,
    /// whoever is in it; `is_in_container` a cgroup's path; `identity_now` tells who a container is by now, `None` if it is forgotten;
    /// `is_there` whether a cgroup still exists.
    pub fn judge(
        &mut self,
        batch: &Batch,
        wanted: impl Fn(&Identity) -> bool,
        is_excluded: impl Fn(&Process) -> bool,
        is_in_container: impl Fn(&str) -> bool,
        identity_now: impl Fn(&str, &str) -> Option<Identity>,
        is_there: impl Fn(u64) -> bool,
    ) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        self.cgroups.retain(|cgroup_id, owner| {
            let stays = if owner.container_id.is_empty() {
                is_there(*cgroup_id)
            } else {
                identity_now(&owner.container_id, &owner.pod_uid).is_some_and(|identity| !wanted(&identity))
            };
            if !stays {
                verdicts.push(Verdict { cgroup_id: *cgroup_id, leave_out: false });
            }
            stays
        });
        for (cgroup_id, owner) in unwanted(batch, wanted, is_excluded, is_in_container) {
            if self.cgroups.len() < MAX_LISTED && !self.cgroups.contains_key(&cgroup_id) {
                self.cgroups.insert(cgroup_id, owner);
                verdicts.push(Verdict { cgroup_id, leave_out: true });
            }
        }
        verdicts.sort_unstable_by_key(|verdict| verdict.cgroup_id);
        verdicts
    }

    /// How many are left out.
    pub fn len(&self) -> usize {
        self.cgroups.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.cgroups.is_empty()
    }
}

/// The cgroups of a batch in which nobody is wanted and everybody known, and those that are excluded.
fn unwanted(
    batch: &Batch,
    wanted: impl Fn(&Identity) -> bool,
    is_excluded: impl Fn(&Process) -> bool,
    is_in_container: impl Fn(&str) -> bool,
) -> HashMap<u64, Owner> {
    let judged: Vec<bool> = batch.identities.iter().map(wanted).collect();
    let mut owners: HashMap<u64, Option<Owner>> = HashMap::new();
    for process in batch.processes.iter().filter(|process| process.cgroup_id != 0) {
        let at = process.identity.map(|identity| identity.0 as usize);
        let owner = at.and_then(|at| batch.identities.get(at).zip(judged.get(at))).and_then(|(identity, wanted)| {
            let in_container = is_in_container(batch.strings.get(process.cgroup));
            // Of a container that is not known yet nobody can tell whether it is wanted.
            let known = !in_container || !identity.container.is_empty();
            (!wanted && known).then(|| Owner {
                container_id: if in_container { identity.container_id.to_string() } else { String::new() },
                pod_uid: identity.pod_uid.to_string(),
            })
        });
        let owner = if is_excluded(process) { Some(Owner::nobody()) } else { owner };
        let entry = owners.entry(process.cgroup_id).or_insert_with(|| Some(Owner::nobody()));
        if let (Some(known), Some(owner)) = (entry.as_mut(), owner) {
            *known = owner;
        } else {
            *entry = None;
        }
    }
    owners.into_iter().filter_map(|(id, owner)| Some((id, owner?))).collect()
}

impl Owner {
    fn nobody() -> Owner {
        Owner { container_id: String::new(), pod_uid: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::profile::{BatchBuilder, IdentityIndex, Process};

    fn of(namespace: &str, container: &str) -> Identity {
        Identity {
            namespace: namespace.into(),
            container: container.into(),
            container_id: container.into(),
            ..Identity::default()
        }
    }

    /// Processes as (cgroup id, path, identity).
    fn batch(processes: &[(u64, &str, Identity)]) -> Batch {
        let mut builder = BatchBuilder::new();
        let text = builder.text("x");
        for (at, (cgroup_id, path, _)) in processes.iter().enumerate() {
            let cgroup = builder.text(path);
            builder.process(Process {
                pid: at as u32 + 1,
                start_time_ns: 1,
                comm: text,
                executable: text,
                cgroup_id: *cgroup_id,
                cgroup,
                identity: Some(IdentityIndex(at as u32)),
            });
        }
        let mut batch = builder.finish(10, Ledger::default());
        batch.identities = processes.iter().map(|(_, _, identity)| identity.clone()).collect();
        batch
    }

    fn wanted(identity: &Identity) -> bool {
        &*identity.namespace == "shop"
    }

    fn in_container(path: &str) -> bool {
        path.starts_with("/kubepods")
    }

    fn leave(cgroup_id: u64) -> Verdict {
        Verdict { cgroup_id, leave_out: true }
    }

    #[test]
    fn a_cgroup_is_left_out_once_all_in_it_are_known_and_unwanted() {
        let batch = batch(&[
            (1, "/kubepods/a", of("shop", "web")),
            (2, "/kubepods/b", of("kube-system", "dns")),
            (3, "/kubepods/c", of("", "")),
            (4, "/system.slice/x", of("", "")),
            (5, "/shared", of("", "")),
            (5, "/shared", of("shop", "web")),
            (0, "/kubepods/d", of("kube-system", "dns")),
        ]);
        let mut left_out = LeftOut::default();
        let mut judge =
            || left_out.judge(&batch, wanted, |_| false, in_container, |_, _| Some(of("kube-system", "dns")), |_| true);
        assert_eq!(judge(), [leave(2), leave(4)]);
        assert_eq!(judge(), [], "each is said once");
        assert_eq!(left_out.len(), 2);
    }

    #[test]
    fn what_becomes_wanted_unknown_or_goes_is_sampled_again() {
        let first = batch(&[
            (1, "/kubepods/a", of("kube-system", "dns")),
            (2, "/kubepods/b", of("kube-system", "proxy")),
            (3, "/kubepods/c", of("kube-system", "gone")),
            (4, "/system.slice/x", of("", "")),
        ]);
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.judge(&first, wanted, |_| false, in_container, |_, _| None, |_| true).len(), 4);
        let now = |container: &str, _: &str| match container {
            "dns" => Some(of("shop", "dns")),
            "proxy" => Some(of("kube-system", "proxy")),
            _ => None,
        };
        let again = left_out.judge(&batch(&[]), wanted, |_| false, in_container, now, |id| id != 4);
        assert_eq!(again, [1, 3, 4].map(|cgroup_id| Verdict { cgroup_id, leave_out: false }));
        assert_eq!(left_out.len(), 1);
    }

    #[test]
    fn an_excluded_cgroup_is_left_out_whoever_is_in_it_as_long_as_it_is_there() {
        let first = batch(&[
            (1, "/kubepods/a", of("shop", "web")),
            (2, "/kubepods/b", of("", "")),
            (3, "/system.slice/x", of("shop", "")),
        ]);
        let excluded = |process: &Process| process.cgroup_id < 3;
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.judge(&first, wanted, excluded, in_container, |_, _| None, |_| true), [leave(1), leave(2)]);
        let still_wanted = |_: &str, _: &str| Some(of("shop", "web"));
        let again = left_out.judge(&batch(&[]), wanted, excluded, in_container, still_wanted, |id| id != 2);
        assert_eq!(again, [Verdict { cgroup_id: 2, leave_out: false }]);
        assert_eq!(left_out.len(), 1);
    }

    #[test]
    fn no_more_are_listed_than_the_kernel_s_set_takes() {
        let many: Vec<_> = (1..=MAX_LISTED as u64 + 5).map(|id| (id, "/system.slice/x", of("", ""))).collect();
        let mut left_out = LeftOut::default();
        let verdicts = left_out.judge(&batch(&many), wanted, |_| false, in_container, |_, _| None, |_| true);
        assert_eq!((verdicts.len(), left_out.len()), (MAX_LISTED, MAX_LISTED));
    }
}
