//! `everflame top FILE`.

use std::process::ExitCode;

use super::args::Top;
use crate::output;
use crate::report::top::{TopOptions, render};

pub(super) fn run(words: &Top) -> anyhow::Result<ExitCode> {
    let profile = output::read(&words.file)?;
    let options = TopOptions {
        rows: words.rows,
        sample_type: words.sample_type.clone(),
        by_process: !words.no_processes,
        ..TopOptions::default()
    };
    super::print::print(&render(&profile, &options)?);
    Ok(ExitCode::SUCCESS)
}
