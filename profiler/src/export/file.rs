//! Profiles as files: each interval one `.pb.gz` that any pprof viewer opens, the oldest removed first.
//!
//! A file appears whole or not at all. Its name is the interval's start in UTC and the beginning of the message's id, so that
//! writing it again changes nothing. Files of other names in the folder are left alone.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::address::Folder;
use super::counters::Answered;
use super::datadog::rfc3339;
use super::digest::{digest, hex};
use super::transport::{Answer, Sending, Transport};
use super::{Encode, EncodeError, Message, Outcome};
use crate::output;
use crate::profile::Batch;
use crate::profile::pprof::{self, ProfileInfo, Vocabulary};

const SUFFIX: &str = ".pb.gz";
const PREFIX: &str = "everflame-";
/// Age at which a temporary file is nobody's any more: a process was killed while it wrote.
const STALE: Duration = Duration::from_secs(3_600);

/// A batch as one pprof file.
#[derive(Clone, Debug)]
pub struct FileEncoder {
    info: ProfileInfo,
}

impl FileEncoder {
    /// `info` goes into each profile's comments.
    pub fn new(info: ProfileInfo) -> FileEncoder {
        FileEncoder { info }
    }
}

impl Encode for FileEncoder {
    fn encode(&mut self, batch: &Batch) -> Result<Vec<Message>, EncodeError> {
        if batch.samples.is_empty() {
            return Ok(Vec::new());
        }
        // Whose a sample is, in the words of `everflame pod`.
        let profile = pprof::encode_in(batch, &self.info, &Vocabulary::WITH_OWNERS);
        let profile = profile.map_err(|error| EncodeError { wire: "file", why: error.to_string() })?;
        let body = pprof::to_gzip(&profile);
        Ok(vec![Message {
            id: digest(&[b"file", &batch.wall_start_ns.to_le_bytes(), &body]),
            start_ns: batch.wall_start_ns,
            samples: batch.samples.len() as u64,
            headers: Vec::new(),
            body: Bytes::from(body),
        }])
    }

    fn split(&self, _: &Message) -> Option<Vec<Message>> {
        None
    }
}

/// Writes messages into a folder.
#[derive(Clone, Debug)]
pub struct FolderTransport {
    folder: Folder,
    shown: String,
}

impl FolderTransport {
    /// The folder is made when the first file is written, if [`try_folder`] did not.
    pub fn new(folder: Folder) -> FolderTransport {
        FolderTransport { shown: format!("file://{}", folder.path.display()), folder }
    }
}

impl Transport for FolderTransport {
    fn send<'message>(&'message self, message: &'message Message) -> Sending<'message> {
        let (folder, message) = (self.folder.clone(), message.clone());
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || write(&folder, &message)).await;
            let failed = match written {
                Ok(Ok(())) => return Answer { outcome: Outcome::Delivered, answered: Answered::Ok },
                Ok(Err(error)) => error,
                Err(error) => error.to_string(),
            };
            Answer { outcome: Outcome::Retry(None, failed), answered: Answered::Disk }
        })
    }

    fn address(&self) -> &str {
        &self.shown
    }
}

/// Makes the folder, and a file in it that is gone again.
///
/// # Errors
/// The system's, with the folder.
pub fn try_folder(folder: &Folder) -> Result<(), String> {
    let tried = fs::create_dir_all(&folder.path).and_then(|()| tempfile::tempfile_in(&folder.path));
    match tried {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("can't write profiles to {}: {error}", folder.path.display())),
    }
}

fn write(folder: &Folder, message: &Message) -> Result<(), String> {
    let shown = |error: io::Error| format!("can't write profiles to {}: {error}", folder.path.display());
    fs::create_dir_all(&folder.path).map_err(shown)?;
    // Before, so that a disk that is full of our own files gets room.
    let name = name(message);
    prune(folder, Some(&name), message.body.len() as u64).map_err(shown)?;
    output::replace(&folder.path.join(name), &message.body).map_err(|error| error.to_string())
}

/// `everflame-20260102T030405.678000000Z-0123abcd.pb.gz`: names sort by time.
fn name(message: &Message) -> String {
    let start = rfc3339(message.start_ns).replace(['-', ':'], "");
    format!("{PREFIX}{start}-{}{SUFFIX}", hex(&message.id[..4]))
}

/// Removes the oldest files until one more of `bytes` fits; `keep` is the name of that one.
fn prune(folder: &Folder, keep: Option<&str>, bytes: u64) -> io::Result<()> {
    let mut files: Vec<(OsString, PathBuf, u64)> = Vec::new();
    for entry in fs::read_dir(&folder.path)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(".everflame-") && name.ends_with(".tmp")) {
            let age = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .map(|time| time.elapsed().unwrap_or_default());
            if age.is_ok_and(|age| age > STALE) {
                fs::remove_file(entry.path())?;
            }
            continue;
        }
        let ours =
            name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX) && Some(name) != keep);
        if ours
            && let Ok(metadata) = entry.path().symlink_metadata()
            && metadata.is_file()
        {
            files.push((name, entry.path(), metadata.len()));
        }
    }
    files.sort_unstable();
    let mut total = files.iter().map(|(_, _, bytes)| bytes).sum::<u64>() + bytes;
    let mut count = files.len() + 1;
    for (_, path, bytes) in files {
        if count <= folder.keep && total <= folder.max_bytes {
            break;
        }
        fs::remove_file(path)?;
        count -= 1;
        total -= bytes;
    }
    Ok(())
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
