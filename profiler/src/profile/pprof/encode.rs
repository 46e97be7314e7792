//! [`Batch`] → [`Profile`]: samples with equal stacks and labels become one, and only what they refer to is kept.
//!
//! The same batch gives the same bytes: hash maps are looked up in, never iterated. Stacks are compared whole.

use std::cmp::Reverse;
use std::collections::HashMap;

use pprof_proto::{Label, Profile, Sample, ValueType};
use unwind::end::{End, provenance};

use super::comments::{ProfileInfo, comments};
use super::tables::{Tables, get};
use crate::profile::{Batch, StackIndex, StringIndex};

/// Keys of sample labels. Their spelling matters: back ends know `thread id` and `thread name` with a space.
pub mod label {
    /// Process id, a number.
    pub const PID: &str = "pid";
    /// The process's name.
    pub const COMM: &str = "comm";
    /// Thread id, a number.
    pub const THREAD_ID: &str = "thread id";
    /// The thread's name.
    pub const THREAD_NAME: &str = "thread name";
    /// Why the user stack is not complete; absent if it is, or if there is none.
    pub const UNWIND: &str = "unwind";
    /// How the frames were found, such as `table+fp`; absent if by tables alone.
    pub const PROVENANCE: &str = "provenance";
}

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
    let mut tables = Tables::new(batch)?;
    let mut sums = Sums::default();
    for sample in &batch.samples {
        let process = get("process", &batch.processes, sample.process.0)?;
        let labels = Labels {
            comm: process.comm,
            pid: process.pid,
            tid: sample.tid,
            thread_name: sample.thread_name,
            end: sample.end,
            provenance: sample.provenance,
        };
        let stack = sums.stack(&mut tables, sample.stack, sample.end == End::Truncated)?;
        let (count, weight) = sums.values.entry((stack, labels)).or_default();
        *count += 1;
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
            label: labels.encode(batch, &mut tables),
        });
    }
    let count = ValueType { r#type: tables.text("samples"), unit: tables.text("count") };
    let cpu = ValueType { r#type: tables.text("cpu"), unit: tables.text("nanoseconds") };
    profile.sample_type = vec![count, cpu];
    profile.default_sample_type = cpu.r#type;
    profile.period_type = Some(cpu);
    profile.period = signed(batch.period_ns);
    profile.time_nanos = signed(batch.wall_start_ns);
    profile.duration_nanos = signed(batch.duration_ns);
    profile.comment = comments(batch, info).iter().map(|comment| tables.text(comment)).collect();
    tables.finish(&mut profile);
    Ok(profile)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What samples must have in common to become one, besides the stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Labels {
    comm: StringIndex,
    pid: u32,
    tid: u32,
    thread_name: StringIndex,
    end: End,
    provenance: u8,
}

impl Labels {
    fn encode(self, batch: &Batch, tables: &mut Tables) -> Vec<Label> {
        let mut labels = Vec::with_capacity(6);
        let mut text = |tables: &mut Tables, key: &str, value: &str| {
            // pprof has no empty text labels: string 0 means that the label is a number.
            if !value.is_empty() {
                labels.push(Label { key: tables.text(key), str: tables.text(value), num: 0, num_unit: 0 });
            }
        };
        text(tables, label::COMM, batch.strings.get(self.comm));
        text(tables, label::THREAD_NAME, batch.strings.get(self.thread_name));
        if !matches!(self.end, End::Complete | End::NoUser) {
            text(tables, label::UNWIND, self.end.name());
        }
        if self.provenance & !provenance::TABLE != 0 {
            text(tables, label::PROVENANCE, &provenance_text(self.provenance));
        }

        for (key, number) in [(label::PID, self.pid), (label::THREAD_ID, self.tid)] {
            labels.push(Label { key: tables.text(key), str: 0, num: i64::from(number), num_unit: 0 });
        }
        labels
    }
}

fn provenance_text(bits: u8) -> String {
    let names = [
        (provenance::TABLE, "table"),
        (provenance::FRAME_POINTER, "fp"),
        (provenance::COPIED, "copied"),
        (provenance::STALE, "stale"),
    ];
    let set: Vec<&str> = names.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect();
    set.join("+")
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
