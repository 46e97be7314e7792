//! The sampling program and its two continuations.
//!
//! `sample` takes kernel frames and user registers, then tail-calls `quick`, which walks the easy frames: rule in the cache,
//! stack read ahead. What is not easy it leaves to `unwind`, which can do everything. Whichever ends the stack writes the
//! record. The return value is the gate of perf core's own stack copy:
//! 1 only for stacks that the agent can finish better.

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_perf_event_data,
    helpers::{self, bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    programs::PerfEventContext,
};
use profiler_common::{
    CACHE_SLOTS, Counter, FRAMES_PER_RUN, MAX_KERNEL_FRAMES, QUICK_FRAMES, QUICK_RUNS, RUNS, RecordHeader, event_kind,
    filter, record_flags,
};
use unwind::{
    end::{End, provenance},
    rule::PackedRule,
    walk::{CACHE_ADDRESS_BITS, MAX_USER_FRAMES, Quick, RuleCache, Walk, correction, quick_step, step},
};

use crate::maps::{
    COPY_BUDGET, FILTER_CGROUPS, FILTER_PIDS, HITS_BY_PID, PROCESSES, PROGRAMS, RECORDS, RULES, SCRATCH, Segments,
    copies_per_second, count, own_pid, use_cache,
};
use crate::registers::{UserState, in_user_mode, user_registers};
use crate::stack::{StackMemory, UserMemory, Window};

/// Room for frames; a power of two, so that a mask bounds the index for the verifier.
pub(crate) const FRAME_WORDS: usize = 2048;
// `finish` masks a number with 15 to make an `End` of it.
const _: () = assert!(End::ALL.len() == 16);
const _: () = assert!(FRAME_WORDS > MAX_USER_FRAMES + MAX_KERNEL_FRAMES + QUICK_FRAMES);

/// State of the sample in hand. A per-CPU value may be 32 KiB at most.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) header: RecordHeader,
    pub(crate) frames: [u64; FRAME_WORDS],
    walk: Walk,
    runs: u32,
    pub(crate) number_of_frames: u32,
    /// How many frames there may be: `MAX_USER_FRAMES` above the kernel's.
    most_frames: u32,
    /// How `quick` ended.
    outcome: u32,
    window: Window,
}

/// This CPU's rule cache.
struct PerCpuCache {
    slots: *mut u64,
    /// The process's part of the hash.
    salt: u64,
}

impl PerCpuCache {
    /// The cache in the hands of the process with this tag.
    #[inline(always)]
    fn of(slots: *mut [u64; CACHE_SLOTS * 2], tag: u64) -> PerCpuCache {
        // An address's low bits alone would put the same function of many processes into one slot.
        PerCpuCache { slots: slots.cast(), salt: (tag >> CACHE_ADDRESS_BITS).wrapping_mul(0x9e37) }
    }

    #[inline(always)]
    fn slot(&self, key: u64) -> *mut u64 {
        let mixed = key ^ (key >> 11) ^ self.salt;
        let index = (mixed & (CACHE_SLOTS as u64 - 1)) as usize * 2;
        // SAFETY: the mask keeps the pair inside the value of CACHE_SLOTS * 2 words.
        unsafe { self.slots.add(index) }
    }
}

impl RuleCache for PerCpuCache {
    #[inline(always)]
    fn get(&mut self, key: u64) -> Option<PackedRule> {
        let slot = self.slot(key);
        // SAFETY: in bounds, see `slot`; only this CPU writes it.
        unsafe { (*slot == key).then(|| PackedRule(*slot.add(1))) }
    }
    #[inline(always)]
    fn put(&mut self, key: u64, rule: PackedRule) {
        let slot = self.slot(key);
        // SAFETY: in bounds, see `slot`.
        unsafe {
            *slot = key;
            *slot.add(1) = rule.0;
        }
    }
}

/// Entry point. Not `aya_ebpf::macros::perf_event`: that macro throws the return value away, and ours is a gate.
#[unsafe(no_mangle)]
#[unsafe(link_section = "perf_event")]
fn sample(ctx: *mut bpf_perf_event_data) -> u32 {
    take_sample(PerfEventContext::new(ctx))
}

