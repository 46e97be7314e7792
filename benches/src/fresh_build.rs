//! How long a release build takes that finds nothing built before.

use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::machine;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The package
    #[arg(long, default_value = "everflame")]
    package: String,
}

const EXPLANATION: &str = "\
`cargo build --release --locked` into an empty target directory. The sources of all dependencies were downloaded before (`cargo
fetch`); nothing is downloaded while the time runs, and no cache of compiled crates is used. Files may be in the page cache.";

pub(crate) fn run(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir()?;
    machine::begin("fresh-build: a release build from nothing", EXPLANATION);
    let cargo = || {
        let mut command = Command::new("cargo");
        command.current_dir(&root).env("CARGO_TARGET_DIR", folder.path());
        // A debug-build setting or a wrapper that caches would make this another build.
        command.env_remove("RUSTC_WRAPPER").env_remove("CARGO_BUILD_RUSTC_WRAPPER").env_remove("RUSTFLAGS");
        command
    };
    run_to_end(cargo().args(["fetch", "--quiet", "--locked"]))?;
    let (cpu, began) = (cpu_time_of_children(), Instant::now());
    run_to_end(cargo().args([
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--offline",
        "--package",
        &options.package,
    ]))?;
    let (wall, cpu) = (began.elapsed(), cpu_time_of_children() - cpu);
    let versions = Command::new("rustc").arg("--version").output().context("rustc --version")?;
    let binary = folder.path().join("release").join(&options.package);
    let size =
        std::fs::metadata(&binary).map_or_else(|_| "none".to_owned(), |file| format!("{:.1}", file.len() as f64 / 1e6));
    machine::head(&["wall, s", "CPU, s", "CPUs", "binary, MB (with line tables)", "compiler", "load"]);
    println!(
        "| **{:.0}** | {:.0} | {} | {size} | {} | {} |",
        wall.as_secs_f64(),
        cpu.as_secs_f64(),
        machine::cpus(),
        String::from_utf8_lossy(&versions.stdout).trim(),
        machine::load(),
    );
    Ok(())
}

fn run_to_end(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Of all children that have ended and were waited for, with theirs.
fn cpu_time_of_children() -> Duration {
    // SAFETY: rusage is plain numbers, for which zero is a value, and the call fills it.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}
