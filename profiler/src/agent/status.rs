//! What the agent knows about itself at one moment, put together once a second by the sampling thread and read by `/metrics`,
//! `/healthz` and `/readyz`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use profiler_common::COUNTERS;
use symbolizer::Statistics as SymbolizerStatistics;

use super::left_out::Verdict;
use super::stages::Stages;
use super::uploads::Lost;
use crate::engine::{EngineCounters, TableSizes, monotonic_ns};
use crate::export::text::TextCounters;
use crate::identity::{Counters as IdentityCounters, Sizes as IdentitySizes};
use crate::ledger::Ledger;
use crate::process::{ExecutableCounters, ProcessCounters};
use crate::serve::Answering;
use crate::tables::TableCounters;

/// A loop that has not come round for so long is stuck, ns.
const STUCK_NS: u64 = 30_000_000_000;
/// A loop that has not come round at all so long after the start is stuck too, ns: loading and verifying the programs takes 2 s
/// on an idle CPU, and more than a minute on a node that is starting everything else as well. `deploy/` waits as long.
const START_NS: u64 = 120_000_000_000;

/// Numbers of the sampling thread.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// The ledger of all intervals that are cut. Not of the one that goes on: hits in flight make its sides swing, and counters
    /// never go back.
    pub ledger: Ledger,
    /// What the engine counted.
    pub engine: EngineCounters,
    /// What the programs in the kernel counted, in the order of [`profiler_common::Counter`].
    pub programs: [u64; COUNTERS],
    /// What the unwind tables refused.
    pub tables: TableCounters,
    /// How full the engine's tables are.
    pub table_sizes: TableSizes,
    /// What the process table left out.
    pub processes: ProcessCounters,
    /// What executables could not be had.
    pub executables: ExecutableCounters,
    /// CPUs sampled, and online.
    pub cpus: (u32, u32),
    /// Rate in force and rate asked for, Hz.
    pub frequency_hz: (u32, u32),
    /// Processor time of the agent, ns.
    pub agent_cpu_ns: u64,
    /// Processor time of the eBPF programs for recorded samples, ns.
    pub program_cpu_ns: u64,
    /// Resident memory of the agent, bytes.
    pub resident_bytes: u64,
    /// BPF maps and perf rings, bytes.
    pub kernel_bytes: u64,
    /// Most memory that the agent may take, bytes; 0 is no limit.
    pub memory_limit: u64,
    /// What the governor did.
    pub governed: Governed,
    /// Cgroups that the kernel leaves out, and those that found no room in its set.
    pub cgroups_left_out: (u64, u64),
    /// Intervals handed on.
    pub intervals: u64,
    /// Intervals dropped because naming and delivery were behind, and the samples in them.
    pub intervals_dropped: (u64, u64),
    /// Processes sampled in this interval so far, or in the last one if that had more.
    pub sampled_processes: u64,
}

/// Numbers of the naming thread, as of its last interval.
#[derive(Clone, Debug, Default)]
pub struct NamingNumbers {
    /// What the symbolizer counted, with those that it took the place of.
    pub symbolizer: SymbolizerStatistics,
    /// Bytes of perf maps.
    pub perf_map_bytes: u64,
    /// What identity found and missed.
    pub identity: IdentityCounters,
    /// What identity keeps.
    pub identity_sizes: IdentitySizes,
}

/// What the governor did, in times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Governed {
    /// The rate changed for the sake of the processor.
    pub rate_for_cpu: u64,
    /// The rate was lowered or raised for the sake of memory.
    pub rate_for_memory: u64,
    /// Caches were emptied.
    pub evicted: u64,
}

/// Shared between the agent's threads.
#[derive(Debug)]
pub struct Status {
    started_ns: u64,
    numbers: Mutex<Numbers>,
    naming: Mutex<NamingNumbers>,
    sampler_beat_ns: AtomicU64,
    namer_beat_ns: AtomicU64,
    eviction: AtomicBool,
    verdicts: Mutex<Vec<Verdict>>,
    /// How long the agent's own stages take.
    pub stages: Stages,
    /// Uploads that could not be made.
    pub uploads_lost: Arc<Lost>,
    /// What encoders had to change in texts.
    pub texts: Arc<TextCounters>,
    /// Processor time of answers to people: no cost of profiling, so that the rate is not lowered because somebody looks.
    pub answers: Arc<Answering>,
}

