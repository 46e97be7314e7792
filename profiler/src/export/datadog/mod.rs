//! Datadog's profile intake: one `multipart/form-data` request for each series, with `event.json` and `cpu.pprof`.
//!
//! The trace agent passes the body on as it is and answers for an intake that tells nothing either, so that what is sent here has
//! to be right by itself. A request is tagged with the pod of the container that its header names, hence one for each container.

mod encoder;
mod event;
mod multipart;
mod rfc3339;
mod sequence;
mod tags;

pub use encoder::{DatadogConfig, DatadogEncoder, Grouping, NO_CONTAINER};
pub use multipart::{ATTACHMENT, Form};
pub(crate) use rfc3339::rfc3339;
pub use sequence::MAX_SEQUENCES;
pub use tags::MAX_TAG_BYTES;
