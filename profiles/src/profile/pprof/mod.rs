//! [`Batch`](crate::profile::Batch) → pprof, and pprof's file form (gzip or raw) both ways.
//!
//! Addresses are ELF virtual addresses: every mapping starts at 0 with offset 0 and no end, which pprof reads as "already
//! adjusted", so that names can be looked up later from the file alone, whatever the load address was.

mod comments;
mod encode;
mod file;
mod halves;
mod join;
mod labels;
mod tables;

pub use comments::{ProfileInfo, comment_pairs};
pub(crate) use encode::encode_parts;
pub use encode::{EncodeError, encode, encode_in, encode_sums};
pub use file::{
    DecodeError, MAX_COMMENT_BYTES, MAX_COMMENTS, MAX_COMPRESSED_BYTES, MAX_MESSAGES, MAX_NUMBERS,
    MAX_UNCOMPRESSED_BYTES, decode, to_gzip, to_gzip_quickly, to_raw,
};
pub use halves::{halves, part};
pub use join::{JoinError, join, join_parts};
pub use labels::{MAX_OWNER_BYTES, OwnerKeys, Vocabulary, label, provenance_text};
pub use tables::TRUNCATED;
