//! The layout byte for byte, and what damage is taken for.

use super::*;

fn message() -> Message {
    Message {
        id: *b"0123456789abcdef",
        start_ns: 1_700_000_000_000_000_000,
        samples: 99,
        headers: vec![("content-type".into(), "a/b".into())],
        body: Bytes::from_static(b"body"),
    }
}

fn decoded(record: &[u8]) -> Result<Message, RecordError> {
    let (head, payload) = record.split_first_chunk().unwrap();
    Head::decode(head)?.message(Bytes::copy_from_slice(payload))
}

#[test]
fn the_layout_is_the_documented_one() {
    let record = encode(&message()).unwrap();
    let mut expected = Vec::new();
    expected.extend(*b"EFR1\0\0\0\0");
    expected.extend(27_u32.to_le_bytes());
    expected.extend(*b"0123456789abcdef");
    expected.extend(1_700_000_000_000_000_000_u64.to_le_bytes());
    expected.extend(99_u64.to_le_bytes());
    let payload = b"\x01\0\x0c\0content-type\x03\0\0\0a/bbody";
    expected.extend(crc32fast::hash(payload).to_le_bytes());
    let head = crc32fast::hash(&expected[8..48]);
    expected.extend(head.to_le_bytes());
    expected.extend(payload);
    assert_eq!(record, expected);
    assert_eq!(decoded(&record), Ok(message()));
    assert_eq!(&segment_head(), b"EVFSPOOL\x01\0\0\0");
}

#[test]
fn each_flipped_bit_is_noticed_unless_it_is_in_the_state() {
    let record = encode(&message()).unwrap();
    for byte in 0..record.len() {
        for bit in 0..8 {
            let mut damaged = record.clone();
            damaged[byte] ^= 1 << bit;
            let expected = match byte {
                4..8 => Ok(message()),
                ..HEAD_BYTES => Err(RecordError::Head),
                _ => Err(RecordError::Payload),
            };
            assert_eq!(decoded(&damaged), expected, "byte {byte}, bit {bit}");
        }
    }
}

#[test]
fn only_the_done_state_is_done() {
    let mut record = encode(&message()).unwrap();
    for state in 0..=u8::MAX {
        record[STATE_OFFSET as usize] = state;
        assert_eq!(Head::decode(record.first_chunk().unwrap()).unwrap().done, state == STATE_DONE);
    }
}

#[test]
fn a_payload_whose_headers_do_not_hold_together_is_damaged_whatever_its_checksum() {
    let payloads: [&[u8]; 6] = [
        b"",
        b"\x01",
        b"\x01\0\xff\xffname",
        b"\x01\0\x01\0n\xff\xff\xff\xffvalue",
        b"\x01\0\x01\0\xff\x01\0\0\0v",
        b"\xff\xff\x01\0n",
    ];
    for payload in payloads {
        let head = Head {
            done: false,
            length: payload.len() as u32,
            id: [0; 16],
            start_ns: 0,
            samples: 0,
            checksum: crc32fast::hash(payload),
        };
        assert_eq!(head.message(Bytes::copy_from_slice(payload)), Err(RecordError::Payload), "{payload:?}");
    }
}

#[test]
fn what_is_too_large_is_not_written() {
    let large = Message { body: vec![0; MAX_PAYLOAD_BYTES].into(), ..message() };
    assert_eq!(encode(&large), Err(RecordError::TooLarge { bytes: MAX_PAYLOAD_BYTES, headers: 1 }));
    let many = Message { headers: vec![(String::new(), String::new()); MAX_HEADERS + 1], ..message() };
    assert_eq!(encode(&many), Err(RecordError::TooLarge { bytes: 4, headers: MAX_HEADERS + 1 }));
}

#[test]
fn a_file_is_ours_torn_or_anothers() {
    let table: [(&[u8], SegmentHead); 7] = [
        (b"EVFSPOOL\x01\0\0\0EFR1", SegmentHead::Ours),
        (b"EVFSPOOL\x02\0\0\0EFR1", SegmentHead::Foreign),
        (b"SQLite format 3\0", SegmentHead::Foreign),
        (b"short", SegmentHead::Foreign),
        (b"EVFSPOOL\x01\0", SegmentHead::Torn),
        (b"", SegmentHead::Torn),
        (b"\0\0\0", SegmentHead::Torn),
    ];
    for (bytes, expected) in table {
        assert_eq!(whose(bytes), expected, "{bytes:?}");
    }
}
