//! Segments taken apart and put together again with right checksums, so that what is behind those can be damaged.

use std::fs;
use std::path::Path;

const FILE_HEADER: usize = 16;
const CHUNK_HEADER: usize = 76;

/// Numbers of a chunk's sections.
pub(crate) const SAMPLES: usize = 0;
pub(crate) const OWNERS: usize = 1;
pub(crate) const SHAPES: usize = 2;

/// A chunk, unpacked.
pub(crate) struct Chunk {
    pub(crate) number: u32,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    pub(crate) sections: [Vec<u8>; 4],
    /// Where it was in its file.
    pub(crate) offset: usize,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A segment's chunks.
pub(crate) fn chunks(segment: &Path) -> Vec<Chunk> {
    let bytes = fs::read(segment).unwrap();
    let mut chunks = Vec::new();
    let mut at = FILE_HEADER;
    while at < bytes.len() {
        let header = &bytes[at..at + CHUNK_HEADER];
        let mut start = at + CHUNK_HEADER;
        let sections = std::array::from_fn(|section| {
            let place = 24 + section * 12;
            let packed = &bytes[start..start + u32_at(header, place) as usize];
            start += packed.len();
            lz4_flex::block::decompress(packed, u32_at(header, place + 4) as usize).unwrap()
        });
        let (number, first_ns, last_ns) = (u32_at(header, 4), u64_at(header, 8), u64_at(header, 16));
        chunks.push(Chunk { number, first_ns, last_ns, sections, offset: at });
        at = start;
    }
    chunks
}

/// Writes them in the place of those that the segment has.
pub(crate) fn write(segment: &Path, chunks: &[Chunk]) {
    let mut out = fs::read(segment).unwrap();
    out.truncate(FILE_HEADER);
    for chunk in chunks {
        let mut header = b"CHNK".to_vec();
        header.extend(chunk.number.to_le_bytes());
        header.extend(chunk.first_ns.to_le_bytes());
        header.extend(chunk.last_ns.to_le_bytes());
        let packed: Vec<Vec<u8>> = chunk.sections.iter().map(|section| lz4_flex::block::compress(section)).collect();
        for (packed, section) in packed.iter().zip(&chunk.sections) {
            for number in [packed.len() as u32, section.len() as u32, crc32fast::hash(packed)] {
                header.extend(number.to_le_bytes());
            }
        }
        let crc = crc32fast::hash(&header);
        header.extend(crc.to_le_bytes());
        out.extend(header);
        out.extend(packed.concat());
    }
    fs::write(segment, out).unwrap();
}

/// Changes a segment in place.
pub(crate) fn edit(segment: &Path, change: impl FnOnce(&mut Vec<Chunk>)) {
    let mut chunks = chunks(segment);
    change(&mut chunks);
    write(segment, &chunks);
}

/// Makes the first byte of a text in a section one that no text has.
pub(crate) fn spoil_text(section: &mut [u8], text: &str) {
    let at = section.windows(text.len()).position(|window| window == text.as_bytes());
    section[at.unwrap_or_else(|| panic!("no {text} in the section"))] = 0xff;
}

/// The bytes of a section's numbers from the beginning on.
fn number_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1
}

/// Where the samples' columns begin: behind four facts, eight counts, five of what was dropped, and how many samples there are.
fn columns(samples: &[u8]) -> (usize, usize) {
    let mut at = 0;
    for _ in 0..17 {
        at += number_length(&samples[at..]);
    }
    let length = number_length(&samples[at..]);
    let count = (0..length).map(|byte| usize::from(samples[at + byte] & 0x7f) << (7 * byte)).sum();
    (at + length, count)
}

fn replace_number(bytes: &mut Vec<u8>, at: usize, mut number: u64) {
    let mut new = Vec::new();
    while number >= 0x80 {
        new.push(number as u8 | 0x80);
        number >>= 7;
    }
    new.push(number as u8);
    let length = number_length(&bytes[at..]);
    bytes.splice(at..at + length, new);
}

/// Gives the last sample another thread.
pub(crate) fn set_last_thread(samples: &mut Vec<u8>, thread: u32) {
    let (mut at, count) = columns(samples);
    for _ in 1..count {
        at += number_length(&samples[at..]);
    }
    replace_number(samples, at, u64::from(thread));
}

/// Gives the last sample another stack.
pub(crate) fn set_last_trace(samples: &mut Vec<u8>, trace: u32) {
    let (mut at, count) = columns(samples);
    for _ in 1..2 * count {
        at += number_length(&samples[at..]);
    }
    replace_number(samples, at, u64::from(trace));
}
