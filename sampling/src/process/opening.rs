//! Opening the very file that a process has mapped.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use super::identity::{FileKey, Header, read_header};
use super::mappings::Mapping;
use super::roots::open_inside;

/// A file that was found to be the mapped one. On the engine's thread only [`super::closing`] may let go of one that a worker
/// has opened.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) file: File,
    pub(super) key: FileKey,
}

/// What came of looking for a file wherever it may be.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// With what its head tells, if it is ELF.
    pub(super) opened: Option<(OpenedFile, Option<Header>)>,
    /// Other files at its path.
    pub(super) replaced: u64,
}

/// Through `map_files`, which reaches deleted files and other mount namespaces, as long as the process lives.
pub(super) fn open_mapped(proc_root: &Path, pid: u32, mapping: &Mapping) -> Option<OpenedFile> {
    let through = proc_root.join(format!("{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end));
    let (file, key) = open_regular(&through, 0)?;
    Some(OpenedFile { file, key })
}

/// Through `map_files`; when the process is gone, by path in its root, its relatives' and ours, and then only if the inode is
///  the one that was mapped. May wait as long as a file system likes: for workers only.
pub(super) fn look_for(proc_root: &Path, pid: u32, roots: &[Arc<File>], mapping: &Mapping) -> Found {
    let mut replaced = 0;
    let opened =
        open_mapped(proc_root, pid, mapping).or_else(|| open_by_path(roots, mapping, &mut replaced)).map(|opened| {
            let header = read_header(&opened.file, opened.key.size());
            (opened, header)
        });
    Found { opened, replaced }
}

fn open_by_path(roots: &[Arc<File>], mapping: &Mapping, replaced: &mut u64) -> Option<OpenedFile> {
    if !mapping.path.starts_with('/') {
        return None;
    }
    let inside = roots.iter().filter_map(|root| regular(open_inside(root, &mapping.path).ok()?));
    let ours = std::iter::once_with(|| open_regular(Path::new(&*mapping.path), libc::O_NOFOLLOW)).flatten();
    for (file, key) in inside.chain(ours) {
        if mapping.inode == 0 || key.inode() == mapping.inode {
            return Some(OpenedFile { file, key });
        }
        *replaced += 1;
    }
    None
}

/// Opens a regular file without ever blocking on a FIFO or a device.
pub(super) fn open_regular(path: &Path, flags: i32) -> Option<(File, FileKey)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY | flags)
        .open(path)
        .ok()?;
    regular(file)
}

fn regular(file: File) -> Option<(File, FileKey)> {
    let meta = file.metadata().ok()?;
    if !meta.is_file() {
        return None;
    }
    let key = FileKey::of(&file).ok()?;
    Some((file, key))
}
