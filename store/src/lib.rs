//! The history: what was sampled in the last day, on disk, to be asked by time and label. See `docs/store.md`.
//!
//! [`Store`] appends batches to segments, of an hour each; [`Reader`] asks, also meanwhile. A segment is append-only: chunk after
//! chunk, each one batch, with a dictionary that grows along. The index says where the chunks are and can be made again from
//! them. It knows nothing of HTTP, and keeps nothing in memory but the dictionary of the segment in hand.

mod budget;
mod bytes;
mod chunk;
mod clock;
mod codec;
mod columns;
mod counters;
mod dictionary;
mod entries;
mod entry;
mod error;
mod functions;
mod index;
mod label;
mod lock;
mod numbered;
mod reader;
mod recover;
mod result;
mod segment;
mod series;
mod source;
mod stacks;
mod tables;
mod transfer;
mod tree;
mod upkeep;
mod whole;
mod writer;

pub use bytes::Malformed;
pub use counters::StoreCounters;
pub use error::StoreError;
pub use label::{Label, Match, Query};
pub use reader::{Helper, Reader, Skipped};
pub use recover::SetAside;
pub use segment::FORMAT_VERSION;
pub use series::{LabelSummary, MAX_SERIES, MAX_STEPS, MAX_VALUES, Series, Values};
pub use stacks::{Grouping, MAX_RESULT_ROWS, StackSums};
pub use whole::{decode_segment, sum_segment};
pub use writer::{Limits, Store};
