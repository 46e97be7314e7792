//! What was measured, in one form that every output starts from.
//!
//! [`Batch`] is the seam: the sampler makes it, pprof, the page, the store and the exporters read it. It knows nothing of
//! files, sockets or BPF.

mod batch;
mod builder;
mod merge;
mod owner;
pub mod pprof;
mod select;
mod stack_counts;
mod transfer;

pub use batch::{
    Batch, Function, FunctionIndex, IdentityIndex, Line, Location, LocationIndex, LocationKind, Mapping, MappingIndex,
    Process, ProcessIndex, Sample, Stack, StackIndex, StringIndex, StringTable,
};
pub use builder::{BatchBuilder, MAX_SAMPLES, MAX_STACKS};
pub use merge::merge;
pub use owner::{Identity, beginning};
pub use select::{Parts, select};
pub use stack_counts::StackCounts;
