//! [`Workers`]: the threads behind the symbolizer, each with its share of the executables.
//!
//! A thread reads files by page fault, and one whose file system falls silent holds it for good. So once somebody has stopped
//! waiting for a thread, nobody waits for it again until it has answered something; and a thread that is at one job for longer
//! than any file may take is given up: another one takes its place, and what it was reading is left alone for a while. Should
//! it ever get its answer, it ends by itself. What a file costs is the worker's matter.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::executable::{Content, Executable};
use crate::worker::Job;

/// Stack of a thread, in bytes: twice what the deepest recursion (demangling) needs without optimization.
const STACK: usize = 4 << 20;
/// Jobs that may wait for one thread; more are refused.
const QUEUE: usize = 1024;
/// How long what did not answer is left alone.
const AVOID: Duration = Duration::from_secs(300);
/// Devices and files that are avoided at a time; more are avoided no longer than these.
const MAX_AVOIDED: usize = 1024;
/// Threads that are given up at a time, each with its stack. Once there are so many, stuck ones keep their place.
const MAX_GIVEN_UP: usize = 8;

/// Does one job after the other; made in its thread.
pub(crate) type Work = Box<dyn FnMut(Job)>;

/// What may fall silent: a device, or a file that is thought to be on a local one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    Device(u32, u32),
    Executable(u64),
}

