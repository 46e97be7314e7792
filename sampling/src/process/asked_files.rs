//! Files that are looked for by workers, because their file system may never answer or their process is gone.
//!
//! A file is known by device, inode and path, and asked for once however many processes map it. While it is looked for, its
//! executable is pending. The answer is kept for a moment, for the processes that wait for it to pick it up. A device that
//! did not answer in time is left alone for a while, and for as long as it owes two answers.
//!
//! One is not enough: what is found through a process may hang on that process (its memory lock is held in a page fault on another
//! file system) or on a mount on the way. Through it nothing of that device is looked for until its question is answered.

use hashbrown::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::executable::{ExecutableCounters, ExecutableIndex};
use super::mappings::Mapping;
use super::mount_list::Device;
use super::opening::{Found, look_for};
use super::workers::{PoolOptions, Report, Ticket, Workers};

/// Looking for a file takes less than a millisecond, over a slow network some hundred.
const DEADLINE: Duration = Duration::from_secs(5);
/// Three devices may be silent at the same time before others wait for the deadline.
const POOL: PoolOptions =
    PoolOptions { name: "everflame-files", threads: 3, queue: 1024, deadline: DEADLINE, abandoned: 16 };
/// How long a device that did not answer is left alone at least.
const AVOID: Duration = Duration::from_secs(300);
/// Threads that one device may hold; then it is left alone until one of them gets its answer. One more every 5 minutes would take
/// all 16 within 80 minutes, and from then on whoever asks would wait for ever.
const MAX_STUCK: usize = 2;
/// Threads that all devices may hold before each may hold one only: ten dead devices with two each would take all there are.
const MAX_STUCK_TOGETHER: usize = POOL.abandoned / 2;
/// Devices that are avoided at a time; more are avoided no longer than these.
const MAX_AVOIDED: usize = 1024;
/// How long an answer is good for processes that map the same file; by then the file may be another one.
const KEEP: Duration = Duration::from_secs(2);
/// Processes that are told of one file's answer; others learn it at their next sample.
const MAX_WAITING: usize = 1024;

type AskedKey = (Device, u64, Arc<str>);

/// What is known of a file's executable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// A worker is looking.
    Pending,
    /// This one.
    Known(ExecutableIndex),
    /// It can't be had, or is none.
    Nothing,
}

enum State {
    Looking { waiting: Vec<u32> },
    Answered { at: Instant, found: Option<ExecutableIndex>, asked_by: u32 },
}

struct Question {
    mapping: Mapping,
    asked_by: u32,
    /// Who waited until it got stuck.
    told_in_vain: Vec<u32>,
    /// It is past its deadline and unanswered.
    is_stuck: bool,
}

/// A file that a worker has found, or not; to be [answered](AskedFiles::answer).
pub(super) struct Arrived {
    pub(super) ticket: Ticket,
    /// Who asked first.
    pub(super) pid: u32,
    pub(super) mapping: Mapping,
    pub(super) found: Found,
}

/// See the module documentation.
pub(super) struct AskedFiles {
    workers: Workers<Found>,
    files: HashMap<AskedKey, State>,
    /// Also those that got stuck: their answer may come late.
    questions: HashMap<Ticket, Question>,
    avoided: HashMap<Device, Instant>,
}

impl Question {
    fn new(mapping: Mapping, asked_by: u32) -> Question {
        Question { mapping, asked_by, told_in_vain: Vec::new(), is_stuck: false }
    }
}

fn key(mapping: &Mapping) -> AskedKey {
    (mapping.device, mapping.inode, mapping.path.clone())
}

impl AskedFiles {
    pub(super) fn new() -> AskedFiles {
        AskedFiles {
            workers: Workers::new(POOL),
            files: HashMap::new(),
            questions: HashMap::new(),
            avoided: HashMap::new(),
        }
    }

    /// The file behind a mapping of `pid`; asked for if nobody has. `roots` are where it may be once the process has ended.
    pub(super) fn ask(
        &mut self,
        proc_root: &Path,
        (pid, roots): (u32, impl FnOnce() -> Vec<Arc<File>>),
        mapping: &Mapping,
        counters: &mut ExecutableCounters,
    ) -> Answer {
        let now = Instant::now();
        let key = key(mapping);
        match self.files.get_mut(&key) {
            Some(State::Looking { waiting }) => {
                if waiting.len() < MAX_WAITING && !waiting.contains(&pid) {
                    waiting.push(pid);
                }
                return Answer::Pending;
            }
            Some(State::Answered { at, found, asked_by }) if now.saturating_duration_since(*at) < KEEP => match found {
                Some(index) => return Answer::Known(*index),
                // Another process may still be there to find it through.
                None if *asked_by == pid => return Answer::Nothing,
                None => {}
            },
            Some(State::Answered { .. }) | None => {}
        }
        if self.avoids(mapping.device, Some(pid), now) {
            counters.avoided += 1;
            return Answer::Nothing;
        }
        let (proc_root, roots, wanted) = (proc_root.to_owned(), roots(), mapping.clone());
        let work = move || look_for(&proc_root, pid, &roots, &wanted);
        let Some(ticket) = self.workers.submit(Some(mapping.device), work) else {
            counters.not_asked += 1;
            return Answer::Nothing;
        };
        counters.opened_aside += 1;
        self.questions.insert(ticket, Question::new(mapping.clone(), pid));
        self.files.insert(key, State::Looking { waiting: vec![pid] });
        Answer::Pending
    }

