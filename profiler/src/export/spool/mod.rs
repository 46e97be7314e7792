//! A bounded spool on disk, one folder for each sink: what a sink did not take yet survives the agent's end.
//!
//! - Order: what was appended first comes out first. One message at a time is taken; it stays on disk until it is done.
//! - `kill -9`: nothing that was appended is lost; a message that was sent and not yet marked comes again with the same id.
//! - Power cut: lost is what was appended since the last [`Spool::sync`]. The delivery syncs after each failed try, so that is
//!   the messages whose first try has not ended; a segment that is full is synced when the next is made.
//! - Full: the oldest segment goes, about a sixteenth of the bound, and what was in it is counted.
//! - A damaged payload costs one message, a damaged head the rest of its segment. A torn tail is cut. Files of another version
//!   are renamed to `….set-aside`.
//! - One owner, by `flock` on the file `lock`; a second one is refused.

mod error;
pub mod record;
mod segment;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::{AddAssign, SubAssign};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use error::SpoolError;
use record::Head;
use segment::{Front, Opened, Segment, Tail};

use crate::export::Message;

/// Parts of the bound that one segment may take: what is lost at once when the spool is full, and how many files are open.
const SEGMENTS: u64 = 16;
/// Smallest segment; below it a bound is mostly the segments' own cost.
const MIN_SEGMENT_BYTES: u64 = 64 << 10;
/// For owner and group root's agent alone.
const FOLDER_MODE: u32 = 0o700;

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages.
    pub messages: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes, heads included.
    pub bytes: u64,
}

impl Depth {
    fn of(head: &Head) -> Depth {
        Depth { messages: 1, samples: head.samples, bytes: head.record_bytes() }
    }
}

impl AddAssign for Depth {
    fn add_assign(&mut self, other: Depth) {
        self.messages += other.messages;
        // A head with a right checksum may still be anybody's.
        self.samples = self.samples.saturating_add(other.samples);
        self.bytes += other.bytes;
    }
}

impl SubAssign for Depth {
    fn sub_assign(&mut self, other: Depth) {
        self.messages = self.messages.saturating_sub(other.messages);
        self.samples = self.samples.saturating_sub(other.samples);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// What a spool lost, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Dropped to make room.
    pub full: Depth,
    /// With a damaged payload.
    pub damaged: Depth,
    /// Segments with a damaged head.
    pub damaged_segments: u64,
    /// Bytes in them from there on; how many messages is unknown.
    pub damaged_bytes: u64,
    /// Appends that were cut, by a crash as a rule.
    pub torn: u64,
    /// Files of another version, set aside.
    pub set_aside: u64,
}

/// A taken message's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    segment: u64,
    offset: u64,
    depth: Depth,
}

/// See the module. Blocking; for one thread at a time.
pub struct Spool {
    folder: PathBuf,
    /// Held for its lock.
    _lock: Lock,
    max_bytes: u64,
    segment_bytes: u64,
    /// Oldest first; only the last one made by this process is appended to.
    segments: VecDeque<Segment>,
    /// Whether the last segment was made by this process.
    appending: bool,
    next_number: u64,
    taken: Option<Position>,
    losses: Losses,
    /// A segment was made or removed since the folder was synced.
    folder_unsynced: bool,
}

