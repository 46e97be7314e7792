//! One message as bytes on disk. Sans-IO: what is read may be torn, damaged or written by somebody else.
//!
//! Little endian. The head has a checksum of its own, so that a damaged body costs one message, whose samples are still known.
//!
//! ```text
//! segment   "EVFSPOOL"  version u32                                              then records
//! head      "EFR1"  state u8  000000  length u32  id [16]  start_ns u64  samples u64  crc32(payload) u32  crc32(8..48) u32
//! payload   headers u16  { name_length u16  name  value_length u32  value }  body: the rest
//! ```

use bytes::{Buf, BufMut, Bytes};

use crate::export::Message;

/// Version of this layout. Another one is set aside, never guessed.
pub const VERSION: u32 = 1;
/// Bytes before a segment's first record.
pub const SEGMENT_HEAD_BYTES: usize = 12;
/// Bytes of a record's head.
pub const HEAD_BYTES: usize = 52;
/// Largest payload: OTLP's recommended limit for a request. It bounds what one read allocates.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 20;
/// Most headers of a message; each takes two allocations.
pub const MAX_HEADERS: usize = 64;
/// Where in a record its state is, the only byte that is ever written again.
pub const STATE_OFFSET: u64 = 4;
/// State of a record that is no longer waiting. Any other value is: sent twice is better than never.
pub const STATE_DONE: u8 = 1;

const SEGMENT_MAGIC: [u8; 8] = *b"EVFSPOOL";
const RECORD_MAGIC: [u8; 4] = *b"EFR1";
const CHECKED: std::ops::Range<usize> = 8..48;

/// Bytes that are not a record, or a message that can't be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The head's magic or checksum is wrong: where the next record starts is unknown.
    #[error("the head of a record is damaged")]
    Head,
    /// The payload's checksum is wrong, or it does not hold together.
    #[error("the payload of a record is damaged")]
    Payload,
    /// Over [`MAX_PAYLOAD_BYTES`] or [`MAX_HEADERS`].
    #[error("a message of {bytes} bytes with {headers} headers is too large for a spool")]
    TooLarge {
        /// Bytes of its body.
        bytes: usize,
        /// How many headers it has.
        headers: usize,
    },
}

/// What stands at the beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentHead {
    /// Ours.
    Ours,
    /// Cut before its head was written: it holds nothing.
    Torn,
    /// Another version's, or no spool at all.
    Foreign,
}

/// The first bytes of a segment.
pub fn segment_head() -> [u8; SEGMENT_HEAD_BYTES] {
    let mut head = [0; SEGMENT_HEAD_BYTES];
    head[..8].copy_from_slice(&SEGMENT_MAGIC);
    head[8..].copy_from_slice(&VERSION.to_le_bytes());
    head
}

/// Whose file begins with these bytes (as many of [`SEGMENT_HEAD_BYTES`] as there are).
pub fn whose(bytes: &[u8]) -> SegmentHead {
    let ours = segment_head();
    if bytes.len() >= SEGMENT_HEAD_BYTES {
        return if bytes.starts_with(&ours) { SegmentHead::Ours } else { SegmentHead::Foreign };
    }
    // After a power cut a file may have its length and not yet its bytes.
    if ours.starts_with(bytes) || bytes.iter().all(|byte| *byte == 0) {
        SegmentHead::Torn
    } else {
        SegmentHead::Foreign
    }
}

/// A record's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// No longer waiting.
    pub done: bool,
    /// Bytes of the payload, at most [`MAX_PAYLOAD_BYTES`].
    pub length: u32,
    /// The message's id.
    pub id: [u8; 16],
    /// The message's start.
    pub start_ns: u64,
    /// The message's samples.
    pub samples: u64,
    checksum: u32,
}

