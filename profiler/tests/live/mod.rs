//! Recording real programs on this machine's kernel: started, sampled with the library's own engine, named, and looked at
//! stack by stack.
//!
//! Constraint: other work may load the machine, so tests assert shares of the samples that there are, never times. What a
//! machine lacks for a test (perf, BPF, cgroups, a tool) goes to [`fixtures::skip`], which prints it, and fails in continuous
//! integration: no test returns early without it.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]
#![expect(dead_code, reason = "each live test is a program of its own and uses a part of this")]

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fixtures::expected::{Expected, Verdict};
use profiler::engine::{Engine, Options, Precedence, Recording};
use profiler::naming::{Namer, unhurried};
use profiler::profile::{LocationIndex, LocationKind, Sample};
use profiler_common::filter;
use unwind::end::{End, provenance};

/// One recording at a time: two would share the machine's two or three CPUs and halve each other's samples.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the long measurement was asked for.
pub(crate) fn long() -> bool {
    std::env::var_os("EVERFLAME_LONG").is_some_and(|value| value != "0")
}

/// `short` seconds, or `long` ones when a measurement was asked for.
pub(crate) fn seconds(short: u64, long_run: u64) -> Duration {
    Duration::from_secs(if long() { long_run } else { short })
}

/// 999 samples per second of the given processes.
pub(crate) fn options(pids: &[u32]) -> Options {
    Options { frequency_hz: 999, filter: filter::PIDS, pids: pids.to_vec(), ..Options::default() }
}

/// An engine, or `None` after saying why there can be none on this machine.
pub(crate) fn engine(options: Options) -> Option<Engine> {
    match Engine::new(options) {
        Ok(engine) => Some(engine),
        Err(error) => {
            fixtures::skip(error);
            None
        }
    }
}

