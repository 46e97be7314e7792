//! One file of records: appended to at its end, read from its front, and removed when nothing in it waits any more.
//!
//! A record is done by one byte in its head, so that nothing is rewritten. Reading goes by position and never trusts a length
//! before its checksum.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::Depth;
use super::record::{self, HEAD_BYTES, Head, SEGMENT_HEAD_BYTES, STATE_DONE, STATE_OFFSET, SegmentHead};
use crate::export::Message;

/// Profiles name programs and paths of the whole node: not for everybody.
const FILE_MODE: u32 = 0o600;
const SUFFIX: &str = ".segment";

/// A segment with its file open.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    file: File,
    /// Up to here all is sound.
    pub(super) end: u64,
    /// The first record that may be waiting.
    next: u64,
    pub(super) waiting: Depth,
    /// Written since the last sync.
    pub(super) unsynced: bool,
    /// A half-written record could not be cut off: nothing may come after it.
    pub(super) sealed: bool,
}

/// What opening a file found.
pub(super) enum Opened {
    Ours(Segment, Tail),
    /// Holds nothing.
    Empty,
    /// Another version's, or no spool.
    Foreign,
}

/// What stood after the last sound record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tail {
    Clean,
    /// The last append was cut; the bytes are gone from the file.
    Torn,
    /// A head is damaged: what follows can't be found, this many bytes.
    Damaged(u64),
}

/// What reading the front gave.
pub(super) enum Front {
    Message(u64, Depth, Message),
    /// Its payload is damaged.
    Damaged(u64, Depth),
    Nothing,
}

impl Segment {
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Segment> {
        let path = folder.join(format!("{number:016x}{SUFFIX}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        if let Err(error) = file.write_all_at(&record::segment_head(), 0) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let start = SEGMENT_HEAD_BYTES as u64;
        Ok(Segment {
            number,
            path,
            file,
            end: start,
            next: start,
            waiting: Depth::default(),
            unsynced: true,
            sealed: false,
        })
    }

    /// The number of a segment's file name; `None` if it is not one.
    pub(super) fn number(name: &str) -> Option<u64> {
        let digits = name.strip_suffix(SUFFIX)?;
        (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
    }

    pub(super) fn open(path: PathBuf, number: u64) -> io::Result<Opened> {
        // Something else of that name (a link, a FIFO) is not followed and not waited for.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EISDIR)) => {
                return Ok(Opened::Foreign);
            }
            file => file?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Opened::Foreign);
        }
        let length = metadata.len();
        let mut head = [0; SEGMENT_HEAD_BYTES];
        let known = (SEGMENT_HEAD_BYTES as u64).min(length) as usize;
        file.read_exact_at(&mut head[..known], 0)?;
        match record::whose(&head[..known]) {
            SegmentHead::Torn => return Ok(Opened::Empty),
            SegmentHead::Foreign => return Ok(Opened::Foreign),
            SegmentHead::Ours => {}
        }
        let start = SEGMENT_HEAD_BYTES as u64;
        let mut segment = Segment {
            number,
            path,
            file,
            end: start,
            next: start,
            waiting: Depth::default(),
            unsynced: false,
            sealed: true,
        };
        let tail = segment.scan(length)?;
        if tail == Tail::Torn {
            segment.file.set_len(segment.end)?;
        }
        Ok(Opened::Ours(segment, tail))
    }

    /// Walks over the heads; payloads are checked when they are read.
    fn scan(&mut self, length: u64) -> io::Result<Tail> {
        let mut last_done = true;
        while self.end < length {
            let Some(bytes) = self.head_at(self.end, length)? else { return Ok(Tail::Torn) };
            let Ok(head) = Head::decode(&bytes) else {
                // Zeros: the file grew before a power cut and its bytes were never written.
                let zeros = bytes.iter().all(|byte| *byte == 0);
                return Ok(if zeros { Tail::Torn } else { Tail::Damaged(length - self.end) });
            };
            if head.record_bytes() > length - self.end {
                return Ok(Tail::Torn);
            }
            if !head.done {
                self.waiting += Depth::of(&head);
                last_done = false;
            }
            self.end += head.record_bytes();
            if last_done {
                self.next = self.end;
            }
        }
        Ok(Tail::Clean)
    }

    /// The head at `offset`, if all of it lies before `end`.
    fn head_at(&self, offset: u64, end: u64) -> io::Result<Option<[u8; HEAD_BYTES]>> {
        if end.saturating_sub(offset) < HEAD_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = [0; HEAD_BYTES];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(Some(bytes))
    }

    /// Adds a record; on an error the segment is as it was.
    pub(super) fn append(&mut self, record: &[u8], depth: Depth) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(record, self.end) {
            self.sealed = self.file.set_len(self.end).is_err();
            return Err(error);
        }
        self.end += record.len() as u64;
        self.waiting += depth;
        self.unsynced = true;
        Ok(())
    }

    /// The first waiting record.
    pub(super) fn front(&mut self) -> io::Result<Front> {
        while self.waiting.messages > 0 {
            let Some(bytes) = self.head_at(self.next, self.end)? else { break };
            let Ok(head) = Head::decode(&bytes) else { break };
            if head.done {
                self.next += head.record_bytes();
                continue;
            }
            let mut payload = vec![0; head.length as usize];
            self.file.read_exact_at(&mut payload, self.next + HEAD_BYTES as u64)?;
            return Ok(match head.message(Bytes::from(payload)) {
                Ok(message) => Front::Message(self.next, Depth::of(&head), message),
                Err(_) => Front::Damaged(self.next, Depth::of(&head)),
            });
        }
        Ok(Front::Nothing)
    }

    /// Marks the record at `offset`, which waits and holds `depth`.
    pub(super) fn done(&mut self, offset: u64, depth: Depth) -> io::Result<()> {
        self.waiting -= depth;
        if offset == self.next {
            self.next += depth.bytes;
        }
        self.file.write_all_at(&[STATE_DONE], offset + STATE_OFFSET)
    }

    /// Forgets everything in it: pages that were not yet written out never will be.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        let start = SEGMENT_HEAD_BYTES as u64;
        self.file.set_len(start)?;
        (self.end, self.next, self.waiting) = (start, start, Depth::default());
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.file.sync_data()?;
            self.unsynced = false;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == SEGMENT_HEAD_BYTES as u64
    }
}
