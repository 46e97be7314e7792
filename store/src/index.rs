//! The index: where each chunk is, when its samples were, and how much CPU time each of its threads had. Kept by redb.
//!
//! It holds nothing that the segments don't, so that a damaged index costs some seconds and no history. What is committed is
//! seen by readers at once; it is on the disk after a durable commit. A reader sees one state of it, whatever is written meanwhile.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableError,
};

use super::bytes::{Bytes, Malformed, put};
use super::chunk::{ChunkHeader, HEADER_BYTES};
use super::columns::{Facts, StoredSample};
use super::error::StoreError;

/// (segment, chunk's number) → row. The names carry the version of what is in the rows: others are as if they were not there.
const CHUNKS: TableDefinition<(u32, u32), &[u8]> = TableDefinition::new("chunks-2");
/// Rows of segments of version 1, which are of no use any more.
const FORMER_CHUNKS: TableDefinition<(u32, u32), &[u8]> = TableDefinition::new("chunks-1");
/// Segment → its samples' first and last time.
const SEGMENTS: TableDefinition<u32, (u64, u64)> = TableDefinition::new("segments-1");
/// Segments of which the disk did not confirm all: their rows serve readers, and prove nothing when opening.
const UNCONFIRMED: TableDefinition<u32, ()> = TableDefinition::new("unconfirmed-1");

/// Pages that redb keeps in memory.
const CACHE_BYTES: usize = 2 << 20;

/// What the index knows of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkRow {
    /// Where it begins in its file.
    pub(super) offset: u64,
    /// Its header's bytes, as they are in the file.
    pub(super) header: [u8; HEADER_BYTES],
    /// CPU time by thread, packed.
    pub(super) sums: Vec<u8>,
}

impl ChunkRow {
    pub(super) fn new(offset: u64, header: [u8; HEADER_BYTES], facts: &Facts, samples: &[StoredSample]) -> ChunkRow {
        ChunkRow { offset, header, sums: sums_of(facts, samples) }
    }

    pub(super) fn header(&self) -> Result<ChunkHeader, Malformed> {
        ChunkHeader::parse(&self.header)
    }

    /// Where the next chunk begins.
    pub(super) fn end(&self) -> Result<u64, Malformed> {
        Ok(self.offset.saturating_add(self.header()?.chunk_bytes()))
    }

    /// Threads (numbers in the segment's dictionary) with their CPU time, ns.
    pub(super) fn sums(&self) -> Result<Vec<(u32, u64)>, Malformed> {
        let mut bytes = Bytes(&self.sums);
        let unit = bytes.number()?;
        let mut sums = Vec::new();
        let mut thread = 0_u32;
        while bytes.end().is_err() {
            thread = thread.checked_add(bytes.small()?).ok_or(Malformed("an index beyond 32 bits"))?;
            sums.push((thread, bytes.number()?.saturating_mul(unit)));
        }
        Ok(sums)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = self.header.to_vec();
        put(&mut out, self.offset);
        out.extend_from_slice(&self.sums);
        out
    }

    fn decode(bytes: &[u8]) -> Result<ChunkRow, Malformed> {
        let mut bytes = Bytes(bytes);
        let header = bytes.take(HEADER_BYTES)?.first_chunk().ok_or(Malformed("a row that is cut short"))?;
        Ok(ChunkRow { header: *header, offset: bytes.number()?, sums: bytes.0.to_vec() })
    }
}

/// The unit is the period where it can be, which makes every sum a small number.
fn sums_of(facts: &Facts, samples: &[StoredSample]) -> Vec<u8> {
    let mut sums = BTreeMap::<u32, u64>::new();
    for sample in samples {
        let sum = sums.entry(sample.thread).or_default();
        *sum = sum.saturating_add(sample.weight_ns);
    }
    let whole = facts.period_ns > 0 && sums.values().all(|sum| sum % facts.period_ns == 0);
    let unit = if whole { facts.period_ns } else { 1 };
    let mut out = Vec::new();
    put(&mut out, unit);
    let mut before = 0;
    for (thread, sum) in sums {
        put(&mut out, u64::from(thread - before));
        put(&mut out, sum / unit);
        before = thread;
    }
    out
}

/// The index, open.
pub(super) struct Index {
    database: Database,
}

