//! Profiles: what a sample and a batch are, what the ledger says of them, and the forms that people and programs read.
//!
//! Knows nothing of the kernel, of processes or of networks: batches in, bytes out. `output` alone writes files.

pub mod ledger;
pub mod output;
pub mod page;
pub mod profile;
pub mod report;
