//! [`Workers`]: the threads behind the symbolizer, each with its share of the executables.
//!
//! A thread reads files by page fault, and one whose file system falls silent holds it for good. So once somebody has stopped
//! waiting for a thread, nobody waits for it again until it has answered something; and a thread that is at one job for longer
//! than any file may take is given up: another one takes its place, and what it was reading is left alone for a while, or until
//! it answers once it holds two threads ([`Silence`]). Should a thread ever get its answer, it ends by itself. What a file costs
//! is the worker's matter.

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::silence::{Origin, Silence, lock};
use crate::watch::{Progress, Watch};
use crate::worker::Job;

/// Stack of a thread, in bytes: twice what the deepest recursion (demangling) needs without optimization.
const STACK: usize = 4 << 20;
/// Jobs that may wait for one thread; more are refused.
const QUEUE: usize = 1024;

/// Does one job after the other, saying what it touches; made in its thread.
pub(crate) type Work = Box<dyn FnMut(Job, &Watch)>;

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Its answer is worth waiting for.
    Begun,
    /// A thread that owes an answer for long has it in its queue, if its names are remembered: they may come later.
    Behind,
    /// The queue is full.
    Refused,
    /// What it is about did not answer a short time ago.
    Avoided,
}

struct Slot {
    sender: SyncSender<Job>,
    thread: JoinHandle<()>,
    progress: Arc<Mutex<Progress>>,
    sent: u64,
    /// Jobs that were done when somebody stopped waiting.
    owes_since: Option<u64>,
}

/// See the module documentation.
pub(crate) struct Workers {
    make: Arc<dyn Fn() -> Work + Send + Sync>,
    stuck_after: Duration,
    slots: Vec<Mutex<Slot>>,
    silence: Arc<Silence>,
}

/// A thread's life.
fn serve(mut work: Work, jobs: &Receiver<Job>, watch: &Watch) {
    while let Ok(job) = jobs.recv() {
        watch.begin(job.origin());
        work(job, watch);
        if watch.end().is_some() {
            // Another thread has this one's place; what waits here was given up with it.
            return;
        }
    }
}

impl Workers {
    /// So many threads. One that is at a job for longer than `stuck_after` is taken for lost.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub(crate) fn start(
        threads: usize,
        stuck_after: Duration,
        make: impl Fn() -> Work + Send + Sync + 'static,
    ) -> io::Result<Workers> {
        let mut workers = Workers { make: Arc::new(make), stuck_after, slots: Vec::new(), silence: Arc::default() };
        for _ in 0..threads.max(1) {
            workers.slots.push(Mutex::new(workers.start_one()?));
        }
        Ok(workers)
    }

    fn start_one(&self) -> io::Result<Slot> {
        let (sender, jobs) = sync_channel(QUEUE);
        let progress = Arc::new(Mutex::new(Progress::default()));
        let (make, watched, silence) = (self.make.clone(), progress.clone(), self.silence.clone());
        let thread = std::thread::Builder::new()
            .name("symbolize".into())
            .stack_size(STACK)
            .spawn(move || serve(make(), &jobs, &Watch::new(watched, silence)))?;
        Ok(Slot { sender, thread, progress, sent: 0, owes_since: None })
    }

    fn slot(&self, key: u64) -> MutexGuard<'_, Slot> {
        // Keys are often consecutive numbers, or hashes: both spread well.
        lock(&self.slots[(key % self.slots.len() as u64) as usize])
    }

    /// Hands over a job.
    pub(crate) fn ask(&self, job: Job, now: Instant) -> Asked {
        let mut slot = self.slot(job.key());
        self.replace_stuck(&mut slot, now);
        if job.origin().is_some_and(|origin| self.silence.avoids(origin, now)) {
            return Asked::Avoided;
        }
        let owes = slot.owes();
        if owes && !job.is_remembered() {
            return Asked::Behind;
        }
        match slot.send(job) {
            false => Asked::Refused,
            true if owes => Asked::Behind,
            true => Asked::Begun,
        }
    }

    /// Somebody has waited for long enough for a job of that key.
    pub(crate) fn stopped_waiting(&self, key: u64, now: Instant) {
        let mut slot = self.slot(key);
        if !self.replace_stuck(&mut slot, now) {
            let done = lock(&slot.progress).done;
            slot.owes_since = (done < slot.sent).then_some(done);
        }
    }

    /// Tells the thread that the executable is gone; `false` if its queue is full.
    pub(crate) fn forget(&self, key: u64) -> bool {
        self.silence.answered(Origin::Executable(key));
        self.slot(key).send(Job::Forget(key))
    }

    fn replace_stuck(&self, slot: &mut Slot, now: Instant) -> bool {
        let mut progress = lock(&slot.progress);
        let Some((origin, since)) = progress.at else { return false };
        if now.saturating_duration_since(since) < self.stuck_after {
            return false;
        }
        self.silence.avoid(origin, now);
        if !self.silence.has_room() {
            return false;
        }
        let Ok(another) = self.start_one() else { return false };
        progress.given_up = Some(origin);
        self.silence.give_up(origin);
        drop(progress);
        *slot = another;
        true
    }
}

impl Slot {
    fn send(&mut self, job: Job) -> bool {
        let sent = self.sender.try_send(job).is_ok();
        self.sent += u64::from(sent);
        sent
    }

    fn owes(&mut self) -> bool {
        let done = lock(&self.progress).done;
        self.owes_since = self.owes_since.filter(|since| *since == done);
        self.owes_since.is_some()
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Workers").field("threads", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for slot in self.slots.drain(..) {
            let Slot { sender, thread, .. } = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
            drop(sender);
            // A worker's panic was counted when it happened. One that hangs in a file system would hang us: it is left behind.
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests;
