//! Opening files inside another process's root without leaving it.
//!
//! Paths and symbolic links there belong to the target: `openat2` with `RESOLVE_IN_ROOT` lets the kernel treat the directory as
//! `/`, so that no link leads out (Linux 5.6). Without it nothing is opened there. Only regular files are opened at all: the
//! first open is `O_PATH`, which has no effect on devices and pipes.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// A directory that stands for `/`.
#[derive(Debug)]
pub(crate) struct Root(Arc<File>);

/// What came of opening a path.
#[derive(Debug)]
pub(crate) enum Open {
    Found(File),
    Absent,
    /// The kernel has no `openat2`.
    Unsupported,
}

impl Root {
    /// A directory that is open already.
    pub(crate) fn of(directory: impl Into<Arc<File>>) -> Self {
        Self(directory.into())
    }

    /// The regular file at `path` inside the root.
    pub(crate) fn file(&self, path: &Path) -> Open {
        self.open_path(path, 0)
    }

    /// The same, but a link in the last place is not followed (and then is no regular file).
    pub(crate) fn file_without_final_link(&self, path: &Path) -> Open {
        self.open_path(path, libc::O_NOFOLLOW)
    }

    fn open_path(&self, path: &Path, flags: libc::c_int) -> Open {
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Open::Absent };
        // SAFETY: an all-zero open_how is a valid value.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = (libc::O_PATH | libc::O_CLOEXEC | flags) as u64;
        how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        // SAFETY: the path is NUL-terminated and `how` is as large as it is said to be.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                self.0.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if descriptor < 0 {
            return match io::Error::last_os_error().raw_os_error() {
                Some(libc::ENOSYS | libc::E2BIG | libc::EINVAL) => Open::Unsupported,
                _ => Open::Absent,
            };
        }
        // SAFETY: the system call gave us this descriptor.
        let place = File::from(unsafe { OwnedFd::from_raw_fd(descriptor as i32) });
        reopen(&place).map_or(Open::Absent, Open::Found)
    }
}

/// The regular file at an absolute path on the host.
pub(crate) fn host_file(path: &Path) -> Option<File> {
    if !path.is_absolute() {
        return None;
    }
    let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path).ok()?;
    reopen(&place)
}

/// A readable handle of what an `O_PATH` handle names, if it is a regular file.
fn reopen(place: &File) -> Option<File> {
    place.metadata().ok().filter(std::fs::Metadata::is_file)?;
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(open: Open) -> Option<String> {
        match open {
            Open::Found(mut file) => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                Some(text)
            }
            Open::Absent => None,
            Open::Unsupported => panic!("this kernel has no openat2"),
        }
    }

    #[test]
    fn links_do_not_lead_out_of_the_root() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/own"), "own").unwrap();
        symlink("/etc/own", root.join("absolute")).unwrap();
        symlink("../../../../secret", root.join("etc/relative")).unwrap();
        symlink(outside.path().join("secret"), root.join("etc/full")).unwrap();

        let opened = Root::of(File::open(&root).unwrap());
        for (path, expected) in [
            ("/etc/own", Some("own")),
            ("/absolute", Some("own")),
            ("/../../etc/own", Some("own")),
            ("/etc/relative", None),
            ("/etc/full", None),
            ("/../secret", None),
            ("/etc", None),
            ("/absent", None),
        ] {
            assert_eq!(read(opened.file(Path::new(path))).as_deref(), expected, "{path}");
        }
    }
}
