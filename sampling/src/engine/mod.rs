//! The engine: timers, programs, rings, processes and tables tied together, from a timer hit to a [`Batch`](profiles::profile::Batch).
//!
//! One thread drives it by calling [`Engine::tick`] each [`Engine::round`]; rows are built on a worker's thread. `order` and
//! `copies` are pure; `timers` owns the perf events.

mod account;
mod copies;
mod counters;
mod cut;
mod finish;
mod follow;
mod forget;
mod held;
mod hotplug;
mod idle;
mod options;
mod order;
mod precedence;
mod rounds;
mod run;
mod run_time;
mod settle;
mod statistics;
mod tags;
mod target;
mod timers;
mod unwanted;
mod warm_up;

pub use counters::{EngineCounters, MAX_COSTS};
pub use cut::{Code, Interval};
pub use finish::Recording;
pub use options::{
    DEFAULT_COPIES_PER_SECOND, DEFAULT_PROCESSES, DEFAULT_STACK_BYTES, DEFAULT_UNWIND_BYTES, EngineError, Options,
};
pub use precedence::Precedence;
pub use run::{Engine, Sampled};
pub use settle::Capture;
pub use statistics::{Group, TableSizes, of_parts, of_programs};
pub use target::Target;
pub use timers::monotonic_ns;
