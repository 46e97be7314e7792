//! What can go wrong with a spool as a whole; damage inside it is counted, see [`super::Losses`].

use std::io;
use std::path::PathBuf;

/// What the spool could not do, and where.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process has it.
    #[error("the spool {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It can't be opened.
    #[error("can't open the spool {}: {source}", path.display())]
    Open {
        /// A file or folder of it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It can't be written, for want of space as a rule.
    #[error("can't write the spool {}: {source}", path.display())]
    Write {
        /// A file or folder of it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It can't be read.
    #[error("can't read the spool {}: {source}", path.display())]
    Read {
        /// A file of it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// One message is more than the whole spool may hold, or than a record can.
    #[error("a message of {bytes} bytes does not fit into the spool {}", path.display())]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// Bytes of its body.
        bytes: usize,
    },
}
