//! Base64 (RFC 4648, padded), writing only: the one alphabet that is safe in HTML, whatever the bytes are.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` to `out` as base64.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let letter = |shift: u32| ALPHABET[(bits >> shift & 63) as usize];
        let padded = |needed: usize, shift: u32| if group.len() > needed { letter(shift) } else { b'=' };
        out.extend_from_slice(&[letter(18), letter(12), padded(1, 6), padded(2, 0)]);
    }
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn the_examples_of_the_rfc_and_all_letters() {
        let cases: [(&[u8], &str); 9] = [
            (b"", ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
            (&[0xfb, 0xff, 0xfe], "+//+"),
            (&[0, 0, 0], "AAAA"),
        ];
        for (bytes, text) in cases {
            let mut out = b">".to_vec();
            encode(bytes, &mut out);
            assert_eq!(out, [b">", text.as_bytes()].concat());
        }
    }
}