impl Spool {
    /// Opens or makes the spool in `folder`, at most `max_bytes` on disk.
    ///
    /// # Errors
    /// [`SpoolError::InUse`], or [`SpoolError::Open`] for a folder that can't be made, read or written.
    pub fn open(folder: &Path, max_bytes: u64) -> Result<Spool, SpoolError> {
        let failed = |path: &Path, source| SpoolError::Open { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(|e| failed(folder, e))?;
        let lock = lock(folder)?;
        let mut names: Vec<(u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder).map_err(|e| failed(folder, e))? {
            let entry = entry.map_err(|e| failed(folder, e))?;
            if let Some(number) = entry.file_name().to_str().and_then(Segment::number) {
                names.push((number, entry.path()));
            }
        }
        names.sort_unstable();
        let mut spool = Spool {
            folder: folder.to_owned(),
            _lock: lock,
            max_bytes,
            segment_bytes: (max_bytes / SEGMENTS).max(MIN_SEGMENT_BYTES),
            segments: VecDeque::new(),
            appending: false,
            next_number: names.last().map_or(0, |(number, _)| number.wrapping_add(1)),
            taken: None,
            losses: Losses::default(),
            folder_unsynced: false,
        };
        for (number, path) in names {
            spool.take_over(number, path.clone()).map_err(|e| failed(&path, e))?;
        }
        // The bound may be smaller than last time.
        spool.make_room(0);
        Ok(spool)
    }

    fn take_over(&mut self, number: u64, path: PathBuf) -> io::Result<()> {
        match Segment::open(path.clone(), number)? {
            Opened::Ours(segment, tail) => {
                match tail {
                    Tail::Clean => {}
                    Tail::Torn => self.losses.torn += 1,
                    Tail::Damaged(bytes) => {
                        self.losses.damaged_segments += 1;
                        self.losses.damaged_bytes += bytes;
                    }
                }
                if segment.waiting.messages > 0 {
                    self.segments.push_back(segment);
                } else {
                    fs::remove_file(path)?;
                }
            }
            Opened::Empty => fs::remove_file(path)?,
            Opened::Foreign => {
                let mut name = path.clone().into_os_string();
                name.push(".set-aside");
                fs::rename(path, name)?;
                self.losses.set_aside += 1;
            }
        }
        Ok(())
    }

    /// Adds a message at the end, and drops the oldest segments if there is no room for it.
    ///
    /// # Errors
    /// [`SpoolError::TooLarge`], or [`SpoolError::Write`] (no space, read-only): then the spool is as it was, save what was
    /// dropped, and the next append tries again.
    pub fn append(&mut self, message: &Message) -> Result<(), SpoolError> {
        let too_large = || SpoolError::TooLarge { path: self.folder.clone(), bytes: message.body.len() };
        let record = record::encode(message).map_err(|_| too_large())?;
        let depth = Depth { messages: 1, samples: message.samples, bytes: record.len() as u64 };
        if depth.bytes + record::SEGMENT_HEAD_BYTES as u64 > self.max_bytes {
            return Err(too_large());
        }
        self.make_room(depth.bytes);
        let full = |segment: &Segment| !segment.is_empty() && segment.end + depth.bytes > self.segment_bytes;
        if !self.appending || self.segments.back().is_none_or(full) {
            self.new_segment()?;
        }
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        let written = segment.append(&record, depth);
        written.map_err(|source| {
            self.appending = !segment.sealed;
            SpoolError::Write { path: segment.path.clone(), source }
        })
    }

    fn new_segment(&mut self) -> Result<(), SpoolError> {
        if let Some(last) = self.segments.back_mut() {
            let path = last.path.clone();
            last.sync().map_err(|source| SpoolError::Write { path, source })?;
        }
        let segment = Segment::create(&self.folder, self.next_number)
            .map_err(|source| SpoolError::Write { path: self.folder.clone(), source })?;
        self.next_number = self.next_number.wrapping_add(1);
        self.segments.push_back(segment);
        (self.appending, self.folder_unsynced) = (true, true);
        Ok(())
    }

    /// Drops whole segments, the oldest first, until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) {
        while self.disk_bytes() + bytes > self.max_bytes
            && let Some(segment) = self.segments.pop_front()
        {
            let mut lost = segment.waiting;
            // The taken message is in somebody's hands and not lost yet.
            if let Some(taken) = self.taken.filter(|taken| taken.segment == segment.number) {
                lost -= taken.depth;
            }
            self.losses.full += lost;
            self.remove(&segment);
        }
        self.appending &= !self.segments.is_empty();
    }

    /// A file that can't be removed is taken up again at the next start: sent twice rather than never.
    fn remove(&mut self, segment: &Segment) {
        let _ = fs::remove_file(&segment.path);
        self.folder_unsynced = true;
    }

