//! The rules that do not fit 8 bytes.

use super::memory::Memory;
use super::state::Walk;
use crate::end::{End, provenance};
use crate::rule::{dwarf, escape_flags};
use crate::slab::{SEGMENT_SHIFT, Slab, word};

/// The rare rules: CFA behind a pointer or from another register, return address in a register.
#[inline(always)]
pub(super) fn escape_step<M: Memory, S: Slab>(memory: &mut M, slab: &S, walk: &mut Walk, at: u32) -> Result<(), End> {
    let segment = slab.segment(at >> SEGMENT_SHIFT).ok_or(End::NoTable)?;
    let register = word(segment, at) & 15;
    let flags = word(segment, at.wrapping_add(1));
    let signed = |index: u32| word(segment, at.wrapping_add(index)) as i32 as i64 as u64;
    let base = if register == dwarf::RSP {
        walk.sp
    } else if register == dwarf::RBP {
        walk.read_fp(memory).ok_or(End::BadRead)?
    } else if register == dwarf::RBX {
        saved_register(memory, walk.rbx, walk.rbx_at)?
    } else if register == dwarf::R12 {
        saved_register(memory, walk.r12, walk.r12_at)?
    } else {
        leaf_register(walk, register)?
    };
    let mut cfa = base.wrapping_add(signed(2));
    if flags & escape_flags::DEREFERENCE != 0 {
        cfa = memory.word(cfa).ok_or(End::BadRead)?;
    }
    cfa = cfa.wrapping_add(signed(3));
    let return_address = if flags & escape_flags::RETURN_IN_REGISTER != 0 {
        leaf_register(walk, word(segment, at.wrapping_add(4)) & 15)?
    } else {
        // A frame that keeps its return address on the stack is higher than its callee, but for rules based on rbp: Go's stack
        // switches (runtime.systemstack, asmcgocall …) lead from one stack to another, which may lie lower.
        let switches_stack = register == dwarf::RBP && flags & escape_flags::DEREFERENCE == 0;
        if cfa <= walk.sp && !switches_stack {
            return Err(End::NotUp);
        }
        memory.word(cfa.wrapping_add(signed(4))).ok_or(End::BadRead)?
    };
    if flags & escape_flags::FP_AT_CFA != 0 {
        walk.fp_at = cfa.wrapping_add(signed(5));
    } else if flags & escape_flags::FP_AT_BASE != 0 {
        walk.fp_at = base.wrapping_add(signed(5));
    }
    if flags & escape_flags::RBX_AT_CFA != 0 {
        walk.rbx_at = cfa.wrapping_add(signed(6));
    } else if flags & escape_flags::RBX_AT_BASE != 0 {
        walk.rbx_at = base.wrapping_add(signed(6));
    }
    if flags & escape_flags::R12_AT_CFA != 0 {
        walk.r12_at = cfa.wrapping_add(signed(7));
    } else if flags & escape_flags::R12_AT_BASE != 0 {
        walk.r12_at = base.wrapping_add(signed(7));
    }
    walk.provenance |= provenance::TABLE as u32;
    walk.enter_caller(return_address, cfa)
}

/// The value of a register that is followed across frames: in hand, or where it was saved.
#[inline(always)]
fn saved_register<M: Memory>(memory: &mut M, in_hand: u64, saved_at: u64) -> Result<u64, End> {
    match saved_at {
        0 => Ok(in_hand),
        Walk::UNKNOWN => Err(End::NoRegister),
        at => memory.word(at).ok_or(End::BadRead),
    }
}

#[inline(always)]
fn leaf_register(walk: &Walk, register: u32) -> Result<u64, End> {
    if (walk.leaf_known >> (register & 31)) & 1 == 0 {
        return Err(End::NoRegister);
    }
    // SAFETY: the mask bounds the index by 15, and `leaf` has 16 entries.
    Ok(unsafe { *walk.leaf.as_ptr().add(register as usize & 15) })
}
