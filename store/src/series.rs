//! [`Reader::series`], [`Reader::values`] and [`Reader::labels`]: CPU time by label, over time and in all.
//!
//! They come from the index's sums by thread and the owners' dictionaries; samples are read only where a chunk lies on a border.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::bytes::Malformed;
use super::dictionary::Part;
use super::error::StoreError;
use super::label::{Label, Query};
use super::reader::{Reader, Skipped};
use super::tables::Tables;

/// Distinct values of a label that are told apart, about 100 bytes each; CPU time of further ones is counted as other.
pub const MAX_VALUES: usize = 65_536;
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
    other_ns: u64,
}

impl ByValue {
    fn add(&mut self, value: &str, weight_ns: u64) {
        if let Some(sum) = self.sums.get_mut(value) {
            *sum = sum.saturating_add(weight_ns);
        } else if self.sums.len() < MAX_VALUES {
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
        let skipped = self.by_thread(query, |tables, thread, sum| {
            values.add(label.of_thread(tables, thread)?, sum);
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
        self.by_thread(query, |tables, thread, sum| {
            for (label, values) in Label::ALL.into_iter().zip(&mut all) {
                values.add(label.of_thread(tables, thread)?, sum);
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
            // By thread: its row, as far as it was looked up.
            let mut known: Vec<Option<Option<usize>>> = Vec::new();
            segment.each_thread(place, |tables, thread, time_ns, weight| {
                let thread_place = thread as usize;
                if known.len() <= thread_place {
                    known.resize(thread_place + 1, None);
                }
                let row = match known[thread_place] {
                    Some(row) => row,
                    None => {
                        let row = places.get(by.of_thread(tables, thread)?).copied();
                        known[thread_place] = Some(row);
                        row
                    }
                };
                let row = row.and_then(|row| rows.get_mut(row)).unwrap_or(&mut other);
                if let Some(sum) = row.get_mut(place(time_ns) as usize) {
                    *sum = sum.saturating_add(weight);
                }
                Ok(())
            })
        })?;
        let top = names.into_iter().map(|(name, _)| name).zip(rows).collect();
        Ok(Series { from_ns: query.from_ns, step_ns, top, other, skipped })
    }

    /// Sums by thread, segment by segment.
    fn by_thread(
        &self,
        query: &Query,
        mut visit: impl FnMut(&Tables, u32, u64) -> Result<(), Malformed>,
    ) -> Result<Skipped, StoreError> {
        self.each_segment(query, &[Part::Owners], |segment| {
            let mut sums: Vec<u64> = Vec::new();
            segment.each_thread(
                |_| 0,
                |tables, thread, _, weight| {
                    // Bounded by the table, which a damaged file can't make larger than itself.
                    tables.thread(thread)?;
                    let thread = thread as usize;
                    if sums.len() <= thread {
                        sums.resize(thread + 1, 0);
                    }
                    sums[thread] = sums[thread].saturating_add(weight);
                    Ok(())
                },
            )?;
            for (thread, sum) in sums.into_iter().enumerate().filter(|(_, sum)| *sum > 0) {
                visit(&segment.tables, thread as u32, sum).map_err(|problem| segment.damaged(0, problem))?;
            }
            Ok(())
        })
    }
}
