//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, on stable Rust, each for a while.
//!
//! The flags are those of coverage-guided fuzzing without a sanitizer: the readers are safe Rust, so what can be found is a
//! panic, an overflow, a time-out or too much memory. Inputs that reached new code are kept in `target/fuzz/corpus/`, and an
//! input that broke something in `target/fuzz/found/`; `cargo xtask fuzz TARGET --input FILE` runs it again.

use crate::{command, install, paths, toolchain};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Without --target the flags would also reach build scripts, which then don't link.
const HOST: &str = "x86_64-unknown-linux-gnu";
/// Most memory that a reader may take for one input, in MiB; the fuzzer itself needs about 100.
const MEMORY_MIB: u32 = 1024;
/// A reader that takes longer for one input, in seconds, is broken.
const TIME_PER_INPUT: u32 = 20;
const LONGEST_INPUT: u32 = 64 << 10;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The targets; all without one
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
    /// Run one input once instead
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let all = targets()?;
    for target in &options.targets {
        if !all.contains(target) {
            bail!("no fuzz target {target}: there are {}", all.join(", "));
        }
    }
    let wanted = if options.targets.is_empty() { &all } else { &options.targets };
    build()?;
    let mut failed = Vec::new();
    for target in wanted {
        let result = match &options.input {
            Some(input) => command::run(program(target).arg(input)),
            None => fuzz(target, options.seconds),
        };
        if let Err(error) = result {
            println!("{target}: {error:#}");
            failed.push(target.as_str());
        }
    }
    if !failed.is_empty() {
        bail!("found something: {}", failed.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// All targets for a short time each: for the test run.
///
/// # Errors
/// When a target finds something or can't be built.
pub(crate) fn briefly() -> Result<()> {
    const SECONDS: u32 = 5;
    build()?;
    targets()?.iter().try_for_each(|target| fuzz(target, SECONDS))
}

fn folder() -> PathBuf {
    paths::root().join("fuzz")
}

/// The names of the binaries in the manifest.
fn targets() -> Result<Vec<String>> {
    let manifest = fs::read_to_string(folder().join("Cargo.toml"))?;
    Ok(names_of_binaries(&manifest))
}

fn names_of_binaries(manifest: &str) -> Vec<String> {
    let binaries = manifest.split("[[bin]]").skip(1);
    let names = binaries.filter_map(|text| text.lines().find_map(|line| line.strip_prefix("name = \"")));
    names.map(|name| name.trim_end_matches('"').to_owned()).collect()
}

fn build() -> Result<()> {
    install::debian_packages(&["g++", "libc6-dev"], || paths::find_program("c++").is_some())?;
    let llvm = |argument: &str| format!("-Cllvm-args=-sanitizer-coverage-{argument}");
    let flags = [
        "-Cpasses=sancov-module".to_owned(),
        llvm("level=4"),
        llvm("inline-8bit-counters"),
        llvm("pc-table"),
        llvm("trace-compares"),
        "-Ccodegen-units=1".to_owned(),
        "--cfg=fuzzing".to_owned(),
    ];
    let mut cargo = toolchain::active().program("cargo");
    cargo.current_dir(folder()).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")).env_remove("RUSTFLAGS");
    // Not --locked: a new dependency of a reader must not first be repeated in this crate's own lock file.
    cargo.args(["build", "--release", "--bins", "--target", HOST, "--target-dir"]);
    command::run(cargo.arg(paths::target().join("fuzz")))
}

fn program(target: &str) -> Command {
    let mut program = Command::new(paths::target().join("fuzz").join(HOST).join("release").join(target));
    program.arg(format!("-rss_limit_mb={MEMORY_MIB}")).arg(format!("-timeout={TIME_PER_INPUT}"));
    program
}

fn fuzz(target: &str, seconds: u32) -> Result<()> {
    let corpus = paths::target().join("fuzz/corpus").join(target);
    let found = paths::target().join("fuzz/found").join(target);
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    seed(target, &corpus)?;
    let mut program = program(target);
    program.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={LONGEST_INPUT}"));
    program.args(["-use_value_profile=1", "-print_final_stats=1", "-verbosity=0"]);
    program.arg(format!("-artifact_prefix={}/", found.display())).arg(&corpus);
    command::run(&mut program)
}

/// Real inputs to start from: mutation alone does not find an ELF file.
fn seed(target: &str, corpus: &Path) -> Result<()> {
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    match target {
        "elf-rows" | "symbols" => {
            for program in fixtures::programs() {
                // A compiler that is not here means fewer seeds, no more.
                let Ok(file) = program.build() else { continue };
                let mut bytes = fs::read(&file)?;
                if target == "symbols" {
                    bytes.extend([0; 16]);
                }
                if bytes.len() <= LONGEST_INPUT as usize {
                    seeds.push((program.file_name(), bytes));
                }
            }
        }
        "perf-map" => seeds.push(("plain".into(), b"7f00 10 Foo::bar\n0x8000 0x20 name with spaces\n".to_vec())),
        "kallsyms" => {
            let text = fs::read("/proc/kallsyms").unwrap_or_default();
            seeds.push(("here".into(), text.into_iter().take(4096).collect()));
        }
        "process-maps" => seeds.push(("here".into(), fs::read("/proc/self/maps")?)),
        _ => {}
    }
    if let Ok(files) = fs::read_dir(folder().join("seeds").join(target)) {
        for file in files {
            let file = file?;
            seeds.push((file.file_name().to_string_lossy().into_owned(), fs::read(file.path())?));
        }
    }
    for (name, bytes) in seeds {
        fs::write(corpus.join(name), bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_are_the_binaries_of_the_manifest() {
        let manifest =
            "[package]\nname = \"x\"\n[[bin]]\nname = \"a\"\npath = \"a.rs\"\n[[bin]]\npath = \"b.rs\"\nname = \"b\"\n";
        assert_eq!(names_of_binaries(manifest), ["a", "b"]);
    }

    #[test]
    fn every_committed_seed_is_in_the_corpus() {
        for target in fs::read_dir(folder().join("seeds")).unwrap().flatten() {
            let corpus = tempfile::tempdir().unwrap();
            seed(target.file_name().to_str().unwrap(), corpus.path()).unwrap();
            for file in fs::read_dir(target.path()).unwrap().flatten() {
                let there = fs::read(corpus.path().join(file.file_name())).ok();
                assert_eq!(there, fs::read(file.path()).ok(), "{}", file.path().display());
            }
        }
    }

    #[test]
    fn each_target_has_its_file_and_each_file_its_target() {
        let files = fs::read_dir(folder().join("targets")).unwrap().flatten();
        let mut files: Vec<String> = files.map(|file| file.file_name().into_string().unwrap()).collect();
        files.sort();
        let mut names: Vec<String> =
            targets().unwrap().iter().map(|name| format!("{}.rs", name.replace('-', "_"))).collect();
        names.sort();
        assert_eq!(names, files);
    }
}
