//! `cargo xtask budget`: what each eBPF program costs the kernel's verifier, against a committed budget.
//!
//! The verifier gives up at a million instructions and, earlier, at 8,192 pending jumps; a change that comes near should be
//! seen here and not in the field. The counts are those that `everflame record --statistics` prints for this machine's kernel;
//! they differ by a few hundred between kernels.

use crate::{
    command,
    install::{self, missing},
    paths,
};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write the measured counts, rounded up by a tenth, as the new budget
    #[arg(long)]
    update: bool,
}

type Counts = BTreeMap<String, u64>;

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.update {
        let budget: Counts = measure()?.into_iter().map(|(name, count)| (name, count + count.div_ceil(10))).collect();
        fs::write(file(), written(&budget)).with_context(|| file().display().to_string())?;
    }
    check()?;
    Ok(ExitCode::SUCCESS)
}

/// Measures and compares.
///
/// # Errors
/// When a program is over its budget, has none, or is gone; [`install::Missing`] when nothing can be measured here.
pub(crate) fn check() -> Result<()> {
    let measured = measure()?;
    let text = fs::read_to_string(file()).with_context(|| format!("{}: {HINT}", file().display()))?;
    let budget = read(&text)?;
    for (name, count) in &measured {
        let limit = budget.get(name).map_or("none".to_owned(), u64::to_string);
        println!("{name}: {count} verified instructions, budget {limit}");
    }
    let problems = compare(&measured, &budget);
    if !problems.is_empty() {
        bail!("{}; {HINT}", problems.join("; "));
    }
    Ok(())
}

const HINT: &str = "if that is meant, run `cargo xtask budget --update`";

fn file() -> PathBuf {
    paths::root().join("profiler-ebpf/prebuilt/verifier-budget.toml")
}

fn measure() -> Result<Counts> {
    if !install::is_root() {
        return Err(missing("root, to load eBPF programs"));
    }
    let mut build = Command::new("cargo");
    build.current_dir(paths::root()).args(["build", "--quiet", "--locked", "--package", "everflame", "--target-dir"]);
    command::run(build.arg(paths::target()))?;
    let folder = tempfile::tempdir()?;
    let mut everflame = Command::new(paths::target().join("debug/everflame"));
    everflame.args(["record", "--statistics", "--duration", "100ms", "--output"]).arg(folder.path().join("x.folded"));
    let done = everflame.output().with_context(|| command::shown(&everflame))?;
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
    if !done.status.success() {
        bail!("everflame record: {}: {}", done.status, said.trim());
    }
    let counts = counts_in(&said).context("everflame record --statistics did not print verified instructions")?;
    if counts.is_empty() {
        return Err(missing("verified instruction counts from this kernel (Linux 5.16 or newer)"));
    }
    Ok(counts)
}

/// The line `verified instructions: PROGRAM COUNT PROGRAM COUNT …`; a kernel that does not tell says `unknown`.
fn counts_in(said: &str) -> Option<Counts> {
    let line = said.lines().find_map(|line| line.strip_prefix("verified instructions:"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let pairs = words.chunks_exact(2).filter_map(|pair| Some((pair.first()?, pair.get(1)?)));
    Some(pairs.filter_map(|(name, count)| Some(((*name).to_owned(), count.parse().ok()?))).collect())
}

/// What is wrong, one text per program.
fn compare(measured: &Counts, budget: &Counts) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, count) in measured {
        match budget.get(name) {
            Some(limit) if count <= limit => {}
            Some(limit) => problems.push(format!("{name} takes {count} verified instructions of {limit}")),
            None => problems.push(format!("{name} has no budget")),
        }
    }
    problems.extend(budget.keys().filter(|name| !measured.contains_key(*name)).map(|name| format!("{name} is gone")));
    problems
}

/// Lines `name = number`; what follows `#` is a comment.
fn read(text: &str) -> Result<Counts> {
    let mut budget = Counts::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let entry = line.split_once('=').and_then(|(name, number)| {
            Some((name.trim().to_owned(), number.trim().replace('_', "").parse::<u64>().ok()?))
        });
        let (name, limit) = entry.with_context(|| format!("{}: {line}", file().display()))?;
        budget.insert(name, limit);
    }
    Ok(budget)
}

fn written(budget: &Counts) -> String {
    let lines: String = budget.iter().map(|(name, limit)| format!("{name} = {limit}\n")).collect();
    format!(
        "# Verified instructions that each program may take at most; `cargo xtask budget --update` writes this.\n{lines}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_program_over_without_or_behind_its_budget_is_named() {
        let budget = counts(&[("sample", 100), ("unwind", 200), ("old", 1)]);
        let measured = counts(&[("sample", 101), ("unwind", 200), ("new", 5)]);
        let expected = ["new has no budget", "sample takes 101 verified instructions of 100", "old is gone"];
        assert_eq!(compare(&measured, &budget), expected);
    }

    #[test]
    fn counts_come_from_the_line_of_the_statistics_and_unknown_ones_are_left_out() {
        let said = "top\n\nverified instructions: process_exec 12 sample 3456 unwind unknown\nother: 5 6\n";
        assert_eq!(counts_in(said), Some(counts(&[("process_exec", 12), ("sample", 3456)])));
        assert_eq!(counts_in("nothing"), None);
    }

    #[test]
    fn what_is_written_is_read_back_and_other_lines_are_refused() {
        let budget = counts(&[("sample", 123_456), ("unwind", 7)]);
        assert_eq!(read(&written(&budget)).unwrap(), budget);
        assert_eq!(read("a = 1_000 # why\n\n").unwrap(), counts(&[("a", 1000)]));
        assert!(read("a: 5").is_err());
    }
}
