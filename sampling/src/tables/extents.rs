//! Who owns which words: first fit over the free stretches of each segment. Pure book-keeping.

use std::collections::BTreeMap;

use unwind::slab::SEGMENT_WORDS;

use super::Extent;

/// Extents are rounded up to this many words, 32 bytes: half a cache line, the size of a descriptor and of an escape rule.
const GRAIN: u32 = 8;

/// Free stretches by address; never one across two segments.
#[derive(Clone, Debug)]
pub(super) struct Extents {
    free: BTreeMap<u32, u32>,
    segments: u32,
    most_segments: u32,
    used: u64,
}

impl Extents {
    pub(super) fn new(most_segments: u32) -> Extents {
        Extents { free: BTreeMap::new(), segments: 0, most_segments, used: 0 }
    }

    pub(super) fn used_words(&self) -> u64 {
        self.used
    }

    pub(super) fn can_grow(&self) -> bool {
        self.segments < self.most_segments
    }

    pub(super) fn segments(&self) -> u32 {
        self.segments
    }

    /// What there is now has to do.
    pub(super) fn stop_growing(&mut self) {
        self.most_segments = self.segments;
    }

    /// Takes a new segment into the books.
    pub(super) fn grow(&mut self) {
        let start = self.segments * SEGMENT_WORDS as u32;
        // The first words of the slab stay zero for ever: address 0 means "none" and reads as an empty descriptor.
        let reserved = if self.segments == 0 { GRAIN * 2 } else { 0 };
        self.free.insert(start + reserved, SEGMENT_WORDS as u32 - reserved);
        self.segments += 1;
    }

    pub(super) fn allocate(&mut self, words: u32) -> Option<Extent> {
        let words = round_up(words)?;
        let (&address, &length) = self.free.iter().find(|(_, length)| **length >= words)?;
        self.free.remove(&address);
        if length > words {
            self.free.insert(address + words, length - words);
        }
        self.used += u64::from(words);
        Some(Extent { address, words })
    }

    /// Whether all of these could be had at the same time, with what is `freed` and the segments still to come.
    pub(super) fn would_fit(&self, freed: impl Iterator<Item = Extent>, sizes: &[u32]) -> bool {
        let mut after = self.clone();
        freed.for_each(|extent| after.free(extent));
        sizes.iter().all(|words| {
            loop {
                if after.allocate(*words).is_some() {
                    return true;
                }
                if !after.can_grow() {
                    return false;
                }
                after.grow();
            }
        })
    }

    /// Words that can ever be had.
    pub(super) fn budget_words(&self) -> u64 {
        u64::from(self.most_segments) * SEGMENT_WORDS as u64
    }

    pub(super) fn free(&mut self, extent: Extent) {
        let (mut address, mut words) = (extent.address, extent.words);
        self.used -= u64::from(words);
        let same_segment = |left: u32, right: u32| left / SEGMENT_WORDS as u32 == right / SEGMENT_WORDS as u32;
        if let Some((&before, &length)) = self.free.range(..address).next_back()
            && before + length == address
            && same_segment(before, address)
        {
            self.free.remove(&before);
            address = before;
            words += length;
        }
        let after = address + words;
        if let Some(&length) = self.free.get(&after)
            && same_segment(address, after)
        {
            self.free.remove(&after);
            words += length;
        }
        self.free.insert(address, words);
    }
}

fn round_up(words: u32) -> Option<u32> {
    let rounded = words.max(1).checked_next_multiple_of(GRAIN)?;
    (rounded as usize <= SEGMENT_WORDS).then_some(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_twice_and_everything_comes_back() {
        let mut extents = Extents::new(2);
        assert!(extents.allocate(1).is_none());
        extents.grow();
        let first = extents.allocate(1).unwrap();
        assert_eq!(first, Extent { address: 16, words: 8 });
        let second = extents.allocate(20).unwrap();
        assert_eq!(second, Extent { address: 24, words: 24 });
        let third = extents.allocate(8).unwrap();
        extents.free(first);
        extents.free(third);
        assert_eq!(extents.used_words(), 24);
        extents.free(second);
        assert_eq!(extents.used_words(), 0);
        assert_eq!(extents.free, BTreeMap::from([(16, SEGMENT_WORDS as u32 - 16)]));
    }

    #[test]
    fn whether_sizes_fit_is_told_without_taking_anything() {
        let mut extents = Extents::new(1);
        extents.grow();
        let half = SEGMENT_WORDS as u32 / 2;
        let (left, right) = (extents.allocate(half - 16).unwrap(), extents.allocate(half).unwrap());
        let none = std::iter::empty;
        assert!(extents.would_fit(none(), &[]) && !extents.would_fit(none(), &[8]));
        assert!(extents.would_fit([right].into_iter(), &[half / 2, half / 2]));
        assert!(!extents.would_fit([right].into_iter(), &[half / 2, half / 2, 8]));
        assert!(extents.would_fit([left, right].into_iter(), &[half + 8]), "neighbours join");
        assert_eq!(extents.used_words(), SEGMENT_WORDS as u64 - 16);
        assert!(Extents::new(2).would_fit(none(), &[SEGMENT_WORDS as u32 - 16, SEGMENT_WORDS as u32]));
    }

    #[test]
    fn an_extent_never_crosses_segments() {
        let mut extents = Extents::new(2);
        extents.grow();
        extents.grow();
        assert!(!extents.can_grow());
        let whole = extents.allocate(SEGMENT_WORDS as u32).unwrap();
        assert_eq!(whole, Extent { address: SEGMENT_WORDS as u32, words: SEGMENT_WORDS as u32 });
        assert!(extents.allocate(SEGMENT_WORDS as u32).is_none());
        assert!(extents.allocate(SEGMENT_WORDS as u32 + 1).is_none());
        let rest = extents.allocate(SEGMENT_WORDS as u32 - 16).unwrap();
        extents.free(rest);
        extents.free(whole);
        // Neighbours across the border stay apart.
        assert_eq!(extents.free.len(), 2);
    }
}
