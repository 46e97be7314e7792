//! [`Executable`]: what is to be symbolized, and where its bytes and its debug files are.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::open_file::OpenFile;

/// Where the bytes of an executable are.
#[derive(Clone, Debug)]
pub enum Content {
    /// An open file. It stays readable when its path is gone or lies in another mount namespace.
    File(Arc<OpenFile>),
    /// An ELF image in memory: the vDSO.
    Bytes(Arc<[u8]>),
}

/// One executable identity, shared by all processes that map it.
#[derive(Clone, Debug)]
pub struct Executable {
    /// Unique for each identity in the agent: the memo's key.
    pub key: u64,
    /// The ELF file.
    pub content: Content,
    /// Path as the target process sees it: for `.gnu_debuglink`, `.dwp` files and messages.
    pub path: PathBuf,
    /// The target's root, an open directory (`O_PATH` is enough): debug files are looked up there first, then on the host. Open,
    /// because a path like `/proc/PID/root` is another container's once the pid is used again.
    pub root: Option<Arc<File>>,
}
