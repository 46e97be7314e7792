//! The roots of processes, held open: `/proc/PID/root` is nobody's once the process has ended, and another container's once its
//! pid is used again.
//!
//! Taken while the process lives, one descriptor for all that share a root. An open root keeps its file system mounted, so it is
//! held for known processes only; executables know it weakly.

use hashbrown::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// Most different roots at a time; each is a descriptor. Files of processes with another one are looked for in ours only.
pub(super) const MAX_ROOTS: usize = 1024;
/// How long the root of a process that nobody knows yet is held, ns: its records wait for their turn.
const KEEP_UNKNOWN_NS: u64 = 5_000_000_000;

/// Mount, device and inode: two mount namespaces may show different files below the same directory.
type RootKey = (u64, u32, u32, u64);

struct Taken {
    root: Arc<File>,
    taken_ns: u64,
}

/// See the module documentation.
pub(super) struct Roots {
    proc_root: PathBuf,
    by_pid: HashMap<u32, Taken>,
    open: HashMap<RootKey, Weak<File>>,
    refused: u64,
}

impl Roots {
    pub(super) fn new(proc_root: &Path) -> Roots {
        Roots { proc_root: proc_root.to_owned(), by_pid: HashMap::new(), open: HashMap::new(), refused: 0 }
    }

    /// The root of `pid`, opened if it is not known and the process still lives.
    pub(super) fn take(&mut self, pid: u32, now_ns: u64) -> Option<Arc<File>> {
        if let Some(known) = self.get(pid) {
            return Some(known);
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let path = self.proc_root.join(format!("{pid}/root"));
        let root = Arc::new(OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?);
        let key = key_of(&root)?;
        let root = match self.open.get(&key).and_then(Weak::upgrade) {
            Some(same) => same,
            None => {
                if self.open.len() >= MAX_ROOTS {
                    self.open.retain(|_, root| root.strong_count() > 0);
                }
                if self.open.len() >= MAX_ROOTS {
                    self.refused += 1;
                    return None;
                }
                self.open.insert(key, Arc::downgrade(&root));
                root
            }
        };
        self.by_pid.insert(pid, Taken { root: Arc::clone(&root), taken_ns: now_ns });
        Some(root)
    }

    /// The root of `pid`, if it is known.
    pub(super) fn get(&self, pid: u32) -> Option<Arc<File>> {
        self.by_pid.get(&pid).map(|taken| Arc::clone(&taken.root))
    }

    /// A process was made or runs another program: what was its root may not be so any more.
    pub(super) fn moved(&mut self, pid: u32) {
        self.by_pid.remove(&pid);
    }

    /// Lets go of the roots of processes that are not known.
    pub(super) fn forget(&mut self, now_ns: u64, is_known: impl Fn(u32) -> bool) {
        self.by_pid.retain(|pid, taken| is_known(*pid) || now_ns.saturating_sub(taken.taken_ns) < KEEP_UNKNOWN_NS);
        self.open.retain(|_, root| root.strong_count() > 0);
    }

    /// Roots that found no room.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }
}

/// Asked of the kernel only, never of the file system, which may not answer (`AT_STATX_DONT_SYNC`).
fn key_of(root: &File) -> Option<RootKey> {
    // SAFETY: an all-zero statx is a valid value.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let wanted = libc::STATX_INO | libc::STATX_MNT_ID;
    // SAFETY: an empty C string, our own descriptor, and room for the answer.
    let result = unsafe { libc::statx(root.as_raw_fd(), c"".as_ptr(), flags, wanted, &mut found) };
    (result == 0).then_some((found.stx_mnt_id, found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}

/// Opens a file inside a root for reading; links on the way stay inside, and none is followed in the last place.
pub(super) fn open_inside(root: &File, path: &str) -> io::Result<File> {
    let path = std::ffi::CString::new(path)?;
    // SAFETY: an all-zero open_how is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path is NUL-terminated and `how` is as large as it is said to be.
    let descriptor = unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(descriptor as i32) })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// A `/proc` in which processes 5 and 6 have one root and 7 another.
    fn proc_root() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for root in ["one", "two"] {
            std::fs::create_dir(directory.path().join(root)).unwrap();
            std::fs::write(directory.path().join(root).join("file"), root).unwrap();
        }
        for (pid, root) in [(5, "one"), (6, "one"), (7, "two")] {
            std::fs::create_dir(directory.path().join(pid.to_string())).unwrap();
            let link = directory.path().join(format!("{pid}/root"));
            std::os::unix::fs::symlink(directory.path().join(root), link).unwrap();
        }
        directory
    }

    fn content(root: &File, path: &str) -> String {
        let mut text = String::new();
        open_inside(root, path).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_root_serves_all_that_share_it_also_when_they_have_ended_and_goes_with_the_last() {
        let directory = proc_root();
        let mut roots = Roots::new(directory.path());
        let one = roots.take(5, 0).unwrap();
        assert!(Arc::ptr_eq(&one, &roots.take(6, 0).unwrap()));
        assert!(!Arc::ptr_eq(&one, &roots.take(7, 0).unwrap()));
        for pid in [5, 6, 7] {
            std::fs::remove_dir_all(directory.path().join(pid.to_string())).unwrap();
        }
        assert_eq!(content(&roots.take(5, 0).unwrap(), "/file"), "one");
        assert!(roots.take(8, 0).is_none());
        roots.moved(5);
        assert!(roots.take(5, 0).is_none(), "what it has now nobody knows");
        drop(one);
        roots.forget(KEEP_UNKNOWN_NS, |pid| pid == 7);
        assert_eq!((roots.get(6).is_some(), roots.get(7).is_some(), roots.open.len()), (false, true, 1));
    }

    #[test]
    fn links_inside_a_root_stay_inside() {
        let directory = proc_root();
        std::os::unix::fs::symlink("/", directory.path().join("two/up")).unwrap();
        std::os::unix::fs::symlink("file", directory.path().join("two/link")).unwrap();
        let root = Roots::new(directory.path()).take(7, 0).unwrap();
        assert_eq!(content(&root, "/up/../up/file"), "two");
        assert!(open_inside(&root, "/link").is_err(), "no link in the last place");
    }
}
