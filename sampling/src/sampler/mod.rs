//! Samples out of the kernel: load the programs, open the timers, read the rings, bring everything into the order of time.
//!
//! Parsers here take bytes (`record`, `perf_record`, `btf`); only `object`, `perf_event`, `cpus`, `signals` and `features` touch the kernel. Who a
//! sample belongs to, and what its addresses mean, is `process`'s business.

pub mod btf;
pub mod cpus;
mod error;
pub mod features;
pub mod filter_set;
pub mod hierarchy;
mod map_memory;
pub mod object;
pub mod perf_event;
pub mod perf_record;
pub mod record;
mod signals;

pub use error::SamplerError;