    /// The oldest waiting message. It stays until [`Spool::done`]; without it, the same one comes again.
    ///
    /// # Errors
    /// [`SpoolError::Read`]: the segment in question is left on disk and no longer read; what waited in it counts as damaged.
    pub fn take(&mut self) -> Result<Option<(Position, Message)>, SpoolError> {
        loop {
            let last = self.segments.len() == 1 && self.appending;
            let Some(segment) = self.segments.front_mut() else { return Ok(None) };
            match segment.front() {
                Ok(Front::Message(offset, depth, message)) => {
                    let position = Position { segment: segment.number, offset, depth };
                    self.taken = Some(position);
                    return Ok(Some((position, message)));
                }
                Ok(Front::Damaged(offset, depth)) => {
                    self.losses.damaged += depth;
                    self.finish(offset, depth)?;
                }
                Ok(Front::Nothing) if last && segment.waiting.messages == 0 => return Ok(None),
                Ok(Front::Nothing) => {
                    // None waits, unless somebody wrote into the file.
                    self.losses.damaged += segment.waiting;
                    if let Some(segment) = self.segments.pop_front() {
                        self.remove(&segment);
                    }
                    self.appending &= !last;
                }
                Err(source) => {
                    let path = segment.path.clone();
                    self.losses.damaged += segment.waiting;
                    self.segments.pop_front();
                    self.appending &= !self.segments.is_empty();
                    return Err(SpoolError::Read { path, source });
                }
            }
        }
    }

    /// Marks a taken message: it does not come again.
    ///
    /// # Errors
    /// [`SpoolError::Write`]: it comes again after the next start, not before.
    pub fn done(&mut self, position: Position) -> Result<(), SpoolError> {
        self.taken = None;
        // Its segment may have been dropped meanwhile.
        match self.segments.front() {
            Some(segment) if segment.number == position.segment => self.finish(position.offset, position.depth),
            _ => Ok(()),
        }
    }

    /// Marks a record of the oldest segment.
    fn finish(&mut self, offset: u64, depth: Depth) -> Result<(), SpoolError> {
        let last = self.segments.len() == 1 && self.appending;
        let Some(segment) = self.segments.front_mut() else { return Ok(()) };
        let written = if segment.waiting.messages > 1 {
            segment.done(offset, depth)
        } else if last {
            segment.clear()
        } else {
            let written = segment.done(offset, depth);
            if let Some(segment) = self.segments.pop_front() {
                self.remove(&segment);
            }
            written
        };
        written.map_err(|source| SpoolError::Write { path: self.folder.clone(), source })
    }

    /// Whether a taken message is still on disk: if its segment was dropped to make room, it is only in its taker's hands.
    pub fn holds(&self, position: Position) -> bool {
        self.segments.iter().any(|segment| segment.number == position.segment)
    }

    /// Makes everything appended so far survive a power cut.
    ///
    /// # Errors
    /// [`SpoolError::Write`].
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        for segment in &mut self.segments {
            if let Err(source) = segment.sync() {
                return Err(SpoolError::Write { path: segment.path.clone(), source });
            }
        }
        if self.folder_unsynced {
            let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
            synced.map_err(|source| SpoolError::Write { path: self.folder.clone(), source })?;
            self.folder_unsynced = false;
        }
        Ok(())
    }

    /// What waits, the taken message included.
    pub fn depth(&self) -> Depth {
        let mut depth = Depth::default();
        self.segments.iter().for_each(|segment| depth += segment.waiting);
        depth
    }

    /// Bytes of its files.
    pub fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }

    /// What was lost so far.
    pub fn losses(&self) -> Losses {
        self.losses
    }
}

/// The file `lock`, which is locked.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A child between fork and exec has the descriptor as well: closing ours alone would leave the spool locked until then.
        // SAFETY: a system call on a descriptor that is open until after it.
        let _ = unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}

fn lock(folder: &Path) -> Result<Lock, SpoolError> {
    let path = folder.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|source| SpoolError::Open { path: path.clone(), source })?;
    // SAFETY: a system call on a descriptor that is open until after it.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(Lock(file));
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Err(SpoolError::InUse(folder.to_owned())),
        source => Err(SpoolError::Open { path, source }),
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
pub(crate) mod tests;
