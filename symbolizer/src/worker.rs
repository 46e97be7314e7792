//! One worker thread: owns the parsed executables of its share of the keys.

use hashbrown::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::executable::Executable;
use crate::frame::Frames;
use crate::limits::Deadline;
use crate::memo::Memo;
use crate::module::{Module, Setup};
use crate::statistics::{self, Counters, Failure};
use crate::symbolizer::Options;

/// What a worker is asked to do.
pub(crate) enum Job {
    /// Names for these addresses (ascending, each once).
    Symbolize { request: usize, executable: Arc<Executable>, addresses: Vec<u64>, reply: Sender<Reply> },
    /// Drop what is known of the executable.
    Forget(u64),
}

/// Names for the addresses of one request, in the order asked.
pub(crate) struct Reply {
    pub(crate) request: usize,
    pub(crate) addresses: Vec<u64>,
    pub(crate) frames: Vec<Frames>,
}

/// What is known of an executable.
enum State {
    Ready(Box<Module>),
    /// It has no names, and won't have any when asked again.
    Nameless,
    /// It could not be read in time or at all: worth another try from then on.
    Retry(Instant),
}

struct Entry {
    state: State,
    last_use: u64,
}

pub(crate) struct Worker {
    options: Arc<Options>,
    memo: Arc<Memo>,
    counters: Arc<Counters>,
    entries: HashMap<u64, Entry>,
    clock: u64,
}

impl Worker {
    pub(crate) fn new(options: Arc<Options>, memo: Arc<Memo>, counters: Arc<Counters>) -> Worker {
        Worker { options, memo, counters, entries: HashMap::new(), clock: 0 }
    }

    /// Does one job.
    pub(crate) fn work(&mut self, job: Job) {
        match job {
            Job::Forget(key) => {
                if let Some(Entry { state: State::Ready(_), .. }) = self.entries.remove(&key) {
                    statistics::subtract(&self.counters.files_open);
                }
            }
            Job::Symbolize { request, executable, addresses, reply } => {
                self.clock += 1;
                let frames = self.symbolize(&executable, &addresses);
                let passing = matches!(self.entries.get(&executable.key), Some(Entry { state: State::Retry(_), .. }));
                if !passing {
                    self.memo.insert(executable.key, &addresses, &frames);
                }
                // The caller may have stopped waiting: the memo has the names for the next call.
                let _ = reply.send(Reply { request, addresses, frames });
                self.keep_within_budgets();
            }
        }
    }

    fn symbolize(&mut self, executable: &Executable, addresses: &[u64]) -> Vec<Frames> {
        // A panic anywhere below is a bug; it costs this file its names, not the agent its life.
        let mut outcome = catch_unwind(AssertUnwindSafe(|| self.symbolize_inner(executable, addresses)))
            .unwrap_or(Err(Failure::Panic));
        if let Err(failure) = outcome {
            self.counters.fail(failure);
            let state = match failure {
                Failure::TimeLimit | Failure::Unreadable | Failure::Truncated => {
                    State::Retry(Instant::now() + RETRY_AFTER)
                }
                _ => State::Nameless,
            };
            let previous = self.entries.insert(executable.key, Entry { state, last_use: self.clock });
            if let Some(Entry { state: State::Ready(_), .. }) = previous {
                statistics::subtract(&self.counters.files_open);
            }
            outcome = Ok(Vec::new());
        }
        let mut frames = outcome.unwrap_or_default();
        frames.resize(addresses.len(), Frames::from([]));
        frames
    }

    fn symbolize_inner(&mut self, executable: &Executable, addresses: &[u64]) -> Result<Vec<Frames>, Failure> {
        let (entries, clock) = (&mut self.entries, self.clock);
        let deadline = Deadline::after(self.options.file_time_limit);
        let setup = Setup {
            debug_directories: &self.options.debug_directories,
            demangle: self.options.demangle,
            inlined: self.options.inlined,
            counters: &self.counters,
        };
        if let Some(Entry { state: State::Retry(when), .. }) = entries.get(&executable.key)
            && *when <= Instant::now()
        {
            entries.remove(&executable.key);
        }
        let entry = match entries.entry(executable.key) {
            hashbrown::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hashbrown::hash_map::Entry::Vacant(vacant) => {
                let module = Module::open(executable, &setup, &deadline)?;
                statistics::add(&self.counters.files_opened);
                statistics::add(&self.counters.files_open);
                vacant.insert(Entry { state: State::Ready(Box::new(module)), last_use: clock })
            }
        };
        entry.last_use = clock;
        match &mut entry.state {
            State::Nameless | State::Retry(_) => Ok(Vec::new()),
            State::Ready(module) => {
                let frames = module.symbolize(executable, addresses, &setup, &deadline);
                module.release();
                frames
            }
        }
    }

