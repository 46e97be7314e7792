//! [`Batch`] → [`Profile`]: samples with equal stacks and labels become one, and only what they refer to is kept.
//!
//! The same batch gives the same bytes: hash maps are looked up in, never iterated. Stacks are compared whole.

use std::cmp::Reverse;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use pprof_proto::{Label, Profile, Sample, ValueType};
use unwind::end::End;

use super::comments::{ProfileInfo, comments};
use super::labels::{Labels, Vocabulary};
use super::tables::{Ids, Tables, get};
use crate::profile::{Batch, StackIndex};

/// A batch that does not hold together: a bug of its maker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the batch refers to {table} {index}, which it does not have")]
pub struct EncodeError {
    /// Which of its tables.
    pub table: &'static str,
    /// The index that does not exist.
    pub index: u32,
}

/// Makes a profile of a batch: `samples/count` and `cpu/nanoseconds`, the latter shown by default; the hottest stack first.
///
/// # Errors
/// An index in the batch that leads nowhere.
pub fn encode(batch: &Batch, info: &ProfileInfo) -> Result<Profile, EncodeError> {
    encode_in(batch, info, &Vocabulary::EVERFLAME)
}

/// As [`encode`], in the words of a back end.
///
/// # Errors
/// An index in the batch that leads nowhere.
pub fn encode_in(batch: &Batch, info: &ProfileInfo, vocabulary: &Vocabulary) -> Result<Profile, EncodeError> {
    encode_sums(batch, &[], info, vocabulary)
}

/// How many samples each of a batch's samples stands for.
pub(super) fn stand_for(counts: &[u64]) -> impl Iterator<Item = u64> {
    counts.iter().copied().chain(std::iter::repeat(1))
}

/// As [`encode_in`], of a batch whose samples stand for several each: `counts` says for each how many, 1 where it ends.
///
/// # Errors
/// An index in the batch that leads nowhere.
pub fn encode_sums(
    batch: &Batch,
    counts: &[u64],
    info: &ProfileInfo,
    vocabulary: &Vocabulary,
) -> Result<Profile, EncodeError> {
    let mut tables = Tables::new(batch)?;
    let mut sums = Sums::default();
    for (sample, stands_for) in batch.samples.iter().zip(stand_for(counts)) {
        let process = get("process", &batch.processes, sample.process.0)?;
        let labels = Labels::new(vocabulary, batch, process, sample);
        let stack = sums.stack(&mut tables, sample.stack, sample.end == End::Truncated)?;
        let (count, weight) = sums.values.entry((stack, labels)).or_default();
        *count += stands_for;
        *weight = weight.saturating_add(sample.weight_ns);
    }

    // Ties are broken by content, so that the order does not depend on the hash map.
    let mut rows: Vec<_> = sums.values.into_iter().collect();
    rows.sort_by_key(|((stack, labels), (_, weight))| (Reverse(*weight), *stack, *labels));

    let mut profile = Profile::default();
    for ((stack, labels), (count, weight)) in rows {
        profile.sample.push(Sample {
            location_id: sums.stacks.get(stack).cloned().unwrap_or_default(),
            value: vec![signed(count), signed(weight)],
            label: labels.encode(vocabulary, batch, &mut tables),
        });
    }
    describe(&mut profile, tables, batch, counts, (info, vocabulary));
    Ok(profile)
}