    /// Whether a device is left alone, since it did not answer; or only when it is asked through process `pid`.
    pub(super) fn avoids(&self, device: Device, pid: Option<u32>, now: Instant) -> bool {
        self.avoided.get(&device).is_some_and(|until| now < *until) || self.owes_an_answer(device, pid)
    }

    fn owes_an_answer(&self, device: Device, pid: Option<u32>) -> bool {
        let (mut stuck, mut owed, mut is_through_it) = (0, 0, false);
        for question in self.questions.values().filter(|question| question.is_stuck) {
            stuck += 1;
            if question.mapping.device == device {
                owed += 1;
                is_through_it |= Some(question.asked_by) == pid;
            }
        }
        is_through_it || owed >= if stuck < MAX_STUCK_TOGETHER { MAX_STUCK } else { 1 }
    }

    /// Leaves a device alone from now on.
    pub(super) fn avoid(&mut self, device: Device, now: Instant) {
        if self.avoided.len() >= MAX_AVOIDED {
            self.avoided.clear();
        }
        self.avoided.insert(device, now + AVOID);
    }

    /// Files that are looked for.
    pub(super) fn looking(&self) -> usize {
        self.files.values().filter(|state| matches!(state, State::Looking { .. })).count()
    }

    /// Jobs that ever got stuck.
    pub(super) fn stuck(&self) -> u64 {
        self.workers.stuck()
    }

    /// Waits for the next answer, but not longer than `timeout`.
    pub(super) fn wait(&self, timeout: Duration) {
        self.workers.wait(timeout);
    }

    /// What arrived since the last call, and the processes that wait no longer since it will not arrive.
    pub(super) fn take(&mut self, now: Instant) -> (Vec<Arrived>, Vec<u32>) {
        let (mut arrived, mut in_vain) = (Vec::new(), Vec::new());
        for (ticket, report) in self.workers.take(now) {
            let Some(question) = self.questions.get_mut(&ticket) else { continue };
            match report {
                Report::Done(found) => {
                    // Late or not: the device answers.
                    question.is_stuck = false;
                    self.avoided.remove(&question.mapping.device);
                    arrived.push(Arrived { ticket, pid: question.asked_by, mapping: question.mapping.clone(), found });
                }
                Report::Stuck => {
                    question.is_stuck = true;
                    let mapping = question.mapping.clone();
                    self.avoid(mapping.device, now);
                    let waiting = self.settle(&mapping, None, 0, now);
                    in_vain.extend(&waiting);
                    if let Some(question) = self.questions.get_mut(&ticket) {
                        question.told_in_vain = waiting;
                    }
                }
                Report::Dropped | Report::Panicked => in_vain.extend(self.answer(ticket, None, now)),
            }
        }
        self.files.retain(|_, state| match state {
            State::Looking { .. } => true,
            State::Answered { at, .. } => now.saturating_duration_since(*at) < KEEP,
        });
        (arrived, in_vain)
    }

    /// Says what a file turned out to be; gives the processes that waited for it, or were told in vain before it came late.
    pub(super) fn answer(&mut self, ticket: Ticket, found: Option<ExecutableIndex>, now: Instant) -> Vec<u32> {
        let Some(Question { mapping, asked_by, told_in_vain, .. }) = self.questions.remove(&ticket) else {
            return Vec::new();
        };
        let mut told = self.settle(&mapping, found, asked_by, now);
        if found.is_some() {
            told.extend(told_in_vain);
        }
        told
    }

