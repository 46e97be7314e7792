//! Whose samples are, on the naming thread: waits a bounded time for what is not known yet, fills it in, and leaves out what was
//! not asked for.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::excluded::ExcludedCgroups;
use super::left_out::LeftOut;
use super::naming::Identify;
use super::status::Status;
use crate::engine::{Interval, Sampled};
use crate::identity::{Identities, Selector, cgroup_path};
use crate::profile::pprof::EncodeError;
use crate::profile::{Batch, Process, select};

/// Between two looks at whether what is missing has come.
const LOOK: Duration = Duration::from_millis(200);
/// An interval is never held back longer, whatever `Identities` waits for: the next one comes after ten seconds.
const LONGEST_HOLD: Duration = Duration::from_secs(8);

/// See the module documentation.
pub struct Owners {
    /// Who knows.
    pub identities: Identities,
    /// What is wanted.
    pub selector: Selector,
    /// What is not, whoever is in it.
    pub excluded: ExcludedCgroups,
    /// For the counters.
    pub status: Arc<Status>,
    /// What the kernel leaves out; `None` where its set of cgroups has another use.
    pub left_out: Option<LeftOut>,
}

impl Identify for Owners {
    fn listener(&self) -> Option<SyncSender<Sampled>> {
        Some(self.identities.listener())
    }

    fn identify(&mut self, interval: &mut Interval) {
        self.identities.cgroups_made(&interval.cgroups);
        let began = Instant::now();
        while self.identities.pending(&interval.batch, Instant::now()) && began.elapsed() < LONGEST_HOLD {
            std::thread::sleep(LOOK);
        }
        self.identities.identify(&mut interval.batch, Instant::now());
        if !self.selector.takes_everything() || !self.excluded.is_empty() {
            let batch = &interval.batch;
            let (selector, identities, excluded) = (&self.selector, &self.identities, &self.excluded);
            let is_excluded =
                |process: &Process| !excluded.is_empty() && excluded.has(&cgroup(identities, batch, process));
            if let Some(left_out) = &mut self.left_out {
                let verdicts = left_out.judge(
                    batch,
                    |identity| selector.wants(identity),
                    is_excluded,
                    |path| cgroup_path::parse(path).container_id.is_some(),
                    |container, pod| identities.container(container, pod),
                    |cgroup| identities.knows_cgroup(cgroup),
                );
                self.status.add_verdicts(verdicts);
            }
            match kept(batch, selector, is_excluded) {
                Ok(kept) => interval.batch = kept,
                Err(error) => tracing::error!("an interval could not be filtered and is kept whole: {error}"),
            }
        }
        let found = (self.identities.counters(), self.identities.sizes());
        let mut numbers = self.status.naming();
        (numbers.identity, numbers.identity_sizes) = found;
    }
}

/// The path of a process's cgroup: by the id that its samples have, since `/proc` shows a path that depends on who looks.
fn cgroup<'batch>(identities: &Identities, batch: &'batch Batch, process: &Process) -> Cow<'batch, str> {
    let by_id = || identities.cgroup_path(process.cgroup_id);
    match (process.cgroup_id != 0).then(by_id).flatten() {
        Some(path) => Cow::Owned(path.to_string()),
        None => Cow::Borrowed(batch.strings.get(process.cgroup)),
    }
}

/// Samples that are not wanted become hits that were filtered (`select` keeps the ledger's books).
fn kept(batch: &Batch, selector: &Selector, is_excluded: impl Fn(&Process) -> bool) -> Result<Batch, EncodeError> {
    let wanted: Vec<bool> = batch.identities.iter().map(|identity| selector.wants(identity)).collect();
    select(batch, |process| {
        let wanted = process.identity.and_then(|identity| wanted.get(identity.0 as usize)).copied().unwrap_or(false);
        wanted && !is_excluded(process)
    })
}

#[cfg(test)]
mod tests {
    use unwind::end::End;

    use super::*;
    use crate::identity::SelectorOptions;
    use crate::ledger::Ledger;
    use crate::profile::{BatchBuilder, Identity, IdentityIndex, Process, Sample};

    #[test]
    fn what_was_not_asked_for_is_filtered_and_the_ledger_still_balances() {
        let mut builder = BatchBuilder::new();
        let text = builder.text("x");
        for (pid, count) in [(1, 3u64), (2, 2)] {
            let process = builder.process(Process {
                pid,
                start_time_ns: 1,
                comm: text,
                executable: text,
                cgroup_id: 0,
                cgroup: text,
                identity: Some(IdentityIndex(pid - 1)),
            });
            let stack = builder.stack(Vec::new()).unwrap();
            for number in 0..count {
                let (time_ns, thread_name) = (u64::from(pid) * 100 + number, text);
                let end = End::Complete;
                let sample = Sample {
                    time_ns,
                    weight_ns: 10,
                    process,
                    tid: pid,
                    thread_name,
                    cpu: 0,
                    stack,
                    end,
                    provenance: 0,
                };
                builder.push(sample);
            }
        }
        let mut batch = builder.finish(10, Ledger { due: 5, recorded: 5, ..Ledger::default() });
        let in_namespace = |name: &str| Identity { namespace: name.into(), ..Identity::default() };
        batch.identities = vec![in_namespace("shop"), in_namespace("kube-system")];
        let options = SelectorOptions { namespaces: vec!["shop".into()], ..SelectorOptions::default() };
        let by_namespace = kept(&batch, &Selector::new(options), |_| false).unwrap();
        let by_cgroup = kept(&batch, &Selector::default(), |process| process.pid == 2).unwrap();
        for kept in [by_namespace, by_cgroup] {
            assert_eq!(kept.samples.len(), 3);
            assert!(kept.samples.iter().all(|sample| sample.tid == 1));
            let ledger = kept.ledger;
            assert_eq!((ledger.due, ledger.recorded, ledger.filtered, ledger.accounted()), (5, 3, 2, 5));
        }
    }
}
