//! [`Batch`] → [`Profile`]: samples with equal stacks and labels become one, and only what they refer to is kept.
//!
//! The same batch gives the same bytes: hash maps are looked up in, never iterated. Stacks are compared whole.

use hashbrown::HashMap;
use std::cmp::Reverse;

use pprof_proto::{Profile, Sample, ValueType};
use unwind::end::End;

use super::comments::{ProfileInfo, comments};
use super::labels::{Labels, Vocabulary};
use super::tables::{Tables, get};
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
    let count = ValueType { r#type: tables.text(vocabulary.samples), unit: tables.text("count") };
    let cpu = ValueType { r#type: tables.text(vocabulary.cpu), unit: tables.text("nanoseconds") };
    profile.sample_type = vec![count, cpu];
    profile.default_sample_type = cpu.r#type;
    profile.period_type = Some(cpu);
    profile.period = signed(batch.period_ns);
    profile.time_nanos = signed(batch.wall_start_ns);
    profile.duration_nanos = signed(batch.duration_ns);
    profile.comment = comments(batch, counts, info).iter().map(|comment| tables.text(comment)).collect();
    tables.finish(&mut profile);
    Ok(profile)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Distinct stacks, as lists of location ids, and the sums of the samples that have them.
#[derive(Default)]
struct Sums {
    /// What became of a batch's stack: index into `stacks`, with and without a root that says that it was cut.
    seen: HashMap<(StackIndex, bool), usize>,
    by_content: HashMap<Vec<u64>, usize>,
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
        let next = self.stacks.len();
        let number = *self.by_content.entry(content.clone()).or_insert(next);
        if number == next {
            self.stacks.push(content);
        }
        self.seen.insert((index, truncated), number);
        Ok(number)
    }
}
