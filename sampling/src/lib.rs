//! Sampling: the eBPF programs loaded and attached, processes followed, unwind tables published, samples finished and named.
//!
//! In: a kernel. Out: [`profiles::profile::Batch`]. Whose a sample is in a cluster, and where profiles go, is for others.

pub mod engine;
mod mountinfo;
pub mod naming;
pub mod process;
pub mod sampler;
pub mod tables;
