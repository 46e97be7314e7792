//! What the engine saw, did and gave up: every figure that a user may ask for.

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineCounters {
    /// Samples, over all intervals.
    pub samples: u64,
    /// Records of kernel code that came or went and found no room.
    pub kernel_symbols_dropped: u64,
    /// Records of new cgroups that found no room.
    pub cgroups_dropped: u64,
    /// Times that a process could not be announced because the listener's queue was full.
    pub announcements_deferred: u64,
    /// Records that could not be decoded.
    pub malformed_records: u64,
    /// Side-band records that could not be decoded.
    pub malformed_side_band: u64,
    /// Side-band records that perf lost because a ring was full.
    pub side_band_lost: u64,
    /// Times that CPUs came or went: what happened there while their events were dead, or not there yet, no record tells.
    pub side_band_gaps: u64,
    /// Stack copies that found no room in their ring; each sample without its copy is among `copies_lost` as well.
    pub copies_not_in_ring: u64,
    /// Tables and views of processes with very many mappings that were not made anew yet, to bound what they cost.
    pub republish_deferred: u64,
    /// Stack copies that perf lost.
    pub copies_lost: u64,
    /// Stack copies whose record was filtered or never came.
    pub copies_unclaimed: u64,
    /// Times that perf throttled an event.
    pub throttled: u64,
    /// Items that came later than their time's turn.
    pub late: u64,
    /// Records left out by the agent's own filters.
    pub filtered: u64,
    /// Samples whose user stack ended in the kernel program, by whatever way.
    pub finished_in_kernel: u64,
    /// Samples finished from a copy of registers and stack.
    pub finished_from_copy: u64,
    /// Samples in an exec or exit whose program's memory was gone: their copies hold no stack.
    pub no_memory: u64,
    /// Samples that would have needed a copy and got none.
    pub copy_missing: u64,
    /// Samples that could not wait any longer for files and tables, because too many did.
    pub waits_cut: u64,
    /// Samples that found no room in the batch: it had as many samples or stacks as it may.
    pub batch_full: u64,
    /// Samples unwound with tables older than the mappings at their time.
    pub stale: u64,
    /// User frames walked in the kernel.
    pub kernel_walked_frames: u64,
    /// Of those, how many found their rule in the cache.
    pub cache_hits: u64,
    /// With verification: stacks that the agent unwound to the same frames and end.
    pub verified_same: u64,
    /// With verification: stacks that it did not.
    pub verified_different: u64,
    /// With verification: stacks deeper than the copy.
    pub verified_cut: u64,
    /// Time of the programs for all samples, ns.
    pub program_ns: u64,
    /// Time of each sample in the programs, ns, as the programs measured it; bounded by [`MAX_COSTS`].
    pub costs_ns: Vec<u32>,
}

/// Costs that are kept for percentiles: 4 MiB.
pub const MAX_COSTS: usize = 1 << 20;

impl EngineCounters {
    /// The counts alone.
    pub fn without_costs(&self) -> EngineCounters {
        let EngineCounters { costs_ns: _, .. } = self;
        EngineCounters { costs_ns: Vec::new(), ..*self }
    }

    /// Mean, median and 99th percentile of the programs' time per sample, ns.
    pub fn cost(&self) -> Option<(u32, u32, u32)> {
        let mut sorted = self.costs_ns.clone();
        sorted.sort_unstable();
        let at = |share: f64| sorted.get(((sorted.len() as f64 - 1.0) * share) as usize).copied();
        let mean = sorted.iter().map(|cost| u64::from(*cost)).sum::<u64>().checked_div(sorted.len() as u64)?;
        Some((mean as u32, at(0.5)?, at(0.99)?))
    }

    /// Share of user stacks that the kernel finished by itself.
    pub fn kernel_share(&self) -> Option<f64> {
        let all = self.finished_in_kernel + self.finished_from_copy + self.copy_missing;
        (all > 0).then(|| self.finished_in_kernel as f64 / all as f64)
    }
}