/// Puts everything but samples into a profile. What became of locations and markers.
fn describe(
    profile: &mut Profile,
    mut tables: Tables,
    batch: &Batch,
    counts: &[u64],
    (info, vocabulary): (&ProfileInfo, &Vocabulary),
) -> Ids {
    let count = ValueType { r#type: tables.text(vocabulary.samples), unit: tables.text("count") };
    let cpu = ValueType { r#type: tables.text(vocabulary.cpu), unit: tables.text("nanoseconds") };
    profile.sample_type = vec![count, cpu];
    profile.default_sample_type = cpu.r#type;
    profile.period_type = Some(cpu);
    profile.period = signed(batch.period_ns);
    profile.time_nanos = signed(batch.wall_start_ns);
    profile.duration_nanos = signed(batch.duration_ns);
    profile.comment = comments(batch, counts, info).iter().map(|comment| tables.text(comment)).collect();
    tables.finish(profile)
}

/// A batch as a profile whose samples are not written out: those of a long range are some hundred megabytes.
pub(crate) struct Parts {
    /// Everything but samples.
    pub(crate) profile: Profile,
    /// Every distinct set of labels.
    pub(crate) labels: Vec<Vec<Label>>,
    /// By sample of the batch, its labels.
    pub(crate) labels_of: Vec<u32>,
    ids: Ids,
    /// The root of a stack that was cut.
    truncated: u64,
}

impl Parts {
    /// The ids of a stack's locations, leaf first, into `ids`. `truncated` says that frames are missing on the root side.
    pub(crate) fn stack(&self, batch: &Batch, (stack, truncated): (StackIndex, bool), ids: &mut Vec<u64>) {
        ids.clear();
        let locations = batch.stacks.get(stack.0 as usize).map_or(&[][..], |stack| &stack.locations);
        // All were looked up in `encode_parts`.
        ids.extend(locations.iter().filter_map(|location| self.ids.locations.get(location.0 as usize)));
        // The sampler may have put its own marker there.
        if truncated && !ids.last().is_some_and(|root| self.ids.markers.contains(root)) {
            ids.push(self.truncated);
        }
    }
}

/// As [`encode_sums`] for a reader in this process. Samples that have all in common are not made one.
///
/// # Errors
/// An index in the batch that leads nowhere.
pub(crate) fn encode_parts(
    batch: &Batch,
    counts: &[u64],
    info: &ProfileInfo,
    vocabulary: &Vocabulary,
) -> Result<Parts, EncodeError> {
    let mut tables = Tables::new(batch)?;
    let mut numbers: HashMap<Labels, u32> = HashMap::new();
    let (mut labels, mut labels_of) = (Vec::new(), Vec::with_capacity(batch.samples.len()));
    let mut looked_up = vec![false; batch.stacks.len()];
    let mut truncated = 0;
    for sample in &batch.samples {
        let process = get("process", &batch.processes, sample.process.0)?;
        let content = Labels::new(vocabulary, batch, process, sample);
        let number = *numbers.entry(content).or_insert_with(|| {
            labels.push(content.encode(vocabulary, batch, &mut tables));
            labels.len() as u32 - 1
        });
        labels_of.push(number);
        let stack = get("stack", &batch.stacks, sample.stack.0)?;
        if looked_up.get_mut(sample.stack.0 as usize).is_some_and(|looked_up| !std::mem::replace(looked_up, true)) {
            for location in &stack.locations {
                tables.location(*location)?;
            }
        }
        if sample.end == End::Truncated && truncated == 0 {
            truncated = tables.truncated();
        }
    }
    let mut profile = Profile::default();
    let ids = describe(&mut profile, tables, batch, counts, (info, vocabulary));
    Ok(Parts { profile, labels, labels_of, ids, truncated })
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Distinct stacks, as lists of location ids, and the sums of the samples that have them.
#[derive(Default)]
struct Sums {
    /// What became of a batch's stack: index into `stacks`, with and without a root that says that it was cut.
    seen: HashMap<(StackIndex, bool), usize>,
    /// Of `stacks`, with their hashes: a long range has some hundred megabytes of them, too much to have twice.
    by_content: HashTable<(u64, usize)>,
    hasher: DefaultHashBuilder,
    stacks: Vec<Vec<u64>>,
    values: HashMap<(usize, Labels), (u64, u64)>,
}

impl Sums {
    fn stack(&mut self, tables: &mut Tables, index: StackIndex, truncated: bool) -> Result<usize, EncodeError> {
        if let Some(found) = self.seen.get(&(index, truncated)) {
            return Ok(*found);
        }
        let stack = get("stack", &tables.batch().stacks, index.0)?;
        let mut content = Vec::with_capacity(stack.locations.len() + 1);
        for location in &stack.locations {
            content.push(tables.location(*location)?);
        }
        if truncated {
            let marker = tables.truncated();
            // The sampler may have put its own marker there.
            if !content.last().is_some_and(|root| tables.is_marker(*root)) {
                content.push(marker);
            }
        }
        let number = self.number(content);
        self.seen.insert((index, truncated), number);
        Ok(number)
    }

    fn number(&mut self, content: Vec<u64>) -> usize {
        let Sums { by_content, hasher, stacks, .. } = self;
        let hash = hasher.hash_one(&content);
        let same = |(known, number): &(u64, usize)| *known == hash && stacks.get(*number) == Some(&content);
        if let Some((_, number)) = by_content.find(hash, same) {
            return *number;
        }
        let number = stacks.len();
        stacks.push(content);
        by_content.insert_unique(hash, (hash, number), |(hash, _)| *hash);
        number
    }
}
