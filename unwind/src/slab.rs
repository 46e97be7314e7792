//! The layout of the unwind tables in memory that the agent writes and the kernel reads.
//!
//! One *slab* of equal 4 MiB *segments* of `u32` words. A *word address* is `segment << 20 | index`; 64 segments make 26 bits,
//! 256 MiB. Everything is an *extent*: consecutive words inside one segment. Zero always means "none", and word address 0 is
//! never given out.
//!
//! Measured against 8 KiB blocks with a rules block for each (the first sketch): extents need no rounding, a page entry
//! finds its rows without a base word, and 20 bits of rule index leave no executable that overflows.
//!
//! **Process table**: a root, and the chunks that it names. Root:
//!
//! | words | what |
//! |---|---|
//! | 0 | number of chunks, 1 to [`MAX_CHUNKS`] |
//! | 1 | zero |
//! | 2 + 3c | chunk c: first start address (low, high), word address; ascending |
//!
//! Chunk (at most [`CHUNK_MAPPINGS`] executable mappings, ascending):
//!
//! | words | what |
//! |---|---|
//! | 0 | number of mappings `n` |
//! | 1 | zero |
//! | 2 + 2i | start address of mapping i (low, high) |
//! | 2 + 2n + 4i | length in 4 KiB pages; executable descriptor or 0; bias (low, high): ELF address = pc − bias |
//!
//! **Executable descriptor** ([`DESCRIPTOR_WORDS`]): 0 page table; 1 number of pages; 2 first page (ELF address >> 12);
//! 3 rules; 4 flags. Storing 0 as its page table takes the executable out of use: one store.
//!
//! **Page table**: two words for each 4 KiB of code: word address of its first row; number of rows.
//! **Row**: `offset in page : 12 | rule index : 20`, ascending; each page starts with a row of offset 0 (carried in).
//! **Rules**: two words each, a [`PackedRule`](crate::rule::PackedRule).

/// log2 of the words in a segment.
pub const SEGMENT_SHIFT: u32 = 20;
/// Words in a segment: 4 MiB. That is the largest array value that kernels before 5.11 take (KMALLOC_MAX_SIZE).
pub const SEGMENT_WORDS: usize = 1 << SEGMENT_SHIFT;
/// Segments in a slab: 256 MiB at most; they are made on demand.
pub const MAX_SEGMENTS: u32 = 64;
/// Code bytes that one page-table entry stands for, as a shift.
pub const PAGE_SHIFT: u32 = 12;
/// Bits of a row that hold the rule's index.
pub const RULE_BITS: u32 = 20;
/// Words of an executable descriptor.
pub const DESCRIPTOR_WORDS: u32 = 8;
/// Words before the first entry of a process-table root or chunk.
pub const TABLE_HEADER_WORDS: u32 = 2;
/// Words that a root spends on each chunk.
pub const ROOT_ENTRY_WORDS: u32 = 3;
/// Mappings in one chunk; the search takes log2 of it steps.
pub const CHUNK_MAPPINGS: u32 = 256;
/// Chunks of one process: 16,384 executable mappings. More are left out and counted.
pub const MAX_CHUNKS: u32 = 64;

/// A descriptor whose executable has unwind information but whose rows are not loaded (not yet, or evicted).
pub const DESCRIPTOR_NOT_LOADED: u32 = 1;

/// One segment of the slab.
pub type Segment = [u32; SEGMENT_WORDS];

/// "Look a table up": a BPF map-in-map in the kernel, memory in the agent.
pub trait Slab {
    /// The segment of that number, if it exists.
    fn segment(&self, index: u32) -> Option<&Segment>;
}

/// A word of the segment that `address` lies in; the mask keeps the access in bounds for us and for the verifier.
#[inline(always)]
pub fn word(segment: &Segment, address: u32) -> u32 {
    // SAFETY: the mask bounds the index by SEGMENT_WORDS - 1.
    unsafe { *segment.as_ptr().add(address as usize & (SEGMENT_WORDS - 1)) }
}

/// Two neighbouring words as one number, low word first.
#[inline(always)]
pub fn double_word(segment: &Segment, address: u32) -> u64 {
    word(segment, address) as u64 | (word(segment, address.wrapping_add(1)) as u64) << 32
}

/// 1 when `value <= key`, else 0, as arithmetic.
///
/// LLVM would turn a compare into a branch, and each branch in a search doubles the verifier's paths: the `asm!` hides the
/// shift from it (an ordinary binary search of 2 × 11 steps does not verify even for one frame).
/// Both sides must be below 2⁶³.
#[inline(always)]
pub fn less_or_equal(value: u64, key: u64) -> u64 {
    #[cfg_attr(not(target_arch = "bpf"), expect(unused_mut, reason = "the bpf side shifts in place"))]
    let mut difference = value.wrapping_sub(key).wrapping_sub(1);
    #[cfg(target_arch = "bpf")]
    // SAFETY: one shift of a register, no memory.
    unsafe {
        core::arch::asm!("{0} >>= 63", inout(reg) difference, options(nomem, nostack, preserves_flags, pure));
        difference
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        difference >> 63
    }
}
