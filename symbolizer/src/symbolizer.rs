//! [`Symbolizer`]: the memo in front, worker threads behind, each with its share of the executables.

use hashbrown::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::demangle::Demangle;
use crate::executable::Executable;
use crate::frame::Frames;
use crate::memo::{Memo, MemoNumbers};
use crate::perf_map::locate::{self, Place, Version};
use crate::statistics::{Counters, Failure, Statistics};
use crate::worker::{Job, Reply, Worker};
use crate::workers::{Asked, Workers};

/// How to symbolize.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Worker threads; an executable belongs to one of them.
    pub threads: usize,
    /// Estimated bytes that the memo may hold.
    pub memo_bytes: usize,
    /// Estimated bytes of parsed tables, over all files and threads.
    pub file_bytes: usize,
    /// Parsed files kept, over all threads.
    pub open_files: usize,
    /// Searched for debug files before `/usr/lib/debug`.
    pub debug_directories: Vec<PathBuf>,
    /// Whether inlined calls become frames of their own.
    pub inlined: bool,
    /// How names are shown.
    pub demangle: Demangle,
    /// How long [`Symbolizer::symbolize`] waits at most; what comes later is in the memo for the next call. After that it
    /// does not wait at all for that worker until the worker has answered something. As long for a perf map.
    pub wait: Duration,
    /// How long one file may take in one call. A worker that is at one for half as long again is given up, and the file's
    /// device left alone for some minutes.
    pub file_time_limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            memo_bytes: 24 << 20,
            file_bytes: 24 << 20,
            open_files: 64,
            debug_directories: Vec::new(),
            inlined: true,
            demangle: Demangle::default(),
            wait: Duration::from_secs(10),
            file_time_limit: Duration::from_secs(5),
        }
    }
}

/// Addresses of one executable.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which one.
    pub executable: Arc<Executable>,
    /// ELF virtual addresses (load bias removed); return addresses already point into their call.
    pub addresses: Vec<u64>,
}

/// Longer limits are cut to this: the clock's arithmetic must not overflow.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Gives names to addresses. Shared by reference; calls from several threads are fine.
#[derive(Debug)]
pub struct Symbolizer {
    options: Arc<Options>,
    memo: Arc<Memo>,
    counters: Arc<Counters>,
    workers: Workers,
    empty: Frames,
}

impl Symbolizer {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn new(mut options: Options) -> io::Result<Self> {
        options.threads = options.threads.max(1);
        options.wait = options.wait.min(LONGEST);
        options.file_time_limit = options.file_time_limit.min(LONGEST);
        let options = Arc::new(options);
        let memo = Arc::new(Memo::new(options.memo_bytes));
        let counters = Arc::new(Counters::default());
        let shared = (options.clone(), memo.clone(), counters.clone());
        let workers = Workers::start(options.threads, options.file_time_limit * 3 / 2, move || {
            let (options, memo, counters) = shared.clone();
            let mut worker = Worker::new(options, memo, counters);
            Box::new(move |job, watch| worker.work(job, watch))
        })?;
        Ok(Self { options, memo, counters, workers, empty: Frames::from([]) })
    }

