//! What people read: tables and lines made from a profile.
//!
//! Everything here is text in, text out: no files, no terminal.

pub mod difference;
pub mod folded;
mod from_profile;
mod kind;
mod numbers;
mod shown;
pub mod stack_table;
pub mod statement;
pub mod summary;
pub mod svg;
pub mod top;

pub use from_profile::{MAX_TOTAL_FRAMES, SumsError, TooManyFrames};
pub use numbers::{share, thousands, value};
pub use shown::shown;
pub use stack_table::{StackTable, UnknownSampleType};
