//! The half of a sink that sends: one message at a time, in order, until it is delivered, refused or given up.
//!
//! It waits only for its own server. What it holds stays on disk until it is done; a split message until its last piece is.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::complaints::Complaints;
use super::counters::{Answered, Counters, DropReason};
use super::queue::{Queue, Taken};
use super::retry::{Backoff, OPEN_AFTER};
use super::timing::Timing;
use super::transport::{Answer, Transport};
use super::{Encode, Message, Outcome};

/// How often a message is halved: 2¹⁰ pieces. A server that finds everything too large shall not make us split for ever.
const MAX_SPLITS: u32 = 10;

/// What a sink is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Deliver, for ever.
    Run,
    /// Deliver what waits, then end; do not wait for a server that is down if all is on disk.
    Drain,
    /// End now.
    End,
}

/// What the two halves of a sink share.
pub(super) struct Shared {
    pub(super) name: String,
    /// `None` until it is opened, and after it is closed.
    pub(super) queue: Mutex<Option<Queue>>,
    pub(super) encoder: Mutex<Box<dyn Encode>>,
    pub(super) counters: Arc<Counters>,
    /// Something was queued, or nothing will be any more.
    pub(super) filled: Notify,
    pub(super) timing: Arc<dyn Timing>,
}

impl Shared {
    /// Does blocking work with the queue; `None` if it is not open, or the runtime ends.
    pub(super) async fn with_queue<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Queue) -> T + Send + 'static,
    ) -> Option<T> {
        let shared = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            // After a panic the queue is as sound as before: the spool is read by checksum.
            shared.queue.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(work)
        });
        done.await.ok().flatten()
    }
}

/// What became of the try at hand.
enum Step {
    /// On with the next piece.
    Next,
    /// The same one again.
    Again,
    /// The sink ends.
    Ended,
}

pub(super) struct Sender {
    pub(super) shared: Arc<Shared>,
    pub(super) transport: Box<dyn Transport>,
    pub(super) stage: watch::Receiver<Stage>,
    /// Whether more may be queued.
    pub(super) more: watch::Receiver<bool>,
    pub(super) backoff: Backoff,
    pub(super) refusals: Complaints,
    pub(super) drops: Complaints,
    /// Tokens and keys that are not taken.
    pub(super) rejections: Complaints,
    /// The log says that this sink waits.
    pub(super) is_said_to_wait: bool,
    /// The log says that its server is away.
    pub(super) is_said_away: bool,
}

