//! [`Reader::stacks`]: sums by stack over a range of time, in the form that every output starts from. Those by function are made in
//! [`functions`](super::functions).

use std::cmp::Reverse;
use std::collections::HashMap;

use pprof_proto::Profile;

use super::budget;
use super::bytes::Malformed;
use super::columns::{Facts, StoredSample};
use super::dictionary::{Dictionary, Part, Table};
use super::entry::Trace;
use super::error::StoreError;
use super::functions::{FunctionAnswer, SegmentSums};
use super::label::Query;
use super::reader::{Reader, SegmentView, Skipped};
use super::result::ResultTables;
use super::tables::Tables;
use super::transfer::Transfer;
use profiles::ledger::Ledger;
use profiles::profile::Batch;
use profiles::profile::pprof::{self, EncodeError, ProfileInfo, Vocabulary};
use profiles::report::{StackTable, SumsError};

/// Rows (an owner's stack) that one answer may have, about 200 bytes each with what they become.
pub const MAX_RESULT_ROWS: usize = 1 << 20;
/// Frames of all distinct exact stacks of an answer together, as a tree: about 20 bytes each.
const MAX_RESULT_NODES: usize = 4 << 20;
/// The same with each stack written out: 4 bytes each.
pub(super) const MAX_RESULT_FRAMES: u64 = 32 << 20;
/// Distinct sums of one segment, some 50 bytes each: few bytes can be samples of very many threads in very many stacks.
pub(super) const MAX_SEGMENT_SUMS: usize = 2 << 20;

/// Which samples become one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grouping {
    /// Equal stacks of processes of one name, executable and owner, whatever their pid: what long ranges of time need.
    #[default]
    Processes,
    /// Equal stacks of one thread.
    Threads,
    /// As `Processes`, and stacks are equal if their functions are, and the leaf's line: what a flame graph shows. Addresses are kept only
    /// where no function is known. Many times fewer rows, and many times faster.
    Functions,
}

type Sums<K> = HashMap<K, (u64, u64), hashbrown::DefaultHashBuilder>;

/// Sums by stack.
#[derive(Clone, Debug)]
pub struct StackSums {
    /// One sample for each row, with the sum of its weights; its time and CPU say nothing. Grouped by processes, pid and tid are
    /// 0, and so by functions. The batch's times are those of the samples that were summed; the ledger is the sum of the batches that the range touches,
    /// without regard to the filters.
    pub batch: Batch,
    /// For each of the batch's samples, how many it stands for.
    pub counts: Vec<u64>,
    /// What became one row.
    pub grouping: Grouping,
    /// CPU time of rows beyond [`MAX_RESULT_ROWS`] or other limits: it is in no sample. The largest rows of each segment come first;
    /// grouped by functions, those that were sampled first. A damaged segment is in no sum at all, this one included.
    pub left_out_ns: u64,
    /// What could not be looked at.
    pub skipped: Skipped,
}

impl StackSums {
    /// As a pprof profile: page, SVG, folded lines and `top` start from it.
    ///
    /// # Errors
    /// None for sums that come from a store.
    pub fn profile(&self, info: &ProfileInfo) -> Result<Profile, EncodeError> {
        pprof::encode_sums(&self.batch, &self.counts, info, &self.vocabulary())
    }

    /// As the table that the page is made of: that of the [`profile`](Self::profile), in less time and memory.
    ///
    /// # Errors
    /// The stacks have too many frames together.
    pub fn table(&self, info: &ProfileInfo) -> Result<StackTable, SumsError> {
        StackTable::from_sums(&self.batch, &self.counts, info, &self.vocabulary())
    }

    fn vocabulary(&self) -> Vocabulary {
        match self.grouping {
            Grouping::Threads => Vocabulary::EVERFLAME,
            // They would all be 0.
            Grouping::Processes | Grouping::Functions => {
                Vocabulary { pid: None, thread_id: None, ..Vocabulary::EVERFLAME }
            }
        }
    }

