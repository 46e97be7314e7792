//! Byte strings, each once, numbered in the order of arrival: what every table of a dictionary is made of.
//!
//! One allocation for all of them, since a dictionary holds some hundred thousand of a few bytes each.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::bytes::{Bytes, Malformed, put};

/// Longest entry. Of a longer text the beginning is kept; anything else of that length is no entry.
pub(super) const MAX_ENTRY_BYTES: usize = 64 << 10;

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

    /// Of all of them together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, entry: &[u8]) -> Result<u32, Malformed> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(Malformed("an entry that is too long"));
        }
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

    /// Reads entries behind those that are there. Before memory is taken for so many entries, or so many bytes, `afford` is asked.
    pub(super) fn decode_onto(
        &mut self,
        bytes: &mut Bytes<'_>,
        mut afford: impl FnMut(usize, usize) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let count = bytes.count()?;
        afford(count, 0)?;
        let before = self.bytes.len();
        let mut end = before;
        self.ends.reserve(count);
        for _ in 0..count {
            let length = bytes.small()? as usize;
            if length > MAX_ENTRY_BYTES {
                return Err(Malformed("an entry that is too long"));
            }
            end += length;
            self.ends.push(u32::try_from(end).map_err(|_| Malformed("a table beyond 4 GiB"))?);
        }
        let entries = bytes.take(end - before)?;
        afford(0, entries.len())?;
        self.bytes.extend_from_slice(entries);
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
            read.decode_onto(&mut bytes, |_, _| Ok(())).unwrap();
            bytes.end().unwrap();
        }
        assert_eq!(read.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"bc", b"new"]);
        assert_eq!(read.get(4), None);
    }

    #[test]
    fn lengths_beyond_the_bytes_are_refused() {
        for bytes in [&b"\x02\x01"[..], b"\x01\x05ab", b"\x7f", b""] {
            assert!(Entries::default().decode_onto(&mut Bytes(bytes), |_, _| Ok(())).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_entry_may_be_long_and_not_longer() {
        let mut interner = Interner::default();
        let longest = vec![7; MAX_ENTRY_BYTES];
        assert_eq!(interner.intern(&longest), Ok(0));
        assert_eq!(interner.intern(&[7; MAX_ENTRY_BYTES + 1]), Err(Malformed("an entry that is too long")));
        for (length, good) in [(MAX_ENTRY_BYTES, true), (MAX_ENTRY_BYTES + 1, false)] {
            let mut section = vec![1];
            put(&mut section, length as u64);
            section.resize(section.len() + length, 7);
            assert_eq!(Entries::default().decode_onto(&mut Bytes(&section), |_, _| Ok(())).is_ok(), good, "{length}");
        }
    }

    #[test]
    fn what_can_t_be_afforded_is_not_read() {
        let section = b"\x02\x01\x02abc";
        let mut asked = Vec::new();
        let mut entries = Entries::default();
        let read = entries.decode_onto(&mut Bytes(section), |count, bytes| {
            asked.push((count, bytes));
            Ok(())
        });
        assert_eq!(read, Ok(()));
        assert_eq!(asked, [(2, 0), (0, 3)]);
        let poor = |count: usize, _| if count > 1 { Err(Malformed("too much")) } else { Ok(()) };
        let mut entries = Entries::default();
        assert_eq!(entries.decode_onto(&mut Bytes(section), poor), Err(Malformed("too much")));
        assert_eq!(entries.len(), 0);
    }
}