#[inline(always)]
fn take_sample(ctx: PerfEventContext) -> u32 {
    let Some(scratch) = begin(&ctx) else {
        return 0;
    };
    let filter_bits = crate::maps::filter();
    if filter_bits & filter::KERNEL_ONLY != 0 {
        return submit(scratch, End::NoUser);
    }

    let tgid = scratch.header.tgid;
    let walk = &mut scratch.walk;
    match user_registers(&ctx, walk) {
        UserState::Ready => {}
        UserState::Compat => {
            walk.exact = 1;
            push(scratch);
            return submit(scratch, End::Compat);
        }
        UserState::Absent => return submit(scratch, End::NoUser),
        UserState::Unknown => return submit(scratch, End::NoRegisters),
    }
    walk.exact = 1;
    walk.map_bytes = 0;
    walk.map_start = 0;
    scratch.window.clear();
    // SAFETY: a map value; see below for what a concurrent update does to it.
    let Some(entry) = (unsafe { PROCESSES.get(tgid) }) else {
        push(scratch);
        return submit(scratch, End::NoProcess);
    };
    // The kernel gives the element of a replaced entry to the next update at once, maybe of another pid. So the pid is read
    // last: if it is still ours, what was read before it was ours as well.
    // SAFETY: fields of a map value.
    let (table, tag, generation, owner) = unsafe {
        let table = core::ptr::read_volatile(&raw const entry.table);
        let tag = core::ptr::read_volatile(&raw const entry.tag);
        let generation = core::ptr::read_volatile(&raw const entry.generation);
        (table, tag, generation, core::ptr::read_volatile(&raw const entry.tgid))
    };
    if owner != tgid {
        push(scratch);
        return submit(scratch, End::NoProcess);
    }
    let walk = &mut scratch.walk;
    walk.process = table;
    walk.tag = if use_cache() != 0 { (tag as u64) << CACHE_ADDRESS_BITS } else { 0 };
    scratch.header.generation = generation;
    push(scratch);
    // SAFETY: a tail call with the same context type.
    unsafe { PROGRAMS.tail_call(&ctx, QUICK) };
    submit(scratch, End::Aborted)
}

/// Judges a hit, and begins its record: header and kernel frames. `None`: not wanted, and counted.
#[inline(always)]
pub(crate) fn begin(ctx: &PerfEventContext) -> Option<&'static mut Scratch> {
    // SAFETY: a helper without arguments.
    let started = unsafe { bpf_ktime_get_ns() };
    count(Counter::Hits);
    let id = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    if tgid == 0 {
        count(Counter::Idle);
        return None;
    }
    if tgid == own_pid() {
        count(Counter::Own);
        return None;
    }
    let filter_bits = crate::maps::filter();
    let user_mode = in_user_mode(ctx);
    // SAFETY: a helper without arguments.
    let cgroup_id = unsafe { helpers::bpf_get_current_cgroup_id() };
    if is_filtered(filter_bits, tgid, cgroup_id, user_mode) {
        count(Counter::Filtered);
        return None;
    }
    if filter_bits & filter::COUNT_PIDS != 0 {
        count_pid(tgid);
    }
    let Some(pointer) = SCRATCH.get_ptr_mut(0) else {
        count(Counter::NoScratch);
        return None;
    };
    // SAFETY: this CPU's own value, and sampling programs do not nest on a CPU (bpf_prog_active).
    let scratch = unsafe { &mut *pointer };
    let header = &mut scratch.header;
    header.time_ns = started;
    header.cgroup_id = cgroup_id;
    header.tgid = tgid;
    header.tid = tid;
    // SAFETY: a helper without arguments.
    header.cpu = unsafe { bpf_get_smp_processor_id() };
    header.generation = 0;
    header.kernel_frames = 0;
    header.cache_hits = 0;
    header.kind = event_kind::CPU_CLOCK;
    header.end = End::NoUser as u8;
    header.provenance = 0;
    header.flags = if user_mode { 0 } else { record_flags::KERNEL_MODE };
    header.reserved = [0; 2];
    // SAFETY: writes at most 16 bytes into a field of 16.
    unsafe { helpers::generated::bpf_get_current_comm(header.comm.as_mut_ptr().cast(), 16) };
    scratch.number_of_frames = 0;
    scratch.runs = 0;
    scratch.walk.provenance = 0;
    scratch.walk.cache_hits = 0;

    if filter_bits & filter::USER_ONLY == 0 && !user_mode {
        let frames = scratch.frames.as_mut_ptr();
        // SAFETY: `frames` has room for far more than MAX_KERNEL_FRAMES words.
        let bytes = unsafe {
            helpers::generated::bpf_get_stack(ctx.as_ptr(), frames.cast(), (MAX_KERNEL_FRAMES * 8) as u32, 0)
        };
        if bytes > 0 {
            let taken = (bytes as u32 / 8) & 127;
            scratch.number_of_frames = taken;
            scratch.header.kernel_frames = taken as u16;
        }
    }
    scratch.most_frames = u32::from(scratch.header.kernel_frames) + MAX_USER_FRAMES as u32;
    Some(scratch)
}

