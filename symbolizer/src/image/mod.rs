//! [`Image`]: the bytes of an ELF file.
//!
//! Files are mapped, not read: debug information of a gigabyte costs only the pages that are looked at. A file that shrinks
//! under a mapping would kill the agent with SIGBUS; [`guard`] turns that into zero pages and a mark. Contents may also change
//! under us: all parsers check bounds on every access, so that is a wrong name at worst.

mod guard;

use std::fs::File;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::executable::Content;
use crate::limits::MAX_READ;

pub use guard::{GuardedMapping, replaced_pages};

/// Why a file's bytes can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("stat: {0}")]
    Stat(std::io::Error),
    #[error("not a regular file")]
    NotRegular,
    #[error("map: {0}")]
    Map(std::io::Error),
    #[error("read: {0}")]
    Read(std::io::Error),
}

/// The bytes of a file, mapped or in memory.
#[derive(Debug)]
pub(crate) enum Image {
    Mapped(GuardedMapping),
    Memory(Arc<[u8]>),
}

impl Image {
    /// The bytes of `content`.
    pub(crate) fn of(content: &Content) -> Result<Self, ImageError> {
        match content {
            Content::File(file) => Self::map(file),
            Content::Bytes(bytes) => Ok(Self::Memory(bytes.clone())),
        }
    }

    /// Maps `file`; reads it if its file system can't map and it is small.
    pub(crate) fn map(file: &File) -> Result<Self, ImageError> {
        let metadata = file.metadata().map_err(ImageError::Stat)?;
        if !metadata.is_file() {
            return Err(ImageError::NotRegular);
        }
        if metadata.len() == 0 {
            return Ok(Self::Memory(Arc::from([].as_slice())));
        }
        match GuardedMapping::map(file, metadata.len()) {
            Ok(mapped) => Ok(Self::Mapped(mapped)),
            Err(_) if metadata.len() <= MAX_READ => {
                let mut bytes = vec![0; metadata.len() as usize];
                file.read_exact_at(&mut bytes, 0).map_err(ImageError::Read)?;
                Ok(Self::Memory(bytes.into()))
            }
            Err(error) => Err(ImageError::Map(error)),
        }
    }

    /// Whether a page turned out to lie beyond the file's end: what was read since is not to be trusted.
    pub(crate) fn damaged(&self) -> bool {
        match self {
            Image::Mapped(mapped) => mapped.damaged(),
            Image::Memory(_) => false,
        }
    }

    /// Gives the touched pages back (they stay in the page cache): between batches, mapped files cost no resident memory.
    pub(crate) fn release(&self) {
        if let Image::Mapped(mapped) = self {
            mapped.release();
        }
    }
}

impl Deref for Image {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Image::Mapped(mapped) => mapped,
            Image::Memory(bytes) => bytes,
        }
    }
}
