//! A binary with a million rows that nobody has seen: from its first sample to its first stack that the kernel finished.

use anyhow::{Context as _, Result, bail};
use profiler::engine::{Engine, Options as EngineOptions, Precedence, Recording, Target};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use unwind::end::{End, provenance};

use crate::figures::Figures;
use crate::programs::{Running, compile};
use crate::{machine, recording};

/// Of the generated program: nine rows each, less what neighbours share.
const FUNCTIONS: u32 = 112_000;
/// What the generated program must have at least.
const ROWS: u64 = 1_000_000;
/// The profiler runs so long before the program starts.
const BEFORE: Duration = Duration::from_secs(1);
/// The recording ends when the kernel has finished so many of the program's stacks.
const ENOUGH: u64 = 10;

#[derive(clap::Args)]
// Part of the options of `tables`, which has a group of the usual name already.
#[group(id = "first")]
pub(crate) struct Options {
    /// Samples per CPU and second of the measurement with a new binary
    #[arg(long, default_value_t = 99)]
    first_hz: u32,
    /// New binaries, half of them read from the disk
    #[arg(long, default_value_t = 10)]
    first_times: u32,
}

impl Options {
    pub(crate) fn quick(self) -> Options {
        Options { first_times: 2, ..self }
    }
}

const EXPLANATION: &str = "\
A program whose bytes are new each time, started while the profiler waits for it: from the time of its first sample to the time of its
first complete stack by tables in the kernel. Samples before that one are finished from copies. `from memory`: the file was
just written; `from disk`: its pages were dropped before. Aim: 1,000 or less.";

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    machine::begin("tables: first stack of a new binary with a million rows, ms", EXPLANATION);
    let (hz, period) = (options.first_hz, 1000.0 / f64::from(options.first_hz));
    println!("{hz} Hz: nothing finer than {period:.1} ms can be told.\n");
    machine::head(&[
        "file",
        "times",
        "least",
        "median",
        "most",
        "rows",
        "building alone, median",
        "samples before, median",
        "load",
    ]);
    for (name, cold) in [("from memory", false), ("from disk", true)] {
        let (mut waits, mut builds, mut samples, mut rows) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for _ in 0..options.first_times.div_ceil(2) {
            let program = generate(folder.path(), cold)?;
            let one = measure(&program, options.first_hz)?;
            waits.push(one.wait_ns as f64 / 1e6);
            builds.push(one.build_ns as f64 / 1e6);
            samples.push(one.samples_before as f64);
            rows = one.rows;
        }
        let (waits, builds, samples) = (Figures::new(waits), Figures::new(builds), Figures::new(samples));
        println!(
            "| {name} | {} | {:.0} | {:.0} | **{:.0}** | {rows} | {:.0} | {:.0} | {} |",
            waits.count(),
            waits.least(),
            waits.median(),
            waits.most(),
            builds.median(),
            samples.median(),
            machine::load(),
        );
    }
    Ok(())
}

/// A program with another mark, and so another build id, each time.
fn generate(folder: &Path, cold: bool) -> Result<std::path::PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let (functions, mark) = (format!("-DFUNCTIONS={FUNCTIONS}"), format!("-DMARK={now}"));
    let program = compile("rows.c", folder, "rows", &["-Wl,--build-id", &functions, &mark, "rows.S"])?;
    if cold {
        let file = File::open(&program)?;
        file.sync_all()?;
        // SAFETY: a plain system call on a descriptor of ours.
        let refused = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        if refused != 0 {
            bail!("the file's pages can't be dropped: {}", std::io::Error::from_raw_os_error(refused));
        }
    }
    Ok(program)
}

struct One {
    wait_ns: u64,
    build_ns: u64,
    rows: u64,
    samples_before: usize,
}

fn measure(program: &Path, hz: u32) -> Result<One> {
    let mut engine = Engine::new(EngineOptions {
        frequency_hz: hz,
        // The counters and the row builder's queue are then this program's alone.
        target: Target::named(vec!["rows".into()]),
        ..EngineOptions::default()
    })?;
    engine.start()?;
    recording::go_on(&mut engine, BEFORE)?;
    let running = Running::spawn(Command::new(program).stdout(Stdio::null()))?;
    let precedence = Precedence::take();
    recording::go_on_until(&mut engine, "stacks finished in the kernel", |engine| {
        engine.counters().finished_in_kernel >= ENOUGH
    })?;
    drop(precedence);
    let pid = running.pid();
    evaluate(&engine.finish()?, pid)
}

fn evaluate(recording: &Recording, pid: u32) -> Result<One> {
    let batch = &recording.interval.batch;
    let of_program = |sample: &&profiler::profile::Sample| {
        batch.processes.get(sample.process.0 as usize).is_some_and(|process| process.pid == pid)
    };
    let mut samples: Vec<_> = batch.samples.iter().filter(of_program).collect();
    samples.sort_by_key(|sample| sample.time_ns);
    let by_kernel = |sample: &profiler::profile::Sample| {
        let copied = provenance::COPIED | provenance::STALE | provenance::FRAME_POINTER;
        sample.end == End::Complete && sample.provenance & copied == 0
    };
    let first = samples.first().context("the program was never sampled")?;
    let at =
        samples.iter().position(|sample| by_kernel(sample)).context("no stack of it was finished in the kernel")?;
    let counters = &recording.executable_counters;
    if counters.rows < ROWS {
        bail!("the program has {} rows only", counters.rows);
    }
    Ok(One {
        wait_ns: samples[at].time_ns - first.time_ns,
        build_ns: counters.build_ns,
        rows: counters.rows,
        samples_before: at,
    })
}