/// A program that is ended when this goes.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts a program and waits until it says `ready`.
    pub(crate) fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut said = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        while said != "ready\n" {
            said.clear();
            assert_ne!(out.read_line(&mut said).unwrap(), 0, "{command:?} ended before it was ready");
        }
        Running { child }
    }

    /// Starts a program that does not say anything.
    pub(crate) fn start_silent(command: &mut Command) -> Running {
        Running { child: command.stdout(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")) }
    }

    /// A program that runs already.
    pub(crate) fn started(child: Child) -> Running {
        Running { child }
    }

    /// A fixture with its arguments.
    pub(crate) fn fixture(file: &Path, arguments: &[&str]) -> Running {
        Running::start(Command::new(file).args(arguments))
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end; gives its exit code, and what it said on standard error where that is a pipe.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        if let Some(mut words) = self.child.stderr.take() {
            words.read_to_string(&mut said).unwrap();
        }
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for what happens by itself.
pub(crate) fn until(what: &str, mut met: impl FnMut() -> bool) {
    /// Until what is waited for is an error.
    const PATIENCE: Duration = Duration::from_secs(60);
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a program has worked for so many clock ticks more.
pub(crate) fn until_worked(running: &Running, more: u64) {
    let before = ticks(running.pid());
    until("a program to get some CPU time", || ticks(running.pid()) >= before + more);
}

/// User CPU time of a process, in clock ticks of 10 ms.
pub(crate) fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(11).unwrap().parse().unwrap()
}

/// Records for so long; `while_running` is called at each round and ends the recording early by returning false.
pub(crate) fn record_while(
    engine: &mut Engine,
    duration: Duration,
    mut while_running: impl FnMut(&mut Engine) -> bool,
) {
    engine.start().unwrap();
    // The programs run already, and do not inherit it.
    let _precedence = Precedence::take();
    let started = Instant::now();
    while started.elapsed() < duration && while_running(engine) {
        std::thread::sleep(engine.round());
        engine.tick().unwrap();
    }
}

/// Records the given processes for so long; `None` where nothing can be recorded.
pub(crate) fn record(pids: &[u32], duration: Duration) -> Option<Recorded> {
    let mut engine = engine(options(pids))?;
    record_while(&mut engine, duration, |_| true);
    Some(Recorded::new(engine))
}

/// A finished recording with its names.
pub(crate) struct Recorded {
    pub(crate) recording: Recording,
}

/// One sample with its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// User functions, root first, inlined ones too.
    pub(crate) user: Vec<String>,
    /// Number of kernel frames.
    pub(crate) kernel_frames: usize,
    pub(crate) end: End,
    pub(crate) provenance: u8,
    pub(crate) time_ns: u64,
}

impl Seen {
    /// Whether a frame was found by its frame pointer only.
    pub(crate) fn by_frame_pointer(&self) -> bool {
        self.provenance & provenance::FRAME_POINTER != 0
    }

    /// Whether the agent finished it from a copy of the stack.
    pub(crate) fn is_from_copy(&self) -> bool {
        self.provenance & provenance::COPIED != 0
    }
}

impl Recorded {
    /// Stops the engine and names everything.
    pub(crate) fn new(engine: Engine) -> Recorded {
        Recorded::named_by(&mut Namer::new(unhurried(), Path::new("/proc")).unwrap(), engine.finish().unwrap())
    }

    /// Names everything of a recording.
    pub(crate) fn named_by(namer: &mut Namer, mut recording: Recording) -> Recorded {
        namer.name(&mut recording.interval);
        Recorded { recording }
    }

    /// The samples of a process.
    pub(crate) fn samples(&self, pid: u32) -> Vec<Seen> {
        let batch = &self.recording.interval.batch;
        let of_pid = |sample: &&Sample| batch.processes[sample.process.0 as usize].pid == pid;
        batch.samples.iter().filter(of_pid).map(|sample| self.seen(sample)).collect()
    }

    /// Every pid that has samples, with its name.
    pub(crate) fn pids(&self) -> BTreeMap<u32, String> {
        let batch = &self.recording.interval.batch;
        let sampled: HashSet<u32> = batch.samples.iter().map(|sample| sample.process.0).collect();
        sampled
            .into_iter()
            .map(|index| &batch.processes[index as usize])
            .map(|process| (process.pid, batch.strings.get(process.comm).to_owned()))
            .collect()
    }

    /// One sample with its names.
    pub(crate) fn seen(&self, sample: &Sample) -> Seen {
        let batch = &self.recording.interval.batch;
        let mut user = Vec::new();
        let mut kernel_frames = 0;
        for index in batch.stacks[sample.stack.0 as usize].locations.iter().rev() {
            let kind = batch.locations[index.0 as usize].kind;
            if matches!(kind, LocationKind::Kernel | LocationKind::KernelModule | LocationKind::Bpf) {
                kernel_frames += 1;
            } else {
                self.push_names(*index, &mut user);
            }
        }
        Seen { user, kernel_frames, end: sample.end, provenance: sample.provenance, time_ns: sample.time_ns }
    }

    fn push_names(&self, index: LocationIndex, names: &mut Vec<String>) {
        let batch = &self.recording.interval.batch;
        let location = &batch.locations[index.0 as usize];
        for line in location.lines.iter().rev() {
            let function = &batch.functions[line.function.0 as usize];
            names.push(batch.strings.get(function.name).to_owned());
        }
        if location.lines.is_empty() {
            let file = location.mapping.map_or("", |at| batch.strings.get(batch.mappings[at.0 as usize].filename));
            names.push(format!("[{}+{:#x}]", file.rsplit('/').next().unwrap_or(""), location.address));
        }
    }

    /// How many of a process's samples have the right user stack.
    pub(crate) fn judge(&self, pid: u32, expected: &Expected) -> Verdict {
        expected.judge(&folded(&self.samples(pid)), "process")
    }
}

/// User stacks as folded lines.
pub(crate) fn folded(samples: &[Seen]) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for seen in samples {
        *counts.entry(seen.user.join(";")).or_default() += 1;
    }
    counts.into_iter().map(|(stack, count)| format!("process;{stack} {count}\n")).collect()
}

/// Counts that a table of results is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) samples: u64,
    pub(crate) complete: u64,
    pub(crate) right: u64,
    pub(crate) frame_pointer: u64,
    pub(crate) from_copy: u64,
}

impl Shares {
    /// Of the samples of one process, of which so many are right.
    pub(crate) fn of(samples: &[Seen], right: u64) -> Shares {
        let count = |test: fn(&Seen) -> bool| samples.iter().filter(|seen| test(seen)).count() as u64;
        Shares {
            samples: samples.len() as u64,
            complete: count(|seen| seen.end == End::Complete),
            right,
            frame_pointer: count(Seen::by_frame_pointer),
            from_copy: count(Seen::is_from_copy),
        }
    }

    /// Adds another's.
    pub(crate) fn add(&mut self, other: Shares) {
        self.samples += other.samples;
        self.complete += other.complete;
        self.right += other.right;
        self.frame_pointer += other.frame_pointer;
        self.from_copy += other.from_copy;
    }

    /// One row of the table.
    pub(crate) fn row(&self, name: &str) -> String {
        let percent = |part: u64| 100.0 * part as f64 / self.samples.max(1) as f64;
        format!(
            "{name:<24} {:>7} samples  complete {:>7.3} %  right {:>7.3} %  by frame pointer {:>6.2} %  from a copy {:>6.2} %",
            self.samples,
            percent(self.complete),
            percent(self.right),
            percent(self.frame_pointer),
            percent(self.from_copy),
        )
    }
}

/// How samples ended, most frequent first, those that reached their entry left out.
pub(crate) fn ends(samples: &[Seen]) -> String {
    let mut counts: BTreeMap<End, u64> = BTreeMap::new();
    for seen in samples.iter().filter(|seen| seen.end != End::Complete) {
        *counts.entry(seen.end).or_default() += 1;
    }
    counts.iter().map(|(end, count)| format!(" {} {count}", end.name())).collect()
}
