//! Frames that a signal interrupted: the kernel's own account of the registers, on the stack.

use super::memory::Memory;
use super::state::Walk;
use crate::end::{End, provenance};

/// A signal trampoline: sp points at the `ucontext`, whose general registers begin at byte 40
/// (`struct sigcontext`, arch/x86/include/uapi/asm/sigcontext.h).
#[inline(always)]
pub(super) fn signal_frame<M: Memory>(memory: &mut M, walk: &mut Walk) -> Result<(), End> {
    const R10: u64 = 40 + 2 * 8;
    const R12: u64 = 40 + 4 * 8;
    const RBP: u64 = 40 + 10 * 8;
    const RBX: u64 = 40 + 11 * 8;
    const RSP: u64 = 40 + 15 * 8;
    let context = walk.sp;
    let (sp, pc) = memory.pair(context.wrapping_add(RSP)).ok_or(End::BadRead)?;
    // GCC bases the CFA on r10 for two instructions of a realigning prologue; the other registers are not worth their reads.
    let r10 = memory.word(context.wrapping_add(R10)).ok_or(End::BadRead)?;
    walk.leaf[10] = r10;
    walk.leaf_known = 1 << 10;
    walk.fp_at = context.wrapping_add(RBP);
    walk.rbx_at = context.wrapping_add(RBX);
    walk.r12_at = context.wrapping_add(R12);
    walk.pc = pc;
    walk.sp = sp;
    walk.exact = 1;
    walk.provenance |= provenance::TABLE as u32;
    Ok(())
}
