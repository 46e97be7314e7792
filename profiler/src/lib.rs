//! Everflame as a library; `main.rs` is a thin rim around it.
//!
//! Here is what makes a product of the engine: whose samples are, where they go, and the command line.

pub mod agent;
mod allocator;
pub mod cli;
pub mod doctor;
pub mod export;
pub mod identity;
pub mod kubectl;
pub mod latency;
pub mod pod;
pub mod serve;
mod terminal;

pub use profiles::{ledger, output, page, profile, report};
pub use sampling::{engine, naming, process, sampler, tables};
pub use store;
