//! Everflame as a library; `main.rs` is a thin rim around it.

pub mod cli;
pub mod engine;
pub mod ledger;
pub mod output;
pub mod page;
pub mod process;
pub mod profile;
pub mod report;
pub mod sampler;
pub mod tables;
