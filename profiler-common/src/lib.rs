//! The `repr(C)` types that cross the kernel boundary, each defined once: map values, the record in the ring, counters.
//!
//! Constraint: `no_std`, no pointers, no implicit padding (it would be uninitialised kernel memory), sizes asserted.
//! Unwind rules, tables and end reasons are the `unwind` crate's.
#![no_std]

/// Most kernel frames in a record: the kernel's own default (`kernel.perf_event_max_stack` = 127).
pub const MAX_KERNEL_FRAMES: usize = 127;

/// Frames that one run of the complete walk takes at most; up to [`RUNS`] runs follow each other.
pub const FRAMES_PER_RUN: usize = 48;

/// Frames that one run of the quick walk takes at most.
pub const QUICK_FRAMES: usize = 128;

/// Program runs per sample, the first included. Kernels allow 33 tail calls in a row (MAX_TAIL_CALL_CNT).
pub const RUNS: usize = 33;

/// From this run on the quick walk is not tried any more, so that the complete walk has runs enough for the deepest stack.
pub const QUICK_RUNS: usize = 11;
const _: () = assert!(FRAMES_PER_RUN * (RUNS - QUICK_RUNS) > unwind::walk::MAX_USER_FRAMES);
const _: () = assert!(QUICK_FRAMES * (QUICK_RUNS - 2) > unwind::walk::MAX_USER_FRAMES);

/// What made a record. Room for off-CPU, allocations and such; only `CPU_CLOCK` is made so far.
pub mod event_kind {
    /// The CPU sampling timer.
    pub const CPU_CLOCK: u8 = 0;
}

/// Bits of [`RecordHeader::flags`].
pub mod record_flags {
    /// The program asked perf core for registers and a stack copy: a perf SAMPLE with the same cpu and tid follows.
    pub const COPY_REQUESTED: u8 = 1;
    /// 24 bytes (trace id, span id) stand between the header and the frames. Nothing sets it yet.
    pub const TRACE_CONTEXT: u8 = 2;
    /// The sample hit kernel mode.
    pub const KERNEL_MODE: u8 = 4;
}

/// The head of a record in the ring; `kernel_frames`, then `user_frames` words of 8 bytes follow, leaf first.
///
/// Kernel frames are as `bpf_get_stack` gives them (return addresses). User frames are lookup addresses: one byte back into
/// the call instruction for callers, exact for the leaf and for frames that a signal interrupted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// CLOCK_MONOTONIC at the start of the program, ns.
    pub time_ns: u64,
    /// Id of the task's cgroup in the hierarchy that the agent chose: its directory's inode number; 0 if unknown.
    pub cgroup_id: u64,
    /// The thread's name, NUL padded.
    pub comm: [u8; 16],
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// CPU number.
    pub cpu: u32,
    /// Generation of the process table that was used, 0 if none.
    pub generation: u32,
    /// How long the programs took up to here, ns.
    pub cost_ns: u32,
    /// Number of kernel frames.
    pub kernel_frames: u16,
    /// Number of user frames.
    pub user_frames: u16,
    /// User frames whose rule came out of the rule cache.
    pub cache_hits: u16,
    /// One of [`event_kind`].
    pub kind: u8,
    /// An [`unwind::end::End`].
    pub end: u8,
    /// Bits of [`unwind::end::provenance`].
    pub provenance: u8,
    /// Bits of [`record_flags`].
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<RecordHeader>() == 64);

/// Bytes of the longest record.
pub const MAX_RECORD_BYTES: usize =
    size_of::<RecordHeader>() + 8 * (MAX_KERNEL_FRAMES + 1 + unwind::walk::MAX_USER_FRAMES);

/// Value of the hash `pid → process`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessEntry {
    /// Word address of the process table's root, or [`ProcessEntry::UNWANTED`].
    pub table: u32,
    /// Counts up with each table ever published.
    pub generation: u32,
    /// Tag in the rule cache's keys, 1 to [`MAX_CACHE_TAG`]; unique among the tables that a cache entry may come from.
    pub tag: u32,
    /// The process itself, to tell an entry that was replaced while it was read.
    pub tgid: u32,
}
const _: () = assert!(size_of::<ProcessEntry>() == 16);

impl ProcessEntry {
    /// Instead of a table: nothing of this process is wanted. Its hits count as filtered, and nothing is written. Word
    /// addresses have 26 bits, so no table lies there.
    pub const UNWANTED: u32 = u32::MAX;
}

/// Largest cache tag: what a 64-bit key has left beside the address.
pub const MAX_CACHE_TAG: u32 = (1 << (64 - unwind::walk::CACHE_ADDRESS_BITS)) - 1;

/// Slots of the rule cache of one CPU. 16 bytes each: 32 KiB, the most that a per-CPU value may have.
pub const CACHE_SLOTS: usize = 2048;

const _: () = assert!(size_of::<unwind::walk::CacheSlot>() * CACHE_SLOTS == 32 << 10);

/// Per-CPU counters of the programs, by index in their array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Runs of the sampling program: every timer hit that the kernel delivered.
    Hits = 0,
    /// Hits on the idle task.
    Idle = 1,
    /// Hits in the profiler's own process.
    Own = 2,
    /// Hits outside the pids or cgroups asked for, and in processes that are marked as unwanted.
    Filtered = 3,
    /// Records written to the ring.
    Recorded = 4,
    /// Records that found the ring full.
    RingFull = 5,
    /// Stack copies that the program asked perf core for.
    Copies = 6,
    /// Stack copies not asked for because the CPU had used up its share.
    CopiesLimited = 7,
    /// Process entries removed by the exec hook.
    ExecHook = 8,
    /// Process entries removed by the exit hook.
    ExitHook = 9,
    /// A CPU's scratch memory could not be had: the hit is lost.
    NoScratch = 10,
    /// Entries of unwanted processes removed because a thread of theirs got another name.
    RenameHook = 11,
}

/// Number of counters.
pub const COUNTERS: usize = 12;

/// Bits of the global `FILTER`: what the programs leave out.
pub mod filter {
    /// Only pids that the map `FILTER_PIDS` allows.
    pub const PIDS: u32 = 1;
    /// Only tasks whose cgroup the map `FILTER_CGROUPS` allows.
    pub const CGROUPS: u32 = 2;
    /// No kernel frames, and no samples that hit kernel mode.
    pub const USER_ONLY: u32 = 4;
    /// No user frames, and no samples that hit user mode.
    pub const KERNEL_ONLY: u32 = 8;
    /// Ask perf core for a copy of every stack: for tests that unwind each sample twice.
    pub const COPY_ALL: u32 = 16;
    /// Count hits of pids in the map `HITS_BY_PID`: for tests that must know what a process was due.
    pub const COUNT_PIDS: u32 = 32;
    /// Not the pids that the map `FILTER_PIDS` denies.
    pub const PIDS_DENIED: u32 = 64;
    /// Not the tasks whose cgroup the map `FILTER_CGROUPS` denies.
    pub const CGROUPS_DENIED: u32 = 128;

    /// Value in both maps: let through.
    pub const ALLOWED: u32 = 1;
    /// Value in both maps: left out.
    pub const DENIED: u32 = 0;
    /// Entries that each of the maps has room for: about 80 bytes of kernel memory each, taken at once.
    pub const MAX_LISTED: usize = 8192;
}
