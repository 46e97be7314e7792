//! [`Batch`](crate::profile::Batch) → pprof, and pprof's file form (gzip or raw) both ways.
//!
//! Addresses are ELF virtual addresses: every mapping starts at 0 with offset 0 and no end, which pprof reads as "already
//! adjusted", so that names can be looked up later from the file alone, whatever the load address was.

mod comments;
mod encode;
mod file;
mod tables;

pub use comments::{ProfileInfo, comment_pairs};
pub use encode::{EncodeError, encode, label};
pub use file::{DecodeError, MAX_COMPRESSED_BYTES, MAX_MESSAGES, MAX_UNCOMPRESSED_BYTES, decode, to_gzip, to_raw};
pub use tables::TRUNCATED;
