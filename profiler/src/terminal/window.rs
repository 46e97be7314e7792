//! [`Window`]: the last minute's slices, bounded in time and memory.

use std::collections::VecDeque;
use std::sync::Arc;

use super::slice::Slice;

/// Lengths to choose from, seconds.
pub(super) const LENGTHS: [u64; 4] = [5, 10, 30, 60];
/// Which one it is at first.
pub(super) const FIRST_LENGTH: usize = 1;
/// Most memory for slices. A paused screen holds on to those that it shows, so that twice as much is the most.
const MAX_BYTES: usize = 64 << 20;

/// Slices, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Window {
    slices: VecDeque<(Arc<Slice>, usize)>,
    bytes: usize,
}

impl Window {
    /// Adds the newest and lets go what is too old or too much; the newest always stays.
    pub(super) fn push(&mut self, slice: Slice) {
        let bytes = slice.bytes();
        self.bytes += bytes;
        let ended_ns = slice.ended_ns;
        self.slices.push_back((Arc::new(slice), bytes));
        let longest = LENGTHS[LENGTHS.len() - 1];
        while self.slices.len() > 1
            && let Some((oldest, bytes)) = self.slices.front()
            && (!is_within(oldest, longest, ended_ns) || self.bytes > MAX_BYTES)
        {
            self.bytes -= bytes;
            self.slices.pop_front();
        }
    }

    /// Those of the last `seconds`: fewer at the start, and where memory did not suffice. The newest always is one of them, however
    /// long it is.
    pub(super) fn last(&self, seconds: u64) -> Vec<Arc<Slice>> {
        let Some((newest, _)) = self.slices.back() else { return Vec::new() };
        let is_wanted = |slice: &Arc<Slice>| Arc::ptr_eq(slice, newest) || is_within(slice, seconds, newest.ended_ns);
        let wanted = self.slices.iter().filter(|(slice, _)| is_wanted(slice));
        wanted.map(|(slice, _)| slice.clone()).collect()
    }
}

/// Whether the middle of the slice is in the `seconds` before `now_ns`: cuts are never quite a second apart.
fn is_within(slice: &Slice, seconds: u64, now_ns: u64) -> bool {
    let middle_ns = slice.ended_ns.saturating_sub(slice.duration_ns / 2);
    now_ns.saturating_sub(middle_ns) <= seconds * 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(ended_ms: u64, frames: usize) -> Slice {
        let stacks = if frames == 0 { Vec::new() } else { vec![vec![0; frames].into()] };
        Slice { ended_ns: ended_ms * 1_000_000, duration_ns: 1_000_000_000, stacks, ..Slice::default() }
    }

    #[test]
    fn a_window_has_the_slices_of_its_time() {
        let mut window = Window::default();
        assert!(window.last(60).is_empty());
        for second in 1..=90 {
            // Late by up to 9 ms.
            window.push(slice(second * 1000 + second % 10, 0));
        }
        for (seconds, expected) in [(5, 5), (10, 10), (30, 30), (60, 60), (600, 60)] {
            assert_eq!(window.last(seconds).len(), expected, "{seconds}");
        }
        // The machine stood still: what was before is over.
        window.push(slice(200_000, 0));
        assert_eq!(window.last(60).len(), 1);
        let mut long = slice(260_000, 0);
        long.duration_ns = 60_000_000_000;
        window.push(long);
        assert_eq!(window.last(5).len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stays() {
        let mut window = Window::default();
        for second in 1..=20 {
            window.push(slice(second * 1000, 2 << 20));
        }
        assert!(window.bytes <= MAX_BYTES);
        assert_eq!(window.last(60).len(), 7);
        window.push(slice(21_000, 40 << 20));
        assert_eq!(window.last(60).len(), 1);
    }
}
