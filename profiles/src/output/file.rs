//! A file appears whole or not at all: written under a temporary name beside it, synced, then renamed over the old one.
//!
//! What is not a regular file (a FIFO, a device) is written to as it is. Does not keep the owner of a file it replaces.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::WriteError;

/// Mode of a new file, before the umask.
const NEW_FILE_MODE: u32 = 0o666;

/// Makes `path` hold exactly `bytes`. If that fails, an older file of that name is as it was, and no other file is left.
///
/// # Errors
/// [`WriteError`] with the path, the system's error and what to do.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let failed = |error| WriteError::new(path, error);
    match Place::find(path).map_err(failed)? {
        Place::InPlace(path) => {
            let mut file = OpenOptions::new().write(true).open(path).map_err(failed)?;
            file.write_all(bytes).map_err(failed)
        }
        Place::Replace { folder, target, mode } => {
            // On each way out by an error it is dropped, which removes it.
            let mut temporary = Temporary::new(&folder, mode).map_err(failed)?;
            temporary.file.write_all(bytes).map_err(failed)?;
            temporary.file.sync_all().map_err(failed)?;
            temporary.rename(&target).map_err(failed)?;
            // The rename itself is only safe with the folder; some file systems can't sync one, and the file is there.
            let _ = File::open(&folder).and_then(|folder| folder.sync_all());
            Ok(())
        }
    }
}

/// Tries whether `path` can be written, before the work whose result it shall hold.
///
/// # Errors
/// As [`replace`], except for a disk that fills up later.
pub fn check(path: &Path) -> Result<(), WriteError> {
    let failed = |error| WriteError::new(path, error);
    match Place::find(path).map_err(failed)? {
        // Opening a FIFO would wait for its reader.
        Place::InPlace(_) => Ok(()),
        Place::Replace { folder, mode, .. } => Temporary::new(&folder, mode).map(|_| ()).map_err(failed),
    }
}

enum Place {
    InPlace(PathBuf),
    Replace { folder: PathBuf, target: PathBuf, mode: Option<u32> },
}

impl Place {
    fn find(path: &Path) -> io::Result<Place> {
        // Through a link, its target is replaced, not the link.
        let path = if path.is_symlink() { path.canonicalize()? } else { path.to_owned() };
        let mode = match fs::metadata(&path) {
            Ok(old) if old.is_dir() => return Err(io::Error::from_raw_os_error(libc::EISDIR)),
            Ok(old) if !old.is_file() => return Ok(Place::InPlace(path)),
            Ok(old) => Some(old.permissions().mode()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let folder = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => return Err(io::Error::from_raw_os_error(libc::EISDIR)),
        };
        Ok(Place::Replace { folder, target: path, mode })
    }
}

/// A new file that is removed when dropped, unless it was renamed.
///
/// By hand, because `tempfile` hides the system's error behind one of its own, and the user is told what to do by it.
struct Temporary {
    file: File,
    path: PathBuf,
}

/// Names to try: another process with our id (in another container) may have left some.
const MAX_NAMES: u32 = 1_000;

impl Temporary {
    fn new(folder: &Path, mode: Option<u32>) -> io::Result<Temporary> {
        let mut last = io::Error::from_raw_os_error(libc::EEXIST);
        for number in 0..MAX_NAMES {
            let path = folder.join(format!(".everflame-{}-{number}.tmp", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(NEW_FILE_MODE).open(&path) {
                Ok(file) => {
                    let temporary = Temporary { file, path };
                    if let Some(mode) = mode {
                        temporary.file.set_permissions(Permissions::from_mode(mode))?;
                    }
                    return Ok(temporary);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn rename(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        // Nothing of that name is left to be removed.
        self.path.clear();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}
