//! Files of file systems that may never answer are closed by workers: `close` asks such a file system as well.
//!
//! Whoever drops a file last, be it the engine or a thread that names an interval, only puts it into a channel. What a silent
//! file system keeps from being closed stays open, and is counted.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use symbolizer::{Closer, OpenFile};

use super::workers::{Lane, PoolOptions, Report, Ticket, Workers};

/// Closing takes a round trip to the server at most.
const DEADLINE: Duration = Duration::from_secs(5);
/// A file that finds no room stays open, which costs a descriptor and some 300 bytes.
const POOL: PoolOptions =
    PoolOptions { name: "everflame-close", threads: 1, queue: 1024, deadline: DEADLINE, abandoned: 8 };

/// A file that is closed only where that is said: a job that is thrown away must not close it.
struct Unclosed(ManuallyDrop<File>);

impl Unclosed {
    fn close(self) {
        drop(ManuallyDrop::into_inner(self.0));
    }
}

/// See the module documentation.
pub(super) struct Closing {
    workers: Workers<()>,
    sender: Sender<(Lane, Unclosed)>,
    dropped: Receiver<(Lane, Unclosed)>,
    /// Lanes that did not answer once: whatever else they hold stays open, since each try would take another thread.
    silent: HashSet<Lane>,
    under_way: HashMap<Ticket, Lane>,
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
            silent: HashSet::new(),
            under_way: HashMap::new(),
            left_open: 0,
        }
    }

    /// A file of that lane; those without one are closed by whoever drops them.
    pub(super) fn hold(&self, file: File, lane: Lane) -> OpenFile {
        if lane.is_none() {
            return file.into();
        }
        let sender = self.sender.clone();
        // At the end nobody receives: the kernel closes it with the process, which then may wait for that server.
        let closer: Closer = Box::new(move |file| {
            let _ = sender.send((lane, Unclosed(ManuallyDrop::new(file))));
        });
        OpenFile::closed_by(file, closer)
    }

    /// Has closed what was dropped since the last call.
    pub(super) fn end_round(&mut self, now: Instant) {
        while let Ok((lane, file)) = self.dropped.try_recv() {
            let asked = match self.silent.contains(&lane) {
                true => None,
                false => self.workers.submit(lane, move || file.close()),
            };
            match asked {
                Some(ticket) => drop(self.under_way.insert(ticket, lane)),
                None => self.left_open += 1,
            }
        }
        for (ticket, report) in self.workers.take(now) {
            let lane = self.under_way.remove(&ticket);
            if report != Report::Done(()) {
                self.left_open += 1;
                self.silent.extend(lane);
            }
        }
    }

    /// Files that could not be closed in time, ever, and most likely are still open.
    pub(super) fn left_open(&self) -> u64 {
        self.left_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;

    const LANE: Lane = Some((0, 7));

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

    #[test]
    fn a_file_of_a_slow_file_system_is_closed_by_a_worker_and_others_at_once() {
        let mut closing = Closing::new();
        drop(closing.hold(file(700), None));
        assert!(!is_open(700));
        let slow = closing.hold(file(701), LANE);
        assert_eq!(slow.as_raw_fd(), 701);
        drop(slow);
        assert!(is_open(701), "nobody has closed it yet");
        let began = Instant::now();
        while is_open(701) {
            assert!(began.elapsed() < DEADLINE * 12, "nobody closes it");
            closing.end_round(Instant::now());
            closing.workers.wait(Duration::from_millis(10));
        }
        assert_eq!(closing.left_open(), 0);
    }

    #[test]
    fn what_waits_behind_a_silent_file_system_stays_open_and_is_counted() {
        let mut closing = Closing::new();
        let (release, held) = channel::<()>();
        let wait = move || {
            let _ = held.recv();
        };
        let blocker = closing.workers.submit(LANE, wait).unwrap();
        closing.under_way.insert(blocker, LANE);
        drop(closing.hold(file(702), LANE));
        closing.end_round(Instant::now());
        // The worker has begun by the time that its deadline passes for the books.
        let began = Instant::now();
        while closing.left_open() < 2 {
            assert!(began.elapsed() < DEADLINE * 12, "nobody counts it");
            closing.end_round(Instant::now() + DEADLINE * 2);
        }
        assert!(is_open(702));
        drop(closing.hold(file(703), LANE));
        closing.end_round(Instant::now());
        assert_eq!((closing.left_open(), is_open(703)), (3, true), "that file system is not asked again");
        drop(release);
        drop(closing);
    }
}
