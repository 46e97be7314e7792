//! `everflame convert IN OUT`.

use std::process::ExitCode;

use super::args::Convert;
use super::progress::reading;

pub(super) fn run(words: &Convert) -> anyhow::Result<ExitCode> {
    let (input, output) = (&words.input, &words.output);
    reading(input, || crate::output::convert(input, output))?;
    Ok(ExitCode::SUCCESS)
}