impl Default for Status {
    fn default() -> Self {
        Status {
            started_ns: monotonic_ns(),
            numbers: Mutex::default(),
            naming: Mutex::default(),
            sampler_beat_ns: AtomicU64::new(0),
            namer_beat_ns: AtomicU64::new(0),
            eviction: AtomicBool::new(false),
            verdicts: Mutex::default(),
            stages: Stages::default(),
            uploads_lost: Arc::default(),
            texts: Arc::default(),
            answers: Arc::default(),
        }
    }
}

impl Status {
    /// The numbers, for a short time.
    pub fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The naming thread's numbers, for a short time.
    pub fn naming(&self) -> MutexGuard<'_, NamingNumbers> {
        self.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sampling thread's loop came round.
    pub fn sampler_beats(&self) {
        self.sampler_beat_ns.store(monotonic_ns(), Ordering::Relaxed);
    }

    /// The naming thread's loop came round.
    pub fn namer_beats(&self) {
        self.namer_beat_ns.store(monotonic_ns(), Ordering::Relaxed);
    }

    /// Memory is short: the naming thread shall forget what it can read again.
    pub fn ask_for_eviction(&self) {
        self.eviction.store(true, Ordering::Relaxed);
    }

    /// Whether that was asked for since the last call.
    pub fn takes_eviction(&self) -> bool {
        self.eviction.swap(false, Ordering::Relaxed)
    }

    /// Changes for the kernel's set of cgroups, for the sampling thread. Bounded by what [`super::left_out`] lists.
    pub fn add_verdicts(&self, verdicts: Vec<Verdict>) {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).extend(verdicts);
    }

    /// All changes since the last call, in order.
    pub fn take_verdicts(&self) -> Vec<Verdict> {
        std::mem::take(&mut *self.verdicts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is stuck; empty if all loops tick.
    pub fn stuck(&self) -> Vec<&'static str> {
        self.stuck_at(monotonic_ns())
    }

    fn stuck_at(&self, now_ns: u64) -> Vec<&'static str> {
        let loops = [("sampling", &self.sampler_beat_ns), ("naming", &self.namer_beat_ns)];
        let stuck = |beat: &AtomicU64| match beat.load(Ordering::Relaxed) {
            0 => now_ns.saturating_sub(self.started_ns) > START_NS,
            beat => now_ns.saturating_sub(beat) > STUCK_NS,
        };
        loops.into_iter().filter(|(_, beat)| stuck(beat)).map(|(name, _)| name).collect()
    }

    /// Why the agent is not ready; `None` if every online CPU is sampled.
    pub fn not_ready(&self) -> Option<String> {
        let (sampled, online) = self.numbers().cpus;
        if sampled == 0 {
            return Some("not attached yet".to_owned());
        }
        (sampled < online).then(|| format!("{sampled} of {online} CPUs are sampled"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stopped_is_named() {
        let status = Status::default();
        status.sampler_beat_ns.store(100, Ordering::Relaxed);
        status.namer_beat_ns.store(100 + STUCK_NS, Ordering::Relaxed);
        assert_eq!(status.stuck_at(100 + STUCK_NS), Vec::<&str>::new());
        assert_eq!(status.stuck_at(101 + STUCK_NS), ["sampling"]);
    }

    #[test]
    fn a_loop_that_starts_has_its_time() {
        let status = Status { started_ns: 1_000, ..Status::default() };
        assert_eq!(status.stuck_at(1_000 + START_NS), Vec::<&str>::new());
        assert_eq!(status.stuck_at(1_001 + START_NS), ["sampling", "naming"]);
        status.namer_beat_ns.store(1_001 + START_NS, Ordering::Relaxed);
        assert_eq!(status.stuck_at(1_001 + START_NS), ["sampling"]);
    }

    #[test]
    fn ready_means_every_online_cpu() {
        let status = Status::default();
        assert_eq!(status.not_ready().unwrap(), "not attached yet");
        status.numbers().cpus = (1, 2);
        assert_eq!(status.not_ready().unwrap(), "1 of 2 CPUs are sampled");
        status.numbers().cpus = (2, 2);
        assert_eq!(status.not_ready(), None);
    }
}
