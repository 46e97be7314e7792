//! The sampling program: judges a hit, takes kernel frames and user registers, and tail-calls `quick`, which walks the easy
//! frames: rule in the cache, stack read ahead. What is not easy that leaves to `unwind`, which can do everything. Whichever
//! ends the stack writes the record. The return value is the gate of perf core's own stack copy: 1 only for stacks that the
//! agent can finish better.

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_perf_event_data,
    helpers::{self, bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    programs::PerfEventContext,
};
use profiler_common::{Counter, MAX_KERNEL_FRAMES, ProcessEntry, event_kind, filter, record_flags};
use unwind::{
    end::End,
    walk::{CACHE_ADDRESS_BITS, MAX_USER_FRAMES},
};

use crate::cgroup::current_cgroup_id;
use crate::continuations::{QUICK, go_on_in};
use crate::filter::{count_pid, is_filtered, is_filtered_by_cgroup};
use crate::maps::{PROCESSES, count, own_pid, use_cache};
use crate::registers::{UserState, in_user_mode, user_registers};
use crate::scratch::Scratch;
use crate::submit::submit;

/// Entry point. Not `aya_ebpf::macros::perf_event`: that macro throws the return value away, and ours is a gate.
#[unsafe(no_mangle)]
#[unsafe(link_section = "perf_event")]
fn sample(ctx: *mut bpf_perf_event_data) -> u32 {
    let ctx = PerfEventContext::new(ctx);
    let Some(scratch) = begin(&ctx) else {
        return 0;
    };
    if crate::maps::filter_bits() & filter::KERNEL_ONLY != 0 {
        return submit(scratch, End::NoUser);
    }
    let walk = &mut scratch.walk;
    let state = user_registers(&ctx, walk);
    walk.exact = 1;
    walk.map_bytes = 0;
    walk.map_start = 0;
    match state {
        UserState::Ready => {}
        UserState::Compat => {
            scratch.push();
            return submit(scratch, End::Compat);
        }
        UserState::Absent => return submit(scratch, End::NoUser),
        UserState::Unknown => return submit(scratch, End::NoRegisters),
    }
    scratch.window.clear();
    scratch.push();
    let entry = scratch.process;
    if entry.table == 0 {
        return submit(scratch, End::NoProcess);
    }
    scratch.walk.process = entry.table;
    scratch.walk.tag = if use_cache() != 0 { (entry.tag as u64) << CACHE_ADDRESS_BITS } else { 0 };
    scratch.header.generation = entry.generation;
    go_on_in(&ctx, scratch, QUICK)
}

/// What the agent published of a process; a table of 0 if nothing.
#[inline(always)]
fn read_process_entry(tgid: u32, into: &mut ProcessEntry) {
    into.table = 0;
    // SAFETY: a map value; see below for what a concurrent update does to it.
    let Some(entry) = (unsafe { PROCESSES.get(tgid) }) else {
        return;
    };
    // The kernel gives the element of a replaced entry to the next update at once, maybe of another pid. So the pid is read
    // last: if it is still ours, what was read before it was ours as well.
    // SAFETY: fields of a map value.
    unsafe {
        let table = core::ptr::read_volatile(&raw const entry.table);
        into.tag = core::ptr::read_volatile(&raw const entry.tag);
        into.generation = core::ptr::read_volatile(&raw const entry.generation);
        if core::ptr::read_volatile(&raw const entry.tgid) == tgid {
            into.table = table;
        }
    }
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
    let filter_bits = crate::maps::filter_bits();
    let user_mode = in_user_mode(ctx);
    let Some(scratch) = Scratch::of_this_cpu() else {
        count(Counter::NoScratch);
        return None;
    };
    read_process_entry(tgid, &mut scratch.process);
    let unwanted = scratch.process.table == ProcessEntry::UNWANTED;
    if unwanted || is_filtered(filter_bits, tgid, user_mode) {
        count(Counter::Filtered);
        return None;
    }
    let cgroup_id = current_cgroup_id();
    if is_filtered_by_cgroup(filter_bits, cgroup_id) {
        count(Counter::Filtered);
        return None;
    }
    if filter_bits & filter::COUNT_PIDS != 0 {
        count_pid(tgid);
    }
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
        // SAFETY: there is room for far more than MAX_KERNEL_FRAMES words.
        let bytes = unsafe {
            helpers::generated::bpf_get_stack(ctx.as_ptr(), scratch.frame(0).cast(), (MAX_KERNEL_FRAMES * 8) as u32, 0)
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
