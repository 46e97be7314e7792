//! Names for messages that stay the same over retries and restarts: a hash of what the message is about.

use sha2::{Digest, Sha256};

/// The first 16 bytes of SHA-256 over the parts, each with its length before it, so that no two lists of parts look alike.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let whole: [u8; 32] = hash.finalize().into();
    let mut first = [0; 16];
    first.copy_from_slice(&whole[..16]);
    first
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_by_their_lengths() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"", b"a"]), digest(&[b"a"]));
        assert_eq!(digest(&[b"a"]), digest(&[b"a"]));
        // `printf '\3\0\0\0\0\0\0\0abc' | sha256sum`
        assert_eq!(hex(&digest(&[b"abc"])), "ce91dc5eec0139adf091900d225971d6");
    }
}
