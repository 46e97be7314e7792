//! [`StackCounts`]: how far the user stacks of samples can be trusted. The result line, a profile's comments and the page count by it,
//! so that they say the same.

use unwind::end::{End, provenance};

use super::Sample;

/// Samples by what is known of their user stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackCounts {
    /// Samples with a user part.
    pub user: u64,
    /// Those that reached the entry point by unwind tables alone.
    pub complete: u64,
    /// Those that reached an outermost frame with help of the frame pointer: likely right, not proven.
    pub by_frame_pointer: u64,
    /// Those walked with tables older than the mappings at their time.
    pub stale: u64,
}

impl StackCounts {
    /// Counts a sample that stands for `count`.
    pub fn add(&mut self, sample: &Sample, count: u64) {
        if !sample.end.has_user_part() {
            return;
        }
        let has = |bit: u8| sample.provenance & bit != 0;
        self.user += count;
        match sample.end {
            // It may be right, which is not enough.
            _ if has(provenance::STALE) => self.stale += count,
            End::Complete if !has(provenance::FRAME_POINTER) => self.complete += count,
            End::Complete | End::FramePointerZero => self.by_frame_pointer += count,
            _ => {}
        }
    }
}
