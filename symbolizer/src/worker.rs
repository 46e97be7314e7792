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
use crate::perf_map::locate::{LocateError, Place, Reading, Version};
use crate::silence::Origin;
use crate::statistics::{self, Counters, Failure};
use crate::symbolizer::Options;
use crate::watch::Watch;

/// What a worker is asked to do.
pub(crate) enum Job {
    /// Names for these addresses (ascending, each once).
    Symbolize { request: usize, executable: Arc<Executable>, addresses: Vec<u64>, reply: Sender<Reply> },
    /// The perf map at this place, unless it is still of the version that is known.
    PerfMap { place: Arc<Place>, most_bytes: u64, known: Option<Version>, reply: Sender<Option<Reading>> },
    /// Drop what is known of the executable.
    Forget(u64),
}

impl Job {
    /// Jobs of one key go to one thread.
    pub(crate) fn key(&self) -> u64 {
        match self {
            Job::Symbolize { executable, .. } => executable.key,
            Job::PerfMap { place, .. } => place.key(),
            Job::Forget(key) => *key,
        }
    }

    /// What it touches first, if anything that may fall silent.
    pub(crate) fn origin(&self) -> Option<Origin> {
        match self {
            Job::Symbolize { executable, .. } => Some(Origin::of(executable)),
            Job::PerfMap { place, .. } => Some(place.origin()),
            Job::Forget(_) => None,
        }
    }

