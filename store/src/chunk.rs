//! A chunk: one batch in a segment's file. A header of fixed size, then four packed sections, each with its own checksum, so that
//! each can be read without the others.
//!
//! ```text
//! 0  "CHNK"                       24  sections: samples, owners, shapes, exact; each
//! 4  number in the segment, u32        packed length u32, length u32, CRC-32 u32
//! 8  first sample's time, u64     72  CRC-32 of the 72 bytes before
//! 16 last sample's time, u64      76  the packed sections
//! ```
//!
//! All little-endian; times are ns since the Unix epoch. A batch without samples has its start for both.

use super::bytes::Malformed;
use super::codec::{self, MAX_PACKED_BYTES, MAX_SECTION_BYTES};

pub(super) const HEADER_BYTES: usize = 76;
/// Where the header's own checksum is.
const CHECKSUM: usize = HEADER_BYTES - 4;
const MAGIC: [u8; 4] = *b"CHNK";
pub(super) const SECTIONS: usize = 4;

/// Which of a chunk's sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Samples,
    Owners,
    Shapes,
    Exact,
}

/// Where a section is and what its bytes must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SectionPlace {
    pub(super) packed: u32,
    pub(super) length: u32,
    pub(super) crc: u32,
}

/// What stands before a chunk's sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    pub(super) number: u32,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) sections: [SectionPlace; SECTIONS],
}

impl ChunkHeader {
    /// The whole chunk's length, header included.
    pub(super) fn chunk_bytes(&self) -> u64 {
        let sections: u64 = self.sections.iter().map(|section| u64::from(section.packed)).sum();
        HEADER_BYTES as u64 + sections
    }

    /// Where a section begins, from the chunk's beginning.
    pub(super) fn start_of(&self, section: Section) -> u64 {
        let before: u64 = self.sections.iter().take(section as usize).map(|section| u64::from(section.packed)).sum();
        HEADER_BYTES as u64 + before
    }

    pub(super) fn place(&self, section: Section) -> SectionPlace {
        self.sections[section as usize]
    }

