//! [`Store`]: the one writer of a history.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use std::{fs, io};

use super::budget;
use super::bytes::Malformed;
use super::chunk::{self, HEADER_BYTES};
use super::clock::Clock;
use super::columns::{self, Facts, StoredSample};
use super::counters::StoreCounters;
use super::dictionary::{Dictionary, Part};
use super::entry::Thread;
use super::error::StoreError;
use super::index::{ChunkRow, Index};
use super::lock::Lock;
use super::reader::Reader;
use super::recover::{Recovered, SegmentFacts, SetAside, recover};
use super::segment::{SegmentWriter, file_name};
use super::transfer::{Cut, Transfer};
use profiles::profile::Batch;

/// How long one segment is written. What is removed or damaged goes by segments; each begins with an empty dictionary, which
/// costs about as much as its first minute.
const SEGMENT_NS: u64 = 3_600_000_000_000;
/// Memory that a segment's dictionary may take before the next one is begun: most of what the store costs while nobody asks.
const MAX_DICTIONARY_BYTES: usize = 8 << 20;
/// A segment takes at most this share of the limit of bytes.
const SEGMENTS_IN_LIMIT: u64 = 16;
/// Batches after which the index is put on disk if nobody flushes: until then it can't use again what it freed, and grows.
const MOST_UNFLUSHED: u32 = 32;
pub(super) const INDEX_FILE: &str = "index.redb";

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Samples older than this, as seen from the newest one, are removed, an hour's worth at a time.
    pub age: Duration,
    /// Bytes of all files. The segment that is being written stays, whatever it takes, and so does the index, which takes 5 MB at
    /// least.
    pub bytes: u64,
}

impl Default for Limits {
    /// 24 hours in at most 1 GiB.
    fn default() -> Self {
        Limits { age: Duration::from_secs(24 * 3600), bytes: 1 << 30 }
    }
}

/// What writer and readers share.
pub(super) struct Shared {
    pub(super) folder: PathBuf,
    /// `None` after a failure, until it is made again.
    pub(super) index: RwLock<Option<Arc<Index>>>,
    /// Segments that a reader found damaged, and what it found. The writer sets them aside.
    pub(super) damaged: Mutex<BTreeMap<u32, String>>,
}

impl Shared {
    pub(super) fn index(&self) -> Result<Arc<Index>, StoreError> {
        // A poisoned lock holds what it held: a pointer is replaced or it is not.
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.clone().ok_or(StoreError::IndexClosed)
    }

    pub(super) fn segment_path(&self, number: u32) -> PathBuf {
        self.folder.join(file_name(number))
    }
}

/// The segment that is being written.
pub(super) struct Current {
    pub(super) number: u32,
    /// Made with the first chunk.
    file: SegmentWriter,
    dictionary: Dictionary,
    chunks: u32,
    started_ns: u64,
    first_ns: u64,
    last_ns: u64,
}

/// A history on disk, open for writing.
///
/// Not for the sampling thread: a slow disk makes [`append`](Store::append) and [`flush`](Store::flush) wait.
pub struct Store {
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Limits,
    _lock: Lock,
    pub(super) clock: Clock,
    pub(super) current: Option<Current>,
    pub(super) segments: BTreeMap<u32, SegmentFacts>,
    pub(super) set_aside: Vec<SetAside>,
    /// Files that could not be removed or renamed.
    pub(super) stuck: BTreeSet<PathBuf>,
    pub(super) next_number: u32,
    unflushed: u32,
    /// Whether a segment was made whose name may not be on the disk yet.
    pub(super) folder_unsynced: bool,
    /// Segments of which the disk did not confirm all, also before this store was opened.
    pub(super) unconfirmed: BTreeSet<u32>,
    pub(super) counters: StoreCounters,
}

