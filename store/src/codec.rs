//! How sections are packed.

use super::bytes::Malformed;

/// Largest section before packing. A batch of 64 busy CPUs has about 1 MiB of samples and, at its first, 20 MiB of names.
pub(super) const MAX_SECTION_BYTES: usize = 64 << 20;
/// The same after packing: what can't be packed becomes larger by 1/255.
pub(super) const MAX_PACKED_BYTES: usize = MAX_SECTION_BYTES + MAX_SECTION_BYTES / 128;

/// The packed form: LZ4's block format.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    lz4_flex::block::compress(bytes)
}

/// `length` is what it must unpack to.
pub(super) fn unpack(packed: &[u8], length: usize) -> Result<Vec<u8>, Malformed> {
    // LZ4 can't do better than 255 : 1, so that a small section can't ask for much memory.
    if length > MAX_SECTION_BYTES || length > packed.len().saturating_mul(255).saturating_add(64) {
        return Err(Malformed("a section that unpacks to more than it may"));
    }
    let bytes = lz4_flex::block::decompress(packed, length).map_err(|_| Malformed("a section that does not unpack"))?;
    if bytes.len() == length { Ok(bytes) } else { Err(Malformed("a section of another length")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_back_and_their_length_is_checked_before_memory_is_taken() {
        for bytes in [&b""[..], b"a", &[7; 100_000]] {
            let packed = pack(bytes);
            assert_eq!(unpack(&packed, bytes.len()).as_deref(), Ok(bytes));
            assert!(unpack(&packed, bytes.len() + 1).is_err());
        }
        assert_eq!(unpack(&[1, 2, 3], 1 << 30), Err(Malformed("a section that unpacks to more than it may")));
    }
}
