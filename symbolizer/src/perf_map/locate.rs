//! Opening a process's perf map: inside its own root, under the pid that it has there.
//!
//! Anybody may put a file into `/tmp`: only a regular file that belongs to the process's user or to root is believed, the last
//! component is never a link, and no link on the way leads out of the process's root.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::debug_file::{Open, Root};

/// Why there is no perf map.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The process has none, or is gone.
    #[error("no perf map")]
    Absent,
    /// `/proc/PID/status` can't be read or lacks a line.
    #[error("status of process {0}")]
    Status(u32),
    /// The file belongs to somebody else.
    #[error("perf map belongs to user {0}")]
    Owner(u32),
    /// The file is larger than the limit.
    #[error("perf map of {0} bytes")]
    TooLarge(u64),
    /// The kernel can't resolve paths inside a root (`openat2`, Linux 5.6).
    #[error("openat2 is not supported")]
    Unsupported,
    /// Reading failed.
    #[error("read: {0}")]
    Read(#[from] io::Error),
}

/// What `/proc/PID/status` says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status {
    /// The pid in the innermost namespace.
    inner_pid: u32,
    /// The effective user.
    user: u32,
}

fn parse_status(text: &str) -> Option<Status> {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let inner_pid = line("NStgid:").or_else(|| line("NSpid:")).or_else(|| line("Pid:"))?;
    Some(Status {
        inner_pid: inner_pid.split_ascii_whitespace().last()?.parse().ok()?,
        user: line("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
    })
}

/// An opened perf map.
#[derive(Debug)]
pub struct PerfMapFile {
    file: File,
    /// Path inside the process's root.
    pub path: PathBuf,
    /// Size in bytes when opened: a map that did not grow need not be read again.
    pub size: u64,
    /// Inode: a map that was replaced has another.
    pub inode: u64,
}

/// Where a process looks for its perf map, and whose it must be. Known once, it serves after the process has ended.
#[derive(Clone, Debug)]
pub struct Place {
    root: Arc<File>,
    status: Status,
}

impl Place {
    /// Of the live process `pid`; `proc_root` is `/proc`, or where the host's is mounted.
    ///
    /// # Errors
    /// [`LocateError::Status`] if it is gone, [`LocateError::Absent`] if its root can't be opened.
    pub fn of(proc_root: &Path, pid: u32) -> Result<Place, LocateError> {
        let status = status_of(proc_root, pid)?;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let root = OpenOptions::new().read(true).custom_flags(flags).open(proc_root.join(format!("{pid}/root")));
        Ok(Place { root: root.map_err(|_| LocateError::Absent)?.into(), status })
    }

    /// The same for a process whose root is open already: opening it may wait for a server that does not answer.
    ///
    /// # Errors
    /// [`LocateError::Status`] if the process is gone.
    pub fn below(root: Arc<File>, proc_root: &Path, pid: u32) -> Result<Place, LocateError> {
        Ok(Place { root, status: status_of(proc_root, pid)? })
    }

    /// Opens the perf map.
    ///
    /// # Errors
    /// See [`LocateError`]; [`LocateError::Absent`] is the normal case.
    pub fn open(&self, max_bytes: u64) -> Result<PerfMapFile, LocateError> {
        let path = PathBuf::from(format!("/tmp/perf-{}.map", self.status.inner_pid));
        let file = match Root::of(Arc::clone(&self.root)).file_without_final_link(&path) {
            Open::Found(file) => file,
            Open::Absent => return Err(LocateError::Absent),
            Open::Unsupported => return Err(LocateError::Unsupported),
        };
        let metadata = file.metadata()?;
        if metadata.uid() != self.status.user && metadata.uid() != 0 {
            return Err(LocateError::Owner(metadata.uid()));
        }
        if metadata.len() > max_bytes {
            return Err(LocateError::TooLarge(metadata.len()));
        }
        Ok(PerfMapFile { file, path, size: metadata.len(), inode: metadata.ino() })
    }
}

fn status_of(proc_root: &Path, pid: u32) -> Result<Status, LocateError> {
    let text = std::fs::read_to_string(proc_root.join(format!("{pid}/status")));
    parse_status(&text.map_err(|_| LocateError::Status(pid))?).ok_or(LocateError::Status(pid))
}

/// Opens the perf map of the live process `pid`.
///
/// # Errors
/// See [`LocateError`]; [`LocateError::Absent`] is the normal case.
pub fn open(proc_root: &Path, pid: u32, max_bytes: u64) -> Result<PerfMapFile, LocateError> {
    Place::of(proc_root, pid)?.open(max_bytes)
}

impl PerfMapFile {
    /// The bytes, as many as there were when it was opened.
    ///
    /// # Errors
    /// When reading fails.
    pub fn read(&mut self) -> Result<Vec<u8>, LocateError> {
        let mut bytes = Vec::new();
        (&mut self.file).take(self.size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_pid_is_the_one_inside_and_the_user_the_effective_one() {
        let text = "Name:\tx\nPid:\t700\nUid:\t1000\t1001\t1000\t1000\nNStgid:\t700\t12\nNSpid:\t700\t12\n";
        assert_eq!(parse_status(text), Some(Status { inner_pid: 12, user: 1001 }));
        assert_eq!(parse_status("Pid:\t700\nUid:\t0\t0\t0\t0\n"), Some(Status { inner_pid: 700, user: 0 }));
        assert_eq!(parse_status("Pid:\t700\n"), None);
    }

    /// A made-up `/proc` with one process of our own user whose root is a directory.
    fn process(inner_pid: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let user = std::fs::metadata(directory.path()).unwrap().uid();
        let process = directory.path().join("700");
        let root = process.join("root");
        std::fs::create_dir_all(root.join("tmp")).unwrap();
        let status = format!("Pid:\t700\nUid:\t{user}\t{user}\t{user}\t{user}\nNStgid:\t700\t{inner_pid}\n");
        std::fs::write(process.join("status"), status).unwrap();
        (directory, root)
    }

    #[test]
    fn the_map_inside_the_root_is_read() {
        let (proc_root, root) = process(12);
        std::fs::write(root.join("tmp/perf-12.map"), "10 10 f\n").unwrap();
        let mut file = open(proc_root.path(), 700, 100).unwrap();
        assert_eq!((file.size, file.read().unwrap()), (8, b"10 10 f\n".to_vec()));
        assert!(matches!(open(proc_root.path(), 700, 7), Err(LocateError::TooLarge(8))));
        assert!(matches!(open(proc_root.path(), 701, 100), Err(LocateError::Status(701))));
    }

    #[test]
    fn a_place_that_is_known_serves_when_the_process_has_ended() {
        let (proc_root, root) = process(12);
        std::fs::write(root.join("tmp/perf-12.map"), "10 10 f\n").unwrap();
        let place = Place::of(proc_root.path(), 700).unwrap();
        std::fs::rename(&root, proc_root.path().join("elsewhere")).unwrap();
        std::fs::remove_dir_all(proc_root.path().join("700")).unwrap();
        assert!(matches!(open(proc_root.path(), 700, 100), Err(LocateError::Status(700))));
        assert_eq!(place.open(100).unwrap().read().unwrap(), b"10 10 f\n");
    }

    #[test]
    fn links_pipes_and_directories_are_no_maps() {
        let (proc_root, root) = process(12);
        let path = root.join("tmp/perf-12.map");
        std::fs::write(root.join("tmp/target"), "10 10 f\n").unwrap();
        symlink("/tmp/target", &path).unwrap();
        assert!(matches!(open(proc_root.path(), 700, 100), Err(LocateError::Absent)));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(open(proc_root.path(), 700, 100), Err(LocateError::Absent)));
    }
}
