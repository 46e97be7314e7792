//! The hottest functions as a table of text.
//!
//! `self` is what was spent in the function itself, `total` includes what it called; a function that occurs twice in a
//! stack counts once. With process labels, a function is listed for each process name.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use pprof_proto::Profile;

use super::numbers::value;
use super::shown::shown;
use super::stack_table::{StackId, StackTable, TextId};
use super::{TooManyFrames, UnknownSampleType};

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopOptions {
    /// Functions to list; the rest is summed up in one line.
    pub rows: usize,
    /// Name of the sample type, such as `inuse_space`; `None`: the profile's own default.
    pub sample_type: Option<String>,
    /// One row per (process, function) if the profile knows processes, else per function.
    pub by_process: bool,
    /// Values in the profile's unit beside the shares.
    pub values: bool,
}

impl Default for TopOptions {
    fn default() -> Self {
        TopOptions { rows: 20, sample_type: None, by_process: true, values: false }
    }
}

/// Why there is no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopError {
    /// The profile has no such sample type.
    #[error(transparent)]
    SampleType(#[from] UnknownSampleType),
    /// The profile is too large.
    #[error(transparent)]
    TooLarge(#[from] TooManyFrames),
}

/// One function (of one process).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopRow<'table> {
    /// Name of the process; empty if the profile does not say, or if it was not asked.
    pub process: &'table str,
    /// Name of the function.
    pub function: &'table str,
    /// Basename of the executable; empty if there is none.
    pub mapping: &'table str,
    /// Spent in the function itself.
    pub own: i128,
    /// Spent in the function and all that it called.
    pub total: i128,
}

/// All functions, the hottest first; equals by total, then by name.
pub fn rows(table: &StackTable, sample_type: usize, by_process: bool) -> Vec<TopRow<'_>> {
    // First one sum per (process, stack): a profile has many samples of few stacks.
    let mut stacks: HashMap<(TextId, StackId), i128> = HashMap::new();
    for sample in &table.samples {
        let owner = sample.owner.and_then(|owner| table.owners.get(owner.0 as usize));
        let process = owner.filter(|_| by_process).map_or(TextId(0), |owner| owner.process);
        let value = sample.values.get(sample_type).copied().unwrap_or(0);
        *stacks.entry((process, sample.stack)).or_default() += i128::from(value);
    }
    type Key = (TextId, TextId, TextId);
    let mut sums: HashMap<Key, (i128, i128)> = HashMap::new();
    let mut seen: HashSet<Key> = HashSet::new();
    for ((process, stack), value) in stacks {
        seen.clear();
        // From the leaf, so that the first one is the one that runs.
        for (depth, frame) in table.frames_of(stack).iter().rev().enumerate() {
            let Some(function) = table.function_of(*frame) else { continue };
            let key = (process, function.name, function.mapping);
            let sum = sums.entry(key).or_default();
            if depth == 0 {
                sum.0 += value;
            }
            if seen.insert(key) {
                sum.1 += value;
            }
        }
    }
    let row = |((process, function, mapping), (own, total)): (Key, (i128, i128))| TopRow {
        process: table.text(process),
        function: table.text(function),
        mapping: table.text(mapping),
        own,
        total,
    };
    let mut rows: Vec<TopRow<'_>> = sums.into_iter().map(row).collect();
    rows.sort_unstable_by(|a, b| {
        let heat = (b.own, b.total).cmp(&(a.own, a.total));
        heat.then_with(|| (a.function, a.process, a.mapping).cmp(&(b.function, b.process, b.mapping)))
    });
    rows
}

/// The table as text, with a line break at its end.
///
/// # Errors
/// An unknown sample type, or a profile that is too large.
pub fn render(profile: &Profile, options: &TopOptions) -> Result<String, TopError> {
    let table = StackTable::from_profile(profile)?;
    let sample_type = table.choose(options.sample_type.as_deref())?;
    let unit = shown(table.sample_types.get(sample_type).map_or("", |sample_type| &sample_type.unit));
    let by_process = options.by_process && !table.owners.is_empty();
    let total: i128 =
        table.samples.iter().filter_map(|sample| sample.values.get(sample_type)).copied().map(i128::from).sum();
    let all = rows(&table, sample_type, by_process);

    let mut text = String::new();
    let by = if by_process { "the hottest, by process" } else { "the hottest" };
    let values_header = if options.values { format!("{:>12}{:>12}", "self", "total") } else { String::new() };
    let mut line = |own: i128, under: Option<i128>, name: &str| {
        let percent = |value| percent(value, total);
        let under_text = under.map_or(String::new(), percent);
        let value = |number: Option<i128>| number.map_or(String::new(), |number| value(number, &unit));
        let values =
            if options.values { format!("{:>12}{:>12}", value(Some(own)), value(under)) } else { String::new() };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{:>5}{under_text:>8}{values}  {name}", percent(own));
    };
    let (hottest, rest) = all.split_at(options.rows.min(all.len()));
    for row in hottest {
        let process = if row.process.is_empty() { String::new() } else { format!("{}: ", shown(row.process)) };
        line(row.own, Some(row.total), &format!("{process}{}", shown(row.function)));
    }
    if !rest.is_empty() {
        let own = rest.iter().map(|row| row.own).sum();
        line(own, None, &format!("({} more)", rest.len()));
    }
    Ok(format!(" self   total{values_header}  function ({by})\n{text}"))
}

/// At most 5 characters; `-` of nothing.
fn percent(part: i128, whole: i128) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    if percent.abs() >= 99.95 { format!("{percent:.0}%") } else { format!("{percent:.1}%") }
}
