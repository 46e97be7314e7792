//! `profile.proto` of pprof as prost types, and pprof's own validity check; the messages of other peers (`push`, `cri`).
//!
//! No other logic: compression, limits on a file's size and what a profile means are the profiler's business.

pub mod cri;
pub mod profile;
pub mod push;
pub mod validity;

pub use profile::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
