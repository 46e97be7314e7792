//! A flame graph as one SVG file, drawn by inferno from folded lines.
//!
//! The same profile gives the same bytes: colours follow from names. An SVG is for looking and mailing; the page can more.
//! inferno writes its subtitle in one line, whatever fits: it is broken here.

use std::fmt::Write as _;

use pprof_proto::Profile;

use super::folded::{self, FoldedOptions, TooMuchText};
use super::shown::shown;
use super::stack_table::{SampleType, StackTable};
use super::top::TopError;
use inferno::flamegraph::color::{MultiPalette, Palette};
use inferno::flamegraph::{self, Options};

/// Letters in a line of the subtitle: at 12 px they take 870 of the picture's 1,200 pixels.
const LINE: usize = 120;
/// Lines that have room between the title and the frames.
const LINES: usize = 2;
/// Where they stand: the title's line is at 24, the frames begin at 60.
const FIRST_LINE_Y: usize = 42;
const NEXT_LINE: usize = 14;
/// How inferno's subtitle begins. A name can't look like it: its `<` is escaped.
const SUBTITLE: &[u8] = b"<text id=\"subtitle\"";

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

/// Draws one sample type; `None`: the profile's default. Without a `title`, the main binary's name is shown. Of nothing to draw there
/// is [`without_samples`].
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
    options.title = heading(&table, title);
    let subtitle = subtitle(&table);
    options.subtitle = (!subtitle.is_empty()).then(|| subtitle.join("\n"));
    options.deterministic = true;
    options.colors = Palette::Multi(MultiPalette::Java);
    (options.count_name, options.factor) = unit(table.sample_types.get(chosen));
    let mut picture = Vec::new();
    flamegraph::from_lines(&mut options, lines, &mut picture).map_err(SvgError::Draw)?;
    Ok(with_lines(picture, &subtitle))
}

/// The picture of a profile for which [`render`] has nothing to draw. It says so, with what became of the hits.
///
/// # Errors
/// [`SvgError::Profile`]: the profile is too large.
pub fn without_samples(profile: &Profile, title: &str) -> Result<Vec<u8>, SvgError> {
    let table = StackTable::from_profile(profile).map_err(TopError::from)?;
    let why = if table.samples.is_empty() { "no samples" } else { "no sample with a value above 0" };
    let mut picture = String::from(
        "<?xml version=\"1.0\" standalone=\"no\"?>\n\
         <svg version=\"1.1\" width=\"1200\" height=\"120\" viewBox=\"0 0 1200 120\" xmlns=\"http://www.w3.org/2000/svg\" \
         font-family=\"monospace\" font-size=\"12\" text-anchor=\"middle\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#eeeeee\"/>\n",
    );
    picture += &format!("<text x=\"50%\" y=\"24\" font-size=\"17\">{}</text>\n", escaped(&heading(&table, title)));
    picture += &format!("<text>{}</text>\n", spans(&subtitle(&table)));
    picture += &format!("<text x=\"50%\" y=\"95\" font-size=\"17\">{why}</text>\n</svg>\n");
    Ok(picture.into_bytes())
}

/// The title; without one, the main binary's name is shown.
fn heading(table: &StackTable, title: &str) -> String {
    let title = shown(if title.is_empty() { table.text(table.main_binary) } else { title });
    if title.is_empty() { "Everflame".to_owned() } else { format!("Everflame: {title}") }
}

fn is_negative(line: &str) -> bool {
    line.rsplit_once(' ').is_some_and(|(_, value)| value.starts_with('-'))
}

/// What became of the hits, in lines that fit. What did not occur is left out, as in the result line; a file by somebody else may say
/// anything, and is cut.
fn subtitle(table: &StackTable) -> Vec<String> {
    let Some(comment) = table.comments.iter().find(|comment| comment.starts_with("ledger: ")) else {
        return Vec::new();
    };
    let comment = shown(comment);
    let mut lines: Vec<String> = Vec::new();
    for word in comment.split_whitespace().filter(|word| !word.ends_with("=0")) {
        let length = word.chars().count();
        let count = lines.len();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + length <= LINE => *line += &format!(" {word}"),
            Some(last) if count == LINES => {
                last.push_str(" …");
                break;
            }
            _ if length > LINE => lines.push(word.chars().take(LINE).chain(['…']).collect()),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Puts lines in the place of the subtitle.
fn with_lines(picture: Vec<u8>, lines: &[String]) -> Vec<u8> {
    let Some(start) = picture.windows(SUBTITLE.len()).position(|window| window == SUBTITLE) else { return picture };
    let (before, subtitle) = picture.split_at(start);
    let end_mark = b"</text>";
    let Some(end) = subtitle.windows(end_mark.len()).position(|window| window == end_mark) else { return picture };
    let after = subtitle.get(end..).unwrap_or_default();
    [before, SUBTITLE, b">", spans(lines).as_bytes(), after].concat()
}

fn spans(lines: &[String]) -> String {
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let y = FIRST_LINE_Y + number * NEXT_LINE;
        // Writing to a String does not fail.
        let _ = write!(text, "<tspan x=\"50%\" y=\"{y}\">{}</tspan>", escaped(line));
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What the numbers are called, and by what they are multiplied for showing.
fn unit(sample_type: Option<&SampleType>) -> (String, f64) {
    match sample_type.map(|sample_type| sample_type.unit.as_str()) {
        Some("nanoseconds") => ("ms".to_owned(), 1e-6),
        Some("count") | Some("") | None => ("samples".to_owned(), 1.0),
        Some(unit) => (shown(unit).into_owned(), 1.0),
    }
}
