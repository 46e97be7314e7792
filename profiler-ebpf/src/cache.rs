//! This CPU's rule cache as the unwinder sees it.

use profiler_common::CACHE_SLOTS;
use unwind::{
    rule::PackedRule,
    walk::{CACHE_ADDRESS_BITS, CacheSlot, RuleCache},
};

use crate::maps::RULES;

/// This CPU's rule cache in the hands of one process.
pub(crate) struct PerCpuCache {
    slots: *mut CacheSlot,
    /// The process's part of the hash.
    salt: u64,
}

impl PerCpuCache {
    /// The cache for the process with this tag, `Walk::tag`.
    #[inline(always)]
    pub(crate) fn of_this_cpu(tag: u64) -> Option<PerCpuCache> {
        let slots = RULES.get_ptr_mut(0)?;
        // An address's low bits alone would put the same function of many processes into one slot.
        Some(PerCpuCache { slots: slots.cast(), salt: (tag >> CACHE_ADDRESS_BITS).wrapping_mul(0x9e37) })
    }

    #[inline(always)]
    fn slot(&mut self, key: u64) -> &mut CacheSlot {
        let mixed = key ^ (key >> 11) ^ self.salt;
        let index = mixed as usize & (CACHE_SLOTS - 1);
        // SAFETY: the mask keeps the slot inside the value of CACHE_SLOTS; the programs of one CPU do not interrupt each other
        // here, and a slot that the agent empties meanwhile is believed only whole.
        unsafe { &mut *self.slots.add(index) }
    }
}

impl RuleCache for PerCpuCache {
    #[inline(always)]
    fn get(&mut self, key: u64) -> Option<PackedRule> {
        self.slot(key).get(key)
    }
    #[inline(always)]
    fn put(&mut self, key: u64, rule: PackedRule) {
        self.slot(key).put(key, rule);
    }
}
