//! `everflame top`: the live screen, or with a FILE its hottest functions.

use std::path::Path;
use std::process::ExitCode;

use super::args::{Selection, Top};
use super::progress::reading;
use crate::output;
use crate::report::top::{TopOptions, render};
use crate::terminal::{run::run as show, screen};

pub(super) fn run(words: Top) -> anyhow::Result<ExitCode> {
    match &words.file {
        Some(file) => print(file, &words),
        None => live(words),
    }
}

fn print(file: &Path, words: &Top) -> anyhow::Result<ExitCode> {
    let options = TopOptions {
        rows: words.rows,
        sample_type: words.sample_type.clone(),
        by_process: !words.no_processes,
        ..TopOptions::default()
    };
    let text = reading(file, || -> anyhow::Result<_> { Ok(render(&output::read(file)?, &options)?) })?;
    super::print::print(text)?;
    Ok(ExitCode::SUCCESS)
}

fn live(words: Top) -> anyhow::Result<ExitCode> {
    screen::check()?;
    super::capabilities::check()?;
    let target = target(&words.selection);
    let options = super::selection::options(words.selection, words.frequency)?;
    super::machine::raise_file_limit();
    show(options, super::machine::host(), target)?;
    Ok(ExitCode::SUCCESS)
}

/// What is left of the machine, in the words that asked for it.
fn target(words: &Selection) -> String {
    let mut said: Vec<String> = words.pid.iter().map(|pid| format!("--pid {pid}")).collect();
    said.extend(words.comm.iter().map(|name| format!("--comm {name}")));
    said.extend(words.cgroup.iter().map(|path| format!("--cgroup {}", path.display())));
    let switches = [(words.code.user_only, "--user-only"), (words.code.kernel_only, "--kernel-only")];
    said.extend(switches.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word.to_owned()));
    said.join(" ")
}
