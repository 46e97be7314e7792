//! Which tags of the rule cache are in use: 17 bits beside a 47-bit address.
//!
//! Constraint: a tag may name another table only once no cache can hold a rule of the old one. So tags of retired tables are
//! kept apart until a grace period has passed (no program still runs with the old table) and the caches were cleared.

use profiler_common::MAX_CACHE_TAG;

/// Hands out tags; 0 means "without the cache".
#[derive(Debug)]
pub(super) struct Tags {
    next: u32,
    most: u32,
    free: Vec<u32>,
    retired: Vec<u32>,
}

impl Default for Tags {
    fn default() -> Self {
        Tags::up_to(MAX_CACHE_TAG)
    }
}

impl Tags {
    fn up_to(most: u32) -> Tags {
        Tags { next: 1, most, free: Vec::new(), retired: Vec::new() }
    }

    /// A tag that no cache knows; `clear` waits for running programs and empties the caches, and says whether it did. It is
    /// called once all tags were used, that is every 131,071 tables. 0 if every tag is in use or the caches can't be cleared.
    pub(super) fn take(&mut self, clear: impl FnOnce() -> bool) -> u32 {
        if self.next <= self.most {
            self.next += 1;
            return self.next - 1;
        }
        if self.free.is_empty() && !self.retired.is_empty() && clear() {
            self.free.append(&mut self.retired);
        }
        self.free.pop().unwrap_or(0)
    }

    /// The table of this tag is out of the kernel's sight.
    pub(super) fn retire(&mut self, tag: u32) {
        if tag != 0 {
            self.retired.push(tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tags;

    #[test]
    fn a_tag_comes_again_only_after_the_caches_were_cleared() {
        let mut tags = Tags::up_to(3);
        let never = || panic!("nothing to clear");
        assert_eq!([tags.take(never), tags.take(never), tags.take(never)], [1, 2, 3]);
        assert_eq!(tags.take(never), 0);
        tags.retire(2);
        tags.retire(0);
        assert_eq!(tags.take(|| false), 0);
        assert_eq!(tags.take(|| true), 2);
        assert_eq!(tags.take(never), 0);
    }
}
