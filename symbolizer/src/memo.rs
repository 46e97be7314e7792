//! [`Memo`]: (executable, address) to frames, within a byte budget.
//!
//! Two generations: entries go into the young one; when it has half the budget it becomes the old one, and what was still in
//! the old one is evicted. A hit in the old one moves the entry up. That is nearly "least recently used" at no cost per hit.

use hashbrown::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::frame::{Frames, weight};

/// Bytes of an entry besides its frames: key, pointer, table slack.
const ENTRY_OVERHEAD: usize = 56;

#[derive(Debug)]
pub(crate) struct Memo {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    young: Generation,
    old: Generation,
    budget: usize,
    hits: u64,
    misses: u64,
    evictions: u64,
}

#[derive(Debug)]
struct Generation {
    entries: HashMap<(u64, u64), Frames, Seed>,
    bytes: usize,
}

/// The memo's share of [`Statistics`](crate::Statistics).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MemoNumbers {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) evictions: u64,
}

impl Memo {
    pub(crate) fn new(budget: usize) -> Self {
        let seed = Seed::new();
        let generation = || Generation { entries: HashMap::with_hasher(seed), bytes: 0 };
        let state = State { young: generation(), old: generation(), budget, hits: 0, misses: 0, evictions: 0 };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held can only be an allocation failure; the maps stay usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills in what is known; gives the positions of what is not.
    pub(crate) fn get(&self, key: u64, addresses: &[u64], results: &mut Vec<Frames>, empty: &Frames) -> Vec<usize> {
        let mut state = self.lock();
        let mut missing = Vec::new();
        results.reserve(addresses.len());
        for (position, address) in addresses.iter().enumerate() {
            match state.get((key, *address)) {
                Some(frames) => results.push(frames),
                None => {
                    results.push(empty.clone());
                    missing.push(position);
                }
            }
        }
        state.hits += (addresses.len() - missing.len()) as u64;
        state.misses += missing.len() as u64;
        missing
    }

    pub(crate) fn insert(&self, key: u64, addresses: &[u64], frames: &[Frames]) {
        let mut state = self.lock();
        for (address, frames) in addresses.iter().zip(frames) {
            state.insert((key, *address), frames.clone());
        }
    }

    pub(crate) fn forget(&self, key: u64) {
        let mut state = self.lock();
        let State { young, old, .. } = &mut *state;
        for generation in [young, old] {
            let bytes = &mut generation.bytes;
            generation.entries.retain(|(owner, _), frames| {
                if *owner == key {
                    *bytes -= entry_bytes(frames);
                }
                *owner != key
            });
        }
    }

    pub(crate) fn numbers(&self) -> MemoNumbers {
        let state = self.lock();
        MemoNumbers {
            hits: state.hits,
            misses: state.misses,
            bytes: (state.young.bytes + state.old.bytes) as u64,
            entries: (state.young.entries.len() + state.old.entries.len()) as u64,
            evictions: state.evictions,
        }
    }
}

fn entry_bytes(frames: &Frames) -> usize {
    weight(frames) + ENTRY_OVERHEAD
}

impl State {
    fn get(&mut self, key: (u64, u64)) -> Option<Frames> {
        if let Some(frames) = self.young.entries.get(&key) {
            return Some(frames.clone());
        }
        let frames = self.old.entries.remove(&key)?;
        self.old.bytes -= entry_bytes(&frames);
        self.insert(key, frames.clone());
        Some(frames)
    }

    fn insert(&mut self, key: (u64, u64), frames: Frames) {
        let bytes = entry_bytes(&frames);
        if bytes > self.budget / 2 {
            self.evictions += 1;
            return;
        }
        if self.young.bytes + bytes > self.budget / 2 {
            std::mem::swap(&mut self.young, &mut self.old);
            self.evictions += self.young.entries.len() as u64;
            self.young.entries.clear();
            self.young.bytes = 0;
        }
        self.young.bytes += bytes;
        if let Some(replaced) = self.young.entries.insert(key, frames) {
            self.young.bytes -= entry_bytes(&replaced);
        }
        if let Some(replaced) = self.old.entries.remove(&key) {
            self.old.bytes -= entry_bytes(&replaced);
        }
    }
}

/// Two secret numbers: addresses come from files that somebody else wrote.
#[derive(Clone, Copy, Debug)]
struct Seed(u64, u64);

impl Seed {
    fn new() -> Self {
        let random = RandomState::new();
        Self(random.hash_one(0), random.hash_one(1))
    }
}

impl BuildHasher for Seed {
    type Hasher = Mix;
    fn build_hasher(&self) -> Mix {
        Mix { state: self.0, secret: self.1 }
    }
}

/// Two words to one by a wide multiplication each; several times cheaper than the standard hasher.
struct Mix {
    state: u64,
    secret: u64,
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.secret | 1);
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }
    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::frame::Frame;

    fn frames(name: &str) -> Frames {
        let name: Arc<str> = name.into();
        let frame = Frame { function: name.clone(), linkage_name: name, file: None, line: 0, column: 0, start_line: 0 };
        [frame].into()
    }

    fn look(memo: &Memo, key: u64, address: u64) -> Option<String> {
        let mut results = Vec::new();
        let missing = memo.get(key, &[address], &mut results, &Frames::from([]));
        missing.is_empty().then(|| results[0].first().map_or(String::new(), |frame| frame.function.to_string()))
    }

    #[test]
    fn entries_in_use_outlive_those_that_are_not() {
        let one = entry_bytes(&frames("x"));
        let memo = Memo::new(one * 8);
        memo.insert(1, &[0], &[frames("k")]);
        for address in 1..100 {
            memo.insert(1, &[address], &[frames("x")]);
            assert_eq!(look(&memo, 1, 0).as_deref(), Some("k"), "after {address}");
        }
        assert_eq!(look(&memo, 1, 1), None);
        assert_eq!(look(&memo, 1, 99).as_deref(), Some("x"));
        let numbers = memo.numbers();
        assert!(numbers.bytes as usize <= one * 8, "{numbers:?}");
        assert_eq!(numbers.entries + numbers.evictions, 100);
    }

    #[test]
    fn forgetting_an_executable_leaves_the_others() {
        let memo = Memo::new(1 << 20);
        memo.insert(1, &[5], &[frames("a")]);
        memo.insert(2, &[5], &[frames("b")]);
        memo.forget(1);
        assert_eq!((look(&memo, 1, 5), look(&memo, 2, 5).as_deref()), (None, Some("b")));
        memo.forget(2);
        assert_eq!(memo.numbers(), MemoNumbers { hits: 1, misses: 1, bytes: 0, entries: 0, evictions: 0 });
    }

    #[test]
    fn an_empty_answer_is_an_answer() {
        let memo = Memo::new(1 << 20);
        memo.insert(1, &[5], &[Frames::from([])]);
        assert_eq!(look(&memo, 1, 5).as_deref(), Some(""));
    }
}
