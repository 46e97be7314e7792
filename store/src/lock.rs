//! One writer: whoever holds the lock on `lock` in the history's folder. The kernel lets go of it when the process ends, however.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use super::error::StoreError;

const FILE: &str = "lock";

/// The lock, held until it is dropped.
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child between fork and exec has the descriptor as well: closing ours alone would leave the history locked until then.
        // SAFETY: a system call on a descriptor that is open until after it.
        let _ = unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
    }
}

impl Lock {
    pub(super) fn take(folder: &Path) -> Result<Lock, StoreError> {
        let path = folder.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(StoreError::io("open", &path))?;
        // SAFETY: the descriptor is open for as long as `file` lives.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::WouldBlock {
                return Err(StoreError::io("lock", &path)(error));
            }
            let mut holder = String::new();
            // For people only: whoever locks may not have written it yet.
            let _ = (&file).take(16).read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "unknown" } else { holder.trim() };
            return Err(StoreError::InUse { path: folder.to_owned(), holder: holder.to_owned() });
        }
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        // On a full disk the number is missing, no more.
        drop(written);
        Ok(Lock { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_is_told_who_the_first_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let held = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).err().unwrap().to_string();
        let own = std::process::id();
        assert_eq!(
            error,
            format!(
                "the history in {} is in use by another everflame (pid {own}): stop it, or choose another folder",
                folder.path().display()
            )
        );
        // As a child between fork and exec has it.
        let inherited = held.file.try_clone().unwrap();
        drop(held);
        Lock::take(folder.path()).unwrap();
        drop(inherited);
    }
}
