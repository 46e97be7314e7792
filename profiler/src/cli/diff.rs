//! `everflame diff BEFORE AFTER`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use super::args::Diff;
use super::progress::{during, reading};
use crate::output;
use crate::report::difference::{self, DifferenceOptions};

pub(super) fn run(words: &Diff) -> anyhow::Result<ExitCode> {
    let standard = Path::new(output::STANDARD);
    if words.before == standard && words.after == standard {
        bail!("standard input can be only one of the two");
    }
    let before = reading(&words.before, || output::read(&words.before))?;
    let after = reading(&words.after, || output::read(&words.after))?;
    let options = DifferenceOptions { rows: words.rows, sample_type: words.sample_type.clone() };
    let difference = during("comparing them", || difference::of(&before, &after, &options))?;
    let text = if words.json { serde_json::to_string_pretty(&difference)? + "\n" } else { difference.text() };
    super::print::print(text)?;
    Ok(ExitCode::SUCCESS)
}