impl Origin {
    fn of(executable: &Executable) -> Origin {
        match &executable.content {
            Content::File(file) if let Some((major, minor)) = file.device() => Origin::Device(major, minor),
            Content::File(_) | Content::Bytes(_) => Origin::Executable(executable.key),
        }
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Its answer is worth waiting for.
    Begun,
    /// It is in the queue of a thread that owes an answer for long: names may come later.
    Behind,
    /// The queue is full.
    Refused,
    /// What it is about did not answer a short time ago.
    Avoided,
}

/// What a thread is doing.
#[derive(Default)]
struct Progress {
    at: Option<(Origin, Instant)>,
    done: u64,
    given_up: bool,
}

struct Slot {
    sender: SyncSender<Job>,
    thread: JoinHandle<()>,
    progress: Arc<Mutex<Progress>>,
    sent: u64,
    /// Jobs that were done when somebody stopped waiting.
    owes_since: Option<u64>,
}

#[derive(Default)]
struct Silent {
    until: Mutex<HashMap<Origin, Instant>>,
    given_up: AtomicUsize,
}

/// See the module documentation.
pub(crate) struct Workers {
    make: Arc<dyn Fn() -> Work + Send + Sync>,
    stuck_after: Duration,
    slots: Vec<Mutex<Slot>>,
    silent: Arc<Silent>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that could panic is done while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Silent {
    fn avoids(&self, origin: Origin, now: Instant) -> bool {
        lock(&self.until).get(&origin).is_some_and(|until| now < *until)
    }

    fn avoid(&self, origin: Origin, now: Instant) {
        let mut until = lock(&self.until);
        if until.len() >= MAX_AVOIDED {
            until.clear();
        }
        until.insert(origin, now + AVOID);
    }

    fn answered(&self, origin: Origin) {
        lock(&self.until).remove(&origin);
    }
}

/// A thread's life.
fn serve(mut work: Work, jobs: &Receiver<Job>, progress: &Mutex<Progress>, silent: &Silent) {
    while let Ok(job) = jobs.recv() {
        let origin = match &job {
            Job::Symbolize { executable, .. } => Some(Origin::of(executable)),
            Job::Forget(_) => None,
        };
        lock(progress).at = origin.map(|origin| (origin, Instant::now()));
        work(job);
        let mut progress = lock(progress);
        progress.at = None;
        progress.done += 1;
        if progress.given_up {
            // Another thread has this one's place; what waits here was given up with it.
            if let Some(origin) = origin {
                silent.answered(origin);
            }
            silent.given_up.fetch_sub(1, Ordering::Release);
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
        let mut workers = Workers { make: Arc::new(make), stuck_after, slots: Vec::new(), silent: Arc::default() };
        for _ in 0..threads.max(1) {
            workers.slots.push(Mutex::new(workers.start_one()?));
        }
        Ok(workers)
    }

    fn start_one(&self) -> io::Result<Slot> {
        let (sender, jobs) = sync_channel(QUEUE);
        let progress = Arc::new(Mutex::new(Progress::default()));
        let (make, its_progress, silent) = (self.make.clone(), progress.clone(), self.silent.clone());
        let thread = std::thread::Builder::new()
            .name("symbolize".into())
            .stack_size(STACK)
            .spawn(move || serve(make(), &jobs, &its_progress, &silent))?;
        Ok(Slot { sender, thread, progress, sent: 0, owes_since: None })
    }

    fn slot(&self, key: u64) -> MutexGuard<'_, Slot> {
        // Keys are often consecutive numbers, or hashes: both spread well.
        lock(&self.slots[(key % self.slots.len() as u64) as usize])
    }

    /// Hands over a job about that executable.
    pub(crate) fn ask(&self, executable: &Executable, job: Job, now: Instant) -> Asked {
        let mut slot = self.slot(executable.key);
        self.replace_stuck(&mut slot, now);
        if self.silent.avoids(Origin::of(executable), now) {
            return Asked::Avoided;
        }
        let owes = slot.owes();
        match slot.send(job) {
            false => Asked::Refused,
            true if owes => Asked::Behind,
            true => Asked::Begun,
        }
    }

    /// Somebody has waited for long enough for a job about the executable with that key.
    pub(crate) fn stopped_waiting(&self, key: u64, now: Instant) {
        let mut slot = self.slot(key);
        if !self.replace_stuck(&mut slot, now) {
            let done = lock(&slot.progress).done;
            slot.owes_since = (done < slot.sent).then_some(done);
        }
    }

    /// Tells the thread that the executable is gone; `false` if its queue is full.
    pub(crate) fn forget(&self, key: u64) -> bool {
        self.silent.answered(Origin::Executable(key));
        self.slot(key).send(Job::Forget(key))
    }

    fn replace_stuck(&self, slot: &mut Slot, now: Instant) -> bool {
        let mut progress = lock(&slot.progress);
        let Some((origin, since)) = progress.at else { return false };
        if now.saturating_duration_since(since) < self.stuck_after {
            return false;
        }
        if !self.silent.avoids(origin, now) {
            self.silent.avoid(origin, now);
        }
        if self.silent.given_up.load(Ordering::Relaxed) >= MAX_GIVEN_UP {
            return false;
        }
        let Ok(another) = self.start_one() else { return false };
        progress.given_up = true;
        self.silent.given_up.fetch_add(1, Ordering::Relaxed);
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
mod tests {
    use std::fs::File;
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::open_file::OpenFile;
    use crate::worker::Reply;

    const STUCK_AFTER: Duration = Duration::from_secs(1000);

    /// Workers whose jobs about odd keys begin, say so, and end when they are told to.
    struct Held {
        workers: Workers,
        begins: Receiver<u64>,
        end: Sender<()>,
        replies: (Sender<Reply>, Receiver<Reply>),
    }

    impl Held {
        fn start() -> Held {
            let ((begun, begins), (end, ends)) = (channel(), channel());
            let ends = Arc::new(Mutex::new(ends));
            let make = move || -> Work {
                let (begun, ends) = (begun.clone(), ends.clone());
                Box::new(move |job| {
                    let Job::Symbolize { request, executable, addresses, reply } = job else { return };
                    if executable.key % 2 == 1 {
                        begun.send(executable.key).unwrap();
                        let _ = ends.lock().unwrap().recv();
                    }
                    let _ = reply.send(Reply { request, addresses, frames: Vec::new() });
                })
            };
            Held { workers: Workers::start(1, STUCK_AFTER, make).unwrap(), begins, end, replies: channel() }
        }

        fn ask(&self, executable: &Arc<Executable>, now: Instant) -> Asked {
            let reply = self.replies.0.clone();
            let request = executable.key as usize;
            let job = Job::Symbolize { request, executable: executable.clone(), addresses: Vec::new(), reply };
            self.workers.ask(executable, job, now)
        }

        fn answered(&self) -> usize {
            self.replies.1.recv_timeout(Duration::from_secs(60)).unwrap().request
        }

        /// Ends the job that a thread is at, which is about that key.
        fn end(&self, key: u64) {
            self.end.send(()).unwrap();
            assert_eq!(self.answered(), key as usize);
        }
    }

    fn executable(key: u64) -> Arc<Executable> {
        let content = Content::Bytes(Arc::from([].as_slice()));
        Arc::new(Executable { key, content, path: "/nowhere".into(), root: None })
    }

    fn on_device(key: u64, minor: u32) -> Arc<Executable> {
        let file = OpenFile::closed_by(File::open("/dev/null").unwrap(), (0, minor), Box::new(drop));
        Arc::new(Executable { content: Content::File(Arc::new(file)), ..(*executable(key)).clone() })
    }

    #[test]
    fn a_thread_that_owes_an_answer_is_asked_and_not_waited_for() {
        let held = Held::start();
        let now = Instant::now();
        assert_eq!(held.ask(&executable(1), now), Asked::Begun);
        assert_eq!(held.begins.recv(), Ok(1));
        assert_eq!(held.ask(&executable(2), now), Asked::Begun, "nobody has waited yet");
        held.workers.stopped_waiting(1, now);
        assert_eq!(held.ask(&executable(4), now), Asked::Behind);
        held.end(1);
        assert_eq!((held.answered(), held.answered()), (2, 4));
        assert_eq!(held.ask(&executable(6), now), Asked::Begun);
        assert_eq!(held.answered(), 6);
    }

    #[test]
    fn a_stuck_thread_is_replaced_and_its_device_left_alone_until_it_answers() {
        let held = Held::start();
        let now = Instant::now();
        assert_eq!(held.ask(&on_device(1, 7), now), Asked::Begun);
        assert_eq!(held.begins.recv(), Ok(1));
        let late = Instant::now() + STUCK_AFTER;
        held.workers.stopped_waiting(1, late);
        for (what, asked, expected) in [
            ("the same file", on_device(1, 7), Asked::Avoided),
            ("another of its device", on_device(2, 7), Asked::Avoided),
            ("another device", on_device(2, 8), Asked::Begun),
            ("a local file", executable(2), Asked::Begun),
        ] {
            assert_eq!(held.ask(&asked, late), expected, "{what}");
            if expected == Asked::Begun {
                assert_eq!(held.answered(), 2, "{what}");
            }
        }
        assert_eq!(held.ask(&on_device(2, 7), late + AVOID), Asked::Begun, "one more try after a while");
        assert_eq!(held.answered(), 2);
        held.end(1);
        while held.workers.silent.given_up.load(Ordering::Acquire) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(held.ask(&on_device(2, 7), late), Asked::Begun, "it has answered");
    }

    #[test]
    fn no_more_threads_are_given_up_than_the_bound() {
        let held = Held::start();
        let mut late = Instant::now();
        let keys = (0..=MAX_GIVEN_UP as u64).map(|number| 2 * number + 1);
        for key in keys {
            assert_eq!(held.ask(&executable(key), late), Asked::Begun);
            assert_eq!(held.begins.recv(), Ok(key));
            late += STUCK_AFTER * 2;
            held.workers.stopped_waiting(key, late);
        }
        assert_eq!(held.workers.silent.given_up.load(Ordering::Relaxed), MAX_GIVEN_UP);
        assert_eq!(held.ask(&executable(100), late), Asked::Behind, "the last one keeps its place");
    }
}
