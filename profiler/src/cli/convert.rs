//! `everflame convert IN OUT`.

use std::process::ExitCode;

use super::args::Convert;

pub(super) fn run(words: &Convert) -> anyhow::Result<ExitCode> {
    crate::output::convert(&words.input, &words.output)?;
    Ok(ExitCode::SUCCESS)
}
