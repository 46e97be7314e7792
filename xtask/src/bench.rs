//! `cargo xtask bench`: what profiling costs on this machine, in a table to paste.
//!
//! For each program: the profiler's own processor time and memory while it records the whole machine, and what the eBPF
//! programs take per sample. One run is one number: repeat on an idle machine before comparing. It measures no other profiler
//! and asserts nothing.

use crate::{
    command,
    install::{self, missing},
    paths,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each recording takes
    #[arg(long, default_value_t = 10, value_name = "N")]
    seconds: u32,
    /// Samples per second on each CPU
    #[arg(long, default_value_t = 99, value_name = "HZ")]
    frequency: u32,
}

/// Program, flavour, words before the seconds: a shallow stack, a deep one, many threads, many short-lived executables.
const PROGRAMS: [(&str, fixtures::Flavour, &[&str]); 4] = [
    ("chain", fixtures::Flavour::OmitFp, &[]),
    ("recursion", fixtures::Flavour::OmitFp, &["500"]),
    ("threads", fixtures::Flavour::OmitFp, &["64"]),
    ("spawner", fixtures::Flavour::OmitFp, &[]),
];

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if !install::is_root() {
        return Err(missing("root, to record"));
    }
    let mut build = Command::new("cargo");
    build.current_dir(paths::root()).args(["build", "--locked", "--release", "--package", "everflame", "--target-dir"]);
    command::run(build.arg(paths::target()))?;

    println!("\n{}\n", machine()?);
    println!("{} s at {} Hz on every CPU\n", options.seconds, options.frequency);
    println!("| target | agent CPU (share of one) | agent memory (peak) | result |");
    println!("|---|---|---|---|");
    let mut details = String::new();
    for (name, flavour, words) in PROGRAMS {
        let measured = measure(name, flavour, words, options)?;
        let share = 100.0 * measured.cpu_seconds / f64::from(options.seconds);
        let (cpu, memory) = (measured.cpu_seconds, measured.memory_kib / 1024);
        println!("| {name} {} | {cpu:.2} s ({share:.2} %) | {memory} MiB | {} |", words.join(" "), measured.result);
        details += &format!("\n{name} {}:\n{}", words.join(" "), measured.statistics);
    }
    println!("{details}");
    Ok(ExitCode::SUCCESS)
}

/// Processor, number of CPUs, memory, kernel, date: without them a number means nothing.
fn machine() -> Result<String> {
    let information = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, model)| model));
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    Ok(format!(
        "{}, {} CPUs, {} GiB, Linux {}, {}",
        model.unwrap_or("unknown processor"),
        std::thread::available_parallelism()?,
        kib.unwrap_or(0) >> 20,
        fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        command::output(Command::new("date").arg("+%Y-%m-%d"))?.trim(),
    ))
}

struct Measured {
    cpu_seconds: f64,
    memory_kib: i64,
    /// The recording's result line.
    result: String,
    /// Its other counters.
    statistics: String,
}

fn measure(name: &str, flavour: fixtures::Flavour, words: &[&str], options: &Options) -> Result<Measured> {
    let program = fixtures::build(name, flavour).map_err(|error| missing(error.to_string()))?;
    // Longer than the recording, so that its end is not in it.
    let mut target = Command::new(&program);
    target.args(words).arg((options.seconds + 5).to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut target = Running(target.spawn().with_context(|| program.display().to_string())?);
    let mut line = String::new();
    BufReader::new(target.0.stdout.take().context("no output")?).read_line(&mut line)?;

    let folder = tempfile::tempdir()?;
    let mut everflame = Command::new(paths::target().join("release/everflame"));
    everflame.args(["record", "--statistics", "--top", "0", "--duration", &format!("{}s", options.seconds)]);
    everflame.args(["--frequency", &options.frequency.to_string(), "--output"]).arg(folder.path().join("x.pb.gz"));
    everflame.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut recording = everflame.spawn().with_context(|| command::shown(&everflame))?;
    let mut said = String::new();
    // It writes little until its end, so the two pipes can be read one after the other.
    recording.stdout.take().context("no output")?.read_to_string(&mut said)?;
    recording.stderr.take().context("no output")?.read_to_string(&mut said)?;
    let (status, usage) = wait_with_usage(&recording)?;
    if !status.success() {
        bail!("{}: {status}\n{said}", command::shown(&everflame));
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let is_result = |line: &&str| line.contains("ledger:");
    // The counters begin with this line; above it are the files written and the hottest functions.
    let counters = said.lines().skip_while(|line| !line.starts_with("verified instructions:"));
    Ok(Measured {
        cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        memory_kib: usage.ru_maxrss,
        result: said.lines().find(is_result).unwrap_or("no result line").trim().to_owned(),
        statistics: counters.filter(|line| !is_result(line)).map(|line| format!("    {}\n", line.trim())).collect(),
    })
}

/// Waits for a child, and what it used; without the processes that it started.
fn wait_with_usage(child: &Child) -> Result<(ExitStatus, libc::rusage)> {
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to local variables; the pid is of a child that nobody has waited for.
    let waited = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    if waited < 0 {
        return Err(std::io::Error::last_os_error()).context("wait4");
    }
    Ok((ExitStatus::from_raw(status), usage))
}

/// A target program, ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
