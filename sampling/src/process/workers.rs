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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(1000);
    const ONE: Lane = Some((0, 1));
    const OTHER: Lane = Some((0, 2));

    fn workers(threads: usize, abandoned: usize) -> Workers<u32> {
        Workers::new(PoolOptions { name: "test", threads, queue: 4, deadline: DEADLINE, abandoned })
    }

    /// A job that says when it begins, and ends when it is told to.
    fn held(workers: &mut Workers<u32>, lane: Lane, value: u32) -> (Ticket, Sender<()>) {
        let ((begun, begins), (end, ends)) = (channel(), channel());
        let ticket = workers.submit(lane, move || {
            begun.send(()).unwrap();
            let _ = ends.recv();
            value
        });
        begins.recv().unwrap();
        (ticket.unwrap(), end)
    }

    /// Reports as of `now`, waited for until there are so many.
    fn reports(workers: &mut Workers<u32>, count: usize, now: Instant) -> Vec<(Ticket, Report<u32>)> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(workers.take(now));
            if all.len() < count {
                workers.wait(Duration::from_secs(10));
            }
        }
        all
    }

    #[test]
    fn smaller_jobs_go_first_and_equal_ones_in_order() {
        let mut workers = workers(1, 0);
        let (_, end) = held(&mut workers, None, 0);
        let tickets = [30, 10, 20, 10].map(|size| workers.submit_sized(None, size, move || 0).unwrap());
        end.send(()).unwrap();
        let mut done = Vec::new();
        while done.len() < 5 {
            workers.wait(DEADLINE);
            done.extend(workers.take(Instant::now()).into_iter().map(|(ticket, _)| ticket));
        }
        assert_eq!(done[1..], [1, 3, 2, 0].map(|at: usize| tickets[at]));
    }

    #[test]
    fn a_lane_is_served_in_order_and_does_not_hold_the_others() {
        let mut workers = workers(2, 0);
        let (first, end) = held(&mut workers, ONE, 1);
        let behind = workers.submit(ONE, || 2).unwrap();
        let beside = workers.submit(OTHER, || 3).unwrap();
        let now = Instant::now();
        assert_eq!(reports(&mut workers, 1, now), [(beside, Report::Done(3))]);
        end.send(()).unwrap();
        assert_eq!(reports(&mut workers, 2, now), [(first, Report::Done(1)), (behind, Report::Done(2))]);
        assert_eq!(workers.stuck(), 0);
    }

    #[test]
    fn a_stuck_job_is_told_once_its_lane_is_cleared_and_its_thread_replaced() {
        let mut workers = workers(1, 1);
        let (stuck, end) = held(&mut workers, ONE, 1);
        let behind = workers.submit(ONE, || 2).unwrap();
        let elsewhere = workers.submit(OTHER, || 3).unwrap();
        assert_eq!(workers.take(Instant::now()), []);
        let late = Instant::now() + DEADLINE;
        let told = reports(&mut workers, 3, late);
        assert_eq!(
            told,
            [(stuck, Report::Stuck), (behind, Report::Dropped), (elsewhere, Report::Done(3))],
            "the only thread was replaced"
        );
        end.send(()).unwrap();
        assert_eq!(
            reports(&mut workers, 1, late),
            [(stuck, Report::Done(1))],
            "an answer that comes late still counts"
        );
        assert_eq!(workers.stuck(), 1);
    }

    #[test]
    fn no_more_threads_are_given_up_than_the_bound() {
        let mut workers = workers(1, 0);
        let (stuck, end) = held(&mut workers, ONE, 1);
        let elsewhere = workers.submit(OTHER, || 3).unwrap();
        let late = Instant::now() + DEADLINE;
        assert_eq!(workers.take(late), [(stuck, Report::Stuck)]);
        assert_eq!(workers.take(late), [], "told once");
        end.send(()).unwrap();
        let now = Instant::now();
        assert_eq!(reports(&mut workers, 2, now), [(stuck, Report::Done(1)), (elsewhere, Report::Done(3))]);
    }

    /// Niceness of our threads of that name (proc(5), /proc/pid/stat, field 19).
    fn niceness_of(name: &str) -> Vec<i64> {
        let of_thread = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            let (before, after) = stat.rsplit_once(") ")?;
            before.ends_with(&format!("({name}")).then(|| after.split(' ').nth(16)?.parse().ok()).flatten()
        };
        std::fs::read_dir("/proc/self/task").unwrap().flatten().filter_map(of_thread).collect()
    }

    #[test]
    fn threads_that_the_engine_starts_do_not_share_its_precedence() {
        let ours = std::thread::Builder::new().name("names-the-test".into()).spawn(|| {
            let _precedence = crate::engine::Precedence::take();
            let options =
                PoolOptions { name: "worker-niceness", threads: 1, queue: 4, deadline: DEADLINE, abandoned: 0 };
            let mut workers = Workers::new(options);
            let (_, end) = held(&mut workers, ONE, 1);
            let seen = (niceness_of("names-the-test"), niceness_of("worker-niceness"));
            end.send(()).unwrap();
            seen
        });
        let (engine, worker) = ours.unwrap().join().unwrap();
        // Without the permission for it the engine has no precedence, and there was nothing to give up.
        let expected = if engine == [-10] { vec![0] } else { engine };
        assert_eq!(worker, expected);
    }

    #[test]
    fn a_full_queue_refuses_and_a_panic_ends_the_job_only() {
        let mut workers = workers(1, 0);
        let (first, end) = held(&mut workers, None, 1);
        let panics = workers.submit(None, || panic!("a test")).unwrap();
        let others: Vec<Ticket> = (0..3).map(|value| workers.submit(None, move || value).unwrap()).collect();
        assert_eq!(workers.submit(None, || 9), None);
        end.send(()).unwrap();
        let told = reports(&mut workers, 5, Instant::now());
        assert_eq!(
            told,
            [
                (first, Report::Done(1)),
                (panics, Report::Panicked),
                (others[0], Report::Done(0)),
                (others[1], Report::Done(1)),
                (others[2], Report::Done(2)),
            ]
        );
    }
}
