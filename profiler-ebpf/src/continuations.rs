//! The two walks that `sample` is continued by: `quick` takes the easy frames, `unwind` every frame.
//!
//! Constraint: the verifier walks each loop frame by frame, so ways out of a loop meet at once, through memory.

use aya_ebpf::{bindings::bpf_perf_event_data, programs::PerfEventContext};
use profiler_common::{Counter, FRAMES_PER_RUN, QUICK_FRAMES, QUICK_RUNS, RUNS};
use unwind::{
    end::{End, provenance},
    walk::{Quick, quick_step, step},
};

use crate::cache::PerCpuCache;
use crate::maps::{PROGRAMS, Segments, count};
use crate::scratch::Scratch;
use crate::stack::{StackMemory, UserMemory};
use crate::submit::finish;

/// Index of `quick` in the program array.
pub(crate) const QUICK: u32 = 0;
/// Index of `unwind`.
const UNWIND: u32 = 1;

/// Goes on in that continuation; the result is for the case that the kernel refuses.
#[inline(always)]
pub(crate) fn go_on_in(ctx: &PerfEventContext, scratch: &mut Scratch, program: u32) -> u32 {
    // SAFETY: a tail call with the same context type.
    unsafe { PROGRAMS.tail_call(ctx, program) };
    finish(scratch, End::Aborted)
}

/// What the program before left, and the rule cache.
#[inline(always)]
fn resume() -> Option<(&'static mut Scratch, PerCpuCache)> {
    let Some(scratch) = Scratch::of_this_cpu() else {
        count(Counter::NoScratch);
        return None;
    };
    let Some(cache) = PerCpuCache::of_this_cpu(scratch.walk.tag) else {
        count(Counter::NoScratch);
        return None;
    };
    scratch.runs += 1;
    Some((scratch, cache))
}

/// How a run of `quick` ended.
mod outcome {
    pub(super) const MORE: u32 = 0;
    pub(super) const OUTERMOST: u32 = 1;
    pub(super) const STEP: u32 = 2;
    pub(super) const TRUNCATED: u32 = 3;
}

/// Entry point: walks up to `QUICK_FRAMES` easy frames; anything else is for `unwind`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "perf_event")]
fn quick(ctx: *mut bpf_perf_event_data) -> u32 {
    let ctx = PerfEventContext::new(ctx);
    let Some((scratch, mut cache)) = resume() else {
        return 0;
    };
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
        scratch.push();
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
    if outcome == outcome::OUTERMOST || outcome == outcome::TRUNCATED {
        scratch.walk.cache_hits += 1;
        return finish(scratch, if outcome == outcome::OUTERMOST { End::Complete } else { End::Truncated });
    }
    let again = outcome == outcome::MORE && (scratch.runs as usize) < QUICK_RUNS;
    go_on_in(&ctx, scratch, if again { QUICK } else { UNWIND })
}

/// Entry point: walks up to `FRAMES_PER_RUN` frames, then goes on in itself; back to `quick` as soon as a rule was in the cache.
#[unsafe(no_mangle)]
#[unsafe(link_section = "perf_event")]
fn unwind(ctx: *mut bpf_perf_event_data) -> u32 {
    let ctx = PerfEventContext::new(ctx);
    let Some((scratch, mut cache)) = resume() else {
        return 0;
    };
    let hits_before = scratch.walk.cache_hits;
    for _ in 0..FRAMES_PER_RUN {
        if let Err(end) = step(&mut UserMemory, &Segments, &mut cache, &mut scratch.walk) {
            return finish(scratch, end);
        }
        scratch.correct_last();
        if scratch.number_of_frames >= scratch.most_frames {
            return finish(scratch, End::Truncated);
        }
        scratch.push();
        if scratch.walk.cache_hits != hits_before && (scratch.runs as usize) < QUICK_RUNS {
            return go_on_in(&ctx, scratch, QUICK);
        }
    }
    if (scratch.runs as usize) < RUNS {
        return go_on_in(&ctx, scratch, UNWIND);
    }
    finish(scratch, End::Aborted)
}
