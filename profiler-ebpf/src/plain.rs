//! What we measure ourselves against: a program that fills the same record from the kernel's own frame-pointer walk.
//!
//! Only `benches` loads it; the profiler itself never does. It shares everything with `sample` but the walk, so that the
//! difference of the two is the walk.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_USER_STACK, bpf_perf_event_data},
    helpers,
    programs::PerfEventContext,
};
use profiler_common::MAX_KERNEL_FRAMES;
use unwind::{end::End, walk::MAX_USER_FRAMES};

use crate::sample::begin;
use crate::submit::submit;

/// Entry point.
#[unsafe(no_mangle)]
#[unsafe(link_section = "perf_event")]
fn plain(ctx: *mut bpf_perf_event_data) -> u32 {
    let ctx = PerfEventContext::new(ctx);
    let Some(scratch) = begin(&ctx) else {
        return 0;
    };
    let kernel_frames = scratch.number_of_frames & MAX_KERNEL_FRAMES as u32;
    // SAFETY: `frames` has room for MAX_KERNEL_FRAMES and MAX_USER_FRAMES words.
    let bytes = unsafe {
        let frames = scratch.frame(kernel_frames);
        let room = (MAX_USER_FRAMES * 8) as u32;
        helpers::generated::bpf_get_stack(ctx.as_ptr(), frames.cast(), room, BPF_F_USER_STACK as u64)
    };
    if bytes > 0 {
        let taken = bytes as u32 / 8;
        scratch.number_of_frames = kernel_frames + taken;
    }
    // Neither the walk nor its provenance: what a frame-pointer walk can't know.
    submit(scratch, End::Complete)
}
