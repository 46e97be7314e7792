//! Whose stacks are incomplete, and why: the causes of one recording, by executable, the most frequent first.

use std::collections::HashMap;

use unwind::end::End;

use super::Check;
use crate::profile::{Batch, LocationKind, Sample};
use crate::report::share;

/// One cause.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    /// The file in whose code the walk stopped; `[anon]` for code made at run time.
    pub file: String,
    /// Why.
    pub end: End,
}

/// Samples with a user part, and those of them whose stacks are incomplete, by cause.
pub fn causes(batch: &Batch) -> (u64, Vec<(Cause, u64)>) {
    let mut user = 0;
    let mut counts: HashMap<Cause, u64> = HashMap::new();
    for sample in batch.samples.iter().filter(|sample| sample.end.has_user_part()) {
        user += 1;
        if !matches!(sample.end, End::Complete | End::FramePointerZero) {
            *counts.entry(Cause { file: outermost_file(batch, sample), end: sample.end }).or_default() += 1;
        }
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by(|(one, left), (other, right)| right.cmp(left).then_with(|| one.file.cmp(&other.file)));
    (user, sorted)
}

/// The file of the outermost user frame; the process's executable if there is none.
fn outermost_file(batch: &Batch, sample: &Sample) -> String {
    let locations = batch.stacks.get(sample.stack.0 as usize).map_or(&[][..], |stack| &stack.locations);
    let is_code = |kind| {
        !matches!(kind, LocationKind::Marker | LocationKind::Kernel | LocationKind::KernelModule | LocationKind::Bpf)
    };
    let outermost =
        locations.iter().rev().filter_map(|index| batch.locations.get(index.0 as usize)).find(|at| is_code(at.kind));
    let mapping = outermost.and_then(|at| batch.mappings.get(at.mapping?.0 as usize));
    let process = batch.processes.get(sample.process.0 as usize);
    let name = match (mapping, outermost, process) {
        (Some(mapping), _, _) => batch.strings.get(mapping.filename),
        (None, Some(_), _) => "[anon]",
        (None, None, Some(process)) => batch.strings.get(process.executable),
        (None, None, None) => "",
    };
    if name.is_empty() { "[unknown]".to_owned() } else { name.to_owned() }
}

/// What an end says about its file.
fn advice(end: End) -> &'static str {
    match end {
        End::NoRows => {
            "code without unwind tables: build it with -fasynchronous-unwind-tables or -fno-omit-frame-pointer"
        }
        End::NoMapping => {
            "code made at run time: let the run time keep frame pointers (-XX:+PreserveFramePointer, --perf-basic-prof)"
        }
        End::NoTable | End::NoProcess => {
            "its tables were not ready: short-lived, or the node is busy; a longer recording shows less"
        }
        End::Truncated => "deeper than 1,024 frames: the leaves are kept",
        End::Compat => "a 32-bit program: only its leaf is known",
        End::Unsupported => "an unwind rule of a kind that is not known",
        End::BadRead => {
            "stack memory that was not in memory, or lies deeper than what is copied for a new program; a longer recording shows less"
        }
        _ => "",
    }
}

/// The top causes as checks; one line that all is well if there are none.
pub fn checks(batch: &Batch, most: usize) -> Vec<Check> {
    const NAME: &str = "stacks";
    const SOURCE: &str = "a recording of 3 s";
    let (user, causes) = causes(batch);
    let bad: u64 = causes.iter().map(|(_, count)| count).sum();
    let Some(complete) = share(user - bad, user, 1) else {
        return vec![Check::ok(NAME, "no user stacks: the machine was idle", SOURCE)];
    };
    let mut checks = vec![Check::ok(NAME, format!("{complete} of {user} user stacks reach their entry point"), SOURCE)];
    checks.extend(causes.iter().take(most).map(|(cause, count)| {
        let part = share(*count, user, 1).unwrap_or_default();
        let found = format!("{part} end in {}: {}", cause.file, cause.end.name());
        Check::warn(NAME, found, SOURCE, advice(cause.end))
    }));
    checks
}

#[cfg(test)]
#[path = "incomplete_tests.rs"]
mod tests;
