//! From a rule to the caller: the common kinds. Signal frames and escape rules have modules of their own.

use super::escape::escape_step;
use super::lookup::find_mapping;
use super::memory::Memory;
use super::signal::signal_frame;
use super::state::Walk;
use crate::end::{End, provenance};
use crate::rule::{CALLER_IS_EXACT, Kind, PackedRule};
use crate::slab::{Slab, less_or_equal};

/// Farthest that a frame pointer may lie above the stack pointer: the usual stack limit of a thread.
pub const MAX_FRAME_POINTER_DISTANCE: u64 = 8 << 20;

/// Does what the rule says.
#[inline(always)]
pub(super) fn apply<M: Memory, S: Slab>(
    memory: &mut M,
    slab: &S,
    walk: &mut Walk,
    rule: PackedRule,
) -> Result<(), End> {
    const SP: u8 = Kind::Sp as u8;
    const FP: u8 = Kind::Fp as u8;
    const PLT: u8 = Kind::Plt as u8;
    const END: u8 = Kind::End as u8;
    const SIGNAL: u8 = Kind::Signal as u8;
    const ESCAPE: u8 = Kind::Escape as u8;
    const GAP: u8 = Kind::Gap as u8;
    let kind = rule.kind();
    if kind == SP || kind == FP {
        let base = if kind == FP { walk.read_fp(memory).ok_or(End::BadRead)? } else { walk.sp };
        walk.provenance |= provenance::TABLE as u32;
        return frame(memory, walk, base.wrapping_add(rule.operand() as u64 * 8), rule);
    }
    match kind {
        END => Err(End::Complete),
        GAP => frame_pointer_step(memory, slab, walk),
        PLT => {
            let pushed = 8 + 8 * (walk.lookup_address() & 15 >= rule.operand() as u64) as u64;
            let cfa = walk.sp.wrapping_add(pushed);
            walk.provenance |= provenance::TABLE as u32;
            let return_address = memory.word(cfa.wrapping_sub(8)).ok_or(End::BadRead)?;
            walk.enter_caller(return_address, cfa)
        }
        SIGNAL => signal_frame(memory, walk),
        ESCAPE => escape_step(memory, slab, walk, rule.operand()),
        _ => Err(End::Unsupported),
    }
}

/// The common frame: return address at CFA − 8, callee-saved registers at slots below the CFA.
#[inline(always)]
fn frame<M: Memory>(memory: &mut M, walk: &mut Walk, cfa: u64, rule: PackedRule) -> Result<(), End> {
    // A wrong rule or a smashed stack must not make the walk go in circles.
    if cfa <= walk.sp {
        return Err(End::NotUp);
    }
    let return_address;
    let mut below = 0;
    if rule.fp_slot() == 2 {
        // rbp beside the return address: one read fetches both.
        (below, return_address) = memory.pair(cfa.wrapping_sub(16)).ok_or(End::BadRead)?;
    } else {
        return_address = memory.word(cfa.wrapping_sub(8)).ok_or(End::BadRead)?;
    }
    save(walk, cfa, rule, below);
    walk.enter_caller(return_address, cfa)?;
    walk.exact = (rule.0 >> CALLER_IS_EXACT.trailing_zeros()) as u32 & 1;
    Ok(())
}

/// Notes where the caller's registers are; `below` is the word under the return address, if that is rbp.
#[inline(always)]
pub(super) fn save(walk: &mut Walk, cfa: u64, rule: PackedRule, below: u64) {
    let beside = less_or_equal(rule.fp_slot() ^ 2, 0).wrapping_neg();
    walk.fp ^= (walk.fp ^ below) & beside;
    walk.fp_at = saved_at(walk.fp_at, cfa, rule.fp_slot()) & !beside;
    walk.rbx_at = saved_at(walk.rbx_at, cfa, rule.rbx_slot());
    walk.r12_at = saved_at(walk.r12_at, cfa, rule.r12_slot());
}

/// Where a register is saved now: CFA − 8·slot, or where it was before if the slot is 0. Without a branch: the verifier merges
/// paths only at points at least 100 instructions apart, and each small choice before that doubles its work.
#[inline(always)]
fn saved_at(before: u64, cfa: u64, slot: u64) -> u64 {
    let mask = less_or_equal(1, slot).wrapping_neg();
    before ^ ((before ^ cfa.wrapping_sub(slot * 8)) & mask)
}

/// Code without rows: believe the frame pointer only if it is aligned, lies above sp within a stack's size, and the return
/// address beside it is in executable memory.
#[inline(always)]
fn frame_pointer_step<M: Memory, S: Slab>(memory: &mut M, slab: &S, walk: &mut Walk) -> Result<(), End> {
    let fp = walk.read_fp(memory).ok_or(End::BadRead)?;
    if fp == 0 {
        return Err(End::FramePointerZero);
    }
    if fp & 7 != 0 || fp.wrapping_sub(walk.sp) >= MAX_FRAME_POINTER_DISTANCE {
        return Err(End::NoRows);
    }
    let (caller_fp, return_address) = memory.pair(fp).ok_or(End::BadRead)?;
    if return_address == 0 {
        return Err(if caller_fp == 0 { End::FramePointerZero } else { End::NoRows });
    }
    let inside_call = return_address.wrapping_sub(1);
    if inside_call.wrapping_sub(walk.map_start) >= walk.map_bytes && find_mapping(slab, walk, inside_call).is_err() {
        return Err(End::NoRows);
    }
    walk.fp = caller_fp;
    // What this code did with the others is not known: it may have saved them anywhere.
    walk.rbx_at = Walk::UNKNOWN;
    walk.r12_at = Walk::UNKNOWN;
    walk.provenance |= provenance::FRAME_POINTER as u32;
    walk.enter_caller(return_address, fp.wrapping_add(16))
}
