//! Where the walk is: one `repr(C)` structure, since in the kernel it lies in per-CPU memory between programs.

use super::memory::Memory;
use crate::end::End;
use crate::rule::dwarf;

/// Where the walk is: registers of the current frame, and the mapping that the last lookup used.
///
/// rbp, rbx and r12 are restored *lazily*: a rule gives the address where the caller's value was saved, and it is read only
/// when a later CFA needs it. Code without frame pointers then costs one read a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Program counter of the current frame.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// rbp, valid when `fp_at` is 0.
    pub fp: u64,
    /// Where rbp was saved, or 0.
    pub fp_at: u64,
    /// rbx, valid when `rbx_at` is 0.
    pub rbx: u64,
    /// Where rbx was saved, or 0, or [`Walk::UNKNOWN`].
    pub rbx_at: u64,
    /// r12, valid when `r12_at` is 0.
    pub r12: u64,
    /// Where r12 was saved, or 0, or [`Walk::UNKNOWN`].
    pub r12_at: u64,
    /// General registers of the leaf in DWARF order; which of them hold is in `leaf_known`.
    pub leaf: [u64; 16],
    /// Bit n: `leaf[n]` is the current frame's register n.
    pub leaf_known: u32,
    /// 1 if `pc` is where execution is (the leaf, a frame that a signal interrupted), 0 if it is a return address.
    pub exact: u32,
    /// Root of the process table.
    pub process: u32,
    /// How the frames were found so far: bits of [`crate::end::provenance`].
    pub provenance: u32,
    /// The process's cache tag, already shifted above the address bits; 0 switches the cache off.
    pub tag: u64,
    /// Frames whose rule came out of the cache.
    pub cache_hits: u32,
    /// Descriptor of `map_*`'s executable, 0 if none.
    pub descriptor: u32,
    /// Start of the mapping that the last lookup used.
    pub map_start: u64,
    /// Its length, bytes; 0 before the first lookup.
    pub map_bytes: u64,
    /// Its bias: ELF address = pc − bias.
    pub map_bias: u64,
    /// Copied from the descriptor: page table.
    pub page_table: u32,
    /// Copied from the descriptor: number of pages.
    pub pages: u32,
    /// Copied from the descriptor: first page.
    pub first_page: u32,
    /// Copied from the descriptor: rules.
    pub rules: u32,
    /// Copied from the descriptor: flags.
    pub flags: u32,
    /// Keeps what follows aligned.
    pub padding: u32,
    /// The rule of the current frame, between finding and applying it.
    pub rule: u64,
}
const _: () = assert!(size_of::<Walk>() == 8 * 8 + 16 * 8 + 16 + 8 + 8 + 24 + 24 + 8);

impl Walk {
    /// In `rbx_at` and `r12_at`: a callee without rows may have changed the register. No word lies at this address.
    pub const UNKNOWN: u64 = u64::MAX;

    /// A walk whose every field is zero; set the registers, `exact` = 1, `process` and `tag` before the first step.
    pub const ZERO: Walk = Walk {
        pc: 0,
        sp: 0,
        fp: 0,
        fp_at: 0,
        rbx: 0,
        rbx_at: 0,
        r12: 0,
        r12_at: 0,
        leaf: [0; 16],
        leaf_known: 0,
        exact: 0,
        process: 0,
        provenance: 0,
        tag: 0,
        cache_hits: 0,
        descriptor: 0,
        map_start: 0,
        map_bytes: 0,
        map_bias: 0,
        page_table: 0,
        pages: 0,
        first_page: 0,
        rules: 0,
        flags: 0,
        padding: 0,
        rule: 0,
    };

    /// A walk that starts at a leaf with these registers (DWARF order) and pc.
    pub fn at_leaf(registers: &[u64; 16], pc: u64, process: u32) -> Walk {
        Walk {
            pc,
            sp: registers[dwarf::RSP as usize],
            fp: registers[dwarf::RBP as usize],
            rbx: registers[dwarf::RBX as usize],
            r12: registers[dwarf::R12 as usize],
            leaf: *registers,
            leaf_known: 0xffff,
            exact: 1,
            process,
            ..Walk::ZERO
        }
    }

    /// The address to look up and to record: inside the call instruction for a caller, exact for an interrupted frame.
    #[inline(always)]
    pub fn lookup_address(&self) -> u64 {
        self.pc.wrapping_sub((self.exact ^ 1) as u64)
    }

    #[inline(always)]
    pub(super) fn read_fp<M: Memory>(&mut self, memory: &mut M) -> Option<u64> {
        if self.fp_at != 0 {
            self.fp = memory.word(self.fp_at)?;
            self.fp_at = 0;
        }
        Some(self.fp)
    }

    #[inline(always)]
    pub(super) fn enter_caller(&mut self, return_address: u64, cfa: u64) -> Result<(), End> {
        if return_address == 0 {
            return Err(End::NullReturn);
        }
        self.pc = return_address;
        self.sp = cfa;
        self.exact = 0;
        self.leaf_known = 0;
        Ok(())
    }
}
