//! [`Builder`]: functions in the order in which a run time made them, within the limits.
//!
//! Names are shared by the pieces of what was cut in two and go with the last one, so that what is in use is known to the byte.
//! Past the limits a line is refused, but what it overlaps goes all the same: no name is better than that of code that is not
//! there any more.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::{Function, PerfMap, PerfMapCounts, PerfMapLimits};
use crate::text::prefix;

#[derive(Clone)]
struct Piece {
    end: u64,
    name: Rc<str>,
}

pub(super) struct Builder {
    limits: PerfMapLimits,
    pieces: BTreeMap<u64, Piece>,
    /// Bytes of names that are in use.
    used: usize,
    pub(super) counts: PerfMapCounts,
}

impl Builder {
    pub(super) fn new(limits: PerfMapLimits) -> Builder {
        // Places in the arena are 32-bit numbers.
        let limits = PerfMapLimits { name_bytes: limits.name_bytes.min(u32::MAX as usize), ..limits };
        Builder { limits, pieces: BTreeMap::new(), used: 0, counts: PerfMapCounts::default() }
    }

    /// Code that was made after everything before.
    pub(super) fn add(&mut self, start: u64, end: u64, name: &[u8]) {
        self.make_way(start, end);
        // One byte more than fits, so that a cut shows: of a line of 64 MiB nothing else need become text, of three times its size.
        let text = String::from_utf8_lossy(&name[..name.len().min(self.limits.name.saturating_add(1))]);
        let kept = prefix(&text, self.limits.name);
        if !self.has_place() || self.used + kept.len() > self.limits.name_bytes {
            self.counts.refused += 1;
            return;
        }
        self.used += kept.len();
        self.pieces.insert(start, Piece { end, name: kept.into() });
        self.counts.taken += 1;
        self.counts.cut += u64::from(kept.len() < text.len());
    }

    /// Cuts what overlaps back to what is left of it.
    fn make_way(&mut self, start: u64, end: u64) {
        while let Some((begin, old)) = self.pieces.range(..end).next_back()
            && old.end > start
        {
            let (begin, old) = (*begin, old.clone());
            self.pieces.remove(&begin);
            if begin < start {
                self.pieces.insert(begin, Piece { end: start, ..old.clone() });
            }
            if old.end > end {
                // There is a place for one of two pieces: that of the whole.
                if self.has_place() {
                    self.pieces.insert(end, old.clone());
                } else {
                    self.counts.refused += 1;
                }
            }
            if Rc::strong_count(&old.name) == 1 {
                self.used -= old.name.len();
            }
            if begin < start {
                // Whatever is further down ends before this one begins.
                break;
            }
        }
    }

    fn has_place(&self) -> bool {
        self.pieces.len() < self.limits.functions
    }

    pub(super) fn finish(self) -> PerfMap {
        let mut names = String::with_capacity(self.used);
        let mut places: HashMap<*const u8, u32> = HashMap::new();
        let functions = self.pieces.iter().map(|(start, Piece { end, name })| {
            let place = *places.entry(name.as_ptr()).or_insert_with(|| {
                names.push_str(name);
                (names.len() - name.len()) as u32
            });
            Function { start: *start, end: *end, name: place, name_length: name.len() as u32 }
        });
        let functions = functions.collect();
        PerfMap { functions, names, counts: self.counts }
    }
}
