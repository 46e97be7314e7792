//! Who is waited for, given up and left alone: threads that are held as a silent file system would hold them.

use std::fs::File;
use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::executable::{Content, Executable};
use crate::open_file::OpenFile;
use crate::perf_map::locate::Place;
use crate::silence::{AVOID, MAX_GIVEN_UP, MAX_STUCK};
use crate::worker::Reply;

const STUCK_AFTER: Duration = Duration::from_secs(1000);
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
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

    /// A job has begun; gives what it is about.
    fn begun(&self) -> u64 {
        self.begins.recv_timeout(PATIENCE).expect("a job begins")
    }

    /// Jobs that the first thread was handed.
    fn sent(&self) -> u64 {
        self.workers.slot(0).sent
    }

    /// Asks for what does not answer, until its thread is given up; gives the time by then.
    fn lose_a_thread(&self, executable: &Arc<Executable>, now: Instant) -> Instant {
        assert_eq!(self.ask(executable, now), Asked::Begun);
        assert_eq!(self.begun(), executable.key);
        let late = now.max(Instant::now()) + STUCK_AFTER;
        self.workers.stopped_waiting(executable.key, late);
        late
    }

    fn answered(&self) -> usize {
        let request = self.replies.1.recv_timeout(PATIENCE).unwrap().request;
        // The job ends after its answer, and a late look would take the thread for stuck.
        self.wait_until_idle();
        request
    }

    fn wait_until_idle(&self) {
        wait_until("the thread is done", || !self.is_busy());
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
        wait_until("a thread that was given up comes back", || self.workers.silence.given_up() <= threads);
    }
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited for a minute: {what}");
        std::thread::yield_now();
    }
}

/// Where our own perf map would be, below some folder.
fn place_of_perf_map() -> (tempfile::TempDir, Arc<Place>) {
    let root = tempfile::tempdir().unwrap();
    let place = Place::below(File::open(root.path()).unwrap().into(), "/proc".as_ref(), std::process::id());
    (root, Arc::new(place.unwrap()))
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
    assert_eq!(held.begun(), 1);
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
    let ((_root, place), now) = (place_of_perf_map(), Instant::now());
    assert_eq!(held.ask_for_perf_map(&place, now), Asked::Begun);
    assert_eq!(held.begun(), PERF_MAP);
    let key = u64::from(std::process::id());
    held.workers.stopped_waiting(key, now);
    assert_eq!((held.ask_for_perf_map(&place, now), held.sent()), (Asked::Behind, 1));
    let late = Instant::now() + STUCK_AFTER;
    held.workers.stopped_waiting(key, late);
    assert_eq!(held.ask_for_perf_map(&place, late), Asked::Avoided);
    assert_eq!(held.ask(&executable(2), late), Asked::Begun);
    assert_eq!(held.answered(), 2);
    held.end.send(()).unwrap();
    held.wait_until_given_up(0);
    assert!(held.begins.try_recv().is_err(), "it was read once");
}

#[test]
fn a_slow_perf_map_is_asked_for_again_once_it_is_read_and_only_then() {
    let held = Held::start();
    let ((_root, place), now) = (place_of_perf_map(), Instant::now());
    assert_eq!(held.ask_for_perf_map(&place, now), Asked::Begun);
    assert_eq!(held.begun(), PERF_MAP);
    held.workers.stopped_waiting(u64::from(std::process::id()), now);
    assert_eq!(held.ask_for_perf_map(&place, now), Asked::Behind);
    held.end.send(()).unwrap();
    held.wait_until_idle();
    assert!(held.begins.try_recv().is_err(), "who was told that it is behind did not leave a job");
    assert_eq!(held.ask_for_perf_map(&place, now), Asked::Begun);
    assert_eq!(held.begun(), PERF_MAP);
    held.end.send(()).unwrap();
}
