//! The sampled thread's memory: word by word, or a piece of the stack ahead of the walk.

use aya_ebpf::helpers::{self, bpf_probe_read_user};
use unwind::{slab::less_or_equal, walk::Memory};

/// Memory that is read as it is asked for.
pub(crate) struct UserMemory;

impl Memory for UserMemory {
    #[inline(always)]
    fn word(&mut self, address: u64) -> Option<u64> {
        // SAFETY: a read that faults gives an error.
        unsafe { bpf_probe_read_user(address as *const u64) }.ok()
    }
    #[inline(always)]
    fn pair(&mut self, address: u64) -> Option<(u64, u64)> {
        // SAFETY: as above.
        unsafe { bpf_probe_read_user(address as *const [u64; 2]) }.ok().map(|words| (words[0], words[1]))
    }
}

/// Most bytes of the stack that are read at once. A read costs 20 to 40 ns, whether of one word or of eight cache lines, and
/// the lines of one read come from memory side by side where a chain of frames waits for each.
const WINDOW_BYTES: u64 = 512;

/// A piece of the sampled thread's stack.
#[repr(C)]
pub(crate) struct Window {
    /// User address of the first byte.
    start: u64,
    /// Farthest from `start` that two words can be taken.
    limit: u64,
    /// Where in `words` those in hand are, bytes.
    at: u64,
    /// Twice the size, so that a mask bounds lengths and offsets for the verifier.
    words: [u64; WINDOW_BYTES as usize / 4],
}

/// Memory that is read ahead.
pub(crate) struct StackMemory<'a> {
    pub(crate) window: &'a mut Window,
}

impl Memory for StackMemory<'_> {
    #[inline(always)]
    fn frame(&mut self, cfa: u64, _both: bool) -> Option<(u64, u64)> {
        const PAGE: u64 = 4096;
        let address = cfa.wrapping_sub(16);
        // Words of the window are taken as such. A stack that is not aligned is rare enough to be read word by word.
        if address & 7 != 0 {
            return None;
        }
        let window = &mut *self.window;
        let mut at = address.wrapping_sub(window.start);
        if at > window.limit {
            // To the end of the page at most: what lies behind it may not be there, though the words in hand are.
            let in_page = PAGE - (address & (PAGE - 1));
            let more = less_or_equal(WINDOW_BYTES, in_page).wrapping_neg();
            let bytes = in_page ^ ((in_page ^ WINDOW_BYTES) & more);
            let fewer = less_or_equal(bytes, 16).wrapping_neg();
            let bytes = bytes ^ ((bytes ^ 16) & fewer);
            window.start = address;
            window.limit = bytes - 16;
            at = 0;
            let to = window.words.as_mut_ptr();
            let length = (bytes & (2 * WINDOW_BYTES - 1)) as u32;
            // SAFETY: the mask keeps the length inside `words`; a read that faults gives an error.
            if unsafe { helpers::generated::bpf_probe_read_user(to.cast(), length, address as *const _) } != 0 {
                // A stack pointer at the start of a page, and nothing below it yet: the return address alone.
                window.limit = 0;
                let above = address.wrapping_add(8) as *const _;
                // SAFETY: as above, 8 bytes.
                if unsafe { helpers::generated::bpf_probe_read_user(to.add(1).cast(), 8, above) } != 0 {
                    return None;
                }
            }
        }
        // Through memory, so that the verifier goes on once and not for each way to get here.
        // SAFETY: a field by a valid reference; the mask keeps both words inside `words`.
        unsafe {
            core::ptr::write_volatile(&raw mut window.at, at);
            let at = core::ptr::read_volatile(&raw const window.at) & (WINDOW_BYTES - 8);
            let words = window.words.as_ptr().byte_add(at as usize);
            Some((*words, *words.add(1)))
        }
    }
    #[inline(always)]
    fn word(&mut self, address: u64) -> Option<u64> {
        UserMemory.word(address)
    }
    #[inline(always)]
    fn pair(&mut self, address: u64) -> Option<(u64, u64)> {
        UserMemory.pair(address)
    }
}

impl Window {
    /// Forgets the sample before.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        // Two words at the last address of all: nothing that a walk asks for.
        self.start = u64::MAX;
        self.limit = 0;
    }
}
