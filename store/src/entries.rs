//! Byte strings, each once, numbered in the order of arrival: what every table of a dictionary is made of.
//!
//! One allocation for all of them, since a dictionary holds some hundred thousand of a few bytes each.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::bytes::{Bytes, Malformed, put};

/// Byte strings by number.
#[derive(Default)]
pub(super) struct Entries {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, number: u32) -> Option<&[u8]> {
        let number = number as usize;
        let end = *self.ends.get(number)? as usize;
        let start = if number == 0 { 0 } else { *self.ends.get(number - 1)? as usize };
        self.bytes.get(start..end)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len() as u32).filter_map(|number| self.get(number))
    }

    fn push(&mut self, entry: &[u8]) -> Result<u32, Malformed> {
        let end = u32::try_from(self.bytes.len() + entry.len()).map_err(|_| Malformed("a table beyond 4 GiB"))?;
        make_room(&mut self.bytes, entry.len());
        make_room(&mut self.ends, 1);
        self.bytes.extend_from_slice(entry);
        self.ends.push(end);
        Ok(self.ends.len() as u32 - 1)
    }

    /// Appends the entries from number `first` on: how many, their lengths, their bytes.
    pub(super) fn encode_from(&self, first: usize, out: &mut Vec<u8>) {
        let mut start = if first == 0 { 0 } else { self.ends.get(first - 1).map_or(0, |end| *end as usize) };
        let ends = self.ends.get(first..).unwrap_or_default();
        put(out, ends.len() as u64);
        let bytes_start = start;
        for end in ends {
            put(out, (*end as usize - start) as u64);
            start = *end as usize;
        }
        out.extend_from_slice(self.bytes.get(bytes_start..start).unwrap_or_default());
    }

    /// Reads entries behind those that are there.
    pub(super) fn decode_onto(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Malformed> {
        let count = bytes.count()?;
        let before = self.bytes.len();
        let mut end = before;
        self.ends.reserve(count);
        for _ in 0..count {
            end = end.saturating_add(bytes.small()? as usize);
            self.ends.push(u32::try_from(end).map_err(|_| Malformed("a table beyond 4 GiB"))?);
        }
        self.bytes.extend_from_slice(bytes.take(end - before)?);
        Ok(())
    }
}

/// Makes room by a quarter, not by twice as much: a segment ends when its dictionary has taken what memory it may, and the next one
/// writes most texts again.
pub(super) fn make_room<T>(all: &mut Vec<T>, more: usize) {
    if all.capacity() - all.len() < more {
        all.reserve_exact(more.max(all.len() / 4 + 16));
    }
}

/// Entries that can be found by content. They are compared whole, never by a hash alone.
#[derive(Default)]
pub(super) struct Interner {
    entries: Entries,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Interner {
    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The number of an entry, which is added if it is new.
    pub(super) fn intern(&mut self, entry: &[u8]) -> Result<u32, Malformed> {
        let Interner { entries, table, hasher } = self;
        let hash = hasher.hash_one(entry);
        if let Some(found) = table.find(hash, |number| entries.get(*number) == Some(entry)) {
            return Ok(*found);
        }
        let number = entries.push(entry)?;
        table.insert_unique(hash, number, |number| hasher.hash_one(entries.get(*number).unwrap_or_default()));
        Ok(number)
    }

    /// Memory in use, roughly.
    pub(super) fn memory(&self) -> usize {
        // A slot of the hash table is 5 bytes, and an end 4.
        self.entries.bytes.capacity() + self.entries.ends.capacity() * 4 + self.table.capacity() * 6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_one_number_and_what_is_new_can_be_sent_by_itself() {
        let mut interner = Interner::default();
        assert_eq!(["a", "", "bc", "a", "bc"].map(|text| interner.intern(text.as_bytes()).unwrap()), [0, 1, 2, 0, 2]);
        let mut first = Vec::new();
        interner.entries().encode_from(0, &mut first);
        assert_eq!(first, b"\x03\x01\x00\x02abc");
        interner.intern(b"new").unwrap();
        let mut second = Vec::new();
        interner.entries().encode_from(3, &mut second);

        let mut read = Entries::default();
        for part in [first, second] {
            let mut bytes = Bytes(&part);
            read.decode_onto(&mut bytes).unwrap();
            bytes.end().unwrap();
        }
        assert_eq!(read.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"bc", b"new"]);
        assert_eq!(read.get(4), None);
    }

    #[test]
    fn lengths_beyond_the_bytes_are_refused() {
        for bytes in [&b"\x02\x01"[..], b"\x01\x05ab", b"\x7f", b""] {
            assert!(Entries::default().decode_onto(&mut Bytes(bytes)).is_err(), "{bytes:?}");
        }
    }
}
