//! Threads for work that a file system may never answer: a dead server holds the thread that asks, for good.
//!
//! Each job has a deadline and a lane. Of one lane (a device, say) one job runs at a time, so that a dead device holds one
//! thread and not all. A job past its deadline is reported as stuck, what waits in its lane is given back, and its thread is
//! replaced, up to a bound; such a thread ends by itself should it ever get its answer, which is then handed over late.
//! Dropping the pool joins nobody.
//!
//! The engine's thread goes before others (`Precedence`), and threads inherit that: these give it up when they begin. Building
//! rows is heavy work.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A job that has waited for so long is not overtaken any more.
const OVERTAKEN: Duration = Duration::from_millis(500);

/// Names a job for as long as the pool lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Jobs with an equal lane run one after the other; those without one as threads are free.
pub(super) type Lane = Option<(u32, u32)>;

/// What became of a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report<Done> {
    /// It was done; also when it was reported as stuck before.
    Done(Done),
    /// It has run for longer than the deadline; its thread is given up.
    Stuck,
    /// It was not begun, because one before it in its lane got stuck.
    Dropped,
    /// It panicked: a defect of ours.
    Panicked,
}

/// How large a pool may grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolOptions {
    /// Names the threads.
    pub(super) name: &'static str,
    /// Most threads that work at a time. They are started when they are needed; an idle one costs some 20 KiB.
    pub(super) threads: usize,
    /// Most jobs that wait; about 200 bytes each.
    pub(super) queue: usize,
    /// How long a job may take.
    pub(super) deadline: Duration,
    /// Most threads that are given up at a time, each with its stack. Once there are so many, stuck ones are not replaced.
    pub(super) abandoned: usize,
}

struct Job<Done> {
    ticket: Ticket,
    size: u64,
    since: Instant,
    lane: Lane,
    work: Box<dyn FnOnce() -> Done + Send>,
}

#[derive(Clone, Copy)]
struct Running {
    ticket: Ticket,
    lane: Lane,
    since: Instant,
    /// Reported as stuck, but not replaced.
    reported: bool,
}

struct Books<Done> {
    queue: VecDeque<Job<Done>>,
    running: Vec<Running>,
    reports: Vec<(Ticket, Report<Done>)>,
    /// Threads that were started and not given up.
    alive: usize,
    /// Those of them that wait for work.
    idle: usize,
    /// Threads that are given up and have not come back.
    abandoned: usize,
    closed: bool,
}

struct Shared<Done> {
    books: Mutex<Books<Done>>,
    work: Condvar,
    reported: Condvar,
}

/// See the module documentation.
pub(super) struct Workers<Done> {
    options: PoolOptions,
    shared: Arc<Shared<Done>>,
    next: u64,
    stuck: u64,
}

impl<Done> Books<Done> {
    fn is_busy(&self, lane: Lane) -> bool {
        lane.is_some() && self.running.iter().any(|running| running.lane == lane)
    }

    /// Behind what has waited for long, and then behind what is no larger.
    fn place_for(&self, size: u64, now: Instant) -> usize {
        if self.queue.back().is_none_or(|last| last.size <= size) {
            return self.queue.len();
        }
        let is_old = |job: &Job<Done>| now.saturating_duration_since(job.since) > OVERTAKEN;
        let old = self.queue.iter().rposition(is_old).map_or(0, |at| at + 1);
        // Behind the last old one, jobs are in order of size: each was put there so.
        old + self.queue.range(old..).take_while(|job| job.size <= size).count()
    }

    fn runnable(&self) -> Option<usize> {
        self.queue.iter().position(|job| !self.is_busy(job.lane))
    }
}

impl<Done> Shared<Done> {
    fn books(&self) -> MutexGuard<'_, Books<Done>> {
        // Nothing that could panic is done while it is held.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        give_up_precedence();
        let mut books = self.books();
        loop {
            if books.closed {
                return;
            }
            let Some(job) = books.runnable().and_then(|at| books.queue.remove(at)) else {
                books.idle += 1;
                books = self.work.wait(books).unwrap_or_else(PoisonError::into_inner);
                books.idle -= 1;
                continue;
            };
            let ticket = job.ticket;
            books.running.push(Running { ticket, lane: job.lane, since: Instant::now(), reported: false });
            drop(books);
            let report = catch_unwind(AssertUnwindSafe(job.work)).map_or(Report::Panicked, Report::Done);
            books = self.books();
            books.reports.push((ticket, report));
            self.reported.notify_all();
            let Some(at) = books.running.iter().position(|running| running.ticket == ticket) else {
                // Another thread has taken this one's place.
                books.abandoned = books.abandoned.saturating_sub(1);
                return;
            };
            books.running.swap_remove(at);
        }
    }
}

