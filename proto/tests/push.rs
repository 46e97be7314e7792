//! Pyroscope's push request has the field numbers of its schema.

use pprof_proto::push::{LabelPair, PushRequest, RawProfileSeries, RawSample};
use prost::Message;

#[test]
fn a_push_request_is_these_bytes() {
    let request = PushRequest {
        series: vec![RawProfileSeries {
            labels: vec![LabelPair { name: "a".to_owned(), value: "b".to_owned() }],
            samples: vec![RawSample { raw_profile: vec![0x1f, 0x8b], id: "i".to_owned() }],
        }],
    };
    let bytes = b"\x0a\x11\x0a\x06\x0a\x01a\x12\x01b\x12\x07\x0a\x02\x1f\x8b\x12\x01i";
    assert_eq!(request.encode_to_vec(), bytes);
    assert_eq!(PushRequest::decode(&bytes[..]), Ok(request));
}
