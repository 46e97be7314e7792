//! The end of a sample: the record goes into the ring, and perf core is told whether to copy registers and stack.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use profiler_common::{Counter, filter, record_flags};
use unwind::end::End;

use crate::maps::{COPY_BUDGET, RECORDS, copies_per_second, count};
use crate::scratch::Scratch;

// `finish` masks a number with 15 to make an `End` of it.
const _: () = assert!(End::OF_THE_KERNEL == 16 && End::ALL.len() >= 16);

/// [`submit`] for loops: every way out leads through memory, so that the verifier looks at what follows once and not for each
/// reason.
#[inline(always)]
pub(crate) fn finish(scratch: &mut Scratch, end: End) -> u32 {
    // SAFETY: a field of `scratch`, by a valid reference; every byte written is an `End`.
    unsafe {
        core::ptr::write_volatile(&raw mut scratch.header.end, end as u8);
        let end = core::ptr::read_volatile(&raw const scratch.header.end);
        submit(scratch, core::mem::transmute::<u8, End>(end & 15))
    }
}

/// Writes the record. The result is the program's: 1 if perf core shall copy registers and stack, else 0.
#[inline(always)]
pub(crate) fn submit(scratch: &mut Scratch, end: End) -> u32 {
    let mut wanted = 0;
    if end.worth_a_copy() || crate::maps::filter_bits() & filter::COPY_ALL != 0 {
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
    if RECORDS.output_untyped::<[u8]>(scratch.record(), 0).is_ok() {
        count(Counter::Recorded);
        wanted
    } else {
        count(Counter::RingFull);
        0
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
