//! One worker thread: owns the parsed executables of its share of the keys.

use hashbrown::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
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
    pub(crate) options: Arc<Options>,
    pub(crate) memo: Arc<Memo>,
    pub(crate) counters: Arc<Counters>,
}

impl Worker {
    /// Works until the sender is gone.
    pub(crate) fn run(self, jobs: &Receiver<Job>) {
        let mut entries: HashMap<u64, Entry> = HashMap::new();
        let mut clock = 0;
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Forget(key) => {
                    if let Some(Entry { state: State::Ready(_), .. }) = entries.remove(&key) {
                        statistics::subtract(&self.counters.files_open);
                    }
                }
                Job::Symbolize { request, executable, addresses, reply } => {
                    clock += 1;
                    let frames = self.symbolize(&mut entries, &executable, &addresses, clock);
                    let passing = matches!(entries.get(&executable.key), Some(Entry { state: State::Retry(_), .. }));
                    if !passing {
                        self.memo.insert(executable.key, &addresses, &frames);
                    }
                    // The caller may have stopped waiting: the memo has the names for the next call.
                    let _ = reply.send(Reply { request, addresses, frames });
                    self.keep_within_budgets(&mut entries);
                }
            }
        }
    }

    fn symbolize(
        &self,
        entries: &mut HashMap<u64, Entry>,
        executable: &Executable,
        addresses: &[u64],
        clock: u64,
    ) -> Vec<Frames> {
        // A panic anywhere below is a bug; it costs this file its names, not the agent its life.
        let mut outcome =
            catch_unwind(AssertUnwindSafe(|| self.symbolize_inner(entries, executable, addresses, clock)))
                .unwrap_or(Err(Failure::Panic));
        if let Err(failure) = outcome {
            self.counters.fail(failure);
            let state = match failure {
                Failure::TimeLimit | Failure::Unreadable | Failure::Truncated => {
                    State::Retry(Instant::now() + RETRY_AFTER)
                }
                _ => State::Nameless,
            };
            let previous = entries.insert(executable.key, Entry { state, last_use: clock });
            if let Some(Entry { state: State::Ready(_), .. }) = previous {
                statistics::subtract(&self.counters.files_open);
            }
            outcome = Ok(Vec::new());
        }
        let mut frames = outcome.unwrap_or_default();
        frames.resize(addresses.len(), Frames::from([]));
        frames
    }

    fn symbolize_inner(
        &self,
        entries: &mut HashMap<u64, Entry>,
        executable: &Executable,
        addresses: &[u64],
        clock: u64,
    ) -> Result<Vec<Frames>, Failure> {
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

    /// Drops the files that were not used for the longest time until the rest fits.
    fn keep_within_budgets(&self, entries: &mut HashMap<u64, Entry>) {
        let most_files = (self.options.open_files / self.options.threads).max(1);
        let most_bytes = self.options.file_bytes / self.options.threads;
        loop {
            let ready = entries.values().filter(|entry| matches!(entry.state, State::Ready(_))).count();
            let bytes: usize = entries
                .values()
                .map(|entry| match &entry.state {
                    State::Ready(module) => module.weight(),
                    State::Nameless | State::Retry(_) => 0,
                })
                .sum();
            if ready <= most_files && bytes <= most_bytes && entries.len() <= most_files * NAMELESS_PER_FILE {
                return;
            }
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.last_use).map(|(key, _)| *key);
            if ready == 1
                && let Some(Entry { state: State::Ready(module), .. }) =
                    entries.values_mut().find(|entry| matches!(entry.state, State::Ready(_)))
            {
                // The file at hand: its index stays, the rest is parsed again when needed.
                module.shrink();
                return;
            }
            match oldest.and_then(|key| entries.remove(&key)) {
                Some(Entry { state: State::Ready(_), .. }) => {
                    statistics::subtract(&self.counters.files_open);
                    statistics::add(&self.counters.files_evicted);
                }
                Some(_) => {}
                None => return,
            }
        }
    }
}

/// How long a file that could not be read is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Nameless files remembered for each open file allowed; they cost a few bytes only.
const NAMELESS_PER_FILE: usize = 16;
