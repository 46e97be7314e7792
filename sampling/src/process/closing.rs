//! Files of file systems that may never answer are closed by workers: `close` asks such a file system as well.
//!
//! Whoever drops a file last, be it the engine or a thread that names an interval, only puts it into a channel. One job at a
//! time closes a lane's files. A lane that does not answer is left alone for a while; its files wait meanwhile, so many of each
//! lane, and what is more stays open for good.

use std::collections::HashMap;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use symbolizer::{Closer, OpenFile};

use super::mount_list::Device;
use super::workers::{Lane, PoolOptions, Report, Ticket, Workers};

/// Closing takes a round trip to the server at most.
const DEADLINE: Duration = Duration::from_secs(5);
/// As many lanes are asked at a time; with one job each, others wait for the next round.
const QUEUE: usize = 1024;
const POOL: PoolOptions =
    PoolOptions { name: "everflame-close", threads: 1, queue: QUEUE, deadline: DEADLINE, abandoned: 8 };
/// Most files that one job closes.
const BATCH: usize = 64;
/// How long a lane that did not answer is left alone, since each try may take another thread.
const SILENCE: Duration = Duration::from_secs(300);
/// Threads that one lane may hold; then it is left alone until one of them gets its answer.
const MAX_STUCK: usize = 2;
/// Most files of one lane that wait to be closed. Each is a descriptor, whether it waits or is given up.
const MAX_BACKLOG: usize = 1024;

/// A file that is closed only where that is said: a job that is thrown away must not close it.
struct Unclosed(ManuallyDrop<File>);

impl Unclosed {
    fn close(self) {
        drop(ManuallyDrop::into_inner(self.0));
    }
}

struct Job {
    device: Device,
    files: usize,
    is_stuck: bool,
}

/// See the module documentation.
pub(super) struct Closing {
    workers: Workers<()>,
    sender: Sender<(Device, Unclosed)>,
    dropped: Receiver<(Device, Unclosed)>,
    /// No lane's is empty.
    backlog: HashMap<Device, Vec<Unclosed>>,
    /// Lanes that did not answer, and until when they are left alone.
    silent: HashMap<Device, Instant>,
    under_way: HashMap<Ticket, Job>,
    left_open: u64,
}

impl Closing {
    /// No thread yet.
    pub(super) fn new() -> Closing {
        let (sender, dropped) = channel();
        Closing {
            workers: Workers::new(POOL),
            sender,
            dropped,
            backlog: HashMap::new(),
            silent: HashMap::new(),
            under_way: HashMap::new(),
            left_open: 0,
        }
    }

    /// A file of that lane; those without one are closed by whoever drops them.
    pub(super) fn hold(&self, file: File, lane: Lane) -> OpenFile {
        let Some(device) = lane else { return file.into() };
        let sender = self.sender.clone();
        // At the end nobody receives: the kernel closes it with the process, which then may wait for that server.
        let closer: Closer = Box::new(move |file| {
            let _ = sender.send((device, Unclosed(ManuallyDrop::new(file))));
        });
        OpenFile::closed_by(file, device, closer)
    }

    /// Has closed what was dropped since the last call. Gives the devices that have just fallen silent.
    pub(super) fn end_round(&mut self, now: Instant) -> Vec<Device> {
        let fell_silent = self.take_reports(now);
        self.silent.retain(|_, until| now < *until);
        while let Ok((device, file)) = self.dropped.try_recv() {
            let is_silent = self.is_silent(device);
            let waiting = self.backlog.entry(device).or_default();
            let has_room = waiting.len() < MAX_BACKLOG;
            self.left_open += u64::from(!has_room || is_silent);
            if has_room {
                waiting.push(file);
            }
        }
        self.ask();
        fell_silent
    }

    fn take_reports(&mut self, now: Instant) -> Vec<Device> {
        let mut fell_silent = Vec::new();
        for (ticket, report) in self.workers.take(now) {
            let Some(mut job) = self.under_way.remove(&ticket) else { continue };
            match report {
                Report::Done(()) => drop(self.silent.remove(&job.device)),
                Report::Stuck => {
                    let behind = self.backlog.get(&job.device).map_or(0, Vec::len);
                    self.left_open += (job.files + behind) as u64;
                    self.silent.insert(job.device, now + SILENCE);
                    fell_silent.push(job.device);
                    // Should it ever get its answer, its files are closed.
                    job.is_stuck = true;
                    self.under_way.insert(ticket, job);
                }
                Report::Dropped | Report::Panicked => self.left_open += job.files as u64,
            }
        }
        fell_silent
    }

    fn is_silent(&self, device: Device) -> bool {
        let stuck = self.under_way.values().filter(|job| job.device == device && job.is_stuck);
        self.silent.contains_key(&device) || stuck.count() >= MAX_STUCK
    }

    fn is_busy(&self, device: Device) -> bool {
        self.under_way.values().any(|job| job.device == device && !job.is_stuck)
    }

    /// One job for each lane that neither is silent nor has one.
    fn ask(&mut self) {
        let room = QUEUE.saturating_sub(self.under_way.len());
        let ready = self.backlog.keys().copied().filter(|device| !self.is_silent(*device) && !self.is_busy(*device));
        for device in ready.take(room).collect::<Vec<Device>>() {
            let Some(mut batch) = self.backlog.remove(&device) else { continue };
            let rest = batch.split_off(batch.len().min(BATCH));
            if !rest.is_empty() {
                self.backlog.insert(device, rest);
            }
            let files = batch.len();
            let close = move || batch.into_iter().for_each(Unclosed::close);
            match self.workers.submit(Some(device), close) {
                Some(ticket) => {
                    self.under_way.insert(ticket, Job { device, files, is_stuck: false });
                }
                None => self.left_open += files as u64,
            }
        }
    }

