//! [`Builder`]: functions in the order in which a run time made them, within the limits.
//!
//! Each has a name of its own in the arena, so that what is not in use any more is known to the byte. Past the limits a line is
//! refused, but what it overlaps goes all the same: no name is better than that of code that is not there any more.

use std::collections::BTreeMap;

use super::{Function, PerfMap, PerfMapCounts, PerfMapLimits};
use crate::text::prefix;

/// What is not in use any more may take a fourth of what is allowed; then the names are written anew.
const UNUSED: usize = 4;

pub(super) struct Builder {
    limits: PerfMapLimits,
    functions: BTreeMap<u64, Function>,
    names: String,
    /// Bytes of names that are in use.
    used: usize,
    pub(super) counts: PerfMapCounts,
}

impl Builder {
    pub(super) fn new(limits: PerfMapLimits) -> Builder {
        // Places in the arena are 32-bit numbers.
        let limits = PerfMapLimits { name_bytes: limits.name_bytes.min(u32::MAX as usize / 2), ..limits };
        let counts = PerfMapCounts::default();
        Builder { limits, functions: BTreeMap::new(), names: String::new(), used: 0, counts }
    }

    /// Code that was made after everything before.
    pub(super) fn add(&mut self, start: u64, end: u64, name: &[u8]) {
        self.make_way(start, end);
        let text = String::from_utf8_lossy(name);
        let kept = prefix(&text, self.limits.name);
        match self.take(start, end, kept) {
            true => {
                self.counts.taken += 1;
                self.counts.cut += u64::from(kept.len() < text.len());
            }
            false => self.counts.refused += 1,
        }
    }

    /// Cuts what overlaps back to what is left of it.
    fn make_way(&mut self, start: u64, end: u64) {
        while let Some((_, old)) = self.functions.range(..end).next_back()
            && old.end > start
        {
            let old = *old;
            self.functions.remove(&old.start);
            let mut is_named = false;
            if old.start < start {
                self.functions.insert(old.start, Function { end: start, ..old });
                is_named = true;
            }
            if old.end > end && !is_named {
                self.functions.insert(end, Function { start: end, ..old });
                is_named = true;
            } else if old.end > end {
                let name = self.names.get(old.range()).unwrap_or_default().to_owned();
                self.take(end, old.end, &name);
            }
            if !is_named {
                self.used -= old.range().len();
            }
            if old.start < start {
                // Whatever is further down ends before this one begins.
                break;
            }
        }
    }

    /// Puts in code that overlaps with nothing, if there is room.
    fn take(&mut self, start: u64, end: u64, name: &str) -> bool {
        if self.functions.len() >= self.limits.functions || !self.has_room(name.len()) {
            return false;
        }
        let function = Function { start, end, name: self.names.len() as u32, name_length: name.len() as u32 };
        self.names.push_str(name);
        self.used += name.len();
        self.functions.insert(start, function);
        true
    }

    fn has_room(&mut self, length: usize) -> bool {
        let most = self.limits.name_bytes;
        if self.used.saturating_add(length) > most {
            return false;
        }
        if self.names.len() + length > most + most / UNUSED {
            self.compact();
        }
        true
    }

    fn compact(&mut self) {
        let mut names = String::with_capacity(self.used);
        for function in self.functions.values_mut() {
            let name = self.names.get(function.range()).unwrap_or_default();
            function.name = names.len() as u32;
            names.push_str(name);
        }
        self.names = names;
    }

    pub(super) fn finish(mut self) -> PerfMap {
        if self.names.len() > self.used {
            self.compact();
        }
        self.names.shrink_to_fit();
        PerfMap { functions: self.functions.into_values().collect(), names: self.names, counts: self.counts }
    }
}
