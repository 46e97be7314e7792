//! The agent: samples for good, cuts an interval every ten seconds (the first after three), names it, finds out whose it is, and
//! hands it to those who deliver or keep it.
//!
//! Two threads of its own: `sampling` drives the engine and never waits for anybody; `naming` reads other people's files. What
//! talks to the network runs on tokio, behind queues. Intervals that find the queue full are dropped and counted.

pub mod excluded;
pub mod governor;
pub mod history;
pub mod history_metrics;
pub mod http;
pub mod left_out;
pub mod memory;
pub mod metrics;
mod naming;
pub mod owners;
pub mod page_source;
mod sampling;
pub mod sink_metrics;
pub mod sinks;
pub mod stages;
mod statistics;
pub mod status;
mod undecided;
pub mod uploads;
pub(crate) mod usage;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::engine::{Engine, EngineError, Interval, Options};
use crate::profile::Batch;
use status::Status;

pub use naming::{Consume, Identify};

/// Length of an interval: how late history and names are at most, and what a `kill -9` may lose.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Length of the first one: whoever starts an agent to look at its page waits for it.
const FIRST_INTERVAL: Duration = Duration::from_secs(3);
/// Intervals that may wait for their names: a busy node's have a few MB each.
const WAITING_INTERVALS: usize = 4;

/// What the agent is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the engine.
    pub engine: Options,
    /// For the symbolizer.
    pub symbolizer: symbolizer::Options,
    /// Processor seconds per second that profiling may take, over all CPUs.
    pub cpu_limit: f64,
    /// Most memory that the agent may take, kernel maps included, bytes; 0 is no limit.
    pub memory_limit: u64,
}

/// Why the agent could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Sampling.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A thread could not be started.
    #[error("cannot start the thread {name}: {source}")]
    Thread {
        /// Which.
        name: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
}

/// Samples until `stop` says so; returns when the last interval was handed to every consumer.
///
/// # Errors
/// When sampling can't start. An error while it runs ends it, after what was recorded has been handed on.
pub fn run(
    settings: &Settings,
    status: &Arc<Status>,
    identify: impl FnOnce(&Engine) -> std::io::Result<Box<dyn Identify>>,
    consumers: Vec<Box<dyn Consume>>,
    stop: &dyn Fn() -> bool,
) -> Result<(), AgentError> {
    let mut engine = Engine::new(settings.engine.clone())?;
    let namer = crate::naming::Namer::new(settings.symbolizer.clone(), &settings.engine.proc_root)
        .map_err(|source| AgentError::Thread { name: "symbolize", source })?;
    let (intervals, named) = sync_channel::<Interval>(WAITING_INTERVALS);
    let identify = identify(&engine).map_err(|source| AgentError::Thread { name: "identity", source })?;
    if let Some(listener) = identify.listener() {
        engine.announce_to(listener);
    }
    let beats = Arc::clone(status);
    let (symbolizer, proc_root) = (settings.symbolizer.clone(), settings.engine.proc_root.clone());
    let another = move || crate::naming::Namer::new(symbolizer.clone(), &proc_root);
    let thread = std::thread::Builder::new()
        .name("everflame-names".into())
        .spawn(move || {
            let (another, earlier) = (Box::new(another), symbolizer::Statistics::default());
            naming::Names { namer, another, earlier, identify, consumers, status: beats }.run(&named);
        })
        .map_err(|source| AgentError::Thread { name: "everflame-names", source })?;
    let result = sampling::sample(engine, settings, status, intervals, stop);
    // The channel is closed: the thread ends once it has handed the last interval on.
    if thread.join().is_err() {
        tracing::error!("the naming thread panicked; the last intervals are lost");
    }
    result.map_err(AgentError::from)
}

/// A batch that is named and whose it is known.
pub type NamedBatch = Arc<Batch>;
