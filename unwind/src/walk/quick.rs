//! The frames that are easy: one compare of the cache, one read of the stack.

use super::apply::save;
use super::cache::{RuleCache, cache_key};
use super::memory::Memory;
use super::state::Walk;
use crate::rule::Kind;
use crate::slab::less_or_equal;

/// What [`quick_step`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quick {
    /// One frame up.
    Up,
    /// This was the outermost frame.
    Outermost,
    /// Nothing was done: it takes a [`super::step`].
    Step,
}

/// One frame up if that is easy: the rule is in the cache, its CFA lies above rsp or rbp, and the stack can be read. Most
/// frames are, and in the kernel a program with nothing but this is short to run, to load into the processor, and to verify.
///
/// The caller counts: each frame up came from a table, and each that is not left to [`super::step`] was a hit of the cache.
#[inline(always)]
pub fn quick_step<M: Memory, C: RuleCache>(memory: &mut M, cache: &mut C, walk: &mut Walk) -> Quick {
    let address = walk.lookup_address();
    let Some(rule) = cache.get(cache_key(walk, address).0) else {
        return Quick::Step;
    };
    let kind = rule.kind();
    // What stands above the slots is not for here either.
    if kind != Kind::Sp as u8 && kind != Kind::Fp as u8 || rule.0 >> 56 != 0 {
        return if kind == Kind::End as u8 { Quick::Outermost } else { Quick::Step };
    }
    let from_fp = less_or_equal(Kind::Fp as u64, kind as u64).wrapping_neg();
    if walk.fp_at & from_fp != 0 && walk.read_fp(memory).is_none() {
        return Quick::Step;
    }
    let cfa = (walk.sp ^ ((walk.sp ^ walk.fp) & from_fp)).wrapping_add(rule.operand() as u64 * 8);
    if cfa <= walk.sp {
        return Quick::Step;
    }
    let Some((below, return_address)) = memory.frame(cfa, rule.fp_slot() == 2) else {
        return Quick::Step;
    };
    if return_address == 0 {
        return Quick::Step;
    }
    save(walk, cfa, rule, below);
    walk.rule = rule.0;
    // It fails for a return address of zero only.
    match walk.enter_caller(return_address, cfa) {
        Ok(()) => Quick::Up,
        Err(_) => Quick::Step,
    }
}
