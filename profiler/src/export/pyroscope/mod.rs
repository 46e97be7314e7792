//! Pyroscope's push API: one `push.v1.PushRequest` in protobuf for each series.
//!
//! One series in a request, since the server answers for a request as a whole: of several, those that were taken would be sent
//! again with those that were not. The server makes a series of each set of sample labels, so that the profiles have none.

mod encoder;
mod labels;

pub use encoder::{PyroscopeConfig, PyroscopeEncoder};
pub use labels::{MAX_LABELS, MAX_VALUE_BYTES};
