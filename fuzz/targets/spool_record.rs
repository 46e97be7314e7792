//! A spool's file: records written by an earlier run, torn, damaged, or by somebody else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::export::spool::record::{HEAD_BYTES, Head, MAX_HEADERS, SEGMENT_HEAD_BYTES, encode, whose};

fuzz_target!(|data: &[u8]| {
    whose(&data[..data.len().min(SEGMENT_HEAD_BYTES)]);
    let mut rest = data;
    while let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() {
        let Ok(head) = Head::decode(head) else { return };
        let Some((payload, next)) = after.split_at_checked(head.length as usize) else { return };
        if let Ok(message) = head.message(payload.to_vec().into()) {
            assert!(message.headers.len() <= MAX_HEADERS);
            let again = encode(&message).expect("what was read");
            assert_eq!(again.len(), HEAD_BYTES + payload.len());
            let (head, payload) = again.split_first_chunk().expect("longer than a head");
            let again = Head::decode(head).and_then(|head| head.message(payload.to_vec().into()));
            assert_eq!(again, Ok(message));
        }
        rest = next;
    }
});
