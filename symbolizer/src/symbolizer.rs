//! [`Symbolizer`]: the memo in front, worker threads behind, each with its share of the executables.

use hashbrown::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::demangle::Demangle;
use crate::executable::Executable;
use crate::frame::Frames;
use crate::memo::{Memo, MemoNumbers};
use crate::statistics::{Counters, Failure, Statistics};
use crate::worker::{Job, Reply, Worker};

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
    /// How long [`Symbolizer::symbolize`] waits at most; what comes later is in the memo for the next call.
    pub wait: Duration,
    /// How long one file may take in one call.
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

/// Stack of a worker, in bytes: twice what the deepest recursion (demangling) needs without optimization.
const STACK: usize = 4 << 20;

/// Longer limits are cut to this: the clock's arithmetic must not overflow.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Jobs that may wait for one worker; more are refused and counted.
const QUEUE: usize = 1024;

/// Gives names to addresses. Shared by reference; calls from several threads are fine.
#[derive(Debug)]
pub struct Symbolizer {
    options: Arc<Options>,
    memo: Arc<Memo>,
    counters: Arc<Counters>,
    workers: Vec<(SyncSender<Job>, JoinHandle<()>)>,
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
        let mut workers = Vec::with_capacity(options.threads);
        for _ in 0..options.threads {
            let (sender, receiver) = sync_channel(QUEUE);
            let worker = Worker { options: options.clone(), memo: memo.clone(), counters: counters.clone() };
            let thread = std::thread::Builder::new()
                .name("symbolize".into())
                .stack_size(STACK)
                .spawn(move || worker.run(&receiver))?;
            workers.push((sender, thread));
        }
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
            if self.worker(request.executable.key).try_send(job).is_ok() {
                pending.insert(number, missing);
            } else {
                self.counters.fail(Failure::QueueFull);
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
        results
    }

    /// Drops everything known of an executable: its last process is gone, or its file changed.
    pub fn forget(&self, key: u64) {
        self.memo.forget(key);
        // With a full queue the worker keeps the parsed file until its budget pushes it out.
        if self.worker(key).try_send(Job::Forget(key)).is_err() {
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

    fn worker(&self, key: u64) -> &SyncSender<Job> {
        // Keys are often consecutive numbers, or hashes: both spread well.
        let position = (key % self.workers.len() as u64) as usize;
        &self.workers[position].0
    }
}

impl Drop for Symbolizer {
    fn drop(&mut self) {
        for (sender, thread) in self.workers.drain(..) {
            drop(sender);
            // A worker's panic was counted when it happened. One that hangs in a file system would hang us: it is left behind.
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}
