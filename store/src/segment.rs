//! A segment's file: a header of 16 bytes, then chunks. Written at its end only; read at any place while that goes on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::bytes::Malformed;
use super::chunk::{self, ChunkHeader, HEADER_BYTES, Section};
use super::error::StoreError;

/// The format of what a segment holds: another one is not read.
pub const FORMAT_VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"EVFLHIST";
/// Magic, version and the CRC-32 of both.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 16;
const SUFFIX: &str = ".segment";
/// How much is looked at at once for a header.
const SEARCH_BYTES: usize = 1 << 20;

/// A bad sector, or a file system that knows that its data is bad: as good as a wrong checksum.
pub(super) const UNREADABLE: Malformed = Malformed("the disk can't read it");

fn is_unreadable(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EBADMSG | libc::EUCLEAN))
}

/// `00000042.segment`.
pub(super) fn file_name(number: u32) -> String {
    format!("{number:08}{SUFFIX}")
}

/// The number in a segment's file name; `None` for other files.
pub(super) fn number_of(file_name: &str) -> Option<u32> {
    let digits = file_name.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok()?;
    (self::file_name(number) == file_name).then_some(number)
}

fn header(version: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What a file's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    Ours,
    OtherVersion(u32),
    /// Shorter than a header: it was being made.
    Unfinished,
    NotASegment,
}

pub(super) fn beginning(bytes: &[u8]) -> Beginning {
    let Some(bytes) = bytes.first_chunk::<16>() else { return Beginning::Unfinished };
    let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if *bytes != header(version) {
        Beginning::NotASegment
    } else if version == FORMAT_VERSION {
        Beginning::Ours
    } else {
        Beginning::OtherVersion(version)
    }
}

/// The segment that is being written.
pub(super) struct SegmentWriter {
    file: File,
    path: PathBuf,
    pub(super) bytes: u64,
}

impl SegmentWriter {
    /// Makes the file; there must be none of its name.
    pub(super) fn create(path: PathBuf) -> Result<SegmentWriter, StoreError> {
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(StoreError::io("make", &path))?;
        let mut writer = SegmentWriter { file, path, bytes: 0 };
        match writer.append(&header(FORMAT_VERSION)) {
            Ok(()) => Ok(writer),
            Err(error) => {
                // Should this fail too: opening the store removes it.
                let _ = std::fs::remove_file(&writer.path);
                Err(error)
            }
        }
    }

    /// What takes all that is written, in the place of a file.
    #[cfg(test)]
    pub(super) fn over(file: File) -> SegmentWriter {
        SegmentWriter { file, path: PathBuf::new(), bytes: 0 }
    }

    /// Writes at the end; what could be written of a chunk that does not fit the disk is cut off again.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.file.write_all_at(bytes, self.bytes);
        if written.is_err() {
            // Should this fail too: the next chunk overwrites what is there, and opening the store cuts it.
            let _ = self.file.set_len(self.bytes);
        }
        written.map_err(StoreError::io("write", &self.path))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Waits until the disk has it.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io("sync", &self.path))
    }
}

/// A segment that is read.
pub(super) struct SegmentFile {
    file: File,
    path: PathBuf,
    /// When it was opened. What a snapshot of the index knows was there then.
    bytes: u64,
}

