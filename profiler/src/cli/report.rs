//! `everflame report FILE`.

use std::process::ExitCode;

use super::args::Report;
use crate::output;
use crate::report::statement::{self, StatementOptions};

pub(super) fn run(words: &Report) -> anyhow::Result<ExitCode> {
    let profile = output::read(&words.file)?;
    let options = StatementOptions { rows: words.rows, sample_type: words.sample_type.clone() };
    let statement = statement::of(&profile, &options)?;
    let text = if words.json { serde_json::to_string_pretty(&statement)? + "\n" } else { statement.text() };
    super::print::print(text)?;
    Ok(ExitCode::SUCCESS)
}
