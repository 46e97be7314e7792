//! A batch by whose it is: one series for each service, environment, version and container.
//!
//! Constraint: who owns a process is partly what its own environment says, so that anybody can invent services. The number of
//! series has a bound; what lies beyond goes out under one name, so that its CPU time is not lost.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use super::text::TextCounters;
use crate::profile::pprof::EncodeError as BrokenBatch;
use crate::profile::{Batch, Identity, Parts, Process};

/// Most series of one batch, each a message of a few KiB at least: a node has some hundred containers. The most CPU time wins.
pub const MAX_SERIES: usize = 16_384;
/// The service under which samples of further series are sent.
pub const FOLDED_SERVICE: &str = "everflame-other";

/// The series of a batch, in the order in which their processes are in it; with no samples for some.
pub(super) struct SeriesOf<'batch> {
    /// Whose each is: texts of its first process, the service never empty.
    pub(super) owners: Vec<Identity>,
    /// The series of each process, by its index.
    pub(super) of_process: Vec<u32>,
    /// Their samples, by the same numbers.
    pub(super) parts: Parts<'batch>,
}

/// Whose a process is; who is unknown has the service that its executable's name makes.
pub(super) fn owner(batch: &Batch, process: &Process) -> Identity {
    let known = process.identity.and_then(|identity| batch.identities.get(identity.0 as usize));
    let mut owner = known.cloned().unwrap_or_default();
    if owner.service.is_empty() {
        let executable = batch.strings.get(process.executable);
        let name = executable.rsplit('/').next().unwrap_or_default();
        let names = [name, batch.strings.get(process.comm), "unknown"];
        owner.service = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default().into();
    }
    owner
}

/// Sorts a batch into series, at most `limit` ([`MAX_SERIES`]).
pub(super) fn series<'batch>(
    batch: &'batch Batch,
    limit: usize,
    counters: &TextCounters,
) -> Result<SeriesOf<'batch>, BrokenBatch> {
    let mut numbers: HashMap<[Arc<str>; 4], u32> = HashMap::new();
    let mut owners: Vec<Identity> = Vec::new();
    let mut of_process = Vec::with_capacity(batch.processes.len());
    for process in &batch.processes {
        let owner = owner(batch, process);
        let key = [&owner.service, &owner.environment, &owner.version, &owner.container_id].map(Arc::clone);
        let number = *numbers.entry(key).or_insert(owners.len() as u32);
        if number as usize == owners.len() {
            owners.push(owner);
        }
        of_process.push(number);
    }
    if owners.len() > limit {
        fold(batch, limit, &mut owners, &mut of_process, counters);
    }
    let part_of: Vec<Option<u32>> = of_process.iter().copied().map(Some).collect();
    let parts = Parts::new(batch, &part_of)?;
    Ok(SeriesOf { owners, of_process, parts })
}

/// Keeps the `limit - 1` series with the most CPU time; the others become the last one.
fn fold(batch: &Batch, limit: usize, owners: &mut Vec<Identity>, of_process: &mut [u32], counters: &TextCounters) {
    let mut weights = vec![0_u64; owners.len()];
    for sample in &batch.samples {
        if let Some(number) = of_process.get(sample.process.0 as usize) {
            weights[*number as usize] = weights[*number as usize].saturating_add(sample.weight_ns);
        }
    }
    let mut order: Vec<u32> = (0..owners.len() as u32).collect();
    order.sort_by_key(|number| (Reverse(weights[*number as usize]), *number));
    let last = limit.saturating_sub(1) as u32;
    let mut new = vec![last; owners.len()];
    let mut kept = Vec::with_capacity(limit);
    for (number, old) in order.into_iter().enumerate() {
        if (number as u32) < last {
            new[old as usize] = number as u32;
            kept.push(owners[old as usize].clone());
        } else {
            TextCounters::count(&counters.folded);
        }
    }
    kept.push(Identity { service: FOLDED_SERVICE.into(), ..Identity::default() });
    *owners = kept;
    for number in of_process {
        *number = new[*number as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::profile::{BatchBuilder, IdentityIndex, Sample};
    use unwind::end::End;

    /// A process for each (executable, service of its identity, samples).
    fn batch(processes: &[(&str, Option<&str>, usize)]) -> Batch {
        let mut builder = BatchBuilder::new();
        let stack = builder.stack(Vec::new()).unwrap();
        let comm = builder.text("");
        let mut identities = Vec::new();
        for (number, (executable, service, samples)) in processes.iter().enumerate() {
            let identity = service.map(|service| {
                identities.push(Identity { service: service.into(), ..Identity::default() });
                IdentityIndex(identities.len() as u32 - 1)
            });
            let executable = builder.text(executable);
            let process = builder.process(Process {
                pid: number as u32,
                start_time_ns: 0,
                comm,
                executable,
                cgroup_id: 0,
                cgroup: comm,
                identity,
            });
            for _ in 0..*samples {
                builder.push(Sample {
                    time_ns: 0,
                    weight_ns: 1,
                    process,
                    tid: 0,
                    thread_name: comm,
                    cpu: 0,
                    stack,
                    end: End::Complete,
                    provenance: 0,
                });
            }
        }
        let mut batch = builder.finish(1, Ledger::default());
        batch.identities = identities;
        batch
    }

    fn services(batch: &Batch, limit: usize, counters: &TextCounters) -> Vec<(String, usize)> {
        let series = series(batch, limit, counters).unwrap();
        let count = |number: usize| series.parts.samples(number as u32).count();
        series.owners.iter().enumerate().map(|(number, owner)| (owner.service.to_string(), count(number))).collect()
    }

    #[test]
    fn processes_of_one_service_are_one_series_and_the_unknown_go_by_their_executable() {
        let batch = batch(&[
            ("/bin/a", Some("web"), 1),
            ("/usr/bin/b", None, 2),
            ("/bin/c", Some("web"), 3),
            ("", None, 4),
            ("/sbin/b", Some(""), 5),
        ]);
        let counters = TextCounters::default();
        let expected = [("web", 4), ("b", 7), ("unknown", 4)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(services(&batch, MAX_SERIES, &counters), expected);
        assert_eq!(counters.folded.into_inner(), 0);
    }

    #[test]
    fn series_beyond_the_limit_go_out_under_one_name_and_the_busiest_keep_theirs() {
        let batch = batch(&[
            ("", Some("one"), 1),
            ("", Some("five"), 5),
            ("", Some("two"), 2),
            ("", Some("nine"), 9),
            ("", Some("too"), 2),
        ]);
        let counters = TextCounters::default();
        let expected = [("nine", 9), ("five", 5), (FOLDED_SERVICE, 5)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(services(&batch, 3, &counters), expected);
        assert_eq!(counters.folded.into_inner(), 3);
    }
}