    /// Frames for each address of each request, in the same order; empty = no name (yet: see [`Options::wait`]).
    pub fn symbolize(&self, requests: &[Request]) -> Vec<Vec<Frames>> {
        let (sender, receiver) = channel();
        let mut results: Vec<Vec<Frames>> = Vec::with_capacity(requests.len());
        let mut pending: HashMap<usize, Vec<usize>> = HashMap::new();
        for (number, request) in requests.iter().enumerate() {
            let mut frames = Vec::new();
            let missing = self.memo.get(request.executable.key, &request.addresses, &mut frames, &self.empty);
            results.push(frames);
            if missing.is_empty() {
                continue;
            }
            let mut addresses: Vec<u64> = missing.iter().map(|position| request.addresses[*position]).collect();
            addresses.sort_unstable();
            addresses.dedup();
            let job = Job::Symbolize {
                request: number,
                executable: request.executable.clone(),
                addresses,
                reply: sender.clone(),
            };
            if self.ask(job) {
                pending.insert(number, missing);
            }
        }
        drop(sender);
        let end = Instant::now() + self.options.wait;
        while !pending.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(Reply { request, addresses, frames }) = receiver.recv_timeout(left) else { break };
            for position in pending.remove(&request).unwrap_or_default() {
                let address = requests[request].addresses[position];
                if let Ok(found) = addresses.binary_search(&address) {
                    results[request][position] = frames[found].clone();
                }
            }
        }
        self.counters.fail_by(Failure::Late, pending.len() as u64);
        for number in pending.into_keys() {
            self.workers.stopped_waiting(requests[number].executable.key, Instant::now());
        }
        results
    }

    /// Whether the job's answer is worth waiting for.
    fn ask(&self, job: Job) -> bool {
        match self.workers.ask(job, Instant::now()) {
            Asked::Begun => return true,
            Asked::Behind => self.counters.fail(Failure::Late),
            Asked::Refused => self.counters.fail(Failure::QueueFull),
            Asked::Avoided => self.counters.fail(Failure::Silent),
        }
        false
    }

    /// Reads a process's perf map of at most `most_bytes`. Nothing is told if there is none, if it is still of the version that is
    /// `known`, or if its file system does not answer.
    pub fn perf_map(&self, place: &Arc<Place>, most_bytes: u64, known: Option<Version>) -> locate::Asked {
        let (reply, receiver) = channel();
        if !self.ask(Job::PerfMap { place: Arc::clone(place), most_bytes, known, reply }) {
            return locate::Asked::Told(None);
        }
        match receiver.recv_timeout(self.options.wait) {
            Ok(reading) => locate::Asked::Told(reading),
            Err(RecvTimeoutError::Timeout) => {
                self.counters.fail(Failure::Late);
                self.workers.stopped_waiting(place.key(), Instant::now());
                locate::Asked::Late(receiver)
            }
            // The thread was given up before it came to this.
            Err(RecvTimeoutError::Disconnected) => {
                self.counters.fail(Failure::Late);
                locate::Asked::Told(None)
            }
        }
    }

    /// Frames that are known already, empty for others: no file is read and nobody is waited for.
    pub fn remembered(&self, request: &Request) -> Vec<Frames> {
        let mut frames = Vec::new();
        if !self.memo.get(request.executable.key, &request.addresses, &mut frames, &self.empty).is_empty() {
            self.counters.fail(Failure::Silent);
        }
        frames
    }

    /// Drops everything known of an executable: its last process is gone, or its file changed.
    pub fn forget(&self, key: u64) {
        self.memo.forget(key);
        // With a full queue the worker keeps the parsed file until its budget pushes it out.
        if !self.workers.forget(key) {
            self.counters.fail(Failure::QueueFull);
        }
    }

    /// Everything counted so far.
    pub fn statistics(&self) -> Statistics {
        let MemoNumbers { hits, misses, bytes, entries, evictions } = self.memo.numbers();
        Statistics {
            memo_hits: hits,
            memo_misses: misses,
            memo_bytes: bytes,
            memo_entries: entries,
            memo_evictions: evictions,
            ..self.counters.snapshot()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Mutex;

    use super::*;
    use crate::perf_map::locate::Reading;
    use crate::perf_map::{PerfMap, PerfMapLimits};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// One that waits so long, with a thread that does this about perf maps; and a place where there is none.
    fn with_work(wait: Duration, work: impl Fn(Job) + Clone + Send + Sync + 'static) -> (Symbolizer, Arc<Place>) {
        let options = Arc::new(Options { wait, ..Options::default() });
        let workers = Workers::start(1, PATIENCE, move || {
            let work = work.clone();
            Box::new(move |job, _| work(job))
        });
        let (memo, counters) = (Arc::new(Memo::new(1 << 20)), Arc::default());
        let symbolizer = Symbolizer { options, memo, counters, workers: workers.unwrap(), empty: Frames::from([]) };
        let nowhere = File::open("/proc/self").unwrap();
        let place = Place::below(nowhere.into(), "/proc".as_ref(), std::process::id()).unwrap();
        (symbolizer, Arc::new(place))
    }

    #[test]
    fn a_perf_map_that_takes_longer_than_the_wait_is_told_later() {
        let (end, ends) = channel::<()>();
        let ends = Arc::new(Mutex::new(ends));
        let (symbolizer, place) = with_work(Duration::ZERO, move |job| {
            let Job::PerfMap { reply, .. } = job else { panic!("nothing else was asked for") };
            let _ = ends.lock().unwrap().recv();
            let map = PerfMap::parse(b"10 10 f\n", PerfMapLimits::default());
            let version = Version { size: 8, inode: 1 };
            let _ = reply.send(Some(Reading { map, version, at: Instant::now(), took: Duration::ZERO }));
        });
        let locate::Asked::Late(reading) = symbolizer.perf_map(&place, 100, None) else { panic!("nobody was to wait") };
        assert!(
            matches!(symbolizer.perf_map(&place, 100, None), locate::Asked::Told(None)),
            "it owes the first answer"
        );
        assert_eq!(symbolizer.statistics().failure(Failure::Late), 2);
        end.send(()).unwrap();
        let reading = reading.recv_timeout(PATIENCE).expect("it is read all the same");
        assert_eq!(reading.unwrap().map.lookup(0x10), Some("f"));
    }

    #[test]
    fn a_perf_map_that_its_thread_never_comes_to_is_counted() {
        let (symbolizer, place) = with_work(PATIENCE, drop);
        assert!(matches!(symbolizer.perf_map(&place, 100, None), locate::Asked::Told(None)));
        assert_eq!(symbolizer.statistics().failure(Failure::Late), 1);
    }
}
