//! `cargo xtask bench`: every bench of `benches/`, one after the other, each with its table.
//!
//! Before each it waits until the machine is quiet, since the one before is in the load average too, and begins anyway when
//! that takes too long: the load stands beside every table. It asserts nothing.

use crate::{
    command,
    install::{self, missing},
    paths,
};
use anyhow::{Result, bail};
use std::{
    fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

/// In the order in which they run: those that a busy machine spoils most come first.
const BENCHES: [&str; 8] = ["slowdown", "kernel", "agent", "steady", "memory", "tables", "export", FRESH_BUILD];
/// Has no short form: it takes minutes, and runs with `--quick` only if it is asked for by name.
const FRESH_BUILD: &str = "fresh-build";
/// The load average that a quiet machine has at most.
const QUIET: f64 = 0.5;
/// Between two looks at the load; the kernel renews it every five seconds.
const LOOK: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Short runs, which show that the benches work; their figures are rough
    #[arg(long)]
    quick: bool,
    /// Only these
    #[arg(long, value_delimiter = ',', value_parser = BENCHES)]
    only: Vec<String>,
    /// Wait at most so long, before each bench, for a load average of 0.5
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    settle: u64,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if !install::is_root() {
        return Err(missing("root, to record"));
    }
    let mut build = Command::new("cargo");
    build.current_dir(paths::root()).args(["build", "--locked", "--release", "--package", "benches", "--target-dir"]);
    command::run(build.arg(paths::target()))?;
    let program = paths::target().join("release/benches");
    let mut failed = Vec::new();
    for name in BENCHES {
        let asked = options.only.iter().any(|only| only == name);
        let usual = options.only.is_empty() && !(options.quick && name == FRESH_BUILD);
        if !asked && !usual {
            continue;
        }
        settle(Duration::from_secs(options.settle));
        let mut bench = Command::new(&program);
        bench.current_dir(paths::root()).arg(name).args(options.quick.then_some("--quick"));
        // One that fails does not hide the others.
        if let Err(error) = command::run(&mut bench) {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until the load average of the last minute is low enough, but not for ever.
fn settle(most: Duration) {
    let until = Instant::now() + most;
    while load().is_some_and(|load| load > QUIET) && Instant::now() < until {
        std::thread::sleep(LOOK);
    }
}

/// The load average of the last minute, where the kernel tells.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
