//! The sample in hand, in per-CPU memory: the programs of one sample follow each other by tail calls, and this is all that
//! passes between them.

use profiler_common::{MAX_KERNEL_FRAMES, ProcessEntry, QUICK_FRAMES, RecordHeader};
use unwind::walk::{MAX_USER_FRAMES, Walk, correction};

use crate::maps::SCRATCH;
use crate::stack::Window;

/// Room for frames; a power of two, so that a mask bounds the index for the verifier.
const FRAME_WORDS: usize = 2048;
const _: () = assert!(FRAME_WORDS > MAX_USER_FRAMES + MAX_KERNEL_FRAMES + QUICK_FRAMES);

/// State of the sample in hand. A per-CPU value may be 32 KiB at most.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) header: RecordHeader,
    frames: [u64; FRAME_WORDS],
    pub(crate) walk: Walk,
    /// What the agent published of the process; `table` is 0 if nothing.
    pub(crate) process: ProcessEntry,
    /// Continuations run so far.
    pub(crate) runs: u32,
    pub(crate) number_of_frames: u32,
    /// How many frames there may be: `MAX_USER_FRAMES` above the kernel's.
    pub(crate) most_frames: u32,
    /// How `quick` ended.
    pub(crate) outcome: u32,
    pub(crate) window: Window,
}

impl Scratch {
    /// This CPU's.
    #[inline(always)]
    pub(crate) fn of_this_cpu() -> Option<&'static mut Scratch> {
        let pointer = SCRATCH.get_ptr_mut(0)?;
        // SAFETY: this CPU's own value, and sampling programs do not nest on a CPU (bpf_prog_active).
        Some(unsafe { &mut *pointer })
    }

    /// Where frame number `index` is kept; a number beyond the room wraps.
    #[inline(always)]
    pub(crate) fn frame(&mut self, index: u32) -> *mut u64 {
        // SAFETY: the mask bounds the index.
        unsafe { self.frames.as_mut_ptr().add(index as usize & (FRAME_WORDS - 1)) }
    }

    /// Adds the frame that the walk is at.
    #[inline(always)]
    pub(crate) fn push(&mut self) {
        let address = self.walk.lookup_address();
        // SAFETY: a field of our own.
        unsafe { *self.frame(self.number_of_frames) = address };
        self.number_of_frames += 1;
    }

    /// The step that went on from a frame tells whether its address was right.
    #[inline(always)]
    pub(crate) fn correct_last(&mut self) {
        // SAFETY: a field of our own.
        unsafe { *self.frame(self.number_of_frames.wrapping_sub(1)) += correction(&self.walk) };
    }

    /// The record as it goes into the ring.
    #[inline(always)]
    pub(crate) fn record(&self) -> &[u8] {
        let frames = self.number_of_frames as usize & (FRAME_WORDS - 1);
        let length = size_of::<RecordHeader>() + frames * 8;
        // SAFETY: header and frames lie next to each other, and the mask keeps the length inside.
        unsafe { core::slice::from_raw_parts((&raw const *self).cast::<u8>(), length) }
    }
}
