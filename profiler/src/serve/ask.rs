//! [`Desk`]: questions run on blocking threads, a bounded number at once, and stop when nobody waits for the answer.
//!
//! A turn ends when its answer is made. If it lasted until the client has read the answer, [`MAX_AT_ONCE`] slow clients would lock all
//! others out. So unread answers have a bound of their own, by bytes ([`Tray`]): beyond it nothing more is made, and since only who has a
//! turn can make more, no more than [`MAX_AT_ONCE`] answers go beyond it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use store::Reader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::Refusal;
use super::{Answering, Source, Tray};

/// Questions at once: each may take one CPU and half of another, and some 100 MB while it does; 600 MB if segments were made to do harm
/// (`store`'s bound on a dictionary is 256 MiB, and the next one is opened ahead).
pub const MAX_AT_ONCE: usize = 2;
/// Questions that wait for their turn. A page asks four things at once.
pub const MAX_WAITING: usize = 16;
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: Duration = Duration::from_secs(30);
/// From a question to the beginning of its answer.
pub const LONGEST_SILENCE: Duration = LONGEST_WAIT.saturating_add(LONGEST_ANSWER);

/// See the module documentation.
#[derive(Clone)]
pub struct Desk {
    source: Arc<dyn Source>,
    answering: Arc<Answering>,
    turns: Arc<Semaphore>,
    chairs: Arc<Semaphore>,
}

/// Gives a question up when it is dropped, as a connection's closing does.
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Desk {
    /// A desk where nobody waits.
    pub fn new(source: Arc<dyn Source>) -> Desk {
        let turns = Arc::new(Semaphore::new(MAX_AT_ONCE));
        let answering = source.answering();
        Desk { source, answering, turns, chairs: Arc::new(Semaphore::new(MAX_AT_ONCE + MAX_WAITING)) }
    }

    /// What answers take.
    pub fn answering(&self) -> &Arc<Answering> {
        &self.answering
    }

    /// Runs `work` on the history, if there is room for what it makes; it puts that on `tray` itself ([`Answering::hold`]). Without a
    /// tray it makes next to nothing.
    ///
    /// # Errors
    /// [`Refusal`]: no history, no room, too slow, or what `work` refused.
    pub async fn ask<T: Send + 'static>(
        &self,
        tray: impl Into<Option<Tray>>,
        work: impl FnOnce(&Reader) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let answered = self.answer(tray.into(), work).await;
        if matches!(answered, Err(Refusal::Busy | Refusal::Unread | Refusal::TooSlow)) {
            self.answering.refuse();
        }
        answered
    }

    async fn answer<T: Send + 'static>(
        &self,
        tray: Option<Tray>,
        work: impl FnOnce(&Reader) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let chair = Arc::clone(&self.chairs).try_acquire_owned().map_err(|_| Refusal::Busy)?;
        let turn = tokio::time::timeout(LONGEST_WAIT, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(Refusal::Busy)?;
        if tray.is_some_and(|tray| self.answering.unread_bytes(tray) >= tray.most_unread()) {
            return Err(Refusal::Unread);
        }
        let given_up = GiveUp(Arc::default());
        let answering = Arc::clone(&self.answering);
        let of_helper = Arc::clone(&answering);
        let reader = self.source.reader().ok_or(Refusal::NoHistory)?.until(Arc::clone(&given_up.0));
        // What a second thread takes is the answer's as well.
        let reader = reader.helped_by(Arc::new(move |work: &mut dyn FnMut()| {
            let _counted = of_helper.begin();
            work();
        }));
        let running = tokio::task::spawn_blocking(move || {
            let counted = answering.begin();
            let answer = work(&reader);
            drop(reader);
            // A large answer's tables are not needed again soon.
            crate::allocator::give_back();
            drop(counted);
            // A question that was given up keeps its turn until it has really ended.
            drop::<(OwnedSemaphorePermit, OwnedSemaphorePermit)>((turn, chair));
            answer
        });
        let answered = tokio::time::timeout(LONGEST_ANSWER, running).await;
        let finished = answered.map_err(|_| Refusal::TooSlow)?;
        finished.map_err(|error| Refusal::Inside(error.to_string()))?
    }
}