/// Indexes in the program array.
const QUICK: u32 = 0;
const UNWIND: u32 = 1;

/// Entry point of the continuation for frames whose rule is in the cache.
#[unsafe(no_mangle)]
#[unsafe(link_section = "perf_event")]
fn quick(ctx: *mut bpf_perf_event_data) -> u32 {
    go_quickly(PerfEventContext::new(ctx))
}

/// Walks up to `QUICK_FRAMES` easy frames; anything else is for `unwind`.
#[inline(always)]
fn go_quickly(ctx: PerfEventContext) -> u32 {
    let (Some(pointer), Some(cache)) = (SCRATCH.get_ptr_mut(0), RULES.get_ptr_mut(0)) else {
        count(Counter::NoScratch);
        return 0;
    };
    // SAFETY: as in `sample`.
    let scratch = unsafe { &mut *pointer };
    let mut cache = PerCpuCache::of(cache, scratch.walk.tag);
    scratch.runs += 1;
    let frames_before = scratch.number_of_frames;
    let mut outcome = outcome::MORE;
    for _ in 0..QUICK_FRAMES {
        let mut memory = StackMemory { window: &mut scratch.window };
        match quick_step(&mut memory, &mut cache, &mut scratch.walk) {
            Quick::Up => {}
            Quick::Outermost => {
                outcome = outcome::OUTERMOST;
                break;
            }
            Quick::Step => {
                outcome = outcome::STEP;
                break;
            }
        }
        if scratch.number_of_frames >= scratch.most_frames {
            outcome = outcome::TRUNCATED;
            break;
        }
        push(scratch);
    }
    // Through memory, as in `finish`.
    // SAFETY: a field of `scratch`, by a valid reference.
    let outcome = unsafe {
        core::ptr::write_volatile(&raw mut scratch.outcome, outcome);
        core::ptr::read_volatile(&raw const scratch.outcome)
    };
    let frames = scratch.number_of_frames - frames_before;
    scratch.walk.cache_hits += frames;
    if frames != 0 {
        scratch.walk.provenance |= provenance::TABLE as u32;
    }
    if outcome == outcome::OUTERMOST {
        scratch.walk.cache_hits += 1;
        return finish(scratch, End::Complete);
    }
    if outcome == outcome::TRUNCATED {
        scratch.walk.cache_hits += 1;
        return finish(scratch, End::Truncated);
    }
    let again = outcome == outcome::MORE && (scratch.runs as usize) < QUICK_RUNS;
    // SAFETY: a tail call with the same context type.
    unsafe { PROGRAMS.tail_call(&ctx, if again { QUICK } else { UNWIND }) };
    finish(scratch, End::Aborted)
}

/// How a run of `quick` ended.
mod outcome {
    pub(super) const MORE: u32 = 0;
    pub(super) const OUTERMOST: u32 = 1;
    pub(super) const STEP: u32 = 2;
    pub(super) const TRUNCATED: u32 = 3;
}

/// Entry point of the continuation for every frame.
#[unsafe(no_mangle)]
#[unsafe(link_section = "perf_event")]
fn unwind(ctx: *mut bpf_perf_event_data) -> u32 {
    go_on(PerfEventContext::new(ctx))
}

/// Walks up to `FRAMES_PER_RUN` frames, then goes on in itself; back to `quick` as soon as a rule was in the cache.
#[inline(always)]
fn go_on(ctx: PerfEventContext) -> u32 {
    let (Some(pointer), Some(cache)) = (SCRATCH.get_ptr_mut(0), RULES.get_ptr_mut(0)) else {
        count(Counter::NoScratch);
        return 0;
    };
    // SAFETY: as in `sample`.
    let scratch = unsafe { &mut *pointer };
    let mut cache = PerCpuCache::of(cache, scratch.walk.tag);
    scratch.runs += 1;
    let hits_before = scratch.walk.cache_hits;
    for _ in 0..FRAMES_PER_RUN {
        if let Err(end) = step(&mut UserMemory, &Segments, &mut cache, &mut scratch.walk) {
            return finish(scratch, end);
        }
        correct_last(scratch);
        if scratch.number_of_frames >= scratch.most_frames {
            return finish(scratch, End::Truncated);
        }
        push(scratch);
        if scratch.walk.cache_hits != hits_before && (scratch.runs as usize) < QUICK_RUNS {
            // SAFETY: a tail call with the same context type.
            unsafe { PROGRAMS.tail_call(&ctx, QUICK) };
            return submit(scratch, End::Aborted);
        }
    }
    if (scratch.runs as usize) < RUNS {
        // SAFETY: as above.
        unsafe { PROGRAMS.tail_call(&ctx, UNWIND) };
    }
    submit(scratch, End::Aborted)
}

