//! Each rule once: rows hold a number instead of 40 bytes.

use std::collections::HashMap;

use crate::rule::{PackedRule, RowRule};

/// Slots of the direct-mapped cache before the map: a real file has some hundred rules, and a hit costs one compare.
const CACHE_SLOTS: usize = 1 << 10;

/// Number of the gap rule in every [`Interner`].
pub(crate) const GAP: u32 = 0;
/// Number of the outermost-frame rule.
pub(crate) const END: u32 = 1;
/// Number of the signal-trampoline rule.
pub(crate) const SIGNAL: u32 = 2;
/// Number of the rule that can't be expressed.
pub(crate) const UNSUPPORTED: u32 = 3;

/// Where a packed rule is cached.
#[inline(always)]
fn slot(rule: PackedRule) -> usize {
    (rule.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize & (CACHE_SLOTS - 1)
}

/// Rules in the order they were first seen, and their numbers.
#[derive(Debug)]
pub(crate) struct Interner {
    rules: Vec<RowRule>,
    numbers: HashMap<RowRule, u32>,
    cache: Vec<(u64, u32)>,
    limit: usize,
    refused: u64,
}

impl Interner {
    /// At most `limit` rules; the four plain ones are there from the start.
    pub(crate) fn new(limit: usize) -> Self {
        let rules = vec![RowRule::GAP, RowRule::END, RowRule::SIGNAL, RowRule::UNSUPPORTED];
        let numbers = rules.iter().copied().zip(0..).collect();
        // The gap rule is the number 0, so a fresh slot says what is true.
        Self { rules, numbers, cache: vec![(0, GAP); CACHE_SLOTS], limit: limit.max(4), refused: 0 }
    }

    /// The number of a packed rule; [`UNSUPPORTED`] when there are too many already.
    #[inline(always)]
    pub(crate) fn packed(&mut self, rule: PackedRule) -> u32 {
        match self.cached(rule) {
            Some(number) => number,
            None => self.uncached(rule),
        }
    }

    /// The number of a packed rule that was asked for lately.
    #[inline(always)]
    pub(crate) fn cached(&self, rule: PackedRule) -> Option<u32> {
        let (cached, number) = self.cache.get(slot(rule))?;
        (*cached == rule.0).then_some(*number)
    }

    /// [`Interner::packed`] of a rule that is not cached.
    #[cold]
    pub(crate) fn uncached(&mut self, rule: PackedRule) -> u32 {
        let number = self.number(RowRule::Packed(rule));
        if let Some(cached) = self.cache.get_mut(slot(rule)) {
            *cached = (rule.0, number);
        }
        number
    }

    /// The rule of a number; a gap if it is none of ours.
    pub(crate) fn rule(&self, number: u32) -> RowRule {
        self.rules.get(number as usize).copied().unwrap_or(RowRule::GAP)
    }

    /// The number of any rule.
    pub(crate) fn number(&mut self, rule: RowRule) -> u32 {
        if let Some(number) = self.numbers.get(&rule) {
            return *number;
        }
        if self.rules.len() >= self.limit {
            self.refused += 1;
            return UNSUPPORTED;
        }
        let number = self.rules.len() as u32;
        self.rules.push(rule);
        self.numbers.insert(rule, number);
        number
    }

    /// All rules in order of their numbers, and how often one was refused.
    pub(crate) fn finish(self) -> (Vec<RowRule>, u64) {
        (self.rules, self.refused)
    }
}
