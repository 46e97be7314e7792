//! Opening files inside another process's root without leaving it.
//!
//! Paths and symbolic links there belong to the target: `openat2` with `RESOLVE_IN_ROOT` lets the kernel treat the directory as
//! `/`, so that no link leads out (Linux 5.6). Without it nothing is opened there. Only regular files are opened at all: the
//! first open is `O_PATH`, which has no effect on devices and pipes.
//!
//! A root is on a device that answers, but what is mounted below may not be, and a path may lead anywhere. So the thread says
//! what it is at ([`Watch`]): the search until the file is found, then the file's device if it is not the root's.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::silence::Origin;
use crate::watch::Watch;

/// Which directory one is; two mount namespaces may show different files below the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Directory {
    mount: u64,
    device: (u32, u32),
    inode: u64,
}

impl Directory {
    /// Of an open file or directory. Asked of the kernel only, never of the file system, which may not answer
    /// (`AT_STATX_DONT_SYNC`).
    pub(crate) fn of(file: &File) -> Self {
        Self::at(file.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
    }

    fn of_host() -> Self {
        Self::at(libc::AT_FDCWD, c"/", 0)
    }

    fn at(directory: libc::c_int, path: &CStr, flags: libc::c_int) -> Self {
        // SAFETY: an all-zero statx is a valid value.
        let mut found: libc::statx = unsafe { std::mem::zeroed() };
        let (flags, wanted) = (flags | libc::AT_STATX_DONT_SYNC, libc::STATX_INO | libc::STATX_MNT_ID);
        // SAFETY: a C string, and room for the answer; where there is none, it stays zero.
        unsafe { libc::statx(directory, path.as_ptr(), flags, wanted, &mut found) };
        Self { mount: found.stx_mnt_id, device: (found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino }
    }
}

/// A directory that stands for `/`.
#[derive(Debug)]
pub(crate) struct Root {
    directory: Arc<File>,
    which: Directory,
}

/// What came of opening a path.
#[derive(Debug)]
pub(crate) enum Open {
    Found(File),
    Absent,
    /// The kernel has no `openat2`.
    Unsupported,
    /// The way there or the file's device did not answer a short time ago.
    Silent,
}

impl Root {
    /// A directory that is open already.
    pub(crate) fn of(directory: impl Into<Arc<File>>) -> Self {
        let directory = directory.into();
        Self { which: Directory::of(&directory), directory }
    }

    /// The regular file at `path` inside the root.
    pub(crate) fn file(&self, path: &Path, watch: &Watch) -> Open {
        self.open_path(path, 0, Origin::DebugFiles(Some(self.which)), watch)
    }

    /// The same for a perf map: a link in the last place is not followed (and then is no regular file).
    pub(crate) fn perf_map(&self, path: &Path, watch: &Watch) -> Open {
        self.open_path(path, libc::O_NOFOLLOW, Origin::PerfMaps(self.which), watch)
    }

    fn open_path(&self, path: &Path, flags: libc::c_int, search: Origin, watch: &Watch) -> Open {
        let before = watch.origin();
        if watch.leaves_alone(search) {
            return Open::Silent;
        }
        watch.at(search);
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Open::Absent };
        // SAFETY: an all-zero open_how is a valid value.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = (libc::O_PATH | libc::O_CLOEXEC | flags) as u64;
        how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        // SAFETY: the path is NUL-terminated and `how` is as large as it is said to be.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                self.directory.as_raw_fd(),
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
        reopen(&place, self.which, before, watch)
    }
}

/// The regular file at an absolute path on the host.
pub(crate) fn host_file(path: &Path, watch: &Watch) -> Open {
    let before = watch.origin();
    if !path.is_absolute() {
        return Open::Absent;
    }
    if watch.leaves_alone(Origin::DebugFiles(None)) {
        return Open::Silent;
    }
    watch.at(Origin::DebugFiles(None));
    match OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path) {
        Ok(place) => reopen(&place, Directory::of_host(), before, watch),
        Err(_) => Open::Absent,
    }
}

/// A readable handle of what an `O_PATH` handle names, if it is a regular file. On the device of `root` the thread is where it
/// was before.
fn reopen(place: &File, root: Directory, before: Option<Origin>, watch: &Watch) -> Open {
    let device = Directory::of(place).device;
    if device == root.device {
        watch.at(before);
    } else if watch.leaves_alone(Origin::Device(device.0, device.1)) {
        return Open::Silent;
    } else {
        watch.at(Origin::Device(device.0, device.1));
    }
    if !place.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Open::Absent;
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).map_or(Open::Absent, Open::Found)
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
            other => panic!("{other:?}"),
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
            assert_eq!(read(opened.file(Path::new(path), &Watch::default())).as_deref(), expected, "{path}");
        }
    }
    #[test]
    fn a_thread_is_where_it_was_but_for_files_on_another_device() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("own"), "own").unwrap();
        let executable = Origin::Executable(1);
        let device = Directory::of(&File::open("/proc/self/stat").unwrap()).device;
        let own = Root::of(File::open(root.path()).unwrap());
        // `/proc` is a mount of its own: a root of that directory above has it on another device.
        let host = Root::of(File::open("/").unwrap());
        for (what, opened, expected) in [
            ("own", &own, executable),
            ("proc/version", &host, Origin::Device(device.0, device.1)),
            ("absent", &own, Origin::DebugFiles(Some(own.which))),
        ] {
            let watch = Watch::default();
            watch.begin(Some(executable));
            let found = opened.file(Path::new(what), &watch);
            assert_eq!(watch.origin(), Some(expected), "{what}: {found:?}");
        }
    }

    #[test]
    fn what_is_silent_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("own"), "own").unwrap();
        let (own, host) = (Root::of(File::open(root.path()).unwrap()), Root::of(File::open("/").unwrap()));
        let (major, minor) = Directory::of(&File::open("/proc/self/stat").unwrap()).device;
        let search = Origin::DebugFiles(Some(own.which));
        let watch = Watch::avoiding(&[search, Origin::Device(major, minor)]);
        watch.begin(Some(Origin::Executable(1)));
        assert!(matches!(own.file(Path::new("own"), &watch), Open::Silent));
        assert_eq!(watch.left_alone(), Some(search));
        assert!(matches!(own.perf_map(Path::new("own"), &watch), Open::Found(_)), "another way");
        assert!(matches!(host.file(Path::new("proc/version"), &watch), Open::Silent));
        assert_eq!(watch.left_alone(), Some(Origin::Device(major, minor)));
    }
}
