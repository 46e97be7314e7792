//! Numbers of variable length (LEB128, as protobuf has them), and a reader that never goes beyond its bytes.

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Appends a number: 1 byte below 128, 10 at most.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number that is near zero on either side.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, (value.wrapping_shl(1) ^ (value >> 63)) as u64);
}

/// What is left to read.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'bytes>(pub(super) &'bytes [u8]);

impl<'bytes> Bytes<'bytes> {
    #[inline]
    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        // Nearly all of them: an hour of a busy node is some ten million numbers of one byte or two.
        match *self.0 {
            [first, ref rest @ ..] if first < 0x80 => {
                self.0 = rest;
                Ok(u64::from(first))
            }
            [first, second, ref rest @ ..] if second < 0x80 => {
                self.0 = rest;
                Ok(u64::from(first & 0x7f) | u64::from(second) << 7)
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (position, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                self.0 = &self.0[position + 1..];
                return Ok(value);
            }
        }
        Err(Malformed("a number without an end"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number that is an index or a count.
    #[inline]
    pub(super) fn small(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed("an index beyond 32 bits"))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed("nothing where a byte should be"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'bytes [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed("a length beyond the end"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// A count of things that take at least one byte each: never more than the bytes that are left.
    pub(super) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.number()?;
        let count = usize::try_from(count).ok().filter(|count| *count <= self.0.len());
        count.ok_or(Malformed("a count beyond the end"))
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("bytes after the end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_take_the_bytes_that_they_need() {
        for (value, length) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX, 10)] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), length, "{value}");
            let mut bytes = Bytes(&out);
            assert_eq!((bytes.number(), bytes.end()), (Ok(value), Ok(())));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_signed(&mut out, value);
            assert_eq!(Bytes(&out).signed(), Ok(value));
        }
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        assert!(Bytes(&[]).number().is_err());
        assert!(Bytes(&[0x80; 3]).number().is_err());
        assert!(Bytes(&[0x80; 11]).number().is_err());
        assert!(Bytes(&[1, 2]).take(3).is_err());
        assert!(Bytes(&[3, 0, 0]).count().is_err());
        assert_eq!(Bytes(&[2, 0, 0]).count(), Ok(2));
        assert!(Bytes(&[0xff, 0xff, 0xff, 0xff, 0x7f]).small().is_err());
    }
}
