//! `everflame report FILE`.

use std::process::ExitCode;

use super::args::Report;
use super::progress::reading;
use crate::output;
use crate::report::statement::{self, StatementOptions};

pub(super) fn run(words: &Report) -> anyhow::Result<ExitCode> {
    let options = StatementOptions { rows: words.rows, sample_type: words.sample_type.clone() };
    let statement =
        reading(&words.file, || -> anyhow::Result<_> { Ok(statement::of(&output::read(&words.file)?, &options)?) })?;
    let text = if words.json { serde_json::to_string_pretty(&statement)? + "\n" } else { statement.text() };
    super::print::print(text)?;
    Ok(ExitCode::SUCCESS)
}
