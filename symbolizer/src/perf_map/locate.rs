//! Reading a process's perf map: inside its own root, under the pid that it has there.
//!
//! Anybody may put a file into `/tmp`: only a regular file that belongs to the process's user or to root is believed, the last
//! component is never a link, and no link on the way leads out of the process's root. What is mounted there may not answer: a
//! worker of the symbolizer reads ([`Symbolizer::perf_map`](crate::Symbolizer::perf_map)).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::{PerfMap, PerfMapLimits};
use crate::debug_file::{Directory, Open, Root};
use crate::silence::Origin;
use crate::watch::Watch;

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
    /// Its file system did not answer a short time ago.
    #[error("the file system of the perf map does not answer")]
    Silent,
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

/// Tells one state of a perf map from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Size in bytes when opened: a map that did not grow need not be read again.
    pub size: u64,
    /// Inode: a map that was replaced has another.
    pub inode: u64,
}

/// A perf map that was read.
#[derive(Debug)]
pub struct Reading {
    /// Its names.
    pub map: PerfMap,
    /// What was read.
    pub version: Version,
    /// When that began.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
}

/// What came of asking for a perf map.
#[derive(Debug)]
pub enum Asked {
    /// It was read; `None` if there is nothing to be read, or nobody who does.
    Told(Option<Reading>),
    /// It is still being read: as long as this is kept, the reading is not lost.
    Late(Receiver<Option<Reading>>),
}

impl Asked {
    /// What was read in time.
    pub fn in_time(self) -> Option<Reading> {
        match self {
            Asked::Told(reading) => reading,
            Asked::Late(_) => None,
        }
    }
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

    /// Equal for what one thread reads.
    pub(crate) fn key(&self) -> u64 {
        self.status.inner_pid.into()
    }

    /// What a hang is put down to before the file is found.
    pub(crate) fn origin(&self) -> Origin {
        Origin::PerfMaps(Directory::of(&self.root))
    }

    fn open(&self, most_bytes: u64, watch: &Watch) -> Result<(File, Version), LocateError> {
        let path = PathBuf::from(format!("/tmp/perf-{}.map", self.status.inner_pid));
        let file = match Root::of(Arc::clone(&self.root)).perf_map(&path, watch) {
            Open::Found(file) => file,
            Open::Absent => return Err(LocateError::Absent),
            Open::Unsupported => return Err(LocateError::Unsupported),
            Open::Silent => return Err(LocateError::Silent),
        };
        let metadata = file.metadata()?;
        if metadata.uid() != self.status.user && metadata.uid() != 0 {
            return Err(LocateError::Owner(metadata.uid()));
        }
        if metadata.len() > most_bytes {
            return Err(LocateError::TooLarge(metadata.len()));
        }
        Ok((file, Version { size: metadata.len(), inode: metadata.ino() }))
    }

    /// Reads the perf map, as many bytes as there are when it is opened; `None` if it is of the version that is `known`. Parsing
    /// ends when `time` is over.
    ///
    /// # Errors
    /// See [`LocateError`]; [`LocateError::Absent`] is the normal case.
    pub(crate) fn read(
        &self,
        most_bytes: u64,
        known: Option<Version>,
        time: Duration,
        watch: &Watch,
    ) -> Result<Option<Reading>, LocateError> {
        let began = Instant::now();
        let (file, version) = self.open(most_bytes, watch)?;
        if known == Some(version) {
            return Ok(None);
        }
        let at = Instant::now();
        let mut bytes = Vec::new();
        file.take(version.size).read_to_end(&mut bytes)?;
        // Whoever takes longer at all is taken for stuck; but the disk's time is not the parser's, and what comes late is kept.
        let limits =
            PerfMapLimits { time: time.saturating_sub(began.elapsed()).max(time / 2), ..PerfMapLimits::default() };
        let map = PerfMap::parse(&bytes, limits);
        Ok(Some(Reading { map, version, at, took: at.elapsed() }))
    }
}

fn status_of(proc_root: &Path, pid: u32) -> Result<Status, LocateError> {
    let text = std::fs::read_to_string(proc_root.join(format!("{pid}/status")));
    parse_status(&text.map_err(|_| LocateError::Status(pid))?).ok_or(LocateError::Status(pid))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const UNHURRIED: Duration = Duration::from_secs(3600);

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

    /// What the made-up process's map is read as: the name at 0x10, and the version.
    fn read(proc_root: &Path, pid: u32, most_bytes: u64) -> Result<(String, Version), LocateError> {
        let reading = Place::of(proc_root, pid)?.read(most_bytes, None, UNHURRIED, &Watch::default())?.unwrap();
        Ok((reading.map.lookup(0x10).unwrap().to_owned(), reading.version))
    }

    #[test]
    fn the_map_inside_the_root_is_read() {
        let (proc_root, root) = process(12);
        std::fs::write(root.join("tmp/perf-12.map"), "10 10 f\n").unwrap();
        let (name, version) = read(proc_root.path(), 700, 100).unwrap();
        assert_eq!((&*name, version.size), ("f", 8));
        assert!(matches!(read(proc_root.path(), 700, 7), Err(LocateError::TooLarge(8))));
        assert!(matches!(read(proc_root.path(), 701, 100), Err(LocateError::Status(701))));
        let place = Place::of(proc_root.path(), 700).unwrap();
        assert!(place.read(100, Some(version), UNHURRIED, &Watch::default()).unwrap().is_none(), "known already");
        let avoiding = Watch::avoiding(&[place.origin()]);
        assert!(matches!(place.read(100, None, UNHURRIED, &avoiding), Err(LocateError::Silent)));
    }

    #[test]
    fn a_place_that_is_known_serves_when_the_process_has_ended() {
        let (proc_root, root) = process(12);
        std::fs::write(root.join("tmp/perf-12.map"), "10 10 f\n").unwrap();
        let place = Place::of(proc_root.path(), 700).unwrap();
        std::fs::rename(&root, proc_root.path().join("elsewhere")).unwrap();
        std::fs::remove_dir_all(proc_root.path().join("700")).unwrap();
        assert!(matches!(read(proc_root.path(), 700, 100), Err(LocateError::Status(700))));
        let reading = place.read(100, None, UNHURRIED, &Watch::default()).unwrap().unwrap();
        assert_eq!(reading.map.lookup(0x10), Some("f"));
    }

    #[test]
    fn links_pipes_and_directories_are_no_maps() {
        let (proc_root, root) = process(12);
        let path = root.join("tmp/perf-12.map");
        std::fs::write(root.join("tmp/target"), "10 10 f\n").unwrap();
        symlink("/tmp/target", &path).unwrap();
        assert!(matches!(read(proc_root.path(), 700, 100), Err(LocateError::Absent)));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(read(proc_root.path(), 700, 100), Err(LocateError::Absent)));
    }
}
