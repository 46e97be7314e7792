//! [`Reader::series`], [`Reader::values`] and [`Reader::labels`]: CPU time by label, over time and in all.
//!
//! They come from the index's sums by thread and the owners' dictionaries; samples are read only where a chunk lies on a border. A
//! segment is counted when all of it was read: a damaged one not in part.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::bytes::Malformed;
use super::dictionary::{Part, Table};
use super::error::StoreError;
use super::label::{self, Label, Query};
use super::reader::{Reader, SegmentView, Skipped};

/// Distinct values of a label that are told apart, about 100 bytes each; CPU time of further ones is counted as other.
pub const MAX_VALUES: usize = 65_536;
/// Bytes of those values.
const MAX_VALUE_BYTES: usize = 32 << 20;
/// Steps of a series.
pub const MAX_STEPS: u64 = 10_000;
/// Values that a series may have beside other, 80 KB each at [`MAX_STEPS`].
pub const MAX_SERIES: usize = 100;

/// Values of a label with their CPU time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// The most expensive first, as many as were asked for: value (empty where the label is not known) and ns.
    pub top: Vec<(String, u64)>,
    /// How many distinct values there are, [`MAX_VALUES`] at most.
    pub distinct: usize,
    /// CPU time of all other values, ns.
    pub other_ns: u64,
    /// What could not be looked at.
    pub skipped: Skipped,
}

/// A label's CPU time over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Start of the first step, ns since the Unix epoch.
    pub from_ns: u64,
    /// Length of a step, ns; the last one may reach beyond the query's range.
    pub step_ns: u64,
    /// The most expensive values, most expensive first, each with its CPU time in each step, ns.
    pub top: Vec<(String, Vec<u64>)>,
    /// CPU time of all other values in each step, ns.
    pub other: Vec<u64>,
    /// What could not be looked at.
    pub skipped: Skipped,
}

/// How much there is of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelSummary {
    /// Which.
    pub label: Label,
    /// Distinct values that are not empty, [`MAX_VALUES`] at most.
    pub values: usize,
    /// CPU time of samples whose value is not empty, ns.
    pub cpu_ns: u64,
}

/// CPU time by value of one label.
#[derive(Default)]
struct ByValue {
    sums: HashMap<String, u64>,
    /// Of the values.
    bytes: usize,
    other_ns: u64,
}

impl ByValue {
    fn add(&mut self, value: &str, weight_ns: u64) {
        if let Some(sum) = self.sums.get_mut(value) {
            *sum = sum.saturating_add(weight_ns);
        } else if self.sums.len() < MAX_VALUES && self.bytes + value.len() <= MAX_VALUE_BYTES {
            self.bytes += value.len();
            self.sums.insert(value.to_owned(), weight_ns);
        } else {
            self.other_ns = self.other_ns.saturating_add(weight_ns);
        }
    }

    fn top(self, limit: usize, skipped: Skipped) -> Values {
        let distinct = self.sums.len();
        let mut top: Vec<(String, u64)> = self.sums.into_iter().collect();
        top.sort_by(|(a, left), (b, right)| (Reverse(left), a).cmp(&(Reverse(right), b)));
        let rest = top.iter().skip(limit).fold(self.other_ns, |sum, (_, weight)| sum.saturating_add(*weight));
        top.truncate(limit);
        Values { top, distinct, other_ns: rest, skipped }
    }
}

impl Reader {
    /// A label's values in the query's range, the `limit` most expensive of them by name.
    ///
    /// # Errors
    /// The history can't be read.
    pub fn values(&self, query: &Query, label: Label, limit: usize) -> Result<Values, StoreError> {
        let mut values = ByValue::default();
        let skipped = self.by_thread(query, |segment, sums| {
            let found = by_value(segment, label, sums)?;
            found.into_iter().for_each(|(value, sum)| values.add(value, sum));
            Ok(())
        })?;
        Ok(values.top(limit, skipped))
    }

    /// How many values each label has in the query's range, in the order of [`Label::ALL`].
    ///
    /// # Errors
    /// The history can't be read.
    pub fn labels(&self, query: &Query) -> Result<Vec<LabelSummary>, StoreError> {
        let mut all: [ByValue; Label::ALL.len()] = Default::default();
        self.by_thread(query, |segment, sums| {
            let found = Label::ALL.into_iter().map(|label| by_value(segment, label, sums));
            let found = found.collect::<Result<Vec<_>, StoreError>>()?;
            for (values, found) in all.iter_mut().zip(found) {
                found.into_iter().for_each(|(value, sum)| values.add(value, sum));
            }
            Ok(())
        })?;
        let summary = |(label, values): (Label, ByValue)| {
            let known = values.sums.iter().filter(|(value, _)| !value.is_empty());
            let cpu_ns = known.clone().fold(values.other_ns, |sum, (_, weight)| sum.saturating_add(*weight));
            LabelSummary { label, values: known.count(), cpu_ns }
        };
        Ok(Label::ALL.into_iter().zip(all).map(summary).collect())
    }