    /// Samples in all rows.
    pub fn samples(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// CPU time of all rows, ns.
    pub fn cpu_ns(&self) -> u64 {
        self.batch.samples.iter().fold(0, |sum, sample| sum.saturating_add(sample.weight_ns))
    }
}

/// What an answer is about beside its stacks.
#[derive(Clone, Copy, Default)]
struct Range {
    facts: Option<(Facts, u64)>,
}

/// A segment's sum in terms of the answer.
struct Row {
    owner: u32,
    trace: Trace,
    depth: u64,
    count: u64,
    weight_ns: u64,
}

/// Whether an answer's dictionary may not grow any more.
pub(super) fn is_full(dictionary: &Dictionary) -> bool {
    dictionary.memory_when_read() >= budget::MAX_DICTIONARY
}

/// An answer with exact stacks in the making.
#[derive(Default)]
struct Answer {
    tables: ResultTables,
    /// (owner, trace) with the result's numbers.
    rows: Sums<(u32, u32)>,
    traces: Vec<Trace>,
    trace_numbers: HashMap<(u32, u8, u8), u32, hashbrown::DefaultHashBuilder>,
    frames: u64,
    left_out_ns: u64,
}

impl Reader {
    /// Sums by stack of the samples that the query asks for.
    ///
    /// # Errors
    /// The history can't be read. Damaged segments are no error, see [`StackSums::skipped`].
    pub fn stacks(&self, query: &Query, grouping: Grouping) -> Result<StackSums, StoreError> {
        if grouping == Grouping::Functions {
            return self.functions(query);
        }
        let (mut answer, mut range) = (Answer::default(), Range::default());
        let skipped = self.each_segment(query, &[Part::Owners, Part::Shapes, Part::Exact], |segment| {
            let (mut sums, mut left_out_ns, mut widened) = (Sums::default(), 0_u64, range);
            each_sample(segment, query, &mut widened, |sample| {
                let key = (sample.thread, sample.trace);
                if sums.len() >= MAX_SEGMENT_SUMS && !sums.contains_key(&key) {
                    left_out_ns = left_out_ns.saturating_add(sample.weight_ns);
                    return Ok(());
                }
                let (count, weight) = sums.entry(key).or_default();
                *count += 1;
                *weight = sample.weight_ns.saturating_add(*weight);
                Ok(())
            })?;
            answer.add(segment, sums, left_out_ns, grouping)?;
            range = widened;
            Ok(())
        })?;
        answer.finish(&range.facts(), grouping, skipped)
    }

    /// What exact stacks have beside their functions is not even unpacked.
    fn functions(&self, query: &Query) -> Result<StackSums, StoreError> {
        let (mut answer, mut range) = (FunctionAnswer::default(), Range::default());
        let skipped = self.each_segment(query, &[Part::Owners, Part::Shapes], |segment| {
            let tables = &segment.tables;
            let mut transfer = Transfer::new(tables);
            let (mut sums, mut widened) = (SegmentSums::new(tables, &answer.dictionary), range);
            each_sample(segment, query, &mut widened, |sample| {
                sums.add(&mut transfer, (tables, &mut answer.dictionary), sample)
            })?;
            let added = answer.add(tables, &mut transfer, sums, segment.given_up());
            added.map_err(|problem| segment.damaged(0, problem))?;
            range = widened;
            segment.still_wanted()
        })?;
        let sums = answer.finish();
        let left_out_ns = sums.left_out_ns;
        let (batch, counts) = sums.into_batch(&range.facts()).map_err(StoreError::Batch)?;
        Ok(StackSums { batch, counts, grouping: Grouping::Functions, left_out_ns, skipped })
    }
}

/// Visits a segment's samples that the query asks for.
fn each_sample(
    segment: &SegmentView<'_>,
    query: &Query,
    range: &mut Range,
    mut visit: impl FnMut(&StoredSample) -> Result<(), Malformed>,
) -> Result<(), StoreError> {
    for chunk in 0..segment.chunks.len() {
        let wanted = segment.has_allowed(chunk)?;
        let (facts, samples) = segment.samples(chunk)?;
        range.note(&facts, query);
        if !wanted {
            continue;
        }
        for sample in &samples {
            if query.contains(facts.wall_ns(sample.time_ns)) && segment.allows(chunk, sample.thread)? {
                visit(sample).map_err(|problem| segment.damaged(chunk, problem))?;
            }
        }
    }
    Ok(())
}

impl Range {
    /// Widens the answer's time by a chunk's.
    fn note(&mut self, facts: &Facts, query: &Query) {
        let start_ns = facts.wall_start_ns.max(query.from_ns);
        let end_ns = facts.wall_start_ns.saturating_add(facts.duration_ns).min(query.to_ns);
        let (sum, end) =
            self.facts.get_or_insert((Facts { wall_start_ns: start_ns, ledger: Ledger::default(), ..*facts }, end_ns));
        sum.wall_start_ns = sum.wall_start_ns.min(start_ns);
        *end = (*end).max(end_ns);
        sum.period_ns = facts.period_ns;
        sum.ledger.add(&facts.ledger);
    }

