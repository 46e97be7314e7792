//! What the engine is told, the bounds it keeps, and why it may fail.

use std::path::PathBuf;

use super::target::Target;
use crate::sampler::SamplerError;
use crate::sampler::hierarchy::CgroupHierarchy;

/// Bytes of stack that perf core copies for a sample that the kernel could not finish: the most that a record holds, about
/// 6 µs each.
pub const DEFAULT_STACK_BYTES: u32 = 65_280;
/// Copies per CPU and second, at least; the rate if that is higher, so that a new program's samples all get one. 200 cost at
/// most 1.2 ms and 13 MB a second.
pub const DEFAULT_COPIES_PER_SECOND: u32 = 200;
/// Slab budget: 16 M rows, or 500 libraries of libc's size.
pub const DEFAULT_UNWIND_BYTES: u64 = 64 << 20;
/// Entries of the process hash: about 100 bytes of kernel memory each.
pub const DEFAULT_PROCESSES: u32 = 8192;

/// What the engine is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Samples per CPU and second.
    pub frequency_hz: u32,
    /// Bits of [`profiler_common::filter`].
    pub filter: u32,
    /// Pids that the kernel lets through (with `filter::PIDS`).
    pub pids: Vec<u32>,
    /// cgroup ids that the kernel lets through (with `filter::CGROUPS`).
    pub cgroups: Vec<u64>,
    /// The hierarchy whose cgroup ids records carry; `None`: the one where containers most likely are.
    pub cgroup_hierarchy: Option<CgroupHierarchy>,
    /// What the agent lets through.
    pub target: Target,
    /// Whether the profiler's own samples are kept.
    pub include_self: bool,
    /// Slab budget, bytes.
    pub unwind_bytes: u64,
    /// Stack bytes per copy.
    pub stack_bytes: u32,
    /// Copies per CPU and second; never less than the rate.
    pub copies_per_second: u32,
    /// Entries of the process hash.
    pub processes: u32,
    /// Whether the rule cache is used.
    pub rule_cache: bool,
    /// Unwind every sample a second time in the agent and compare; needs `filter::COPY_ALL`.
    pub verify: bool,
    /// Most copies that are kept whole for another unwinder to look at, with `filter::COPY_ALL`; they are other programs'
    /// data, so this is for tests.
    pub keep_captures: usize,
    /// Where `/proc` is.
    pub proc_root: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            frequency_hz: 99,
            filter: 0,
            pids: Vec::new(),
            cgroups: Vec::new(),
            cgroup_hierarchy: None,
            target: Target::default(),
            include_self: false,
            unwind_bytes: DEFAULT_UNWIND_BYTES,
            stack_bytes: DEFAULT_STACK_BYTES,
            copies_per_second: DEFAULT_COPIES_PER_SECOND,
            processes: DEFAULT_PROCESSES,
            rule_cache: true,
            verify: false,
            keep_captures: 0,
            proc_root: PathBuf::from("/proc"),
        }
    }
}

/// Why the engine could not go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Between us and the kernel.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// A pid that was asked for does not exist.
    #[error("no process has pid {0}, so nothing would be sampled: give one that `ps -e` shows on the host")]
    NoSuchProcess(u32),
    /// A hierarchy that was asked for is one of v1, and BTF does not show the way to its ids.
    #[error("this kernel does not tell cgroup ids of {}: choose by --pid or --comm", .0.display())]
    CgroupHierarchy(PathBuf),
}
