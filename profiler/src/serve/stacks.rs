//! Stacks of a range as the page's container, and as files.

use store::{Grouping, Reader, StackSums};

use super::answers;
use super::question::{Form, RangeQuestion};
use super::refusal::Refusal;
use crate::output::{self, OutputError, OutputFormat};
use crate::page::{self, PageError, PageOptions};
use crate::profile::pprof::ProfileInfo;
use crate::report::svg::SvgError;
use crate::report::{SumsError, thousands};

/// The page's container (`web/FORMAT.md`).
pub(super) fn container(
    reader: &Reader,
    range: &RangeQuestion,
    title: &str,
    info: &ProfileInfo,
) -> Result<Vec<u8>, Refusal> {
    let sums = reader.stacks(&range.query, Grouping::Functions)?;
    let notes = notes(&sums);
    let table = sums.table(info).map_err(|error| match error {
        SumsError::TooManyFrames(error) => Refusal::TooMuch(error.to_string()),
        SumsError::Encode(error) => Refusal::Inside(error.to_string()),
    })?;
    // Each has its own copy of every stack.
    drop(sums);
    page::container(&table, &PageOptions { title: title.to_owned(), notes }).map_err(of_page)
}

/// A file.
pub(super) fn file(
    reader: &Reader,
    range: &RangeQuestion,
    form: Form,
    title: &str,
    info: &ProfileInfo,
) -> Result<Vec<u8>, Refusal> {
    let grouping = match form {
        // Others may have names for addresses that we have not.
        Form::Pprof => Grouping::Processes,
        Form::Svg | Form::Folded | Form::Html => Grouping::Functions,
    };
    let sums = reader.stacks(&range.query, grouping)?;
    let profile = sums.profile(info).map_err(|error| Refusal::Inside(error.to_string()))?;
    drop(sums);
    let format = match form {
        Form::Pprof => OutputFormat::PprofGzip,
        Form::Svg => OutputFormat::Svg,
        Form::Folded => OutputFormat::Folded,
        Form::Html => OutputFormat::Html,
    };
    output::render(&profile, format, title).map_err(|error| match error {
        OutputError::Svg(SvgError::Empty) => Refusal::NoSamples,
        OutputError::Page(error) => of_page(error),
        OutputError::TooLarge(_) | OutputError::TooMuchText(_) => Refusal::TooMuch(error.to_string()),
        error => Refusal::Inside(error.to_string()),
    })
}

/// What is not in the container, for people.
fn notes(sums: &StackSums) -> Vec<String> {
    let mut notes = Vec::new();
    let damaged = answers::count(sums.skipped);
    if damaged > 0 {
        notes.push(format!("{damaged} damaged pieces of the history are left out."));
    }
    if sums.left_out_ns > 0 {
        let seconds = sums.left_out_ns.div_ceil(1_000_000_000);
        notes.push(format!(
            "{} s of CPU time in the smallest stacks are left out: there are too many.",
            thousands(seconds)
        ));
    }
    notes
}

fn of_page(error: PageError) -> Refusal {
    match error {
        PageError::TooManyNodes | PageError::TooDeep | PageError::TooLarge { .. } => {
            Refusal::TooMuch(error.to_string())
        }
        error => Refusal::Inside(error.to_string()),
    }
}
