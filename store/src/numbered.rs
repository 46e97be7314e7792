//! [`Numbered`]: small things of one size, each once, numbered in the order of arrival.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::entries::make_room;

/// Things by number, found by content.
pub(super) struct Numbered<T> {
    all: Vec<T>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Numbered { all: Vec::new(), table: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }
}

impl<T: Copy + Eq + Hash> Numbered<T> {
    /// All of them, by number.
    pub(super) fn all(&self) -> &[T] {
        &self.all
    }

    pub(super) fn get(&self, number: u32) -> Option<T> {
        self.all.get(number as usize).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The number of a thing, which is added if it is new.
    pub(super) fn number(&mut self, thing: T) -> u32 {
        let Numbered { all, table, hasher } = self;
        let hash = hasher.hash_one(thing);
        if let Some(found) = table.find(hash, |number| all.get(*number as usize) == Some(&thing)) {
            return *found;
        }
        let number = all.len() as u32;
        make_room(all, 1);
        all.push(thing);
        table.insert_unique(hash, number, |number| all.get(*number as usize).map_or(0, |thing| hasher.hash_one(thing)));
        number
    }

    /// Memory in use, bytes, roughly.
    pub(super) fn memory(&self) -> usize {
        // A slot of the hash table is 5 bytes.
        self.all.capacity() * size_of::<T>() + self.table.capacity() * 6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_has_one_number_and_is_had_by_it() {
        let mut numbered = Numbered::default();
        assert_eq!([7_u64, 9, 7, 8, 9].map(|thing| numbered.number(thing)), [0, 1, 0, 2, 1]);
        assert_eq!((numbered.all(), numbered.len()), (&[7, 9, 8][..], 3));
        assert_eq!((numbered.get(2), numbered.get(3)), (Some(8), None));
    }
}
