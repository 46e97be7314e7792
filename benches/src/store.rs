//! The history's cost: a real recording, played back as a day of a busy node in accelerated time.
//!
//! `record` samples this machine into a history of its own, which is the recording. `measure` plays it back: a child appends,
//! flushes and kills itself; then the history is opened and asked.

mod day;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use profiler::naming::{Namer, unhurried};
use profiler::page::{PageOptions, container};
use profiler::profile::pprof::{ProfileInfo, encode, to_gzip};
use profiler::profile::{Batch, merge};
use profiler::store::{Grouping, Label, Limits, Match, Query, Reader, Store};

use crate::figures::Figures;
use crate::machine;
use crate::recording;
use day::{Day, SECOND};

const BATCH: Duration = Duration::from_secs(10);
/// Turns of each question.
const TURNS: usize = 5;
const INFO: ProfileInfo = ProfileInfo { frequency_hz: 99, cpus: 2, kernel_release: String::new() };

#[derive(clap::Subcommand)]
pub(crate) enum Options {
    /// Samples this machine for a while; needs root
    Record {
        /// Where the recording goes
        folder: PathBuf,
        /// How long
        #[arg(long, default_value_t = 300)]
        seconds: u64,
    },
    /// Plays a recording back as a busy node's day, and asks
    Measure(Measure),
    /// Asks a history what `measure` asks its own
    Ask {
        /// A history that nobody writes to
        history: PathBuf,
    },
    /// What `measure` starts
    #[command(hide = true)]
    Write(Measure),
}

#[derive(clap::Args, Clone)]
pub(crate) struct Measure {
    /// The recording
    recording: PathBuf,
    /// A folder for the history, on the disk that is meant; it must not be there
    #[arg(long)]
    history: PathBuf,
    /// Hours to play
    #[arg(long, default_value_t = 24)]
    hours: u64,
    /// CPUs of the node, all busy
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Limit of bytes
    #[arg(long, default_value_t = 64)]
    gibibytes: u64,
    /// Hours of which the same samples are written as one pprof file a minute, to compare
    #[arg(long, default_value_t = 1)]
    pprof_hours: u64,
    /// Batches between two flushes
    #[arg(long, default_value_t = 6)]
    flush: u64,
    /// Share of a batch's stacks that are new by function too; without it, as many as in the recording are new by address alone
    #[arg(long)]
    new_functions: Option<f64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    match options {
        Options::Record { folder, seconds } => record(folder, *seconds),
        Options::Measure(options) => measure(options),
        Options::Ask { history } => {
            machine::begin("History", "Questions to a history as it was recorded.");
            open_and_ask(history)
        }
        Options::Write(options) => write(options),
    }
}

fn record(folder: &Path, seconds: u64) -> Result<()> {
    let mut store = Store::open(folder, Limits::default())?;
    let mut namer = Namer::new(unhurried(), Path::new("/proc"))?;
    let mut engine = recording::start(99)?;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        recording::go_on(&mut engine, BATCH)?;
        let mut interval = engine.cut()?;
        namer.name(&mut interval);
        store.append(&interval.batch)?;
        println!("{} samples, {} stacks", interval.batch.samples.len(), interval.batch.stacks.len());
    }
    Ok(())
}

fn read_recording(folder: &Path) -> Result<Vec<Batch>> {
    let mut batches = Vec::new();
    Store::open(folder, Limits::default())?.reader().batches(0, u64::MAX, |batch| batches.push(batch))?;
    batches.retain(|batch| !batch.samples.is_empty());
    if batches.len() < 3 {
        bail!("{} has fewer than three batches: record for some minutes first", folder.display());
    }
    Ok(batches)
}

