//! The rule cache: remembers the rule of a (process, pc), since return addresses repeat.
//!
//! Constraint: one slot is two words, and whoever empties a cache (the agent, once cache tags have run out) writes them while
//! the programs of that CPU run. So a slot answers only if both words say so: the key is the one asked for, and the rule
//! carries a bit that no zeroed word has. It does not know where the slots lie.

use super::Walk;
use crate::rule::PackedRule;
use crate::slab::less_or_equal;

/// Bits of a user address that a cache key holds; the rest is the process's tag. Addresses above (5-level paging, given only
/// to programs that ask for them) are looked up without the cache.
pub const CACHE_ADDRESS_BITS: u32 = 47;

/// Bit of a cached rule: this word was written by [`CacheSlot::put`]. Rules themselves end at bit 56.
const VALID: u64 = 1 << 63;

/// Remembers the rule of a (process, pc): this takes one cache line where the search takes five.
pub trait RuleCache {
    /// The rule stored under `key`.
    fn get(&mut self, key: u64) -> Option<PackedRule>;
    /// Stores a rule, in place of whatever shares its slot.
    fn put(&mut self, key: u64, rule: PackedRule);
}

/// No cache at all, for the agent.
pub struct NoCache;
impl RuleCache for NoCache {
    fn get(&mut self, _key: u64) -> Option<PackedRule> {
        None
    }
    fn put(&mut self, _key: u64, _rule: PackedRule) {}
}

/// One slot of a rule cache; all zero is empty.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheSlot {
    /// Tag and address, 0 = empty.
    pub key: u64,
    /// A packed rule with its valid bit, 0 = empty.
    pub rule: u64,
}

impl CacheSlot {
    /// The rule, if this slot holds the one of `key`.
    #[inline(always)]
    pub fn get(&self, key: u64) -> Option<PackedRule> {
        // One compare for both words: a second branch would double the verifier's paths.
        let differs = (self.key ^ key) | (!self.rule & VALID);
        (differs == 0).then_some(PackedRule(self.rule & !VALID))
    }

    /// Holds the rule of `key` from now on.
    #[inline(always)]
    pub fn put(&mut self, key: u64, rule: PackedRule) {
        self.key = key;
        self.rule = rule.0 | VALID;
    }
}

/// The key of (process, address) in the cache, and a mask of all ones if it may be stored.
///
/// Addresses that don't fit beside the tag, and processes without one, go around the cache: a key of all ones is never stored,
/// a key of zero is never looked up. Arithmetic, for the verifier's sake.
#[inline(always)]
pub(super) fn cache_key(walk: &Walk, address: u64) -> (u64, u64) {
    let cacheable = (less_or_equal(address >> CACHE_ADDRESS_BITS, 0) & less_or_equal(1, walk.tag >> 1)).wrapping_neg();
    ((walk.tag | address) | !cacheable, cacheable)
}

#[cfg(all(test, feature = "build"))]
mod tests {
    use super::*;
    use crate::rule::{CALLER_IS_EXACT, Kind, MAX_PACKED_OFFSET};

    #[test]
    fn a_slot_gives_back_what_was_put_in_and_only_for_its_key() {
        let widest = PackedRule::frame(Kind::Fp, MAX_PACKED_OFFSET, 255, 255, 255).with_exact_caller();
        assert_eq!(widest.0 >> 57, 0, "rules leave the valid bit alone");
        for rule in [PackedRule::plain(Kind::Gap), PackedRule::frame(Kind::Sp, 8, 0, 0, 0), widest] {
            let mut slot = CacheSlot::default();
            slot.put(7, rule);
            assert_eq!(slot.get(7), Some(rule));
            assert_eq!(slot.get(6), None);
        }
        assert_eq!(widest.0 & CALLER_IS_EXACT, CALLER_IS_EXACT);
    }

    /// The agent zeroes a slot word by word, low word first, and a program's `put` falls between any two of the four stores.
    #[test]
    fn a_slot_that_was_emptied_while_it_was_filled_is_never_read_as_a_gap() {
        let rule = PackedRule::frame(Kind::Sp, 16, 2, 0, 0);
        let mut filled = CacheSlot::default();
        filled.put(7, rule);
        // Every interleaving of (key, rule) ← 0 with (key, rule) ← filled: which of the two stored each word last.
        for (key_last, rule_last) in [(false, false), (false, true), (true, false), (true, true)] {
            let word = |last: bool, value: u64| if last { value } else { 0 };
            let slot = CacheSlot { key: word(key_last, filled.key), rule: word(rule_last, filled.rule) };
            let wanted = if key_last && rule_last { Some(rule) } else { None };
            assert_eq!(slot.get(7), wanted, "key {key_last}, rule {rule_last}");
        }
    }
}