impl SegmentFile {
    /// `None` if there is no such file (any more).
    pub(super) fn open(path: PathBuf) -> Result<Option<SegmentFile>, StoreError> {
        match File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((bytes, file)) => Ok(Some(SegmentFile { file, path, bytes })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_unreadable(&error) => Err(StoreError::Damaged { path, offset: 0, problem: UNREADABLE }),
            Err(error) => Err(StoreError::io("read", &path)(error)),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn damaged(&self, offset: u64, problem: Malformed) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), offset, problem }
    }

    pub(super) fn beginning(&self) -> Result<Beginning, StoreError> {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        match self.file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(beginning(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Beginning::Unfinished),
            Err(error) if is_unreadable(&error) => Err(self.damaged(0, UNREADABLE)),
            Err(error) => Err(StoreError::io("read", &self.path)(error)),
        }
    }

    /// Waits until the disk has what another process wrote.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io("sync", &self.path))
    }

    /// Whether a chunk's header stands anywhere from `at` on.
    pub(super) fn has_header_from(&self, mut at: u64) -> Result<bool, StoreError> {
        let mut bytes = vec![0; SEARCH_BYTES];
        while at < self.bytes {
            let length = (self.bytes - at).min(SEARCH_BYTES as u64) as usize;
            self.read(at, &mut bytes[..length], at)?;
            if chunk::has_header(&bytes[..length]) {
                return Ok(true);
            }
            // A header may stand across two of them.
            at += (SEARCH_BYTES - HEADER_BYTES + 1) as u64;
        }
        Ok(false)
    }

    /// Checks a chunk's length before memory is taken for it.
    fn within(&self, offset: u64, header: &ChunkHeader) -> Result<(), StoreError> {
        let within = offset.saturating_add(header.chunk_bytes()) <= self.bytes;
        if within { Ok(()) } else { Err(self.damaged(offset, Malformed("a chunk that is cut short"))) }
    }

    /// Reads one section of the chunk at `offset`.
    pub(super) fn section(&self, offset: u64, header: &ChunkHeader, which: Section) -> Result<Vec<u8>, StoreError> {
        let place = header.place(which);
        self.within(offset, header)?;
        let mut packed = vec![0; place.packed as usize];
        self.read(offset + header.start_of(which), &mut packed, offset)?;
        chunk::section(&packed, place).map_err(|problem| self.damaged(offset, problem))
    }

    /// Where the header of the chunk at `offset` should be.
    pub(super) fn header_bytes(&self, offset: u64) -> Result<[u8; HEADER_BYTES], StoreError> {
        let mut bytes = [0; HEADER_BYTES];
        self.read(offset, &mut bytes, offset)?;
        Ok(bytes)
    }

    fn read(&self, at: u64, bytes: &mut [u8], chunk: u64) -> Result<(), StoreError> {
        self.file.read_exact_at(bytes, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(chunk, Malformed("a chunk that is cut short")),
            _ if is_unreadable(&error) => self.damaged(chunk, UNREADABLE),
            _ => StoreError::io("read", &self.path)(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbers_of_eight_digits() {
        assert_eq!(number_of(&file_name(42)), Some(42));
        assert_eq!(number_of(&file_name(u32::MAX)), Some(u32::MAX));
        for other in ["42.segment", "00000042.segment.damaged", "index.redb", "+0000042.segment", ".segment"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_first_bytes_say_whose_a_file_is() {
        assert_eq!(beginning(&header(FORMAT_VERSION)), Beginning::Ours);
        assert_eq!(beginning(&header(1)), Beginning::OtherVersion(1));
        assert_eq!(beginning(&header(FORMAT_VERSION)[..15]), Beginning::Unfinished);
        let mut bytes = header(FORMAT_VERSION);
        bytes[9] = 1;
        assert_eq!(beginning(&bytes), Beginning::NotASegment);
        assert_eq!(beginning(&[0; 64]), Beginning::NotASegment);
    }

    /// A file of which reading fails as on a bad sector: this process's memory, where there is none.
    fn unreadable() -> SegmentFile {
        SegmentFile { file: File::open("/proc/self/mem").unwrap(), path: "/proc/self/mem".into(), bytes: 1 << 20 }
    }

    #[test]
    fn what_the_disk_can_t_read_is_damage_and_no_failure_of_the_question() {
        let file = unreadable();
        let beginning = file.beginning();
        let Err(StoreError::Damaged { offset: 0, problem: UNREADABLE, .. }) = beginning else {
            panic!("{beginning:?}")
        };
        let place = chunk::SectionPlace { packed: 5, length: 5, crc: 0 };
        let header = ChunkHeader { number: 0, first_ns: 0, last_ns: 0, sections: [place; chunk::SECTIONS] };
        let read = [
            file.header_bytes(16).map(|_| ()),
            file.section(16, &header, Section::Owners).map(|_| ()),
            file.has_header_from(16).map(|_| ()),
        ];
        for read in read {
            let Err(StoreError::Damaged { offset: 16, problem: UNREADABLE, .. }) = read else { panic!("{read:?}") };
        }
    }

    #[test]
    fn a_header_is_found_behind_a_mebibyte_of_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let (_, chunk) = chunk::encode(3, (1, 2), [b"", b"", b"", b""]).unwrap();
        for before in [0, SEARCH_BYTES - 10, SEARCH_BYTES + 500] {
            let path = folder.path().join(before.to_string());
            std::fs::write(&path, [vec![1; before], chunk.clone()].concat()).unwrap();
            let file = SegmentFile::open(path).unwrap().unwrap();
            assert!(file.has_header_from(0).unwrap(), "{before}");
            assert!(!file.has_header_from(before as u64 + 1).unwrap(), "{before}");
        }
    }
}
