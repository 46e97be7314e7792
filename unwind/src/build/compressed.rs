//! Compressed sections, in memory that is bounded whatever they claim to be.
//!
//! **Does not:** gzip-like `.zdebug` sections of old linkers.

use std::borrow::Cow;

use object::elf::{CompressionType, ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD};
use object::{CompressedData, CompressionFormat};

use super::bytes::Bytes;

/// Largest window of a zstd frame: the decoder holds as much beside what it gives. RFC 8878 asks decoders for no more than this,
/// and at the levels that linkers take, frames have 2 MiB.
const MAX_WINDOW: u64 = 8 << 20;

/// The `size` bytes that `data` decompresses to; `None` if there are fewer, or if they are more than `limit`.
pub(super) fn decompressed(kind: CompressionType, data: &[u8], size: u64, limit: u64) -> Option<Cow<'_, [u8]>> {
    if size > limit {
        return None;
    }
    let format = match kind {
        ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
        ELFCOMPRESS_ZSTD if largest_window(data)? <= MAX_WINDOW => CompressionFormat::Zstandard,
        _ => return None,
    };
    CompressedData { format, data, uncompressed_size: size }.decompress().ok()
}

/// The largest window of zstd frames (RFC 8878, 3.1.1): each block says how long it is, so nothing has to be decoded.
fn largest_window(data: &[u8]) -> Option<u64> {
    const MAGIC: u32 = 0xfd2f_b528;
    let mut bytes = Bytes::at(data, 0);
    let mut largest = 0;
    while !bytes.is_empty() {
        match bytes.u32()? {
            MAGIC => {}
            // A frame to be skipped.
            0x184d_2a50..=0x184d_2a5f => {
                let length = bytes.u32()?;
                bytes.take(length as usize)?;
                continue;
            }
            _ => return None,
        }
        largest = largest.max(window(&mut bytes)?);
    }
    Some(largest)
}

/// The window of the frame whose header `bytes` is at. Skips the frame.
fn window(bytes: &mut Bytes<'_>) -> Option<u64> {
    let descriptor = bytes.u8()?;
    let is_single_segment = descriptor & 0x20 != 0;
    let has_checksum = descriptor & 4 != 0;
    let mut window = 0;
    if !is_single_segment {
        let byte = u64::from(bytes.u8()?);
        let base = 1u64 << (10 + (byte >> 3));
        window = base + base / 8 * (byte & 7);
    }
    bytes.take([0, 1, 2, 4][usize::from(descriptor & 3)])?;
    let size = match (descriptor >> 6, is_single_segment) {
        (0, false) => 0,
        (0, true) => u64::from(bytes.u8()?),
        (1, _) => u64::from(bytes.u16()?) + 256,
        (2, _) => u64::from(bytes.u32()?),
        _ => bytes.u64()?,
    };
    if is_single_segment {
        window = size;
    }
    loop {
        let header = match bytes.take(3)? {
            [low, middle, high] => u32::from_le_bytes([*low, *middle, *high, 0]),
            _ => return None,
        };
        // One byte that is repeated, or as many as the header says.
        let is_repeated = header >> 1 & 3 == 1;
        bytes.take(if is_repeated { 1 } else { header as usize >> 3 })?;
        if header & 1 != 0 {
            break;
        }
    }
    bytes.take(if has_checksum { 4 } else { 0 })?;
    Some(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of `length` zeroes in one block, after a header that begins with these bytes.
    fn zstd(header: &[u8], length: u32) -> Vec<u8> {
        let block = length << 3 | 1 << 1 | 1;
        [&[0x28, 0xb5, 0x2f, 0xfd], header, &block.to_le_bytes()[..3], &[0]].concat()
    }

    /// One stored block.
    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let length = bytes.len() as u16;
        let (mut low, mut high) = (1u32, 0u32);
        for byte in bytes {
            low = (low + u32::from(*byte)) % 65521;
            high = (high + low) % 65521;
        }
        let sum = (high << 16 | low).to_be_bytes();
        [&[0x78, 1, 1], &length.to_le_bytes()[..], &(!length).to_le_bytes(), bytes, &sum].concat()
    }

    #[test]
    fn sections_are_decompressed_up_to_the_limit() {
        let text = zlib(&[7; 100]);
        assert_eq!(decompressed(ELFCOMPRESS_ZLIB, &text, 100, 100).as_deref(), Some(&[7; 100][..]));
        for (name, size, limit) in [("more than the limit", 100, 99), ("fewer bytes than it says", 101, 101)] {
            assert_eq!(decompressed(ELFCOMPRESS_ZLIB, &text, size, limit), None, "{name}");
        }
        assert_eq!(decompressed(CompressionType(99), &text, 100, 100), None);
    }

    #[test]
    fn zstd_frames_with_large_windows_are_refused() {
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18][..], &3u32.to_le_bytes(), &[1, 2, 3]].concat();
        // 10 + 13 bits, and 7 eighths more.
        let (largest, too_large) = ([0, 13 << 3], [0, 13 << 3 | 1]);
        let of_size = |size: u64| [&[0xe0][..], &size.to_le_bytes()].concat();
        for (name, data, size) in [
            ("8 MiB", zstd(&largest, 100), Some(100)),
            ("more", zstd(&too_large, 100), None),
            ("in the second frame", [zstd(&largest, 100), zstd(&too_large, 100)].concat(), None),
            ("two frames, and one to be skipped", [zstd(&largest, 9), skipped, zstd(&[0, 0], 5)].concat(), Some(14)),
            ("one segment", zstd(&[0x20, 100], 100), Some(100)),
            ("one segment of more", zstd(&of_size(MAX_WINDOW + 1), 100), None),
            ("no frame", b"text".to_vec(), None),
            ("cut off", zstd(&largest, 100)[..8].to_vec(), None),
        ] {
            let found =
                decompressed(ELFCOMPRESS_ZSTD, &data, size.unwrap_or(100), 1 << 20).map(|data| data.len() as u64);
            assert_eq!(found, size, "{name}");
        }
    }
}
