//! Sinks: each takes batches without ever making the sampler wait, and gets them to its server or keeps them.
//!
//! ```text
//! submit ─► inbox ─► encode, store (spool, else memory) ─► Sender: take, send, done
//! ```
//!
//! Each sink has its own two tasks, its own queue and its own lock: one whose server or disk hangs holds nobody else. Files are
//! read and written on tokio's blocking threads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::complaints::Complaints;
use super::counters::{Counters, DropReason, Snapshot};
use super::queue::{MemoryLimits, Queue, SpoolOptions};
use super::retry::{Backoff, RetryPolicy};
use super::sender::{Sender, Shared, Stage};
use super::timing::{SystemTiming, Timing};
use super::transport::Transport;
use super::{Encode, EncodeError, Message};
use crate::profile::Batch;

/// Batches that may wait to be encoded. Encoding waits for no server, so that more would only hide a disk that hangs; a batch of a
/// busy node takes some 10 MiB.
const INBOX_BATCHES: usize = 4;
/// Time that the end may take by default; Kubernetes kills after 30 s.
pub const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(25);
/// Time after the deadline in which what is left is brought to disk.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// What a sink is besides its encoder and its transport.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// For logs and metrics.
    pub name: String,
    /// Bounds of what waits in memory: what has no spool, or a full one.
    pub memory: MemoryLimits,
    /// `None`: memory only.
    pub spool: Option<SpoolOptions>,
    /// How failures are repeated.
    pub retry: RetryPolicy,
}

/// One sink at work.
pub struct Sink {
    shared: Arc<Shared>,
    inbox: mpsc::Sender<Arc<Batch>>,
    stage: watch::Sender<Stage>,
    intake: JoinHandle<()>,
    sender: JoinHandle<()>,
    complaints: Mutex<Complaints>,
}

impl Sink {
    /// Starts a sink; in a tokio runtime with I/O and time only. Opens the spool in the background.
    pub fn start(encoder: Box<dyn Encode>, transport: Box<dyn Transport>, options: SinkOptions) -> Sink {
        Sink::start_with(encoder, transport, options, Arc::new(SystemTiming))
    }

    /// [`Sink::start`] with another clock and other chance.
    pub fn start_with(
        encoder: Box<dyn Encode>,
        transport: Box<dyn Transport>,
        options: SinkOptions,
        timing: Arc<dyn Timing>,
    ) -> Sink {
        let SinkOptions { name, memory, spool, retry } = options;
        let shared = Arc::new(Shared {
            name,
            queue: Mutex::new(None),
            encoder: Mutex::new(encoder),
            counters: Arc::default(),
            filled: Notify::new(),
            timing,
        });
        let (inbox, batches) = mpsc::channel(INBOX_BATCHES);
        let (stage, stage_seen) = watch::channel(Stage::Run);
        let (more, more_seen) = watch::channel(true);
        let intake = tokio::spawn(take_in(shared.clone(), memory, spool, batches, stage_seen.clone(), more));
        let sender = Sender {
            shared: shared.clone(),
            transport,
            stage: stage_seen,
            more: more_seen,
            backoff: Backoff::new(retry),
            refusals: Complaints::default(),
            drops: Complaints::default(),
            rejections: Complaints::rare(),
            is_said_to_wait: false,
            is_said_away: false,
        };
        let sender = tokio::spawn(sender.run());
        Sink { shared, inbox, stage, intake, sender, complaints: Mutex::default() }
    }

    /// Hands a batch over. Returns at once: if the sink can't keep up, the batch is dropped and counted.
    pub fn submit(&self, batch: Arc<Batch>) {
        let Err(error) = self.inbox.try_send(batch) else { return };
        let batch = match error {
            mpsc::error::TrySendError::Full(batch) | mpsc::error::TrySendError::Closed(batch) => batch,
        };
        self.shared.counters.count_dropped_batch(DropReason::InboxFull, batch.samples.len() as u64);
        let now = self.shared.timing.now();
        if let Some(count) = self.complaints.lock().unwrap_or_else(PoisonError::into_inner).add(now) {
            tracing::warn!(
                sink = self.shared.name,
                count,
                "intervals were dropped: the ones before are not stored yet"
            );
        }
    }