/// CPU time of the calling thread, s.
fn cpu_seconds() -> f64 {
    seconds(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn seconds(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Anonymous memory in use, KiB.
fn memory_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

fn write(options: &Measure) -> Result<()> {
    let mut day = Day::new(read_recording(&options.recording)?, options.cpus, options.new_functions);
    println!("recording: {}", day.describe());
    give_back_memory();
    let before = memory_kib()?;
    let limits = Limits { age: Duration::from_secs(options.hours * 3600), bytes: options.gibibytes << 30 };
    let mut store = Store::open(&options.history, limits)?;
    let (mut costs, mut flushes, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let (mut samples, mut waited, mut flush_cpu) = (0, Duration::ZERO, 0.0);
    let batches = options.hours * 360;
    let mut minutes = Minutes::default();
    for number in 0..batches {
        let batch = day.batch(number);
        samples += batch.samples.len() as u64;
        let (cpu, began) = (cpu_seconds(), Instant::now());
        store.append(&batch)?;
        costs.push((cpu_seconds() - cpu) * 1e6 / batch.samples.len() as f64);
        waited += began.elapsed();
        if number < options.pprof_hours * 360 {
            minutes.add(batch)?;
        }
        if number % options.flush == 0 {
            let (cpu, began) = (cpu_seconds(), Instant::now());
            store.flush()?;
            flush_cpu += cpu_seconds() - cpu;
            flushes.push(began.elapsed().as_secs_f64() * 1e3);
        }
        if number % 90 == 89 {
            give_back_memory();
            memory.push(memory_kib()?.saturating_sub(before) as f64 / 1024.0);
        }
    }
    let costs = Figures::new(costs);
    println!(
        "append: {samples} samples in {batches} batches; CPU per sample {:.2} µs (p99 batch {:.2}), {:.2} ms a batch waiting included",
        costs.mean(),
        costs.at(0.99),
        waited.as_secs_f64() * 1e3 / batches as f64
    );
    let flush_count = flushes.len() as f64;
    let flushes = Figures::new(flushes);
    println!(
        "flush: {:.2} ms CPU, {:.1} ms, worst {:.1} ms",
        flush_cpu * 1e3 / flush_count,
        flushes.mean(),
        flushes.at(1.0)
    );
    println!("{}", minutes.describe());
    let memory = Figures::new(memory);
    println!("memory: {:.1} MiB more than before, worst {:.1} MiB", memory.mean(), memory.at(1.0));
    println!(
        "disk: {:.1} MiB, {:.2} bytes per sample, of which index {:.2}; {:?}",
        store.bytes() as f64 / (1 << 20) as f64,
        store.bytes() as f64 / samples as f64,
        (store.bytes() - store.counters().bytes) as f64 / samples as f64,
        store.counters()
    );
    std::io::stdout().flush()?;
    // As it ends when it is killed: without a flush, without closing anything.
    // SAFETY: a signal to this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    Ok(())
}

/// The same samples as one gzipped pprof file for each minute.
#[derive(Default)]
struct Minutes {
    collected: Vec<Batch>,
    files: u64,
    bytes: u64,
    samples: u64,
}

impl Minutes {
    fn add(&mut self, batch: Batch) -> Result<()> {
        self.collected.push(batch);
        if self.collected.len() < 6 {
            return Ok(());
        }
        let collected = std::mem::take(&mut self.collected);
        let batches: Vec<&Batch> = collected.iter().collect();
        let merged = merge(&batches)?.context("no batch")?;
        self.files += 1;
        self.samples += merged.samples.len() as u64;
        self.bytes += to_gzip(&encode(&merged, &INFO)?).len() as u64;
        Ok(())
    }

    fn describe(&self) -> String {
        let (bytes, samples) = (self.bytes as f64, self.samples.max(1) as f64);
        format!("as one pprof a minute: {} files, {:.2} bytes per sample, without times", self.files, bytes / samples)
    }
}

fn measure(options: &Measure) -> Result<()> {
    machine::begin("History", "A recording played back as a busy node's history, in accelerated time, then asked.");
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["store", "write"]).arg(&options.recording).arg("--history").arg(&options.history);
    for (name, value) in [
        ("--hours", options.hours),
        ("--cpus", u64::from(options.cpus)),
        ("--gibibytes", options.gibibytes),
        ("--pprof-hours", options.pprof_hours),
        ("--flush", options.flush),
    ] {
        child.arg(name).arg(value.to_string());
    }
    if let Some(share) = options.new_functions {
        child.arg("--new-functions").arg(share.to_string());
    }
    let status = child.status()?;
    if std::os::unix::process::ExitStatusExt::signal(&status) != Some(libc::SIGKILL) {
        bail!("the writer ended with {status}");
    }
    open_and_ask(&options.history)
}

fn open_and_ask(history: &Path) -> Result<()> {
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let store = Store::open(history, Limits { bytes: u64::MAX, age: Duration::MAX })?;
    println!(
        "opened in {:.0} ms, CPU {:.0} ms; {:.1} MiB, {:?}",
        began.elapsed().as_secs_f64() * 1e3,
        (cpu_seconds() - cpu) * 1e3,
        store.bytes() as f64 / (1 << 20) as f64,
        store.counters()
    );
    // Somebody waits: with a second thread.
    ask(&store.reader().helped_by(Arc::new(|work: &mut dyn FnMut()| work())))
}

fn ask(reader: &Reader) -> Result<()> {
    let (first, last) = reader.extent()?.context("no history")?;
    println!("{:<44} {:>9} {:>9} {:>9}", "question", "median ms", "worst ms", "CPU ms");
    for (range, from_ns) in [("1 h", last.saturating_sub(3600 * SECOND)), ("all", first)] {
        let everything = Query { from_ns, to_ns: last + 1, filters: Vec::new() };
        let executables = reader.values(&everything, Label::Executable, 10)?;
        let mut filters = vec![("", Vec::new())];
        let names: Vec<&String> = executables.top.iter().map(|(name, _)| name).collect();
        for (what, name) in [(", top executable", names.first()), (", tenth executable", names.last())] {
            let name = name.map(|name| (*name).clone()).unwrap_or_default();
            filters.push((what, vec![(Label::Executable, Match::Equals(name))]));
        }
        for (filtered, filters) in filters {
            let query = Query { filters, ..everything.clone() };
            for grouping in [Grouping::Functions, Grouping::Processes, Grouping::Threads] {
                let mut rows = 0;
                let what = format!("stacks by {grouping:?}, {range}{filtered}").to_lowercase();
                timed(&what, || {
                    let sums = reader.stacks(&query, grouping)?;
                    rows = sums.counts.len();
                    Ok(format!("{rows} rows of {} samples", sums.samples()))
                })?;
            }
            timed(&format!("page, {range}{filtered}"), || {
                let table = reader.stacks(&query, Grouping::Functions)?.table(&INFO)?;
                Ok(format!("{} bytes", container(&table, &PageOptions::default())?.len()))
            })?;
            let step = (query.to_ns - query.from_ns) / 200;
            timed(&format!("series by process, {range}{filtered}"), || {
                Ok(format!("{} values", reader.series(&query, Label::Process, step, 10)?.top.len()))
            })?;
            timed(&format!("values of thread, {range}{filtered}"), || {
                Ok(format!("{} values", reader.values(&query, Label::Thread, 10)?.distinct))
            })?;
        }
        timed(&format!("labels, {range}"), || Ok(format!("{} labels", reader.labels(&everything)?.len())))?;
    }
    Ok(())
}

fn timed(what: &str, mut ask: impl FnMut() -> Result<String>) -> Result<()> {
    let (mut times, mut costs) = (Vec::new(), Vec::new());
    let mut answer = String::new();
    for _ in 0..TURNS {
        // Both threads' of a question.
        let cpu_seconds = || seconds(libc::CLOCK_PROCESS_CPUTIME_ID);
        let (cpu, began) = (cpu_seconds(), Instant::now());
        answer = ask()?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        costs.push((cpu_seconds() - cpu) * 1e3);
    }
    let (times, costs) = (Figures::new(times), Figures::new(costs));
    println!("{what:<44} {:>9.1} {:>9.1} {:>9.1}   {answer}", times.at(0.5), times.at(1.0), costs.at(0.5));
    Ok(())
}