/// Every way out of the loop leads through memory, so that the verifier looks at what follows once and not for each reason.
#[inline(always)]
fn finish(scratch: &mut Scratch, end: End) -> u32 {
    // SAFETY: a field of `scratch`, by a valid reference; every byte written is an `End`.
    unsafe {
        core::ptr::write_volatile(&raw mut scratch.header.end, end as u8);
        let end = core::ptr::read_volatile(&raw const scratch.header.end);
        submit(scratch, core::mem::transmute::<u8, End>(end & 15))
    }
}

#[inline(always)]
fn push(scratch: &mut Scratch) {
    let index = scratch.number_of_frames as usize & (FRAME_WORDS - 1);
    let address = scratch.walk.lookup_address();
    // SAFETY: the mask bounds the index.
    unsafe { *scratch.frames.as_mut_ptr().add(index) = address };
    scratch.number_of_frames += 1;
}

/// The step that went on from a frame tells whether its address was right.
#[inline(always)]
fn correct_last(scratch: &mut Scratch) {
    let index = (scratch.number_of_frames as usize).wrapping_sub(1) & (FRAME_WORDS - 1);
    // SAFETY: the mask bounds the index.
    unsafe { *scratch.frames.as_mut_ptr().add(index) += correction(&scratch.walk) };
}

/// Writes the record; says whether perf core shall copy registers and stack.
#[inline(always)]
pub(crate) fn submit(scratch: &mut Scratch, end: End) -> u32 {
    let mut wanted = 0;
    if end.worth_a_copy() || crate::maps::filter() & filter::COPY_ALL != 0 {
        wanted = within_copy_budget(scratch.header.time_ns) as u32;
    }
    let header = &mut scratch.header;
    header.end = end as u8;
    header.user_frames = (scratch.number_of_frames - u32::from(header.kernel_frames)) as u16;
    header.provenance = scratch.walk.provenance as u8;
    header.cache_hits = scratch.walk.cache_hits as u16;
    if wanted != 0 {
        header.flags |= record_flags::COPY_REQUESTED;
    }
    // SAFETY: a helper without arguments.
    header.cost_ns = (unsafe { bpf_ktime_get_ns() }).wrapping_sub(header.time_ns) as u32;
    let frames = scratch.number_of_frames as usize & (FRAME_WORDS - 1);
    let length = size_of::<RecordHeader>() + frames * 8;
    // SAFETY: header and frames lie next to each other in `Scratch`, and the mask keeps the length inside.
    let bytes = unsafe { core::slice::from_raw_parts((scratch as *const Scratch).cast::<u8>(), length) };
    if RECORDS.output_untyped::<[u8]>(bytes, 0).is_ok() {
        count(Counter::Recorded);
        wanted
    } else {
        count(Counter::RingFull);
        0
    }
}

#[inline(always)]
fn is_filtered(bits: u32, tgid: u32, cgroup_id: u64, user_mode: bool) -> bool {
    if bits & filter::USER_ONLY != 0 && !user_mode {
        return true;
    }
    if bits & filter::KERNEL_ONLY != 0 && user_mode {
        return true;
    }
    // SAFETY: only presence is asked for.
    if bits & filter::PIDS != 0 && unsafe { FILTER_PIDS.get(tgid) }.is_none() {
        return true;
    }
    // SAFETY: as above.
    bits & filter::CGROUPS != 0 && unsafe { FILTER_CGROUPS.get(cgroup_id) }.is_none()
}

#[inline(always)]
fn count_pid(tgid: u32) {
    if let Some(hits) = HITS_BY_PID.get_ptr_mut(tgid) {
        // SAFETY: a test's counter; two CPUs may race and lose one hit in a multi-threaded process.
        unsafe { *hits += 1 };
    } else {
        let _ = HITS_BY_PID.insert(tgid, 1, 0);
    }
}

/// One token a copy, refilled each second: copies must never crowd out the ring.
#[inline(always)]
fn within_copy_budget(now: u64) -> bool {
    let Some(pointer) = COPY_BUDGET.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own value.
    let budget = unsafe { &mut *pointer };
    if now.wrapping_sub(budget[0]) >= 1_000_000_000 {
        budget[0] = now;
        budget[1] = 0;
    }
    if budget[1] >= copies_per_second() as u64 {
        count(Counter::CopiesLimited);
        return false;
    }
    budget[1] += 1;
    count(Counter::Copies);
    true
}
