//! The answers' JSON, as `docs/http.md` has it. Times in ms, CPU time in ns.

use serde::Serialize;
use store::{LabelSummary, Series, Skipped, Values};

const NS_PER_MS: u64 = 1_000_000;

#[derive(Serialize)]
pub(super) struct Status<'node> {
    pub(super) node: &'node str,
    pub(super) version: &'static str,
    pub(super) frequency_hz: u32,
    pub(super) cpus: u32,
    pub(super) now: u64,
    pub(super) history: Option<Extent>,
    pub(super) lost: u64,
    pub(super) refused: u64,
    pub(super) notes: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Extent {
    from: u64,
    to: u64,
}

impl Extent {
    /// The ms after the last sample ends the range, so that asking for it gives that sample as well.
    pub(super) fn new((first_ns, last_ns): (u64, u64)) -> Extent {
        Extent { from: first_ns / NS_PER_MS, to: last_ns / NS_PER_MS + 1 }
    }
}

#[derive(Serialize)]
pub(super) struct Labels {
    labels: Vec<LabelRow>,
}

#[derive(Serialize)]
struct LabelRow {
    name: &'static str,
    values: usize,
    cpu_ns: u64,
}

impl From<Vec<LabelSummary>> for Labels {
    fn from(found: Vec<LabelSummary>) -> Self {
        let row = |summary: LabelSummary| LabelRow {
            name: summary.label.name(),
            values: summary.values,
            cpu_ns: summary.cpu_ns,
        };
        Labels { labels: found.into_iter().map(row).collect() }
    }
}

#[derive(Serialize)]
pub(super) struct ValueList {
    values: Vec<ValueRow>,
    distinct: usize,
    other_ns: u64,
    skipped: u64,
}

#[derive(Serialize)]
struct ValueRow {
    value: String,
    cpu_ns: u64,
}

impl From<Values> for ValueList {
    fn from(found: Values) -> Self {
        ValueList {
            values: found.top.into_iter().map(|(value, cpu_ns)| ValueRow { value, cpu_ns }).collect(),
            distinct: found.distinct,
            other_ns: found.other_ns,
            skipped: count(found.skipped),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Steps {
    from: u64,
    step: u64,
    series: Vec<StepRow>,
    other: Vec<u64>,
    skipped: u64,
}

#[derive(Serialize)]
struct StepRow {
    value: String,
    cpu_ns: Vec<u64>,
}

impl From<Series> for Steps {
    fn from(found: Series) -> Self {
        Steps {
            from: found.from_ns / NS_PER_MS,
            step: found.step_ns / NS_PER_MS,
            series: found.top.into_iter().map(|(value, cpu_ns)| StepRow { value, cpu_ns }).collect(),
            other: found.other,
            skipped: count(found.skipped),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Failure {
    pub(super) error: String,
}

/// Segments that became too old meanwhile are no damage.
pub(super) fn count(skipped: Skipped) -> u64 {
    skipped.damaged_segments
}