    /// Reads a header; no section is larger than it may be.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<ChunkHeader, Malformed> {
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        if bytes[..4] != MAGIC {
            return Err(Malformed("no chunk where one should be"));
        }
        if !is_checksum(&bytes[..CHECKSUM], u32_at(CHECKSUM)) {
            return Err(Malformed("a chunk's header with a wrong checksum"));
        }
        let sections: [SectionPlace; SECTIONS] = std::array::from_fn(|section| {
            let at = 24 + section * 12;
            SectionPlace { packed: u32_at(at), length: u32_at(at + 4), crc: u32_at(at + 8) }
        });
        let fits = |place: &SectionPlace| {
            place.length as usize <= MAX_SECTION_BYTES && place.packed as usize <= MAX_PACKED_BYTES
        };
        if !sections.iter().all(fits) {
            return Err(Malformed("a section that is larger than it may be"));
        }
        Ok(ChunkHeader { number: u32_at(4), first_ns: u64_at(8), last_ns: u64_at(16), sections })
    }

    fn write(&self, out: &mut [u8; HEADER_BYTES]) {
        out[..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&self.number.to_le_bytes());
        out[8..16].copy_from_slice(&self.first_ns.to_le_bytes());
        out[16..24].copy_from_slice(&self.last_ns.to_le_bytes());
        for (section, at) in self.sections.iter().zip((24..).step_by(12)) {
            out[at..at + 4].copy_from_slice(&section.packed.to_le_bytes());
            out[at + 4..at + 8].copy_from_slice(&section.length.to_le_bytes());
            out[at + 8..at + 12].copy_from_slice(&section.crc.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[..CHECKSUM]);
        out[CHECKSUM..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A whole chunk, ready to be written: its header and its bytes. `sections` are in the order of [`Section`].
pub(super) fn encode(
    number: u32,
    (first_ns, last_ns): (u64, u64),
    sections: [&[u8]; SECTIONS],
) -> Result<(ChunkHeader, Vec<u8>), Malformed> {
    let mut header = ChunkHeader { number, first_ns, last_ns, sections: Default::default() };
    let mut out = vec![0; HEADER_BYTES];
    for (section, place) in sections.into_iter().zip(&mut header.sections) {
        if section.len() > MAX_SECTION_BYTES {
            return Err(Malformed("a batch that is too large for a chunk"));
        }
        let packed = codec::pack(section);
        // SANITY: below the limit, and packing adds less than a hundredth.
        *place =
            SectionPlace { packed: packed.len() as u32, length: section.len() as u32, crc: crc32fast::hash(&packed) };
        out.extend_from_slice(&packed);
    }
    let mut bytes = [0; HEADER_BYTES];
    header.write(&mut bytes);
    out[..HEADER_BYTES].copy_from_slice(&bytes);
    Ok((header, out))
}

/// A fuzzer finds what lies behind a checksum only without it.
fn is_checksum(bytes: &[u8], crc: u32) -> bool {
    cfg!(fuzzing) || crc32fast::hash(bytes) == crc
}

/// A section from its packed bytes.
pub(super) fn section(packed: &[u8], place: SectionPlace) -> Result<Vec<u8>, Malformed> {
    if !is_checksum(packed, place.crc) {
        return Err(Malformed("a section with a wrong checksum"));
    }
    codec::unpack(packed, place.length as usize)
}

/// The header of the chunk at the beginning of `bytes`, all of which is there.
pub(super) fn header(bytes: &[u8]) -> Result<ChunkHeader, Malformed> {
    let cut_short = Malformed("a chunk that is cut short");
    let header = ChunkHeader::parse(bytes.first_chunk().ok_or(cut_short)?)?;
    if header.chunk_bytes() <= bytes.len() as u64 { Ok(header) } else { Err(cut_short) }
}

/// A section of the chunk at the beginning of `bytes`, checked and unpacked.
pub(super) fn section_of(bytes: &[u8], header: &ChunkHeader, which: Section) -> Result<Vec<u8>, Malformed> {
    let (start, place) = (header.start_of(which) as usize, header.place(which));
    let packed = bytes.get(start..start + place.packed as usize).ok_or(Malformed("a chunk that is cut short"))?;
    section(packed, place)
}

/// Whether a chunk's header stands anywhere in `bytes`.
pub(super) fn has_header(bytes: &[u8]) -> bool {
    bytes.windows(HEADER_BYTES).any(|window| {
        window.starts_with(&MAGIC) && window.first_chunk().is_some_and(|window| ChunkHeader::parse(window).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<(ChunkHeader, [Vec<u8>; SECTIONS]), Malformed> {
        let header = header(bytes)?;
        let [samples, owners, shapes, exact] = [Section::Samples, Section::Owners, Section::Shapes, Section::Exact]
            .map(|of| section_of(bytes, &header, of));
        Ok((header, [samples?, owners?, shapes?, exact?]))
    }

    #[test]
    fn a_chunk_comes_back_and_any_other_byte_is_noticed() {
        let sections = [&b"samples"[..], b"", &[5; 3000], b"exact"];
        let (header, mut bytes) = encode(7, (10, 20), sections).unwrap();
        assert_eq!(header.chunk_bytes(), bytes.len() as u64);
        assert_eq!(decode(&bytes).unwrap(), (header, sections.map(<[u8]>::to_vec)));
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            assert!(decode(&bytes).is_err(), "byte {at}");
            bytes[at] ^= 0x10;
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_header_is_found_wherever_it_stands() {
        let (_, bytes) = encode(0, (1, 2), [b"one", b"two", b"three", b"four"]).unwrap();
        for before in [0, 1, 77] {
            let mut all = vec![b'C'; before];
            all.extend_from_slice(&bytes);
            assert!(has_header(&all), "{before}");
            assert!(!has_header(&all[..before + HEADER_BYTES - 1]));
            all[before + 8] ^= 1;
            assert!(!has_header(&all), "{before}");
        }
    }

    #[test]
    fn sections_that_are_larger_than_they_may_be_are_refused_by_the_header() {
        let fits = SectionPlace { packed: MAX_PACKED_BYTES as u32, length: MAX_SECTION_BYTES as u32, crc: 1 };
        let packed = SectionPlace { packed: fits.packed + 1, ..fits };
        let length = SectionPlace { length: fits.length + 1, ..fits };
        for (place, good) in [(fits, true), (packed, false), (length, false)] {
            let mut sections = [fits; SECTIONS];
            sections[2] = place;
            let mut bytes = [0; HEADER_BYTES];
            ChunkHeader { number: 0, first_ns: 1, last_ns: 1, sections }.write(&mut bytes);
            assert_eq!(ChunkHeader::parse(&bytes).is_ok(), good, "{place:?}");
        }
    }
}