/// The calling thread takes its turn like everyone else, if it inherited precedence from the one that started it.
fn give_up_precedence() {
    // SAFETY: no pointers; `who` 0 is the calling thread.
    if unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) } < 0 {
        // SAFETY: as above. Going to a higher niceness needs no permission.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
    }
}

impl<Done: Send + 'static> Workers<Done> {
    /// No thread yet.
    pub(super) fn new(options: PoolOptions) -> Workers<Done> {
        let books = Books {
            queue: VecDeque::new(),
            running: Vec::new(),
            reports: Vec::new(),
            alive: 0,
            idle: 0,
            abandoned: 0,
            closed: false,
        };
        let shared = Shared { books: Mutex::new(books), work: Condvar::new(), reported: Condvar::new() };
        Workers { options, shared: Arc::new(shared), next: 0, stuck: 0 }
    }

    /// Hands a job over; `None` if too many wait.
    pub(super) fn submit(&mut self, lane: Lane, work: impl FnOnce() -> Done + Send + 'static) -> Option<Ticket> {
        self.submit_sized(lane, 0, work)
    }

    /// The same; of jobs that wait, the smaller ones come first, whatever `size` measures, and equal ones in order. None is
    /// overtaken for more than half a second.
    pub(super) fn submit_sized(
        &mut self,
        lane: Lane,
        size: u64,
        work: impl FnOnce() -> Done + Send + 'static,
    ) -> Option<Ticket> {
        let mut books = self.shared.books();
        if books.queue.len() >= self.options.queue {
            return None;
        }
        self.next += 1;
        let ticket = Ticket(self.next);
        let since = Instant::now();
        let at = books.place_for(size, since);
        books.queue.insert(at, Job { ticket, size, since, lane, work: Box::new(work) });
        self.staff(books);
        Some(ticket)
    }

    /// Wakes or starts a thread if there is something to do.
    fn staff(&self, mut books: MutexGuard<'_, Books<Done>>) {
        if books.runnable().is_none() {
            return;
        }
        if books.idle > 0 {
            self.shared.work.notify_one();
        } else if books.alive < self.options.threads {
            let shared = self.shared.clone();
            let started = std::thread::Builder::new().name(self.options.name.into()).spawn(move || shared.serve());
            // Without a thread the job waits: the next `take` tries again.
            books.alive += usize::from(started.is_ok());
        }
    }

    /// What was done, got stuck or was given back since the last call, in that order.
    pub(super) fn take(&mut self, now: Instant) -> Vec<(Ticket, Report<Done>)> {
        let mut books = self.shared.books();
        let mut reports = std::mem::take(&mut books.reports);
        let (deadline, most) = (self.options.deadline, self.options.abandoned);
        let mut at = 0;
        while at < books.running.len() {
            let Running { ticket, lane, since, reported } = books.running[at];
            if reported || now.saturating_duration_since(since) < deadline {
                at += 1;
                continue;
            }
            self.stuck += 1;
            reports.push((ticket, Report::Stuck));
            if lane.is_some() {
                let (dropped, kept) = std::mem::take(&mut books.queue).into_iter().partition(|job| job.lane == lane);
                let dropped: VecDeque<Job<Done>> = dropped;
                books.queue = kept;
                reports.extend(dropped.into_iter().map(|job| (job.ticket, Report::Dropped)));
            }
            if books.abandoned < most {
                books.abandoned += 1;
                books.alive = books.alive.saturating_sub(1);
                books.running.swap_remove(at);
            } else {
                books.running[at].reported = true;
                at += 1;
            }
        }
        self.staff(books);
        reports
    }

    /// Waits until there is something to [`Workers::take`], but not longer than `timeout`.
    pub(super) fn wait(&self, timeout: Duration) {
        let books = self.shared.books();
        drop(self.shared.reported.wait_timeout_while(books, timeout, |books| books.reports.is_empty()));
    }

    /// Jobs that ever got stuck.
    pub(super) fn stuck(&self) -> u64 {
        self.stuck
    }
}

impl<Done> Drop for Workers<Done> {
    fn drop(&mut self) {
        self.shared.books().closed = true;
        self.shared.work.notify_all();
    }
}