    /// Drops the files that were not used for the longest time until the rest fits; nameless ones for their number alone.
    fn keep_within_budgets(&mut self) {
        let most_files = (self.options.open_files / self.options.threads).max(1);
        let most_bytes = self.options.file_bytes / self.options.threads;
        loop {
            let ready = || self.entries.values().filter(|entry| entry.is_ready());
            let bytes: usize = ready().map(Entry::weight).sum();
            let (too_many, too_large) = (ready().count() > most_files, bytes > most_bytes);
            if !too_many && !too_large {
                break;
            }
            if ready().count() == 1 {
                // The file at hand: its index stays, the rest is parsed again when needed.
                self.entries.values_mut().for_each(Entry::shrink);
                break;
            }
            if !self.drop_oldest(Entry::is_ready) {
                break;
            }
            statistics::subtract(&self.counters.files_open);
            statistics::add(&self.counters.files_evicted);
        }
        while self.entries.len() > most_files * NAMELESS_PER_FILE && self.drop_oldest(|entry| !entry.is_ready()) {}
    }

    /// Of those that qualify; `false` if none does.
    fn drop_oldest(&mut self, qualifies: impl Fn(&Entry) -> bool) -> bool {
        let candidates = self.entries.iter().filter(|(_, entry)| qualifies(entry));
        let oldest = candidates.min_by_key(|(_, entry)| entry.last_use).map(|(key, _)| *key);
        oldest.is_some_and(|key| self.entries.remove(&key).is_some())
    }
}

impl Drop for Worker {
    /// A worker that was given up may come back, and takes its files with it.
    fn drop(&mut self) {
        for _ in self.entries.values().filter(|entry| entry.is_ready()) {
            statistics::subtract(&self.counters.files_open);
        }
    }
}

impl Entry {
    fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    fn weight(&self) -> usize {
        match &self.state {
            State::Ready(module) => module.weight(),
            State::Nameless | State::Retry(_) => 0,
        }
    }

    fn shrink(&mut self) {
        if let State::Ready(module) = &mut self.state {
            module.shrink();
        }
    }
}

/// How long a file that could not be read is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Nameless files remembered for each open file allowed; they cost a few bytes only.
const NAMELESS_PER_FILE: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::executable::Content;

    /// Has a worker look up one address in each of these.
    fn work(worker: &mut Worker, executable: Executable) {
        let (reply, _replies) = channel();
        let executable = Arc::new(executable);
        worker.work(Job::Symbolize { request: 0, executable, addresses: vec![0x1000], reply });
    }

    #[test]
    fn nameless_files_go_before_a_file_with_names_and_leave_it_whole() {
        let options = Arc::new(Options { open_files: 1, ..Options::default() });
        let mut worker = Worker::new(options, Arc::new(Memo::new(1 << 20)), Arc::default());
        let path = std::env::current_exe().unwrap();
        let content = Content::File(Arc::new(File::open(&path).unwrap().into()));
        let program = Executable { key: 0, content, path, root: None };
        worker.options = Arc::new(Options { file_bytes: usize::MAX, ..(*worker.options).clone() });
        work(&mut worker, program);
        let Some(Entry { state: State::Ready(module), .. }) = worker.entries.get_mut(&0) else { panic!("no names") };
        // Something that shrinking would take away.
        let addresses: Vec<u64> = (0x10_0000..0x100_0000).step_by(0x10_0000).collect();
        let setup = Setup {
            debug_directories: &[],
            demangle: worker.options.demangle,
            inlined: false,
            counters: &worker.counters,
        };
        let open = Executable { key: 0, content: Content::Bytes(Arc::default()), path: "/nowhere".into(), root: None };
        module.symbolize(&open, &addresses, &setup, &Deadline::after(Duration::from_secs(3600))).unwrap();
        let whole = module.weight();
        for key in 1..=40 {
            let content = Content::Bytes(Arc::from(b"nothing".as_slice()));
            work(&mut worker, Executable { key, content, path: "/nowhere".into(), root: None });
        }
        let left = worker.entries.values().filter(|entry| !entry.is_ready()).count();
        assert_eq!((worker.entries.len(), left), (NAMELESS_PER_FILE, NAMELESS_PER_FILE - 1));
        assert_eq!(worker.entries.values().map(Entry::weight).sum::<usize>(), whole);
        assert_eq!(worker.counters.snapshot().files_open, 1);
        drop(worker);
    }
}
