//! What a file is: the key that says "the same file as before", and the identity that says "the same executable".
//!
//! A build id alone would let one container choose the names in another's profile, so the identity also covers the size, the
//! headers and `.eh_frame_hdr`.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use object::elf;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use sha2::{Digest as _, Sha256};

/// Tells one version of a file from another: an inode number alone is reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileKey {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileKey {
    /// The key of an open file.
    pub fn of(file: &File) -> std::io::Result<FileKey> {
        let meta = file.metadata()?;
        Ok(FileKey {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// The inode number.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Offset in the file.
    pub file_offset: u64,
    /// Bytes in the file.
    pub file_bytes: u64,
    /// Where it is linked to.
    pub address: u64,
    /// Whether it is code.
    pub executable: bool,
}

/// What the head of an ELF file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Same executable, whatever the path, device or container.
    pub identity: [u8; 32],
    /// GNU build id in lower-case hex; empty if there is none.
    pub build_id: String,
    /// Loadable segments.
    pub loads: Vec<Load>,
}

/// Most program headers that are read; real files have about a dozen.
const MAX_PROGRAM_HEADERS: usize = 256;
/// Most bytes of one note segment, of `.eh_frame_hdr`, or of the section headers, that are read.
const MAX_PIECE: u64 = 1 << 20;
/// Most bytes of all these pieces together: they are read and hashed by the engine's own thread, and all program headers may
/// show the same bytes. What goes beyond is left out, as a piece is that is too large: the table that is hashed whole says which.
const MAX_PIECES: u64 = 2 << 20;

/// Reads the head of an ELF file; `None` if it is not a 64-bit little-endian ELF file.
pub fn read_header(file: &File, size: u64) -> Option<Header> {
    header_of(size, |bytes, offset| file.read_exact_at(bytes, offset))
}

/// [`read_header`] of anything that fills a buffer from an offset.
fn header_of(size: u64, mut read_at: impl FnMut(&mut [u8], u64) -> std::io::Result<()>) -> Option<Header> {
    let mut head = [0u8; 64];
    read_at(&mut head, 0).ok()?;
    let header = elf::FileHeader64::<object::LittleEndian>::parse(&head[..]).ok()?;
    let endian = object::LittleEndian;
    let (offset, count) = (header.e_phoff.get(endian), header.e_phnum.get(endian) as usize);
    if header.e_phentsize.get(endian) != 56 || count > MAX_PROGRAM_HEADERS {
        return None;
    }
    let mut table = vec![0u8; count * 56];
    read_at(&mut table, offset).ok()?;
    let (programs, _) =
        object::pod::slice_from_bytes::<elf::ProgramHeader64<object::LittleEndian>>(&table, count).ok()?;
    let mut hash = Sha256::new();
    hash.update(size.to_le_bytes());
    hash.update(head);
    hash.update(&table);
    let (mut loads, mut build_id) = (Vec::new(), String::new());
    let mut left = MAX_PIECES;
    // A piece that can't be read to its end has cost as much as one that can.
    let mut piece_at = |at: u64, bytes: u64| {
        left = left.checked_sub(bytes).filter(|_| bytes <= MAX_PIECE)?;
        let mut piece = vec![0u8; bytes as usize];
        read_at(&mut piece, at).ok().map(|()| piece)
    };
    for program in programs {
        let (at, bytes) = (program.p_offset(endian), program.p_filesz(endian));
        match program.p_type(endian) {
            elf::PT_LOAD => loads.push(Load {
                file_offset: at,
                file_bytes: bytes,
                address: program.p_vaddr(endian),
                executable: program.p_flags(endian).0 & elf::PF_X.0 != 0,
            }),
            elf::PT_NOTE | elf::PT_GNU_EH_FRAME => {
                let Some(piece) = piece_at(at, bytes) else { continue };
                hash.update(&piece);
                if program.p_type(endian) == elf::PT_NOTE && build_id.is_empty() {
                    build_id = build_id_of_notes(&piece).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    // The section headers tell files apart that differ in their symbols only.
    let (sections, section_bytes) =
        (header.e_shoff.get(endian), u64::from(header.e_shnum.get(endian)) * u64::from(header.e_shentsize.get(endian)));
    if let Some(piece) = piece_at(sections, section_bytes) {
        hash.update(&piece);
    }
    Some(Header { identity: hash.finalize().into(), build_id, loads })
}

/// The GNU build id in a note segment: name size, descriptor size, type, then both padded to 4 bytes (elf(5)).
pub fn build_id_of_notes(mut notes: &[u8]) -> Option<String> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let word = |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    while notes.len() >= 12 {
        let (name, descriptor, kind) = (word(notes, 0)? as usize, word(notes, 4)? as usize, word(notes, 8)?);
        let name_end = 12usize.checked_add(name)?;
        let start = name_end.checked_next_multiple_of(4)?;
        let end = start.checked_add(descriptor)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..name_end)? == b"GNU\0" {
            return Some(notes.get(start..end)?.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
    None
}

impl Header {
    /// ELF address of the first byte of code that is mapped from `file_offset` on for `length` bytes.
    pub fn address_of_mapping(&self, file_offset: u64, length: u64) -> Option<u64> {
        // A mapping begins on a page, a segment need not; two segments may even share a page of the file. The one that the
        // mapping shows most of is the one that it was made for.
        let end = file_offset.saturating_add(length);
        let shown = |load: &Load| {
            let load_end = load.file_offset.saturating_add(load.file_bytes);
            load_end.min(end).saturating_sub(load.file_offset.max(file_offset))
        };
        let load =
            self.loads.iter().filter(|load| load.executable && shown(load) > 0).max_by_key(|load| shown(load))?;
        Some(file_offset.wrapping_sub(load.file_offset).wrapping_add(load.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_executable_has_code_and_an_identity_that_depends_on_its_size() {
        let file = File::open("/proc/self/exe").unwrap();
        let size = FileKey::of(&file).unwrap().size();
        let header = read_header(&file, size).unwrap();
        let code = header.loads.iter().find(|load| load.executable).unwrap();
        assert_eq!(header.address_of_mapping(code.file_offset, code.file_bytes), Some(code.address));
        assert_eq!(header.address_of_mapping(size + 4096, 4096), None);
        assert_ne!(read_header(&file, size + 1).unwrap().identity, header.identity);
    }

    /// A file of nothing but note segments, each of the whole file.
    fn notes(segments: u16, size: usize) -> Vec<u8> {
        let mut file = vec![0u8; size];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&segments.to_le_bytes());
        for program in file[64..].chunks_exact_mut(56).take(segments.into()) {
            program[..4].copy_from_slice(&elf::PT_NOTE.0.to_le_bytes());
            program[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        }
        file
    }

    #[test]
    fn all_pieces_of_a_file_together_are_bounded() {
        for (segments, size, pieces) in [(1, 1 << 20, 1), (2, 1 << 20, 2), (256, 1 << 20, 2), (256, 1 << 19, 4)] {
            let file = notes(segments, size);
            let mut read = 0;
            let header = header_of(size as u64, |bytes, offset| {
                bytes.copy_from_slice(&file[offset as usize..][..bytes.len()]);
                read += bytes.len();
                Ok(())
            });
            assert!(header.is_some(), "{segments} of {size}");
            assert_eq!(read, 64 + usize::from(segments) * 56 + pieces * size, "{segments} of {size}");
        }
    }

    #[test]
    fn build_ids_are_found_behind_other_notes() {
        let mut notes = Vec::new();
        for (name, kind, descriptor) in [(&b"X\0"[..], 1u32, &[9u8, 9, 9][..]), (b"GNU\0", 3, &[0xab, 0xcd])] {
            notes.extend((name.len() as u32).to_le_bytes());
            notes.extend((descriptor.len() as u32).to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(name);
            notes.resize(notes.len().next_multiple_of(4), 0);
            notes.extend(descriptor);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(build_id_of_notes(&notes).as_deref(), Some("abcd"));
        for end in 0..notes.len() - 2 {
            assert_eq!(build_id_of_notes(&notes[..end]), None);
        }
    }

    #[test]
    fn of_two_segments_in_one_page_the_mapping_s_own_is_taken() {
        let load = |file_offset, file_bytes, address| Load { file_offset, file_bytes, address, executable: true };
        let header = Header {
            identity: [0; 32],
            build_id: String::new(),
            loads: vec![load(0x1000, 0x800, 0x1000), load(0x1800, 0x1800, 0x5800)],
        };
        for (offset, length, wanted) in [
            (0x1000, 0x1000, Some(0x5000)),
            (0x1000, 0x2000, Some(0x5000)),
            (0x2000, 0x1000, Some(0x6000)),
            (0x3000, 0x1000, None),
        ] {
            assert_eq!(header.address_of_mapping(offset, length), wanted, "{offset:x}");
        }
    }

    #[test]
    fn text_is_no_elf_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        std::fs::write(&path, vec![b'a'; 4096]).unwrap();
        assert_eq!(read_header(&File::open(path).unwrap(), 4096), None);
    }
}