impl Index {
    /// Opens or makes it. An index that can't be read is made anew, empty: the second value says so.
    pub(super) fn open(path: &Path) -> Result<(Index, bool), StoreError> {
        // A damaged file may make redb panic. Its pages are checked here once, so that it does not while samples come.
        let checked = catch_unwind(AssertUnwindSafe(|| -> Result<Database, StoreError> {
            let mut database = Builder::new().set_cache_size(CACHE_BYTES).create(path)?;
            database.check_integrity()?;
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::None);
            transaction.delete_table(FORMER_CHUNKS)?;
            transaction.commit()?;
            Ok(database)
        }));
        match checked {
            Ok(Ok(database)) => Ok((Index { database }, false)),
            Ok(Err(error)) if !is_damage(&error) => Err(error),
            _ => {
                std::fs::remove_file(path).map_err(StoreError::io("remove", path))?;
                let database = Builder::new().set_cache_size(CACHE_BYTES).create(path)?;
                Ok((Index { database }, true))
            }
        }
    }

    /// Adds a chunk's row.
    pub(super) fn add(&self, segment: u32, number: u32, row: &ChunkRow, times: (u64, u64)) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::None);
        transaction.open_table(CHUNKS)?.insert((segment, number), row.encode().as_slice())?;
        transaction.open_table(SEGMENTS)?.insert(segment, times)?;
        transaction.commit()?;
        Ok(())
    }

    /// Puts `rows` in the place of a segment's rows. Nothing is left of a segment without rows, no [doubt](Index::doubt) either.
    pub(super) fn replace(&self, segment: u32, rows: &[ChunkRow]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::None);
        {
            let mut chunks = transaction.open_table(CHUNKS)?;
            chunks.retain_in((segment, 0)..=(segment, u32::MAX), |_, _| false)?;
            let mut times: Option<(u64, u64)> = None;
            for (number, row) in (0..).zip(rows) {
                chunks.insert((segment, number), row.encode().as_slice())?;
                if let Ok(header) = row.header() {
                    let (first, last) = times.unwrap_or((u64::MAX, 0));
                    times = Some((first.min(header.first_ns), last.max(header.last_ns)));
                }
            }
            let mut segments = transaction.open_table(SEGMENTS)?;
            match times {
                Some(times) => segments.insert(segment, times)?,
                None => segments.remove(segment)?,
            };
            if rows.is_empty() {
                transaction.open_table(UNCONFIRMED)?.remove(segment)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Notes that the disk did not confirm all of a segment, for as long as the index has rows of it: asked again it forgets that it failed, and what
    /// is read may be in memory only. The note is on the disk as soon as the segment's rows are.
    pub(super) fn doubt(&self, segment: u32) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::None);
        transaction.open_table(UNCONFIRMED)?.insert(segment, ())?;
        transaction.commit()?;
        Ok(())
    }

    /// Puts everything that was added on the disk.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.database.begin_write()?.commit()?;
        Ok(())
    }

    /// The index as it is now.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot(self.database.begin_read()?))
    }
}

/// Whether an error says that the file itself is not good, or that the disk can't read it: then another one may be.
fn is_damage(error: &StoreError) -> bool {
    let StoreError::Index(error) = error else { return false };
    !matches!(**error, redb::Error::DatabaseAlreadyOpen)
        && !matches!(&**error, redb::Error::Io(error) if matches!(
            error.raw_os_error(),
            Some(libc::ENOSPC | libc::EDQUOT | libc::EROFS | libc::EACCES | libc::EPERM | libc::EMFILE)
        ))
}

/// A segment's number with its samples' first and last time.
pub(super) type SegmentTimes = (u32, (u64, u64));

/// One state of the index.
pub(super) struct Snapshot(ReadTransaction);

impl Snapshot {
    /// Segments with their samples' first and last time, oldest first.
    pub(super) fn segments(&self) -> Result<Vec<SegmentTimes>, StoreError> {
        let table = match self.0.open_table(SEGMENTS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        table
            .iter()?
            .map(|entry| entry.map(|(number, times)| (number.value(), times.value())).map_err(Into::into))
            .collect()
    }

    /// Whether it knows of no chunk at all.
    pub(super) fn is_empty(&self) -> Result<bool, StoreError> {
        match self.0.open_table(CHUNKS) {
            Ok(table) => Ok(table.is_empty()?),
            Err(TableError::TableDoesNotExist(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Segments of which the disk may not have all.
    pub(super) fn doubted(&self) -> Result<Vec<u32>, StoreError> {
        let table = match self.0.open_table(UNCONFIRMED) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        table.iter()?.map(|entry| entry.map(|(number, _)| number.value()).map_err(Into::into)).collect()
    }

    /// Whether the disk may not have all that the index knows of a segment.
    pub(super) fn is_doubted(&self, segment: u32) -> Result<bool, StoreError> {
        match self.0.open_table(UNCONFIRMED) {
            Ok(table) => Ok(table.get(segment)?.is_some()),
            Err(TableError::TableDoesNotExist(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A segment's rows, in order.
    pub(super) fn chunks(&self, segment: u32) -> Result<Vec<ChunkRow>, StoreError> {
        let table = match self.0.open_table(CHUNKS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut rows = Vec::new();
        for entry in table.range((segment, 0)..=(segment, u32::MAX))? {
            let (_, row) = entry?;
            rows.push(ChunkRow::decode(row.value()).map_err(|_| redb::Error::Corrupted("a chunk's row".to_owned()))?);
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_made_anew_where_it_can_t_be_read_and_not_where_it_can_t_be_opened_now() {
        let io = |code| redb::Error::Io(std::io::Error::from_raw_os_error(code));
        let cases = [
            (redb::Error::Corrupted("a page".to_owned()), true),
            (io(libc::EIO), true),
            (io(libc::ENOSPC), false),
            (io(libc::EACCES), false),
            (io(libc::EMFILE), false),
            (redb::Error::DatabaseAlreadyOpen, false),
        ];
        for (error, expected) in cases {
            let what = error.to_string();
            assert_eq!(is_damage(&StoreError::from(error)), expected, "{what}");
        }
        assert!(!is_damage(&StoreError::IndexClosed));
    }
}