    fn facts(self) -> Facts {
        let (facts, end_ns) = self.facts.unwrap_or_default();
        Facts { duration_ns: end_ns.saturating_sub(facts.wall_start_ns), ..facts }
    }
}

impl Answer {
    /// Adds a segment's sums and what it has left out: all of them or, if the segment is damaged, none.
    fn add(
        &mut self,
        segment: &SegmentView<'_>,
        sums: Sums<(u32, u32)>,
        mut left_out_ns: u64,
        grouping: Grouping,
    ) -> Result<(), StoreError> {
        let mut transfer = Transfer::new(&segment.tables);
        let mut sums: Vec<((u32, u32), (u64, u64))> = sums.into_iter().collect();
        // The order of a hash map must not show; and what is left out is to be small.
        sums.sort_unstable_by_key(|(key, (_, weight))| (Reverse(*weight), *key));
        let is_full = is_full(&self.tables.dictionary);
        // First all that may fail.
        let mut rows = Vec::with_capacity(sums.len());
        for ((thread, trace), (count, weight_ns)) in sums {
            segment.still_wanted()?;
            let into = &mut self.tables.dictionary;
            if is_full || into.nodes().len() >= MAX_RESULT_NODES {
                left_out_ns = left_out_ns.saturating_add(weight_ns);
                continue;
            }
            let row = transferred(into, &mut transfer, &segment.tables, (thread, trace), grouping);
            let (owner, trace, depth) = row.map_err(|problem| segment.damaged(0, problem))?;
            rows.push(Row { owner, trace, depth, count, weight_ns });
        }
        for Row { owner, trace, depth, count, weight_ns } in rows {
            if self.rows.len() >= MAX_RESULT_ROWS || self.frames >= MAX_RESULT_FRAMES {
                left_out_ns = left_out_ns.saturating_add(weight_ns);
                continue;
            }
            let trace = self.trace(trace, depth);
            let (counts, weights) = self.rows.entry((owner, trace)).or_default();
            *counts += count;
            *weights = weights.saturating_add(weight_ns);
        }
        self.left_out_ns = self.left_out_ns.saturating_add(left_out_ns);
        Ok(())
    }

    fn trace(&mut self, trace: Trace, depth: u64) -> u32 {
        let Answer { traces, trace_numbers, frames, .. } = self;
        *trace_numbers.entry((trace.node, trace.end as u8, trace.provenance)).or_insert_with(|| {
            traces.push(trace);
            *frames += depth;
            traces.len() as u32 - 1
        })
    }

    fn finish(self, facts: &Facts, grouping: Grouping, skipped: Skipped) -> Result<StackSums, StoreError> {
        let mut rows: Vec<((u32, u32), (u64, u64))> = self.rows.into_iter().collect();
        rows.sort_unstable_by_key(|(key, (_, weight))| (Reverse(*weight), *key));
        let counts = rows.iter().map(|(_, (count, _))| *count).collect();
        let rows: Vec<(u32, Trace, u64)> = rows
            .into_iter()
            .filter_map(|((owner, trace), (_, weight))| Some((owner, *self.traces.get(trace as usize)?, weight)))
            .collect();
        let owners = match grouping {
            Grouping::Threads => Table::Threads,
            Grouping::Processes | Grouping::Functions => Table::Processes,
        };
        let batch = self.tables.batch_of_sums(facts, owners, &rows).map_err(StoreError::Batch)?;
        Ok(StackSums { batch, counts, grouping, left_out_ns: self.left_out_ns, skipped })
    }
}

/// A segment's thread and exact stack as the answer's owner and stack, and how deep that is.
fn transferred(
    into: &mut Dictionary,
    transfer: &mut Transfer<'_, Tables>,
    tables: &Tables,
    (thread, trace): (u32, u32),
    grouping: Grouping,
) -> Result<(u32, Trace, u64), Malformed> {
    let thread = tables.thread(thread)?;
    let owner = match grouping {
        Grouping::Threads => transfer.thread(into, thread)?,
        Grouping::Processes | Grouping::Functions => transfer.kind_of_process(into, thread.process)?,
    };
    let trace = tables.trace(trace)?;
    let depth = tables.depth(trace.node);
    Ok((owner, Trace { node: transfer.node(into, trace.node)?, ..trace }, depth))
}
