//! The history as a consumer of named batches: a thread of its own appends them, so that a slow disk holds nothing up but itself.
//!
//! A disk that is full or can't be written, and a history that can't be opened, are one line in the log and a counter; it is tried
//! again with each batch, and sampling goes on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use store::{Limits, Reader, Store, StoreCounters, StoreError};

use super::NamedBatch;
use super::naming::Consume;
use crate::latency::Latency;

/// Batches that may wait for the disk: a busy node's have a few MB each.
const WAITING: usize = 4;

/// Batches between two waits for the disk: a machine without power loses a minute at most. One takes some 10 ms.
const FLUSH_AFTER: u64 = 6;

/// What is known of the history at one moment.
#[derive(Clone, Default)]
struct Seen {
    reader: Option<Reader>,
    counters: StoreCounters,
    bytes: u64,
    /// Batches that the thread was too late for, and their samples.
    behind: (u64, u64),
    /// Batches that came while it could not be opened, and their samples.
    unopened: (u64, u64),
    /// Why it is not written, while it is not.
    trouble: Option<String>,
    notes: Vec<String>,
}

/// The history as others see it; cheap to clone.
#[derive(Clone, Default)]
pub struct History {
    seen: Arc<Mutex<Seen>>,
    writing: Arc<Latency>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("History")
    }
}

impl History {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To ask; `None` while it can't be opened.
    pub fn reader(&self) -> Option<Reader> {
        self.seen().reader.clone()
    }

    /// What the store counted. What came while there was none to count it has failed as well.
    pub fn counters(&self) -> StoreCounters {
        let seen = self.seen();
        let (batches, samples) = seen.unopened;
        StoreCounters {
            batches_failed: seen.counters.batches_failed + batches,
            samples_failed: seen.counters.samples_failed + samples,
            ..seen.counters
        }
    }

    /// Batches that the disk was too slow for, and the samples in them.
    pub fn behind(&self) -> (u64, u64) {
        self.seen().behind
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.seen().bytes
    }

    /// How long the disk takes for a batch, with the wait for what is not on it yet.
    pub fn writing(&self) -> &Latency {
        &self.writing
    }

    /// What makes it incomplete, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let seen = self.seen();
        seen.trouble.iter().chain(&seen.notes).cloned().collect()
    }

    /// Whether it is not written now.
    pub fn is_troubled(&self) -> bool {
        self.seen().trouble.is_some()
    }

    /// Adds a sentence to the notes.
    pub fn note(&self, sentence: String) {
        self.seen().notes.push(sentence);
    }
}

/// See the module documentation.
pub struct Keeper {
    batches: Option<SyncSender<NamedBatch>>,
    thread: Option<JoinHandle<()>>,
    history: History,
}

impl Keeper {
    /// Opens the history in `folder`, or says why not and goes on trying.
    ///
    /// # Errors
    /// Another process writes it, or no thread can be started.
    pub fn start(folder: &Path, limits: Limits) -> Result<(Keeper, History), StoreError> {
        let history = History::default();
        let mut writer = Writer {
            folder: folder.to_owned(),
            limits,
            store: None,
            history: history.clone(),
            told: BTreeSet::new(),
            troubled: false,
        };
        if let Err(error) = writer.open() {
            if matches!(error, StoreError::InUse { .. }) {
                return Err(error);
            }
            writer.trouble(&error);
        }
        let (sender, batches) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("everflame-store".into())
            .spawn(move || writer.run(&batches))
            .map_err(|source| StoreError::Io { doing: "start a thread for", path: folder.to_owned(), source })?;
        Ok((Keeper { batches: Some(sender), thread: Some(thread), history: history.clone() }, history))
    }
}

impl Consume for Keeper {
    fn take(&mut self, batch: &NamedBatch) {
        let Some(batches) = &self.batches else { return };
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) = batches.try_send(Arc::clone(batch))
        {
            let samples = batch.samples.len() as u64;
            let mut seen = self.history.seen();
            seen.behind.0 += 1;
            seen.behind.1 += samples;
            drop(seen);
            tracing::warn!(samples, "an interval does not get into the history: the disk is too slow");
        }
    }

    fn finish(&mut self) {
        // The thread writes what waits, then ends.
        self.batches = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the history's thread panicked");
        }
    }
}

/// The thread's side.
struct Writer {
    folder: PathBuf,
    limits: Limits,
    store: Option<Store>,
    history: History,
    /// Of the store's list, those that were told.
    told: BTreeSet<PathBuf>,
    troubled: bool,
}

impl Writer {
    fn run(mut self, batches: &Receiver<NamedBatch>) {
        for (number, batch) in (1_u64..).zip(batches) {
            let began = Instant::now();
            match self.write(&batch) {
                Ok(()) if self.troubled => {
                    self.troubled = false;
                    self.history.seen().trouble = None;
                    tracing::info!("the history is written again");
                }
                Ok(()) => {}
                Err(error) => self.trouble(&error),
            }
            if number % FLUSH_AFTER == 0
                && let Some(store) = &mut self.store
                && let Err(error) = store.flush()
            {
                self.trouble(&error);
            }
            self.history.writing.took(began.elapsed());
            self.tell();
        }
        if let Some(store) = &mut self.store
            && let Err(error) = store.flush()
        {
            tracing::warn!("the history's end may not be on the disk: {error}");
        }
        self.history.seen().reader = None;
    }

