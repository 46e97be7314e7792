//! The engine: timers, programs, rings, processes and tables tied together, from a timer hit to a [`Batch`](crate::profile::Batch).
//!
//! One thread drives it by calling [`Engine::tick`] each [`Engine::round`]; rows are built on a worker's thread. `order` and
//! `copies` are pure; `timers` owns the perf events.

mod account;
mod copies;
mod counters;
mod follow;
pub mod naming;
mod options;
mod order;
mod precedence;
mod run;
mod settle;
mod tags;
mod target;
mod timers;

pub use counters::{EngineCounters, MAX_COSTS};
pub use options::{
    DEFAULT_COPIES_PER_SECOND, DEFAULT_PROCESSES, DEFAULT_STACK_BYTES, DEFAULT_UNWIND_BYTES, EngineError, Options,
};
pub use precedence::Precedence;
pub use run::{Engine, Recording};
pub use settle::Capture;
pub use target::Target;
pub use timers::monotonic_ns;