    /// Whether what comes of it is of use when nobody waits for it any more.
    pub(crate) fn is_remembered(&self) -> bool {
        !matches!(self, Job::PerfMap { .. })
    }
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
    /// What a hang is put down to: the executable, or the device of its debug file.
    origin: Option<Origin>,
    /// A debug file may be there, and was left alone.
    lacks: Option<Origin>,
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
    pub(crate) fn work(&mut self, job: Job, watch: &Watch) {
        match job {
            Job::Forget(key) => self.remove(key),
            Job::PerfMap { place, most_bytes, known, reply } => {
                let time = self.options.file_time_limit;
                let outcome = catch_unwind(AssertUnwindSafe(|| place.read(most_bytes, known, time, watch)));
                let reading = match outcome {
                    Ok(Ok(reading)) => reading,
                    Ok(Err(error)) => {
                        if matches!(error, LocateError::Silent) {
                            self.counters.fail(Failure::Silent);
                        }
                        None
                    }
                    Err(_) => {
                        self.counters.fail(Failure::Panic);
                        None
                    }
                };
                // The caller may have stopped waiting for good: then it is read again when it is asked for.
                let _ = reply.send(reading);
            }
            Job::Symbolize { request, executable, addresses, reply } => {
                self.clock += 1;
                let frames = self.symbolize(&executable, &addresses, watch);
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

    /// Drops what is known of an executable. Its names stay in the memo, unless there may be better ones: nobody would know that
    /// any more.
    fn remove(&mut self, key: u64) {
        let Some(entry) = self.entries.remove(&key) else { return };
        if entry.is_ready() {
            statistics::subtract(&self.counters.files_open);
        }
        if entry.lacks.is_some() {
            self.memo.forget(key);
        }
    }

    fn symbolize(&mut self, executable: &Executable, addresses: &[u64], watch: &Watch) -> Vec<Frames> {
        // A panic anywhere below is a bug; it costs this file its names, not the agent its life.
        let mut outcome = catch_unwind(AssertUnwindSafe(|| self.symbolize_inner(executable, addresses, watch)))
            .unwrap_or(Err(Failure::Panic));
        if let Err(failure) = outcome {
            self.counters.fail(failure);
            // Names that are in none of the files that were read may be in the one that was left alone.
            let is_passing = matches!(failure, Failure::TimeLimit | Failure::Unreadable | Failure::Truncated)
                || failure == Failure::NoSymbols && watch.left_alone().is_some();
            let state = if is_passing { State::Retry(Instant::now() + RETRY_AFTER) } else { State::Nameless };
            self.remove(executable.key);
            let entry = Entry { state, last_use: self.clock, origin: None, lacks: None };
            self.entries.insert(executable.key, entry);
            outcome = Ok(Vec::new());
        }
        let mut frames = outcome.unwrap_or_default();
        frames.resize(addresses.len(), Frames::from([]));
        frames
    }

    fn symbolize_inner(
        &mut self,
        executable: &Executable,
        addresses: &[u64],
        watch: &Watch,
    ) -> Result<Vec<Frames>, Failure> {
        self.forget_if_outdated(executable.key, watch);
        let (entries, clock) = (&mut self.entries, self.clock);
        let deadline = Deadline::after(self.options.file_time_limit);
        let setup = Setup {
            debug_directories: &self.options.debug_directories,
            demangle: self.options.demangle,
            inlined: self.options.inlined,
            counters: &self.counters,
            watch,
        };
        let entry = match entries.entry(executable.key) {
            hashbrown::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hashbrown::hash_map::Entry::Vacant(vacant) => {
                let module = Module::open(executable, &setup, &deadline)?;
                statistics::add(&self.counters.files_opened);
                statistics::add(&self.counters.files_open);
                let (state, origin) = (State::Ready(Box::new(module)), watch.origin());
                vacant.insert(Entry { state, last_use: clock, origin, lacks: None })
            }
        };
        entry.last_use = clock;
        watch.at(entry.origin);
        match &mut entry.state {
            State::Nameless | State::Retry(_) => Ok(Vec::new()),
            State::Ready(module) => {
                let frames = module.symbolize(executable, addresses, &setup, &deadline);
                module.release();
                entry.origin = watch.origin();
                entry.lacks = entry.lacks.or(watch.left_alone());
                frames
            }
        }
    }

    /// What could not be read is read again after a while, and what was read without a debug file when that answers.
    fn forget_if_outdated(&mut self, key: u64, watch: &Watch) {
        let Some(entry) = self.entries.get(&key) else { return };
        let is_due = matches!(entry.state, State::Retry(when) if when <= Instant::now());
        if is_due || entry.lacks.is_some_and(|origin| !watch.is_silent(origin)) {
            self.remove(key);
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
            statistics::add(&self.counters.files_evicted);
        }
        while self.entries.len() > most_files * NAMELESS_PER_FILE && self.drop_oldest(|entry| !entry.is_ready()) {}
    }

    /// Of those that qualify; `false` if none does.
    fn drop_oldest(&mut self, qualifies: impl Fn(&Entry) -> bool) -> bool {
        let candidates = self.entries.iter().filter(|(_, entry)| qualifies(entry));
        let oldest = candidates.min_by_key(|(_, entry)| entry.last_use).map(|(key, _)| *key);
        oldest.inspect(|key| self.remove(*key)).is_some()
    }
}

impl Drop for Worker {
    /// A worker that was given up may come back, and takes its files with it.
    fn drop(&mut self) {
        let keys: Vec<u64> = self.entries.keys().copied().collect();
        keys.into_iter().for_each(|key| self.remove(key));
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
    use crate::debug_file::Directory;
    use crate::executable::Content;

    /// Has a worker look up one address in each of these.
    fn work(worker: &mut Worker, executable: Executable) {
        work_watched(worker, executable, &Watch::default());
    }

    fn work_watched(worker: &mut Worker, executable: Executable, watch: &Watch) {
        let (reply, _replies) = channel();
        let executable = Arc::new(executable);
        worker.work(Job::Symbolize { request: 0, executable, addresses: vec![0x1000], reply }, watch);
    }

    /// Has names and a build id, but no debug information.
    fn vdso() -> Option<Arc<[u8]>> {
        use std::os::unix::fs::FileExt;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let (start, end) = maps.lines().find(|line| line.ends_with("[vdso]"))?.split_once(' ')?.0.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, start).unwrap();
        Some(bytes.into())
    }

    #[test]
    fn what_was_read_without_its_debug_file_is_read_again_when_that_may_be_touched() {
        let Some(vdso) = vdso() else { return fixtures::skip("no vDSO") };
        let root = tempfile::tempdir().unwrap();
        let root: Arc<File> = File::open(root.path()).unwrap().into();
        let search = Origin::DebugFiles(Some(Directory::of(&root)));
        let content = Content::Bytes(vdso);
        let executable = Executable { key: 1, content, path: "[vdso]".into(), root: Some(root) };
        let mut worker = Worker::new(Arc::default(), Arc::new(Memo::new(1 << 20)), Arc::default());
        let silent = Watch::avoiding(&[search]);
        for (watch, lacks, opened) in
            [(&silent, Some(search), 1), (&silent, Some(search), 1), (&Watch::default(), None, 2)]
        {
            work_watched(&mut worker, executable.clone(), watch);
            assert_eq!(worker.entries[&1].lacks, lacks);
            let counted = worker.counters.snapshot();
            assert_eq!((counted.files_opened, counted.files_open), (opened, 1));
            assert_eq!(counted.failure(Failure::Silent), 1, "once, when it was looked for");
        }
    }

    #[test]
    fn names_made_without_a_debug_file_that_may_answer_go_with_the_file_they_came_from() {
        let Some(vdso) = vdso() else { return fixtures::skip("no vDSO") };
        let root = tempfile::tempdir().unwrap();
        let root: Arc<File> = File::open(root.path()).unwrap().into();
        let silent = Watch::avoiding(&[Origin::DebugFiles(Some(Directory::of(&root)))]);
        let executable = |key| {
            let content = Content::Bytes(vdso.clone());
            Executable { key, content, path: "[vdso]".into(), root: Some(root.clone()) }
        };
        let memo = Arc::new(Memo::new(1 << 20));
        let options = Arc::new(Options { open_files: 1, ..Options::default() });
        let mut worker = Worker::new(options, memo.clone(), Arc::default());
        for (key, watch) in [(1, &silent), (2, &Watch::default()), (3, &silent)] {
            work_watched(&mut worker, executable(key), watch);
            assert_eq!(worker.entries.len(), 1);
        }
        let is_remembered = |key| memo.get(key, &[0x1000], &mut Vec::new(), &Frames::from([])).is_empty();
        assert_eq!(
            [1, 2, 3].map(is_remembered),
            [false, true, true],
            "the first was pushed out, the last is known to lack"
        );
        drop(worker);
        assert_eq!([1, 2, 3].map(is_remembered), [false, true, false], "the thread was given up");
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
        let before = module.weight();
        let addresses: Vec<u64> = (0x10_0000..0x100_0000).step_by(0x10_0000).collect();
        let setup = Setup {
            debug_directories: &[],
            demangle: worker.options.demangle,
            inlined: false,
            counters: &worker.counters,
            watch: &Watch::default(),
        };
        let open = Executable { key: 0, content: Content::Bytes(Arc::default()), path: "/nowhere".into(), root: None };
        module.symbolize(&open, &addresses, &setup, &Deadline::after(Duration::from_secs(3600))).unwrap();
        let whole = module.weight();
        assert!(whole > before, "{whole} bytes, and {before} before");
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