    /// CPU time over time by a label's values: the `top` most expensive of the whole range by name, and all others together.
    ///
    /// # Errors
    /// No step, more than [`MAX_STEPS`] of them, or a history that can't be read.
    pub fn series(&self, query: &Query, by: Label, step_ns: u64, top: usize) -> Result<Series, StoreError> {
        let range = query.to_ns.saturating_sub(query.from_ns);
        let steps = range.checked_add(step_ns.saturating_sub(1)).and_then(|range| range.checked_div(step_ns));
        let steps = steps.filter(|steps| *steps <= MAX_STEPS);
        let steps = steps.ok_or(StoreError::Query("a series has 1 to 10,000 steps"))? as usize;
        let names = self.values(query, by, top.min(MAX_SERIES))?.top;
        let places: HashMap<&str, usize> =
            names.iter().enumerate().map(|(place, (name, _))| (name.as_str(), place)).collect();
        let mut rows = vec![vec![0_u64; steps]; names.len()];
        let mut other = vec![0_u64; steps];
        let place = |time_ns: u64| time_ns.saturating_sub(query.from_ns) / step_ns;
        let skipped = self.each_segment(query, &[Part::Owners], |segment| {
            let Some((first_ns, last_ns)) = segment.times() else { return Ok(()) };
            // The segment's steps, and its own sums in them: row by row, the last one is that of all others.
            let from = place(first_ns.max(query.from_ns)) as usize;
            let to = place(last_ns.min(query.to_ns.saturating_sub(1))) as usize;
            let width = to.saturating_sub(from) + 1;
            let mut sums = vec![0_u64; (names.len() + 1) * width];
            // By thread and by text: the row, as far as it was looked up.
            let mut of_threads: Vec<Option<u32>> = vec![None; segment.tables.len(Table::Threads)];
            let mut of_texts: HashMap<Option<u32>, u32> = HashMap::new();
            segment.each_thread(place, |tables, thread, time_ns, weight| {
                let slot = of_threads.get_mut(thread as usize).ok_or(Malformed("a thread that is not there"))?;
                let row = match *slot {
                    Some(row) => row,
                    None => {
                        let text = by.text_of_thread(tables, thread)?;
                        let row = match of_texts.get(&text) {
                            Some(row) => *row,
                            None => {
                                let row = places.get(label::value(tables, text)?).copied().unwrap_or(names.len());
                                of_texts.insert(text, row as u32);
                                row as u32
                            }
                        };
                        *slot = Some(row);
                        row
                    }
                };
                let step = (place(time_ns) as usize).checked_sub(from).filter(|step| *step < width);
                let sum = step.and_then(|step| sums.get_mut(row as usize * width + step));
                let sum = sum.ok_or(Malformed("a sample from another time than its chunk"))?;
                *sum = sum.saturating_add(weight);
                Ok(())
            })?;
            for (row, sums) in sums.chunks(width).enumerate() {
                let row = rows.get_mut(row).unwrap_or(&mut other);
                for (sum, more) in row.iter_mut().skip(from).zip(sums) {
                    *sum = sum.saturating_add(*more);
                }
            }
            Ok(())
        })?;
        let top = names.into_iter().map(|(name, _)| name).zip(rows).collect();
        Ok(Series { from_ns: query.from_ns, step_ns, top, other, skipped })
    }

    /// Sums by thread (thread and ns), segment by segment.
    fn by_thread(
        &self,
        query: &Query,
        mut visit: impl FnMut(&SegmentView<'_>, &[(u32, u64)]) -> Result<(), StoreError>,
    ) -> Result<Skipped, StoreError> {
        self.each_segment(query, &[Part::Owners], |segment| {
            let mut sums = vec![0_u64; segment.tables.len(Table::Threads)];
            segment.each_thread(
                |_| 0,
                |_, thread, _, weight| {
                    let sum = sums.get_mut(thread as usize).ok_or(Malformed("a thread that is not there"))?;
                    *sum = sum.saturating_add(weight);
                    Ok(())
                },
            )?;
            let sums: Vec<(u32, u64)> = (0..).zip(sums).filter(|(_, sum)| *sum > 0).collect();
            visit(segment, &sums)
        })
    }
}

/// Sums by thread as sums by a label's value. A text is looked at once, however many threads have it.
fn by_value<'segment>(
    segment: &'segment SegmentView<'_>,
    label: Label,
    sums: &[(u32, u64)],
) -> Result<Vec<(&'segment str, u64)>, StoreError> {
    segment.still_wanted()?;
    let tables = &segment.tables;
    let mut by_text = BTreeMap::<Option<u32>, u64>::new();
    for (thread, weight) in sums {
        let text = label.text_of_thread(tables, *thread).map_err(|problem| segment.damaged(0, problem))?;
        let sum = by_text.entry(text).or_default();
        *sum = sum.saturating_add(*weight);
    }
    let mut found = Vec::with_capacity(by_text.len());
    for (text, sum) in by_text {
        found.push((label::value(tables, text).map_err(|problem| segment.damaged(0, problem))?, sum));
    }
    Ok(found)
}