impl Store {
    /// Opens the history in `folder`, which is made if it is not there.
    ///
    /// What a killed writer left unfinished is cut off; files that are damaged or of another version are
    /// [set aside](Store::set_aside).
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it open; otherwise the file system's refusals.
    pub fn open(folder: &Path, limits: Limits) -> Result<Store, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io("make", folder))?;
        let lock = Lock::take(folder)?;
        let (index, remade) = Index::open(&folder.join(INDEX_FILE))?;
        let Recovered { segments, set_aside, stuck, cut_bytes, unconfirmed, syncs_failed, next_number } =
            recover(folder, &index)?;
        let new = set_aside.iter().filter(|file| !file.why.is_empty()).count() as u64;
        let shared =
            Shared { folder: folder.to_owned(), index: RwLock::new(Some(Arc::new(index))), damaged: Mutex::default() };
        let counters = StoreCounters {
            bytes_cut: cut_bytes,
            indexes_remade: u64::from(remade),
            set_aside: new,
            syncs_failed,
            removals_failed: stuck.len() as u64,
            ..StoreCounters::default()
        };
        let shared = Arc::new(shared);
        Ok(Store {
            shared,
            limits,
            _lock: lock,
            clock: Clock::start(),
            current: None,
            segments,
            set_aside,
            stuck,
            next_number,
            unflushed: 0,
            // The name of what a killed process made may not be on the disk.
            folder_unsynced: true,
            unconfirmed,
            counters,
        })
    }

    /// A reader, which goes on while this store writes; from any thread.
    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    /// Counts since the store was opened.
    pub fn counters(&self) -> StoreCounters {
        self.counters
    }

    /// Files that are damaged or of another version, with what to tell about them; those of earlier runs without a reason.
    pub fn set_aside(&self) -> &[SetAside] {
        &self.set_aside
    }

    /// Bytes of all files of the history.
    pub fn bytes(&self) -> u64 {
        let index = fs::metadata(self.shared.folder.join(INDEX_FILE)).map_or(0, |metadata| metadata.len());
        let segments: u64 = self.segments.values().map(|segment| segment.bytes).sum();
        let aside: u64 = self.set_aside.iter().map(|file| file.bytes).sum();
        index + segments + aside
    }

    /// Adds a batch to the history and removes what is beyond the limits. A killed process does not lose it any more; a
    /// machine without power loses what was not [flushed](Store::flush).
    ///
    /// # Errors
    /// The batch is then not in the history, which is counted, and the next one can be appended.
    pub fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.repair();
        let written = self.write(batch);
        match &written {
            Ok(()) => {
                self.counters.batches += 1;
                self.counters.samples += batch.samples.len() as u64;
            }
            Err(StoreError::Batch(_)) => {
                self.counters.batches_refused += 1;
                self.counters.samples_refused += batch.samples.len() as u64;
            }
            Err(_) => {
                self.counters.batches_failed += 1;
                self.counters.samples_failed += batch.samples.len() as u64;
            }
        }
        self.retain();
        self.unflushed += 1;
        if self.unflushed >= MOST_UNFLUSHED {
            // Nothing is lost by a failure while the machine has power, and it is counted.
            let _ = self.flush();
        }
        written
    }

    /// Waits until everything that was appended is on the disk.
    ///
    /// # Errors
    /// The disk or the index failed.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.unflushed = 0;
        // First what the index will point to.
        if let Some(current) = &self.current
            && let Err(error) = current.file.sync()
        {
            let number = current.number;
            self.note_unsynced(number);
            // Asked again the disk forgets that it failed. What comes now is not to stand behind a hole.
            self.current = None;
            return Err(error);
        }
        self.sync_folder()?;
        let index = self.shared.index()?;
        let flushed = index.flush();
        if flushed.is_err() {
            drop(index);
            self.close_index();
        }
        flushed
    }

    fn note_unsynced(&mut self, number: u32) {
        self.counters.syncs_failed += 1;
        self.unconfirmed.insert(number);
        // An index that can't take it is closed, and told when it is opened again.
        if let Ok(index) = self.shared.index()
            && index.doubt(number).is_err()
        {
            drop(index);
            self.close_index();
        }
    }

    /// Waits until the disk has the names of new segments: a file that is on it and has no name is lost with the power.
    fn sync_folder(&mut self) -> Result<(), StoreError> {
        if !self.folder_unsynced {
            return Ok(());
        }
        let folder = &self.shared.folder;
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            // Of a file system that knows no such thing there is nothing to wait for.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                self.counters.syncs_failed += 1;
                Err(StoreError::io("sync", folder)(error))
            }
            _ => {
                self.folder_unsynced = false;
                Ok(())
            }
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let facts = Facts {
            wall_start_ns: batch.wall_start_ns,
            monotonic_start_ns: batch.monotonic_start_ns,
            duration_ns: batch.duration_ns,
            period_ns: batch.period_ns,
            ledger: batch.ledger,
        };
        if self.current.as_ref().is_some_and(|current| self.is_full(current, &facts)) {
            self.end_segment();
        }
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let number = self.next_number;
                let none_left = || {
                    let why = io::Error::other("the last number is taken: move the folder's files away");
                    StoreError::io("number another segment in", &self.shared.folder)(why)
                };
                // Also if this fails: a number is never used again.
                self.next_number = number.checked_add(1).ok_or_else(none_left)?;
                let file = SegmentWriter::create(self.shared.segment_path(number))?;
                self.folder_unsynced = true;
                self.segments.insert(number, SegmentFacts { last_ns: 0, bytes: file.bytes });
                self.current.insert(Current {
                    number,
                    file,
                    dictionary: Dictionary::default(),
                    chunks: 0,
                    started_ns: facts.monotonic_start_ns,
                    first_ns: u64::MAX,
                    last_ns: 0,
                })
            }
        };
        let (mut samples, cut) = transfer(batch, &mut current.dictionary).map_err(StoreError::Batch)?;
        if current.dictionary.memory_when_read() > budget::MAX_DICTIONARY {
            return Err(StoreError::Batch(Malformed("a batch with more names and stacks than a segment may have")));
        }
        let (first_ns, last_ns) = columns::times(&facts, &samples);
        let sections = [
            &*columns::encode(&facts, &mut samples).map_err(StoreError::Batch)?,
            &*current.dictionary.unwritten(Part::Owners),
            &*current.dictionary.unwritten(Part::Shapes),
            &*current.dictionary.unwritten(Part::Exact),
        ];
        let (_, bytes) = chunk::encode(current.chunks, (first_ns, last_ns), sections).map_err(StoreError::Batch)?;
        let offset = current.file.bytes;
        current.file.append(&bytes)?;
        current.dictionary.mark_written();
        let number = current.chunks;
        current.chunks += 1;
        current.first_ns = current.first_ns.min(first_ns);
        current.last_ns = current.last_ns.max(last_ns);
        let times = (current.first_ns, current.last_ns);
        let segment = current.number;
        self.segments.insert(segment, SegmentFacts { last_ns: times.1, bytes: current.file.bytes });
        self.counters.bytes += bytes.len() as u64;
        self.counters.frames_cut += cut.frames;
        self.counters.texts_cut += cut.texts;

        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(StoreError::Batch(Malformed("no header")))?;
        let row = ChunkRow::new(offset, *header, &facts, &samples);
        let added = self.shared.index().and_then(|index| index.add(segment, number, &row, times));
        if added.is_err() {
            // The batch is in its segment, and comes into the index when that is made again.
            self.close_index();
        }
        Ok(())
    }

    fn is_full(&self, current: &Current, facts: &Facts) -> bool {
        facts.monotonic_start_ns.saturating_sub(current.started_ns) >= SEGMENT_NS
            || current.dictionary.memory() > MAX_DICTIONARY_BYTES
            || current.file.bytes > self.limits.bytes / SEGMENTS_IN_LIMIT
    }

    /// The next batch begins a new segment.
    pub(super) fn end_segment(&mut self) {
        if let Some(current) = self.current.take() {
            // What a disk does not take now is no reason to keep the segment open, and asked again it forgets that it failed.
            if current.file.sync().is_err() {
                self.note_unsynced(current.number);
            }
            // It is counted, and tried again with the next flush.
            let _ = self.sync_folder();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Best effort: opening makes good what is missing.
        let _ = self.flush();
        // Readers may live on; the next store of this folder must be able to open the index.
        *self.shared.index.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A batch's samples with the dictionary's numbers, and what is left out of it.
fn transfer(batch: &Batch, dictionary: &mut Dictionary) -> Result<(Vec<StoredSample>, Cut), Malformed> {
    let mut transfer = Transfer::new(batch);
    let mut samples = Vec::with_capacity(batch.samples.len());
    for sample in &batch.samples {
        let thread = Thread { process: sample.process.0, tid: sample.tid, name: sample.thread_name.0 };
        let thread = transfer.thread(dictionary, thread)?;
        let trace = transfer.trace(dictionary, sample)?;
        samples.push(StoredSample {
            time_ns: sample.time_ns,
            weight_ns: sample.weight_ns,
            cpu: sample.cpu,
            thread,
            trace,
        });
    }
    Ok((samples, transfer.cut))
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
