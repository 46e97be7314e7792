//! Finishing a stack from perf core's copy of registers and stack, with the same walk as the kernel's.

use unwind::end::{End, provenance};
use unwind::slab::Slab;
use unwind::walk::{Memory, Walk, walk_all};

use crate::sampler::perf_record::StackCopy;

/// The copied bytes as the target's memory; everything else can't be read, with one exception: what a leaf has just popped.
struct CopiedStack<'a> {
    from: u64,
    bytes: &'a [u8],
    frame_pointer: u64,
}

impl Memory for CopiedStack<'_> {
    fn word(&mut self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.from)?).ok()?;
        let mut word = [0; 8];
        word.copy_from_slice(self.bytes.get(at..at.checked_add(8)?)?);
        Some(u64::from_le_bytes(word))
    }
    fn pair(&mut self, address: u64) -> Option<(u64, u64)> {
        // Between `pop %rbp` and `ret`, rows still say that rbp is saved beside the return address. That is below sp, where the
        // copy has nothing, but what was there is in the register.
        let first = if Some(address) == self.from.checked_sub(8) { self.frame_pointer } else { self.word(address)? };
        Some((first, self.word(address.checked_add(8)?)?))
    }
}

/// The frames of a copy, leaf first, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CopiedFrames {
    pub(super) frames: Vec<u64>,
    pub(super) end: End,
    pub(super) provenance: u8,
}

/// The code segment selector of 64-bit user code on x86-64.
const USER_CODE_64: u64 = 0x33;
const FRAME_POINTER: usize = 6;
const STACK_POINTER: usize = 7;

/// Walks a copy with the process table at `root`.
pub(super) fn walk_copy(copy: &StackCopy, slab: &impl Slab, root: u32) -> CopiedFrames {
    if copy.code_segment == 0 {
        return CopiedFrames { frames: Vec::new(), end: End::NoUser, provenance: 0 };
    }
    if copy.code_segment != USER_CODE_64 {
        return CopiedFrames { frames: vec![copy.pc], end: End::Compat, provenance: provenance::COPIED };
    }
    let (from, frame_pointer) = (copy.registers[STACK_POINTER], copy.registers[FRAME_POINTER]);
    let mut memory = CopiedStack { from, bytes: &copy.stack, frame_pointer };
    let mut walk = Walk::at_leaf(&copy.registers, copy.pc, root);
    let mut frames = Vec::new();
    let end = walk_all(&mut memory, slab, &mut walk, |address| frames.push(address));
    CopiedFrames { frames, end, provenance: walk.provenance as u8 | provenance::COPIED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_bytes_are_read_inside_and_nowhere_else() {
        let bytes: Vec<u8> = (0..16).collect();
        let mut memory = CopiedStack { from: 0x1000, bytes: &bytes, frame_pointer: 0x77 };
        assert_eq!(memory.word(0x1000), Some(0x0706050403020100));
        assert_eq!(memory.word(0x1008), Some(0x0f0e0d0c0b0a0908));
        assert_eq!(memory.pair(0x1000), Some((0x0706050403020100, 0x0f0e0d0c0b0a0908)));
        for outside in [0xfff, 0x1009, 0x1010, 0, u64::MAX] {
            assert_eq!(memory.word(outside), None, "{outside:x}");
        }
        assert_eq!(memory.pair(0x1008), None);
        assert_eq!(memory.pair(0xff8), Some((0x77, 0x0706050403020100)), "the frame pointer that was just popped");
        assert_eq!(memory.pair(0xff0), None);
    }
}
