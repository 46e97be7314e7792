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
mod tests {
    use std::fs::File;
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::executable::{Content, Executable};
    use crate::open_file::OpenFile;
    use crate::perf_map::locate::Place;
    use crate::silence::{AVOID, MAX_GIVEN_UP, MAX_STUCK};
    use crate::worker::Reply;

    const STUCK_AFTER: Duration = Duration::from_secs(1000);
    /// Executables with keys from here on have a debug file on [`ELSEWHERE`].
    const DEBUG_FILE_ELSEWHERE: u64 = 1000;
    const ELSEWHERE: Origin = Origin::Device(0, 9);
    /// What is said to begin where it is a perf map.
    const PERF_MAP: u64 = u64::MAX;

    /// Workers whose jobs about odd keys and perf maps begin, say so, and end when they are told to.
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
                let hold = move |key| {
                    begun.send(key).unwrap();
                    let _ = ends.lock().unwrap().recv();
                };
                Box::new(move |job, watch: &Watch| match job {
                    Job::Symbolize { request, executable, addresses, reply } => {
                        if executable.key >= DEBUG_FILE_ELSEWHERE && !watch.leaves_alone(ELSEWHERE) {
                            watch.at(ELSEWHERE);
                            hold(executable.key);
                        } else if executable.key % 2 == 1 {
                            hold(executable.key);
                        }
                        let _ = reply.send(Reply { request, addresses, frames: Vec::new() });
                    }
                    Job::PerfMap { .. } => hold(PERF_MAP),
                    Job::Forget(_) => {}
                })
            };
            Held { workers: Workers::start(1, STUCK_AFTER, make).unwrap(), begins, end, replies: channel() }
        }

        fn ask(&self, executable: &Arc<Executable>, now: Instant) -> Asked {
            let reply = self.replies.0.clone();
            let request = executable.key as usize;
            let job = Job::Symbolize { request, executable: executable.clone(), addresses: Vec::new(), reply };
            self.workers.ask(job, now)
        }

        fn ask_for_perf_map(&self, place: &Arc<Place>, now: Instant) -> Asked {
            let job = Job::PerfMap { place: place.clone(), most_bytes: 100, known: None, reply: channel().0 };
            self.workers.ask(job, now)
        }

        /// Asks for what does not answer, until its thread is given up; gives the time by then.
        fn lose_a_thread(&self, executable: &Arc<Executable>, now: Instant) -> Instant {
            assert_eq!(self.ask(executable, now), Asked::Begun);
            assert_eq!(self.begins.recv(), Ok(executable.key));
            let late = now.max(Instant::now()) + STUCK_AFTER;
            self.workers.stopped_waiting(executable.key, late);
            late
        }

        fn answered(&self) -> usize {
            let request = self.replies.1.recv_timeout(Duration::from_secs(60)).unwrap().request;
            // The job ends after its answer, and a late look would take the thread for stuck.
            while self.is_busy() {
                std::thread::yield_now();
            }
            request
        }

        fn is_busy(&self) -> bool {
            let slot = self.workers.slot(0);
            lock(&slot.progress).done < slot.sent
        }

        /// Ends the job that a thread is at, which is about that key.
        fn end(&self, key: u64) {
            self.end.send(()).unwrap();
            assert_eq!(self.answered(), key as usize);
        }

        fn wait_until_given_up(&self, threads: usize) {
            while self.workers.silence.given_up() > threads {
                std::thread::yield_now();
            }
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
        let late = held.lose_a_thread(&on_device(1, 7), Instant::now());
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
        held.wait_until_given_up(0);
        assert_eq!(held.ask(&on_device(2, 7), late), Asked::Begun, "it has answered");
    }

    #[test]
    fn a_device_that_stays_silent_holds_two_threads_and_names_go_on() {
        let held = Held::start();
        let mut now = Instant::now();
        for file in 0..MAX_STUCK as u64 {
            now = held.lose_a_thread(&on_device(2 * file + 1, 7), now) + AVOID;
        }
        for tries in 1..=2 * MAX_GIVEN_UP as u32 {
            assert_eq!(held.ask(&on_device(101, 7), now + AVOID * tries), Asked::Avoided);
            assert_eq!(held.ask(&executable(2), now + AVOID * tries), Asked::Begun);
            assert_eq!(held.answered(), 2);
        }
        assert_eq!(held.workers.silence.given_up(), MAX_STUCK);
        held.end.send(()).unwrap();
        held.wait_until_given_up(MAX_STUCK - 1);
        assert_eq!(held.ask(&on_device(2, 7), now), Asked::Begun, "one of them has its answer");
    }

    #[test]
    fn no_more_threads_are_given_up_than_the_bound_and_the_last_place_is_for_local_files() {
        let held = Held::start();
        let mut now = Instant::now();
        for device in 0..MAX_GIVEN_UP as u32 {
            now = held.lose_a_thread(&on_device(u64::from(2 * device + 1), device), now);
        }
        assert_eq!(held.workers.silence.given_up(), MAX_GIVEN_UP);
        assert_eq!(held.ask(&on_device(101, 100), now), Asked::Avoided, "whatever may hang as well");
        assert_eq!(held.ask(&executable(2), now), Asked::Begun);
        assert_eq!(held.answered(), 2);
        held.lose_a_thread(&executable(103), now);
        assert_eq!(held.workers.silence.given_up(), MAX_GIVEN_UP);
        assert_eq!(held.ask(&executable(2), now), Asked::Behind, "what was thought to be local keeps its place");
    }

    #[test]
    fn a_silent_debug_file_costs_neither_its_executable_nor_others_their_names() {
        let held = Held::start();
        let key = DEBUG_FILE_ELSEWHERE;
        let now = held.lose_a_thread(&executable(key), Instant::now());
        for key in [key, key + 2, key + 4] {
            assert_eq!(held.ask(&executable(key), now), Asked::Begun, "it goes on without its debug file");
            assert_eq!(held.answered(), key as usize);
        }
        assert_eq!(held.workers.silence.given_up(), 1);
        assert!(held.workers.silence.avoids(ELSEWHERE, now));
    }

    #[test]
    fn a_silent_perf_map_is_left_alone_and_not_queued_for_nobody() {
        let held = Held::start();
        let root = tempfile::tempdir().unwrap();
        let place = Place::below(File::open(root.path()).unwrap().into(), "/proc".as_ref(), std::process::id());
        let (place, now) = (Arc::new(place.unwrap()), Instant::now());
        assert_eq!(held.ask_for_perf_map(&place, now), Asked::Begun);
        assert_eq!(held.begins.recv(), Ok(PERF_MAP));
        let key = u64::from(std::process::id());
        held.workers.stopped_waiting(key, now);
        assert_eq!(held.ask_for_perf_map(&place, now), Asked::Behind);
        let late = Instant::now() + STUCK_AFTER;
        held.workers.stopped_waiting(key, late);
        assert_eq!(held.ask_for_perf_map(&place, late), Asked::Avoided);
        assert_eq!(held.ask(&executable(2), late), Asked::Begun);
        assert_eq!(held.answered(), 2);
        held.end.send(()).unwrap();
        held.wait_until_given_up(0);
        assert!(held.begins.try_recv().is_err(), "it was read once");
    }
}
