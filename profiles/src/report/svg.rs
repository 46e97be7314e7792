//! A flame graph as one SVG file, drawn by inferno from folded lines.
//!
//! The same profile gives the same bytes: colours follow from names. An SVG is for looking and mailing; the page can more.

use pprof_proto::Profile;

use super::folded::{self, FoldedOptions, TooMuchText};
use super::shown::shown;
use super::stack_table::{SampleType, StackTable};
use super::top::TopError;
use inferno::flamegraph::color::{MultiPalette, Palette};
use inferno::flamegraph::{self, Options};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum SvgError {
    /// No such sample type, or the profile is too large.
    #[error(transparent)]
    Profile(#[from] TopError),
    /// Its stacks are too much text.
    #[error(transparent)]
    TooMuchText(#[from] TooMuchText),
    /// There is nothing to draw.
    #[error("the profile has no sample with a value above 0")]
    Empty,
    /// The sum of the values is over `i64::MAX`.
    #[error("the profile's values are too large to be summed up")]
    Overflow,
    /// inferno could not draw.
    #[error("the flame graph can't be drawn: {0}")]
    Draw(#[source] std::io::Error),
}

/// Draws one sample type; `None`: the profile's default. Without a `title`, the main binary's name is shown.
///
/// # Errors
/// [`SvgError`]: an unknown sample type, nothing to draw, or too much.
pub fn render(profile: &Profile, sample_type: Option<&str>, title: &str) -> Result<Vec<u8>, SvgError> {
    let table = StackTable::from_profile(profile).map_err(TopError::from)?;
    let chosen = table.choose(sample_type).map_err(TopError::from)?;
    let text = folded::render(&table, chosen, FoldedOptions { by_process: true, annotate: true })?;
    // A difference of two profiles has negative values, which have no width.
    let lines: Vec<&str> = text.lines().filter(|line| !is_negative(line)).collect();
    if lines.is_empty() {
        return Err(SvgError::Empty);
    }
    // inferno adds without a check.
    let sum: i128 = lines.iter().filter_map(|line| line.rsplit_once(' ')?.1.parse::<i128>().ok()).sum();
    if sum > i128::from(i64::MAX) {
        return Err(SvgError::Overflow);
    }
    let mut options = Options::default();
    let title = shown(if title.is_empty() { table.text(table.main_binary) } else { title });
    options.title = if title.is_empty() { "Everflame".to_owned() } else { format!("Everflame: {title}") };
    options.subtitle = subtitle(&table);
    options.deterministic = true;
    options.colors = Palette::Multi(MultiPalette::Java);
    (options.count_name, options.factor) = unit(table.sample_types.get(chosen));
    let mut picture = Vec::new();
    flamegraph::from_lines(&mut options, lines, &mut picture).map_err(SvgError::Draw)?;
    Ok(picture)
}

fn is_negative(line: &str) -> bool {
    line.rsplit_once(' ').is_some_and(|(_, value)| value.starts_with('-'))
}

fn subtitle(table: &StackTable) -> Option<String> {
    let comment = table.comments.iter().find(|comment| comment.starts_with("ledger: "))?;
    Some(shown(comment).into_owned())
}

/// What the numbers are called, and by what they are multiplied for showing.
fn unit(sample_type: Option<&SampleType>) -> (String, f64) {
    match sample_type.map(|sample_type| sample_type.unit.as_str()) {
        Some("nanoseconds") => ("ms".to_owned(), 1e-6),
        Some("count") | Some("") | None => ("samples".to_owned(), 1.0),
        Some(unit) => (shown(unit).into_owned(), 1.0),
    }
}
