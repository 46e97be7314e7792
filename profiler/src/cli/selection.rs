//! What is to be sampled, from words to the engine's options.

use profiler_common::filter;

use super::args::Selection;
use crate::engine::{Options, Target};
use crate::sampler::hierarchy::CgroupHierarchy;

pub(super) fn options(words: Selection, frequency_hz: u32) -> anyhow::Result<Options> {
    let defaults = Options::default();
    let mut bits = 0;
    if words.user_only {
        bits |= filter::USER_ONLY;
    }
    if words.kernel_only {
        bits |= filter::KERNEL_ONLY;
    }
    if !words.pid.is_empty() {
        bits |= filter::PIDS;
    }
    let (cgroup_hierarchy, cgroups) = match &words.cgroup {
        Some(path) => {
            bits |= filter::CGROUPS;
            let chosen = super::cgroups::find(path, &CgroupHierarchy::mounted(&defaults.proc_root))?;
            (Some(chosen.hierarchy), chosen.ids)
        }
        None => (None, Vec::new()),
    };
    Ok(Options {
        frequency_hz,
        filter: bits,
        pids: words.pid,
        cgroups,
        cgroup_hierarchy,
        target: Target::named(words.comm),
        include_self: words.include_self,
        unwind_bytes: words.unwind_memory << 20,
        ..defaults
    })
}
