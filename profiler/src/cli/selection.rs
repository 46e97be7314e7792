//! What is to be sampled, from words to the engine's options.

use profiler_common::filter;

use super::args::{Code, Selection};
use crate::engine::{Options, Target};
use crate::sampler::hierarchy::CgroupHierarchy;

pub(super) fn options(words: Selection, frequency_hz: u32) -> anyhow::Result<Options> {
    let mut options = of_code(&words.code, frequency_hz);
    if !words.pid.is_empty() {
        options.filter |= filter::PIDS;
    }
    if let Some(path) = &words.cgroup {
        options.filter |= filter::CGROUPS;
        let chosen = super::cgroups::find(path, &CgroupHierarchy::mounted(&options.proc_root))?;
        (options.cgroup_hierarchy, options.cgroups) = (Some(chosen.hierarchy), chosen.ids);
    }
    Ok(Options { pids: words.pid, target: Target::named(words.comm), ..options })
}

/// The same of everything that runs.
pub(super) fn of_code(words: &Code, frequency_hz: u32) -> Options {
    let mut bits = 0;
    if words.user_only {
        bits |= filter::USER_ONLY;
    }
    if words.kernel_only {
        bits |= filter::KERNEL_ONLY;
    }
    Options {
        frequency_hz,
        filter: bits,
        include_self: words.include_self,
        unwind_bytes: words.unwind_memory << 20,
        ..Options::default()
    }
}
