//! `profile.proto` of pprof as prost types, and pprof's own validity check.
//!
//! No other logic: compression, limits on a file's size and what a profile means are the profiler's business.

pub mod profile;
pub mod validity;

pub use profile::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
