//! OTLP profiles, the layout of protocol 1.10 and 1.11: an `ExportProfilesServiceRequest` in protobuf.
//!
//! Receivers take nearly anything with 200, so that what is sent is checked here by the protocol's own rules ([`check`]) before it
//! leaves. The layouts before 1.10 have the same package name and other field numbers: a collector older than 0.148 reads garbage.

mod dictionary;
mod encoder;
mod parts;
mod rebuild;
mod resource;
mod tables;
mod validity;

pub use encoder::{MAX_MESSAGE_BYTES, OtlpConfig, OtlpEncoder};
pub use resource::MAX_VALUE_BYTES;
pub use tables::{PROVENANCE_ATTRIBUTE, UNKNOWN, UNWIND_ATTRIBUTE};
pub use validity::{Invalid, check, parse};

/// The request, as the service and the HTTP path take it.
pub use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest as Request;
