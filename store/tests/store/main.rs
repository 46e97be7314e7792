//! The history: what goes in comes out, whatever happens in between.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails here")]

mod ahead;
mod batches;
mod crash;
mod crowd;
mod damage;
mod disk;
mod edit;
mod functions;
mod hostile;
mod limits;
mod oracle;
mod removal;
mod round_trip;

use std::path::Path;

use profiles::profile::Batch;
use store::{Limits, Reader, Skipped, Store};

/// No limits that a test would meet.
pub(crate) fn open(folder: &Path) -> Store {
    Store::open(folder, Limits::default()).unwrap()
}

/// Everything that is in the history.
pub(crate) fn all(reader: &Reader) -> (Vec<Batch>, Skipped) {
    let mut batches = Vec::new();
    let skipped = reader.batches(0, u64::MAX, |batch| batches.push(batch)).unwrap();
    (batches, skipped)
}

/// A folder in memory where there is such a thing: for tests that open hundreds of histories, each with its waits for the disk.
pub(crate) fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Whether the long forms of tests are wanted.
pub(crate) fn long() -> bool {
    std::env::var_os("EVERFLAME_LONG").is_some()
}

/// Checks that the history is these batches, in words.
#[track_caller]
pub(crate) fn assert_holds(reader: &Reader, expected: &[Batch]) {
    let (found, skipped) = all(reader);
    assert_eq!(skipped, Skipped::default());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(batches::plain(found), batches::plain(expected));
    }
}

/// The segments' files, oldest first.
pub(crate) fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|suffix| suffix == "segment")).collect();
    files.sort();
    files
}