impl Sender {
    pub(super) async fn run(mut self) {
        let unfinished = self.deliver().await;
        let shared = self.shared.clone();
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(mut queue) = shared.queue.lock().unwrap_or_else(PoisonError::into_inner).take() {
                queue.close(unfinished);
            }
        })
        .await;
    }

    /// Until the end; gives back what was in hand then.
    async fn deliver(&mut self) -> Option<Taken> {
        loop {
            // Before looking, so that nothing is queued unseen between looking and waiting.
            let more = *self.more.borrow_and_update();
            let Some(taken) = self.shared.with_queue(Queue::take).await.flatten() else {
                if !more || *self.stage.borrow() == Stage::End {
                    return None;
                }
                tokio::select! {
                    () = self.shared.filled.notified() => {}
                    _ = self.more.changed() => {}
                    _ = self.stage.wait_for(|stage| *stage == Stage::End) => {}
                }
                continue;
            };
            let taken = Arc::new(taken);
            let finished = self.deliver_one(&taken).await;
            if !finished {
                return Arc::into_inner(taken);
            }
            self.shared.with_queue(move |queue| queue.finish(&taken)).await;
        }
    }

    /// Whether it is finished; if not, the sink ends.
    async fn deliver_one(&mut self, taken: &Arc<Taken>) -> bool {
        let mut pieces = VecDeque::from([(taken.message.clone(), 0)]);
        let mut internal_errors = 0;
        while let Some((piece, splits)) = pieces.front() {
            let (piece, splits) = (piece.clone(), *splits);
            let mut stage = self.stage.clone();
            let began = self.shared.timing.now();
            let answer = tokio::select! {
                biased;
                _ = stage.wait_for(|stage| *stage == Stage::End) => return false,
                answer = self.transport.send(&piece) => answer,
            };
            let took = self.shared.timing.now().saturating_duration_since(began);
            self.shared.counters.delivery.took(took);
            match self.step(taken, &piece, splits, answer, &mut internal_errors, &mut pieces).await {
                Step::Next => internal_errors = 0,
                Step::Again => {}
                Step::Ended => return false,
            }
        }
        true
    }

    async fn step(
        &mut self,
        taken: &Arc<Taken>,
        piece: &Message,
        splits: u32,
        answer: Answer,
        internal_errors: &mut u32,
        pieces: &mut VecDeque<(Message, u32)>,
    ) -> Step {
        let counters = self.shared.counters.clone();
        match answer.outcome {
            Outcome::Delivered => {
                self.answered();
                counters.delivered.add(piece);
                counters.succeeded(self.shared.timing.wall_clock());
                pieces.pop_front();
                Step::Next
            }
            Outcome::Refused(text) => {
                self.answered();
                counters.refused.add(piece);
                if let Some(count) = self.refusals.add(self.shared.timing.now()) {
                    tracing::warn!(sink = self.shared.name, count, "profiles were refused and are lost: {text}");
                }
                pieces.pop_front();
                Step::Next
            }
            Outcome::TooLarge(text) => {
                self.answered();
                pieces.pop_front();
                let smaller = if splits < MAX_SPLITS { self.split(piece.clone()).await } else { None };
                match smaller {
                    Some(smaller) => {
                        counters.split.fetch_add(smaller.len() as u64 - 1, Relaxed);
                        smaller.into_iter().rev().for_each(|message| pieces.push_front((message, splits + 1)));
                    }
                    None => self.count_drop(DropReason::TooLarge, piece, &text),
                }
                Step::Next
            }
            Outcome::Retry(asked, text) => {
                *internal_errors += u32::from(answer.answered == Answered::Internal);
                if *internal_errors >= self.backoff.policy().give_up_after {
                    self.count_drop(DropReason::GaveUp, piece, &text);
                    pieces.pop_front();
                    return Step::Next;
                }
                // It may be this message that somebody refuses (a firewall that reads bodies, a gateway with rights of its own): where
                // room is short it goes first, as the oldest does, or all others would go for it.
                if matches!(answer.answered, Answered::Rejected | Answered::Broken)
                    && self.shared.with_queue(|queue| queue.goes_before_others()).await == Some(true)
                {
                    counters.retry(answer.answered);
                    self.count_drop(DropReason::GaveUp, piece, &text);
                    pieces.pop_front();
                    return Step::Next;
                }
                counters.retry(answer.answered);
                self.wait(taken, asked, answer.answered, &text).await
            }
        }
    }

    /// The server is there, whatever it said.
    fn answered(&mut self) {
        self.is_said_away = false;
        if std::mem::take(&mut self.is_said_to_wait) {
            tracing::info!(sink = self.shared.name, "{} answers again", self.transport.address());
        }
        self.backoff.succeeded();
        self.shared.counters.failures_in_a_row.store(0, Relaxed);
    }

    /// After a failed try: waits, unless the sink drains and all that waits is safe.
    async fn wait(&mut self, taken: &Arc<Taken>, asked: Option<Duration>, answered: Answered, text: &str) -> Step {
        let wait = self.backoff.failed(asked, self.shared.timing.fraction());
        self.shared.counters.failures_in_a_row.store(self.backoff.failures().into(), Relaxed);
        self.say_failure(answered, text);
        self.shared.with_queue(Queue::sync).await;
        let held = taken.clone();
        let (mut stage, mut more) = (self.stage.clone(), self.more.clone());
        let all_queued = !*more.borrow();
        let draining = *stage.borrow_and_update() == Stage::Drain;
        if draining && all_queued && self.shared.with_queue(move |queue| queue.is_durable(&held)).await == Some(true) {
            return Step::Ended;
        }
        tokio::select! {
            biased;
            // From running to draining: one more try at once.
            changed = stage.changed() => if changed.is_err() || *stage.borrow() == Stage::End { Step::Ended } else { Step::Again },
            // While draining, the last batch was stored: all may be on disk now.
            all = more.wait_for(|more| !*more), if !all_queued => if all.is_err() { Step::Ended } else { Step::Again },
            () = self.shared.timing.wait(wait) => Step::Again,
        }
    }

    /// A server that is away comes back by itself, and is said once; a token that has expired, or another server in its place, somebody
    /// has to mend, so that it is said again and again.
    fn say_failure(&mut self, answered: Answered, text: &str) {
        let (sink, failures) = (&self.shared.name, self.backoff.failures());
        if answered == Answered::Rejected || (answered == Answered::Broken && failures >= OPEN_AFTER) {
            if let Some(count) = self.rejections.add(self.shared.timing.now()) {
                tracing::warn!(sink, count, "profiles are kept until they are taken: {text}");
                self.is_said_to_wait = true;
            }
        } else if failures >= OPEN_AFTER && !std::mem::replace(&mut self.is_said_away, true) {
            tracing::warn!(sink, failures, "profiles are kept until it answers: {text}");
            self.is_said_to_wait = true;
        } else if failures == 1 {
            tracing::info!(sink, "a profile is sent again later: {text}");
        }
    }

    /// Two or more messages for one.
    async fn split(&self, message: Message) -> Option<Vec<Message>> {
        let shared = self.shared.clone();
        let work = tokio::task::spawn_blocking(move || {
            shared.encoder.lock().unwrap_or_else(PoisonError::into_inner).split(&message)
        });
        work.await.ok().flatten().filter(|pieces| pieces.len() > 1)
    }

    fn count_drop(&mut self, reason: DropReason, message: &Message, text: &str) {
        self.shared.counters.count_drop(reason, message);
        if let Some(count) = self.drops.add(self.shared.timing.now()) {
            tracing::warn!(sink = self.shared.name, count, reason = reason.name(), "profiles were dropped: {text}");
        }
    }
}
