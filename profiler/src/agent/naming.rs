//! The naming thread: names, identities, then everybody who wants the batch.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use symbolizer::Statistics;

use super::NamedBatch;
use super::status::Status;
use crate::engine::{Interval, Sampled, monotonic_ns};
use crate::naming::Namer;

/// How often the loop comes round while no interval comes.
const LOOK: Duration = Duration::from_secs(1);

/// Finds out whose processes are.
pub trait Identify: Send {
    /// Where the engine announces processes that it samples for the first time; they may end any moment.
    fn listener(&self) -> Option<SyncSender<Sampled>>;
    /// Fills in identities and cgroup paths of the interval's processes.
    fn identify(&mut self, interval: &mut Interval);
}

/// Takes batches; must not wait for anything slow.
pub trait Consume: Send {
    /// The next batch, in order of time.
    fn take(&mut self, batch: &NamedBatch);
    /// No more will come.
    fn finish(&mut self);
}

pub(super) struct Names {
    pub(super) namer: Namer,
    /// Makes a namer that knows nothing yet.
    pub(super) another: Box<dyn Fn() -> std::io::Result<Namer> + Send>,
    /// What the namers before this one counted: their counts go on, they never go back.
    pub(super) earlier: Statistics,
    pub(super) identify: Box<dyn Identify>,
    pub(super) consumers: Vec<Box<dyn Consume>>,
    pub(super) status: Arc<Status>,
}

impl Names {
    /// Until the channel of intervals is closed.
    pub(super) fn run(mut self, intervals: &Receiver<Interval>) {
        loop {
            self.status.namer_beats();
            if self.status.takes_eviction() {
                self.forget();
            }
            match intervals.recv_timeout(LOOK) {
                Ok(interval) => self.hand_on(interval),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for consumer in &mut self.consumers {
            consumer.finish();
        }
    }

    /// Gives back the memory of all symbols and debug information; what is needed is read again.
    fn forget(&mut self) {
        match (self.another)() {
            Ok(namer) => {
                self.earlier.add_earlier(&self.namer.statistics());
                self.namer = namer;
                self.tell();
            }
            Err(error) => tracing::warn!("symbols are kept although memory is short: {error}"),
        }
        crate::allocator::give_back();
    }

    fn hand_on(&mut self, mut interval: Interval) {
        let status = Arc::clone(&self.status);
        let stages = &status.stages;
        let cut_ns = interval.batch.monotonic_start_ns.saturating_add(interval.batch.duration_ns);
        stages.waiting.took(Duration::from_nanos(monotonic_ns().saturating_sub(cut_ns)));
        stages.naming.of(|| self.namer.name(&mut interval));
        stages.identity.of(|| self.identify.identify(&mut interval));
        let batch = Arc::new(interval.batch);
        stages.hand_on.of(|| self.consumers.iter_mut().for_each(|consumer| consumer.take(&batch)));
        drop(batch);
        self.tell();
        // Names of one large executable take tens of MB while they are made; what is freed in between other blocks would stay: 31 of
        // 76 MB after a compiler had run.
        crate::allocator::give_back();
    }

    /// Lets `/metrics` know what names cost and what is missing.
    fn tell(&self) {
        let mut symbolizer = self.namer.statistics();
        symbolizer.add_earlier(&self.earlier);
        let perf_map_bytes = self.namer.perf_map_bytes();
        let mut numbers = self.status.naming();
        (numbers.symbolizer, numbers.perf_map_bytes) = (symbolizer, perf_map_bytes);
    }
}
