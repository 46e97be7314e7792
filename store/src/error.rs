//! What can go wrong with the history.

use std::path::{Path, PathBuf};

use super::bytes::Malformed;

/// Why the history can't be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process writes this history.
    #[error("the history in {} is in use by another everflame (pid {holder}): stop it, or choose another folder", path.display())]
    InUse {
        /// The history's folder.
        path: PathBuf,
        /// Its process id as it wrote it, or `unknown`.
        holder: String,
    },
    /// The file system refused.
    #[error("can't {doing} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The index refused.
    #[error(
        "the history's index failed: {0}. It is opened again with the next interval, or made again if it is damaged; what it needs is room \
         on the disk, and the right to write index.redb in the history's folder"
    )]
    Index(Box<redb::Error>),
    /// The index failed before and is not open again yet, or the store is closed.
    #[error("the history is closed, or its index failed (see the failure before) and is not open again yet")]
    IndexClosed,
    /// A batch that does not hold together or is beyond all limits: it is not stored.
    #[error("the batch can't be stored: {0}")]
    Batch(Malformed),
    /// A file of the history is damaged.
    #[error("{} is damaged at byte {offset}: {problem}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where the chunk begins.
        offset: u64,
        /// What is wrong.
        problem: Malformed,
    },
    /// Nobody waits for the answer any more.
    #[error("the question was given up")]
    GivenUp,
    /// A question that asks for too much.
    #[error("{0}")]
    Query(&'static str),
}

impl StoreError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { doing, path, source }
    }
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        StoreError::Index(Box::new(error.into()))
    }
}
