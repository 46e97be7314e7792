//! What a pprof file says, sample by sample, in words.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use profiler::output;

/// The mapping of kernel code.
const KERNEL: &str = "[kernel.kallsyms]";

/// One of a profile's samples.
pub(crate) struct Sample {
    /// Numbers as text.
    pub(crate) labels: BTreeMap<String, String>,
    /// User frames, root first; empty names for those that have none.
    pub(crate) user: Vec<String>,
    /// Likewise.
    pub(crate) kernel: Vec<String>,
    /// How many hits it stands for.
    pub(crate) count: u64,
    pub(crate) cpu_ns: u64,
}

impl Sample {
    /// Empty if it has no such label.
    pub(crate) fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }

    /// Whether these functions are in it, in this order.
    pub(crate) fn goes_through(&self, functions: &[&str]) -> bool {
        let mut frames = self.user.iter();
        functions.iter().all(|wanted| frames.any(|frame| frame == wanted))
    }
}

/// All of a file.
pub(crate) fn of_file(path: &Path) -> Vec<Sample> {
    let profile = output::read(path).unwrap();
    let text = |index: i64| profile.string_table[usize::try_from(index).unwrap()].clone();
    let functions: HashMap<u64, String> =
        profile.function.iter().map(|function| (function.id, text(function.name))).collect();
    let kernel = profile.mapping.iter().find(|mapping| text(mapping.filename) == KERNEL).map(|mapping| mapping.id);
    // Root first, as the frames are wanted; pprof has the innermost one first.
    let frames: HashMap<u64, (bool, Vec<String>)> = profile
        .location
        .iter()
        .map(|location| {
            let mut names: Vec<String> =
                location.line.iter().rev().map(|line| functions[&line.function_id].clone()).collect();
            if names.is_empty() {
                names.push(String::new());
            }
            (location.id, (kernel == Some(location.mapping_id), names))
        })
        .collect();
    let read = |sample: &pprof_proto::Sample| {
        let of = |is_kernel: bool| {
            let stack = sample.location_id.iter().rev().map(|id| &frames[id]);
            stack.filter(|frame| frame.0 == is_kernel).flat_map(|frame| frame.1.clone()).collect()
        };
        let labels = sample
            .label
            .iter()
            .map(|label| (text(label.key), if label.str == 0 { label.num.to_string() } else { text(label.str) }));
        let value = |index: usize| u64::try_from(sample.value[index]).unwrap();
        Sample { labels: labels.collect(), user: of(false), kernel: of(true), count: value(0), cpu_ns: value(1) }
    };
    profile.sample.iter().map(read).collect()
}

/// Hits of them all.
pub(crate) fn count<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> u64 {
    samples.into_iter().map(|sample| sample.count).sum()
}