    fn settle(&mut self, mapping: &Mapping, found: Option<ExecutableIndex>, asked_by: u32, now: Instant) -> Vec<u32> {
        match self.files.insert(key(mapping), State::Answered { at: now, found, asked_by }) {
            Some(State::Looking { waiting }) => waiting,
            Some(State::Answered { .. }) | None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::super::mappings::Backing;
    use super::super::patience::until;
    use super::*;

    fn mapping(path: &str) -> Mapping {
        Mapping {
            start: 0x1000,
            end: 0x2000,
            file_offset: 0,
            device: (0, 7),
            inode: 5,
            path: path.into(),
            backing: Backing::File,
        }
    }

    /// Has a worker look for it, who finds nothing once the sender is dropped; the first of those that wait has asked.
    fn look_in_vain(asked: &mut AskedFiles, mapping: &Mapping, waiting: Vec<u32>) -> (Ticket, Sender<()>) {
        let ((begun, begins), (end, ends)) = (channel(), channel::<()>());
        let work = move || {
            begun.send(()).unwrap();
            let _ = ends.recv();
            Found::default()
        };
        let ticket = asked.workers.submit(Some(mapping.device), work).unwrap();
        begins.recv_timeout(Duration::from_secs(60)).unwrap();
        asked.questions.insert(ticket, Question::new(mapping.clone(), waiting[0]));
        asked.files.insert(key(mapping), State::Looking { waiting });
        (ticket, end)
    }

    fn next_answer(asked: &mut AskedFiles, now: Instant) -> Ticket {
        until("an answer comes", || {
            asked.wait(Duration::from_secs(1));
            asked.take(now).0.pop().map(|arrived| arrived.ticket)
        })
    }

    #[test]
    fn an_answer_that_comes_late_is_told_to_those_who_were_told_in_vain() {
        let mapping = mapping("/x");
        for found in [None, Some(ExecutableIndex { slot: 3, generation: 0 })] {
            let mut asked = AskedFiles::new();
            let (_, end) = look_in_vain(&mut asked, &mapping, vec![10, 11]);
            let late = Instant::now() + DEADLINE;
            assert_eq!(asked.take(late).1, [10, 11]);
            assert!(asked.avoids(mapping.device, None, late));
            drop(end);
            let ticket = next_answer(&mut asked, late);
            assert!(!asked.avoids(mapping.device, Some(10), late));
            let told = asked.answer(ticket, found, late);
            assert_eq!(told, if found.is_some() { vec![10, 11] } else { vec![] });
        }
    }

    #[test]
    fn a_device_owes_two_processes_an_answer_before_it_is_left_alone_for_good() {
        let (mut asked, device) = (AskedFiles::new(), mapping("/x").device);
        let mut now = Instant::now();
        let mut held = Vec::new();
        for (pid, path) in [(10, "/x"), (11, "/y")] {
            assert!(!asked.avoids(device, Some(pid), now) && !asked.avoids(device, None, now), "{pid}");
            held.push(look_in_vain(&mut asked, &mapping(path), vec![pid]));
            now = now.max(Instant::now()) + DEADLINE;
            assert_eq!(asked.take(now).1, [pid]);
            assert!(asked.avoids(device, None, now), "it did not answer just now");
            now += AVOID;
            assert!(asked.avoids(device, Some(pid), now), "through that process it would take another thread");
        }
        assert!(asked.avoids(device, Some(12), now + AVOID) && asked.avoids(device, None, now + AVOID));
        assert!(!asked.avoids((0, 8), Some(10), now), "another device is none the worse");
        let (ticket, end) = held.remove(0);
        drop(end);
        assert_eq!(next_answer(&mut asked, now), ticket);
        assert!(!asked.avoids(device, None, now) && !asked.avoids(device, Some(10), now));
        assert!(asked.avoids(device, Some(11), now));
    }

    #[test]
    fn once_many_devices_are_dead_each_holds_one_thread_only() {
        let mut asked = AskedFiles::new();
        let mut now = Instant::now();
        let mut held = Vec::new();
        for minor in 0..MAX_STUCK_TOGETHER as u32 {
            let dead = Mapping { device: (0, 100 + minor), ..mapping("/x") };
            held.push(look_in_vain(&mut asked, &dead, vec![minor]));
            now = now.max(Instant::now()) + DEADLINE;
            assert_eq!(asked.take(now).1, [minor]);
            now += AVOID;
            let may_hold_two = minor as usize + 1 < MAX_STUCK_TOGETHER;
            assert_eq!(asked.avoids(dead.device, Some(1000), now), !may_hold_two, "{minor}");
        }
        assert!(!asked.avoids((0, 7), Some(1000), now), "a device that never was asked");
    }

    #[test]
    fn a_process_whose_question_is_open_asks_nothing_more_of_that_device() {
        let mut asked = AskedFiles::new();
        let (_, end) = look_in_vain(&mut asked, &mapping("/x"), vec![10]);
        let late = Instant::now() + DEADLINE;
        asked.take(late);
        // As after a while.
        asked.avoided.clear();
        let (nowhere, mut counters) = (Path::new("/nowhere"), ExecutableCounters::default());
        let mut ask = |pid| asked.ask(nowhere, (pid, Vec::new), &mapping("/y"), &mut counters);
        assert_eq!((ask(10), ask(11)), (Answer::Nothing, Answer::Pending));
        assert_eq!((counters.avoided, counters.opened_aside), (1, 1));
        drop(end);
    }
}
