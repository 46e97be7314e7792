//! Consecutive batches into one, as when five-second batches become the upload of a minute.
//!
//! Names must be filled in before: a location's lines are part of what it is, so that code which was named differently in two
//! batches stays two places. Files are one if nothing speaks against it; see [`same_files`].

use hashbrown::{HashMap, HashSet};

use super::pprof::EncodeError;
use super::transfer::{Sameness, Source, Target, get};
use super::{Batch, Mapping, MappingIndex};
use crate::ledger::Ledger;

/// One batch of all samples, in order of time; `None` of no batches. It begins with the first and ends with the last one, its
/// ledger is the sum, and its period the longest (each sample keeps its own weight).
///
/// Samples with further stacks than [`MAX_STACKS`](super::MAX_STACKS) are left out and counted as `queue_full` in the ledger.
///
/// # Errors
/// An index in a batch that leads nowhere.
pub fn merge(batches: &[&Batch]) -> Result<Option<Batch>, EncodeError> {
    let Some(first) = batches.iter().min_by_key(|batch| batch.monotonic_start_ns) else { return Ok(None) };
    let mut target = Target::like(first);
    let (mut ledger, mut period_ns, mut end_ns) = (Ledger::default(), 0, first.monotonic_start_ns);
    for batch in batches {
        let sameness = same_files(batch)?;
        let mut source = Source::new(&mut target, batch, &sameness);
        for sample in &batch.samples {
            source.sample(sample)?;
        }
        ledger.add(&batch.ledger);
        period_ns = batch.period_ns.max(period_ns);
        end_ns = end_ns.max(batch.monotonic_start_ns.saturating_add(batch.duration_ns));
    }
    let mut merged = target.finish(ledger);
    merged.samples.sort_by_key(|sample| (sample.time_ns, sample.cpu));
    merged.period_ns = period_ns;
    merged.duration_ns = end_ns - first.monotonic_start_ns;
    Ok(Some(merged))
}

/// What each mapping finds itself by in another batch. The only one of its name and build id is the same in the other batch if
/// it is the only one there. Where a batch has several, they are told apart by a process that uses them; one that can't be told
/// from another stays its own.
fn same_files(batch: &Batch) -> Result<Vec<Option<Sameness>>, EncodeError> {
    let mut count: HashMap<&Mapping, u32> = HashMap::new();
    for mapping in &batch.mappings {
        *count.entry(mapping).or_default() += 1;
    }
    let several = |mapping: &Mapping| count.get(mapping).is_some_and(|count| *count > 1);
    let users = if batch.mappings.iter().any(several) { first_users(batch)? } else { HashMap::new() };

    let mut sameness = Vec::with_capacity(batch.mappings.len());
    let mut taken: HashSet<(&Mapping, Sameness)> = HashSet::new();
    for (number, mapping) in batch.mappings.iter().enumerate() {
        let same = if several(mapping) {
            users.get(&MappingIndex(number as u32)).map(|(pid, start)| Sameness::UsedBy(*pid, *start))
        } else {
            Some(Sameness::Only)
        };
        sameness.push(same.filter(|same| taken.insert((mapping, *same))));
    }
    Ok(sameness)
}

/// The lowest (pid, start time) of the processes whose samples lie in each mapping: the same in each batch in which it runs.
fn first_users(batch: &Batch) -> Result<HashMap<MappingIndex, (u32, u64)>, EncodeError> {
    let mut users: HashMap<MappingIndex, (u32, u64)> = HashMap::new();
    let mut seen: HashSet<(u32, u32)> = HashSet::new();
    for sample in &batch.samples {
        if !seen.insert((sample.process.0, sample.stack.0)) {
            continue;
        }
        let process = get("process", &batch.processes, sample.process.0)?;
        let name = (process.pid, process.start_time_ns);
        for location in &get("stack", &batch.stacks, sample.stack.0)?.locations {
            if let Some(mapping) = get("location", &batch.locations, location.0)?.mapping {
                users.entry(mapping).and_modify(|lowest| *lowest = name.min(*lowest)).or_insert(name);
            }
        }
    }
    Ok(users)
}
