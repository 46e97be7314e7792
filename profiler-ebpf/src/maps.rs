//! Maps and load-time globals.
//!
//! Globals lie in a frozen map that the agent fills before the load: the verifier knows their values and does not even look at
//! a branch that is switched off, so a helper that an old kernel lacks is no error.

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray, ProgramArray, RingBuf},
    macros::btf_map,
};
use profiler_common::{CACHE_SLOTS, COUNTERS, Counter, ProcessEntry, filter};
use unwind::{
    slab::{SEGMENT_WORDS, Segment, Slab},
    walk::CacheSlot,
};

use crate::scratch::Scratch;

/// `BPF_F_MMAPABLE`: the agent writes rows with plain stores.
const MMAPABLE: usize = 1 << 10;

/// The slab. The inner value is a plain array, not a struct: for a struct, kernels 5.15 to 6.1 compare BTF-derived fields of
/// the template with the map that is put in, which is made without BTF, and refuse it.
#[btf_map]
pub(crate) static SEGMENTS: ArrayOfMaps<Array<[u32; SEGMENT_WORDS], 1, MMAPABLE>, 64> = ArrayOfMaps::new();

/// pid → process table. The agent sets the real size at load.
#[btf_map]
pub(crate) static PROCESSES: HashMap<u32, ProcessEntry, 8192> = HashMap::new();

/// State of the sample in hand, one per CPU.
#[btf_map]
pub(crate) static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// The rule cache.
#[btf_map]
pub(crate) static RULES: PerCpuArray<[CacheSlot; CACHE_SLOTS], 1> = PerCpuArray::new();

/// `profiler_common::Counter`.
#[btf_map]
pub(crate) static COUNTS: PerCpuArray<u64, COUNTERS> = PerCpuArray::new();

/// The continuations.
#[btf_map]
pub(crate) static PROGRAMS: ProgramArray<2> = ProgramArray::new();

/// Records. The agent sets the real size at load.
#[btf_map]
pub(crate) static RECORDS: RingBuf<[u8; 0], { 1 << 20 }> = RingBuf::new();

/// `filter::ALLOWED` or `filter::DENIED` by pid.
#[btf_map]
pub(crate) static FILTER_PIDS: HashMap<u32, u32, { filter::MAX_LISTED }> = HashMap::new();

/// The same by cgroup id.
#[btf_map]
pub(crate) static FILTER_CGROUPS: HashMap<u64, u32, { filter::MAX_LISTED }> = HashMap::new();

/// Timer hits by pid, when `filter::COUNT_PIDS` asks for them.
#[btf_map]
pub(crate) static HITS_BY_PID: HashMap<u32, u64, 16384> = HashMap::new();

/// When a CPU's current second of stack copies began, and how many it has had.
#[btf_map]
pub(crate) static COPY_BUDGET: PerCpuArray<[u64; 2], 1> = PerCpuArray::new();

/// Bits of `profiler_common::filter`.
#[unsafe(no_mangle)]
static FILTER: u32 = 0;
/// The agent's own pid, left out; 0 = left in.
#[unsafe(no_mangle)]
static OWN_PID: u32 = 0;
/// 1 where `bpf_task_pt_regs` exists (≥ 5.15).
#[unsafe(no_mangle)]
static HAVE_TASK_PT_REGS: u32 = 0;
/// Where that helper is missing: offset of `task_struct.stack`, from the kernel's BTF; 0 = unknown.
#[unsafe(no_mangle)]
static TASK_STACK_OFFSET: u32 = 0;
/// THREAD_SIZE − sizeof(struct pt_regs): where a task's saved registers lie in its kernel stack.
#[unsafe(no_mangle)]
static STACK_REGISTERS_OFFSET: u32 = 0;
/// Offset of `task_struct.cgroups` where cgroup ids are of a v1 hierarchy; 0 = of v2.
#[unsafe(no_mangle)]
static TASK_CGROUPS_OFFSET: u32 = 0;
/// Offset of that hierarchy's entry of `css_set.subsys`.
#[unsafe(no_mangle)]
static CSS_SET_SUBSYSTEM_OFFSET: u32 = 0;
/// Offset of `cgroup_subsys_state.cgroup`.
#[unsafe(no_mangle)]
static CSS_CGROUP_OFFSET: u32 = 0;
/// Offset of `cgroup.kn`.
#[unsafe(no_mangle)]
static CGROUP_KN_OFFSET: u32 = 0;
/// Offset of `kernfs_node.id`.
#[unsafe(no_mangle)]
static KERNFS_ID_OFFSET: u32 = 0;
/// Stack copies per CPU and second.
#[unsafe(no_mangle)]
static COPIES_PER_SECOND: u32 = 0;
/// 1: the rule cache is used.
#[unsafe(no_mangle)]
static USE_CACHE: u32 = 1;

macro_rules! global {
    ($(#[$doc:meta])* $name:ident, $from:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name() -> u32 {
            // SAFETY: a static; volatile because the agent changes its value after compilation.
            unsafe { core::ptr::read_volatile(&raw const $from) }
        }
    };
}
global!(filter_bits, FILTER);
global!(own_pid, OWN_PID);
global!(have_task_pt_regs, HAVE_TASK_PT_REGS);
global!(task_stack_offset, TASK_STACK_OFFSET);
global!(stack_registers_offset, STACK_REGISTERS_OFFSET);
global!(task_cgroups_offset, TASK_CGROUPS_OFFSET);
global!(css_set_subsystem_offset, CSS_SET_SUBSYSTEM_OFFSET);
global!(css_cgroup_offset, CSS_CGROUP_OFFSET);
global!(cgroup_kn_offset, CGROUP_KN_OFFSET);
global!(kernfs_id_offset, KERNFS_ID_OFFSET);
global!(copies_per_second, COPIES_PER_SECOND);
global!(use_cache, USE_CACHE);

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own value; programs of one CPU do not interrupt each other here.
        unsafe { *value += 1 }
    }
}

/// The slab as the unwinder sees it.
pub(crate) struct Segments;

impl Slab for Segments {
    #[inline(always)]
    fn segment(&self, index: u32) -> Option<&Segment> {
        // A variable, so that the key lies on the stack: a promoted constant would be read through .rodata, where the loader
        // puts our globals.
        let only = 0u32;
        SEGMENTS.get_value(index, &only)
    }
}