    fn write(&mut self, batch: &NamedBatch) -> Result<(), StoreError> {
        if self.store.is_none()
            && let Err(error) = self.open()
        {
            let mut seen = self.history.seen();
            seen.unopened.0 += 1;
            seen.unopened.1 += batch.samples.len() as u64;
            return Err(error);
        }
        self.store.as_mut().map_or(Ok(()), |store| store.append(batch))
    }

    fn open(&mut self) -> Result<(), StoreError> {
        let store = Store::open(&self.folder, self.limits)?;
        self.history.seen().reader = Some(store.reader());
        self.store = Some(store);
        self.tell();
        Ok(())
    }

    /// One line at the first of several.
    fn trouble(&mut self, error: &StoreError) {
        self.history.seen().trouble = Some(format!("The history is not written: {error}."));
        if !self.troubled {
            tracing::warn!("the history is not written; sampling goes on, and it is tried again: {error}");
        }
        self.troubled = true;
    }

    /// Lets others see what there is.
    fn tell(&mut self) {
        let Some(store) = &self.store else { return };
        // By name, since an older one may be removed when a new one comes.
        let told = std::mem::take(&mut self.told);
        for file in store.set_aside().iter().filter(|file| !file.why.is_empty()) {
            self.told.insert(file.path.clone());
            if told.contains(&file.path) {
                continue;
            }
            let (path, why) = (file.path.display(), &file.why);
            tracing::warn!("a piece of the history is set aside as {path}: {why}");
            self.history.note(format!("A piece of the history is set aside: {why}."));
        }
        let (counters, bytes) = (store.counters(), store.bytes());
        let mut seen = self.history.seen();
        seen.counters = counters;
        seen.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::profile::BatchBuilder;

    fn batch() -> NamedBatch {
        Arc::new(BatchBuilder::new().finish(10, Ledger { due: 1, ..Ledger::default() }))
    }

    #[test]
    fn batches_are_in_the_history_when_the_end_has_come() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, history) = Keeper::start(folder.path(), Limits::default()).unwrap();
        assert!(history.reader().is_some());
        for _ in 0..3 {
            keeper.take(&batch());
        }
        keeper.finish();
        let (counted, behind) = (history.counters().batches, history.behind().0);
        assert_eq!((counted, behind, history.writing().times().count), (3, 0, 3));
        assert!(history.reader().is_none() && history.notes().is_empty() && history.bytes() > 0);
        let (mut again, history) = Keeper::start(folder.path(), Limits::default()).unwrap();
        assert_eq!(history.counters().batches, 0);
        let mut found = 0;
        history.reader().unwrap().batches(0, u64::MAX, |_| found += 1).unwrap();
        assert_eq!(found, 3);
        again.finish();
    }

    #[test]
    fn a_second_agent_is_refused_and_a_place_that_can_t_be_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let (_keeper, _) = Keeper::start(folder.path(), Limits::default()).unwrap();
        let refused = Keeper::start(folder.path(), Limits::default()).err().unwrap();
        assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");

        let place = folder.path().join("a-file");
        std::fs::write(&place, "").unwrap();
        let (mut keeper, history) = Keeper::start(&place, Limits::default()).unwrap();
        assert!(history.reader().is_none());
        let notes = history.notes();
        assert!(notes.len() == 1 && notes[0].starts_with("The history is not written: can't make "), "{notes:?}");
        keeper.take(&batch());
        keeper.take(&batch());
        keeper.finish();
        // What it could not take is counted.
        assert_eq!((history.counters().batches, history.counters().batches_failed), (0, 2));
        assert_eq!(history.notes().len(), 1);

        let (mut keeper, history) = Keeper::start(&place, Limits::default()).unwrap();
        std::fs::remove_file(&place).unwrap();
        keeper.take(&batch());
        keeper.finish();
        assert_eq!(history.notes(), Vec::<String>::new());
        assert_eq!((history.counters().batches, history.counters().batches_failed), (1, 0));
    }

    #[test]
    fn damaged_pieces_are_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("00000000.segment"), "this is no segment").unwrap();
        let (mut keeper, history) = Keeper::start(folder.path(), Limits::default()).unwrap();
        keeper.finish();
        let notes = history.notes();
        assert!(notes.len() == 1 && notes[0].starts_with("A piece of the history is set aside: "), "{notes:?}");
        assert_eq!(history.counters().set_aside, 1);
    }

    #[test]
    fn a_piece_is_told_when_another_one_is_removed_with_the_same_batch() {
        let folder = tempfile::tempdir().unwrap();
        Store::open(folder.path(), Limits::default()).unwrap().append(&batch()).unwrap();
        // Of an earlier run, and so long that there is no room for it.
        let former = folder.path().join("00000007.segment.set-aside");
        std::fs::File::create(&former).unwrap().set_len(64 << 20).unwrap();
        let limits = Limits { bytes: 32 << 20, ..Limits::default() };
        let (mut keeper, history) = Keeper::start(folder.path(), limits).unwrap();
        let segment = folder.path().join("00000000.segment");
        let mut bytes = std::fs::read(&segment).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        assert_eq!(history.reader().unwrap().batches(0, u64::MAX, |_| ()).unwrap().damaged_segments, 1);
        keeper.take(&batch());
        keeper.finish();
        assert!(!former.exists());
        let notes = history.notes();
        assert!(notes.len() == 1 && notes[0].starts_with("A piece of the history is set aside: "), "{notes:?}");
    }
}