    /// Its name in logs and metrics.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its counters now. Waits for nothing.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.counters.snapshot()
    }

    /// Its counters, also for after its end.
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters.clone()
    }

    /// Delivers what waits, then ends. Ends earlier if the server does not answer and all is on disk, and after `deadline` in any
    /// case; what is then not delivered is in the spool, or lost and counted.
    pub async fn shutdown(self, deadline: Duration) -> Snapshot {
        let Sink { shared, inbox, stage, mut intake, mut sender, .. } = self;
        drop(inbox);
        let _ = stage.send(Stage::Drain);
        let waited = tokio::select! {
            _ = &mut sender => true,
            () = shared.timing.wait(deadline) => false,
        };
        if !waited {
            let _ = stage.send(Stage::End);
            // A disk that hangs: the thread that waits for it is left behind.
            tokio::select! {
                _ = &mut sender => {}
                () = shared.timing.wait(LAST_WRITES) => sender.abort(),
            }
        }
        tokio::select! {
            _ = &mut intake => {}
            () = shared.timing.wait(LAST_WRITES) => intake.abort(),
        }
        shared.counters.snapshot()
    }
}

/// All sinks of the agent.
#[derive(Default)]
pub struct Sinks(Vec<Sink>);

impl Sinks {
    /// Adds one.
    pub fn add(&mut self, sink: Sink) {
        self.0.push(sink);
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Sink> {
        self.0.iter()
    }

    /// Hands a batch to each. Returns at once.
    pub fn submit(&self, batch: &Arc<Batch>) {
        self.0.iter().for_each(|sink| sink.submit(batch.clone()));
    }

    /// Ends all at the same time, see [`Sink::shutdown`]; their last counters by name.
    pub async fn shutdown(self, deadline: Duration) -> Vec<(String, Snapshot)> {
        let mut ending = JoinSet::new();
        for sink in self.0 {
            ending.spawn(async move { (sink.name().to_owned(), sink.shutdown(deadline).await) });
        }
        let mut ended = ending.join_all().await;
        ended.sort_by(|(one, _), (other, _)| one.cmp(other));
        ended
    }
}

/// The half of a sink that takes in: opens the queue, encodes, stores.
async fn take_in(
    shared: Arc<Shared>,
    memory: MemoryLimits,
    spool: Option<SpoolOptions>,
    mut batches: mpsc::Receiver<Arc<Batch>>,
    stage: watch::Receiver<Stage>,
    more: watch::Sender<bool>,
) {
    let opening = shared.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let queue = Queue::open(opening.name.clone(), memory, spool.as_ref(), opening.counters.clone());
        *opening.queue.lock().unwrap_or_else(PoisonError::into_inner) = Some(queue);
    });
    let _ = opened.await;
    shared.filled.notify_one();

    // Of a server that has not said what it speaks, one for each interval.
    let mut complaints = Complaints::rare();
    while let Some(batch) = batches.recv().await {
        let samples = batch.samples.len() as u64;
        if *stage.borrow() == Stage::End {
            shared.counters.count_dropped_batch(DropReason::NotEncoded, samples);
            continue;
        }
        let storing = shared.clone();
        let stored = tokio::task::spawn_blocking(move || store(&storing, &batch)).await;
        let why = match stored {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("its encoder broke".to_owned()),
        };
        if let Some(why) = why {
            shared.counters.count_dropped_batch(DropReason::NotEncoded, samples);
            if let Some(count) = complaints.add(shared.timing.now()) {
                tracing::error!(sink = shared.name, count, "intervals were dropped: {why}");
            }
        }
        shared.filled.notify_one();
    }
    let _ = more.send(false);
}

/// Encodes and stores a batch. Blocking.
fn store(shared: &Shared, batch: &Batch) -> Result<(), EncodeError> {
    let mut encoder = shared.encoder.lock().unwrap_or_else(PoisonError::into_inner);
    let encoded = shared.counters.encoding.of(|| encoder.encode(batch));
    drop(encoder);
    let messages = encoded?;
    // The lock as well: whoever has it may wait for the disk.
    shared.counters.storing.of(|| put(shared, messages));
    Ok(())
}

/// Queues what was encoded. Blocking.
fn put(shared: &Shared, messages: Vec<Message>) {
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    for message in messages {
        shared.counters.encoded.add(&message);
        match queue.as_mut() {
            Some(queue) => queue.push(message),
            // It ended already.
            None => shared.counters.count_drop(DropReason::Ended, &message),
        }
    }
    if let Some(queue) = queue.as_mut()
        && shared.counters.is_failing()
    {
        queue.sync();
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
