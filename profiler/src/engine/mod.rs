//! The engine: timers, programs, rings, processes and tables tied together, from a timer hit to a [`Batch`](crate::profile::Batch).
//!
//! One thread drives it by calling [`Engine::tick`] some ten times a second; rows are built on a worker's thread. `order` and
//! `copies` are pure; `timers` owns the perf events.

mod copies;
mod counters;
mod run;
pub mod naming;
mod order;
mod target;
mod timers;

pub use counters::EngineCounters;
pub use run::{Engine, EngineError, Options, Recording};
pub use target::Target;
pub use timers::monotonic_ns;