/// The message as one record.
///
/// # Errors
/// [`RecordError::TooLarge`].
pub fn encode(message: &Message) -> Result<Vec<u8>, RecordError> {
    let headers: usize = message.headers.iter().map(|(name, value)| 6 + name.len() + value.len()).sum();
    let length = 2 + headers + message.body.len();
    let too_large = RecordError::TooLarge { bytes: message.body.len(), headers: message.headers.len() };
    let fits = length <= MAX_PAYLOAD_BYTES
        && message.headers.len() <= MAX_HEADERS
        && message.headers.iter().all(|(name, _)| name.len() <= usize::from(u16::MAX));
    if !fits {
        return Err(too_large);
    }

    let mut record = Vec::with_capacity(HEAD_BYTES + length);
    record.resize(HEAD_BYTES, 0);
    record.put_u16_le(message.headers.len() as u16);
    for (name, value) in &message.headers {
        record.put_u16_le(name.len() as u16);
        record.put_slice(name.as_bytes());
        record.put_u32_le(value.len() as u32);
        record.put_slice(value.as_bytes());
    }
    record.put_slice(&message.body);

    let payload_checksum = crc32fast::hash(&record[HEAD_BYTES..]);
    let mut head = &mut record[..HEAD_BYTES];
    head.put_slice(&RECORD_MAGIC);
    head.put_u32_le(0);
    head.put_u32_le(length as u32);
    head.put_slice(&message.id);
    head.put_u64_le(message.start_ns);
    head.put_u64_le(message.samples);
    head.put_u32_le(payload_checksum);
    let head_checksum = crc32fast::hash(&record[CHECKED]);
    record[CHECKED.end..HEAD_BYTES].copy_from_slice(&head_checksum.to_le_bytes());
    Ok(record)
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    /// [`RecordError::Head`].
    pub fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Head, RecordError> {
        let mut rest = bytes.as_slice();
        let mut magic = [0; 4];
        rest.copy_to_slice(&mut magic);
        let [state, ..] = rest.get_u32_le().to_le_bytes();
        let length = rest.get_u32_le();
        let mut id = [0; 16];
        rest.copy_to_slice(&mut id);
        let (start_ns, samples, checksum) = (rest.get_u64_le(), rest.get_u64_le(), rest.get_u32_le());
        let sound = magic == RECORD_MAGIC
            && is_checksum(rest.get_u32_le(), &bytes[CHECKED])
            && length as usize <= MAX_PAYLOAD_BYTES;
        if !sound {
            return Err(RecordError::Head);
        }
        Ok(Head { done: state == STATE_DONE, length, id, start_ns, samples, checksum })
    }

    /// The whole record's bytes, head and payload.
    pub fn record_bytes(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.length)
    }

    /// The message of this head and its payload.
    ///
    /// # Errors
    /// [`RecordError::Payload`].
    pub fn message(&self, mut payload: Bytes) -> Result<Message, RecordError> {
        if payload.len() != self.length as usize || !is_checksum(self.checksum, &payload) {
            return Err(RecordError::Payload);
        }
        let headers = headers(&mut payload).ok_or(RecordError::Payload)?;
        Ok(Message { id: self.id, start_ns: self.start_ns, samples: self.samples, headers, body: payload })
    }
}

/// A fuzzer would never find a right checksum, and what lies behind one has to bear anything: to it, all are right.
fn is_checksum(checksum: u32, bytes: &[u8]) -> bool {
    cfg!(fuzzing) || crc32fast::hash(bytes) == checksum
}

/// Takes the headers off a payload; what remains is the body.
fn headers(payload: &mut Bytes) -> Option<Vec<(String, String)>> {
    let count = usize::from(payload.try_get_u16_le().ok()?);
    if count > MAX_HEADERS {
        return None;
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let length = payload.try_get_u16_le().ok()?.into();
        let name = text(payload, length)?;
        let length = usize::try_from(payload.try_get_u32_le().ok()?).ok()?;
        headers.push((name, text(payload, length)?));
    }
    Some(headers)
}

fn text(payload: &mut Bytes, length: usize) -> Option<String> {
    (length <= payload.len()).then(|| String::from_utf8(payload.split_to(length).into()).ok())?
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