    /// Files that could not be closed in time, ever; what is tried again in vain counts again.
    pub(super) fn left_open(&self) -> u64 {
        self.left_open
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::super::patience::until;
    use super::*;

    const DEVICE: Device = (0, 7);
    const LANE: Lane = Some(DEVICE);

    fn is_open(number: i32) -> bool {
        std::path::Path::new(&format!("/proc/self/fd/{number}")).exists()
    }

    /// A file with a number that no other test's file gets meanwhile.
    fn file(number: i32) -> File {
        use std::os::fd::{FromRawFd as _, IntoRawFd as _};
        let file = File::open("/dev/null").unwrap().into_raw_fd();
        // SAFETY: duplicates a descriptor of ours to a number that nothing else uses; both results are checked or owned once.
        unsafe {
            assert_eq!(libc::dup2(file, number), number);
            libc::close(file);
            File::from_raw_fd(number)
        }
    }

    /// Rounds as of `now`, each after a job has ended, until all of these are closed.
    fn rounds_until_closed(closing: &mut Closing, now: Instant, files: &[i32]) {
        until("the files are closed", || {
            closing.end_round(now);
            let open = files.iter().any(|file| is_open(*file));
            if open {
                closing.workers.wait(Duration::from_secs(1));
            }
            (!open).then_some(())
        });
    }

    /// A job of that lane that has begun, and ends when the sender is dropped.
    fn block(closing: &mut Closing, device: Device) -> Sender<()> {
        let ((begun, begins), (release, held)) = (channel(), channel::<()>());
        let wait = move || {
            begun.send(()).unwrap();
            let _ = held.recv();
        };
        let blocker = closing.workers.submit(Some(device), wait).unwrap();
        begins.recv_timeout(Duration::from_secs(60)).unwrap();
        closing.under_way.insert(blocker, Job { device, files: 1, is_stuck: false });
        release
    }

    #[test]
    fn a_file_of_a_slow_file_system_is_closed_by_a_worker_and_others_at_once() {
        let mut closing = Closing::new();
        drop(closing.hold(file(700), None));
        assert!(!is_open(700));
        let slow = closing.hold(file(701), LANE);
        assert_eq!(slow.as_raw_fd(), 701);
        drop(slow);
        assert!(is_open(701), "nobody has closed it yet");
        rounds_until_closed(&mut closing, Instant::now(), &[701]);
        assert_eq!(closing.left_open(), 0);
    }

    #[test]
    fn files_of_a_silent_file_system_wait_until_it_answers() {
        let mut closing = Closing::new();
        let release = block(&mut closing, DEVICE);
        drop(closing.hold(file(702), LANE));
        let late = Instant::now() + DEADLINE * 2;
        assert_eq!(closing.end_round(late), [DEVICE]);
        drop(closing.hold(file(703), LANE));
        assert!(closing.end_round(late).is_empty(), "told once");
        assert_eq!((closing.left_open(), is_open(702), is_open(703)), (3, true, true), "it is not asked again");
        drop(release);
        rounds_until_closed(&mut closing, late, &[702, 703]);
    }

    #[test]
    fn a_silent_file_system_is_asked_again_after_a_while() {
        let mut closing = Closing::new();
        let release = block(&mut closing, DEVICE);
        let late = Instant::now() + DEADLINE * 2;
        assert_eq!(closing.end_round(late), [DEVICE]);
        drop(closing.hold(file(704), LANE));
        closing.end_round(late + SILENCE - Duration::from_nanos(1));
        assert!(is_open(704));
        rounds_until_closed(&mut closing, late + SILENCE, &[704]);
        drop(release);
    }

    #[test]
    fn one_silent_file_system_does_not_take_every_thread() {
        let mut closing = Closing::new();
        for (stuck, silent) in [(1, false), (MAX_STUCK, true)] {
            for device in std::iter::repeat_n(DEVICE, stuck).chain([(0, 8)]) {
                let ticket = closing.workers.submit(None, || ()).unwrap();
                closing.under_way.insert(ticket, Job { device, files: 1, is_stuck: true });
            }
            assert_eq!(closing.is_silent(DEVICE), silent, "{stuck}");
            closing.under_way.clear();
        }
    }

    #[test]
    fn what_finds_no_room_among_those_of_its_file_system_stays_open_and_others_do_not() {
        let mut closing = Closing::new();
        let now = Instant::now();
        closing.silent.insert(DEVICE, now + SILENCE);
        let wait = |_| Unclosed(ManuallyDrop::new(file(705)));
        closing.backlog.insert(DEVICE, (0..MAX_BACKLOG).map(wait).collect());
        drop(closing.hold(file(706), LANE));
        drop(closing.hold(file(707), Some((0, 8))));
        rounds_until_closed(&mut closing, now, &[707]);
        let waiting = closing.backlog.values().map(Vec::len).sum::<usize>();
        assert_eq!((waiting, closing.left_open(), is_open(706)), (MAX_BACKLOG, 1, true));
    }
}
