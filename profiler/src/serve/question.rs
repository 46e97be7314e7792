//! [`Question`]: what a request's path and parameters ask for. Text in, typed question out; `docs/http.md` has the table.

use std::borrow::Cow;

use store::{Label, MAX_SERIES, Match, Query};
use url::form_urlencoded;

use super::refusal::Refusal;

/// Most filters of one question; each is looked at once for each thread of the history.
pub const MAX_FILTERS: usize = 32;
/// Longest text of a filter, bytes.
const MAX_FILTER_BYTES: usize = 1024;
/// Most steps of a series: 8 bytes for each and value, written out about 12.
pub const MAX_STEPS: u64 = 2000;
/// Most values of a label in one answer, some 100 bytes each.
pub const MAX_VALUES: u64 = 10_000;
/// The range where none is asked for, ms.
const DEFAULT_RANGE_MS: u64 = 3_600_000;
const NS_PER_MS: u64 = 1_000_000;
/// Last time that can be asked for: in the year 2262. Ranges and steps can then be added in 64 bits.
const MAX_MS: u64 = i64::MAX as u64 / NS_PER_MS;

/// A file to download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// pprof in gzip.
    Pprof,
    /// A picture.
    Svg,
    /// Lines of text.
    Folded,
    /// A page that shows the flame graph by itself.
    Html,
}

impl Form {
    const ALL: [(&'static str, Form); 4] =
        [("pb.gz", Form::Pprof), ("svg", Form::Svg), ("folded", Form::Folded), ("html", Form::Html)];

    /// The file's suffix, which is the name in the question.
    pub fn suffix(self) -> &'static str {
        Self::ALL.iter().find(|(_, form)| *form == self).map_or("", |(name, _)| name)
    }
}

/// A range of time with filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuestion {
    /// First ms since the Unix epoch.
    pub from_ms: u64,
    /// The ms after the last.
    pub to_ms: u64,
    /// For the history.
    pub query: Query,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The page itself.
    Document,
    /// Who and how.
    Status,
    /// How much there is of each label.
    Labels(RangeQuestion),
    /// A label's values.
    Values {
        /// Where.
        range: RangeQuestion,
        /// Which label.
        label: Label,
        /// How many by name.
        limit: usize,
    },
    /// CPU time over time.
    Series {
        /// Where.
        range: RangeQuestion,
        /// By which label.
        by: Label,
        /// Length of a step, ms.
        step_ms: u64,
        /// How many by name.
        limit: usize,
    },
    /// Stacks as the page's container.
    Profile(RangeQuestion),
    /// Stacks as a file.
    Download {
        /// Where.
        range: RangeQuestion,
        /// As what.
        form: Form,
    },
}

impl Question {
    /// Reads a path and the query string after it; `now_ms` ends the range where none is asked for.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], or [`Refusal::Malformed`] with what is wrong.
    pub fn parse(path: &str, query: Option<&str>, now_ms: u64) -> Result<Question, Refusal> {
        let query = query.unwrap_or("");
        let read = |known: &[&'static str]| Parameters::read(query, known);
        match path {
            // Whatever stands after it is the page's own business.
            "/" => Ok(Question::Document),
            "/api/v1/status" => read(&[]).map(|_| Question::Status),
            "/api/v1/labels" => Ok(Question::Labels(read(&RANGE)?.range(now_ms)?)),
            "/api/v1/profile" => Ok(Question::Profile(read(&RANGE)?.range(now_ms)?)),
            "/api/v1/values" => {
                let asked = read(&["from", "to", "where", "label", "limit"])?;
                let limit = asked.number("limit", 50, 0..=MAX_VALUES)? as usize;
                Ok(Question::Values { range: asked.range(now_ms)?, label: asked.label("label")?, limit })
            }
            "/api/v1/series" => {
                let asked = read(&["from", "to", "where", "by", "limit", "steps"])?;
                let steps = asked.number("steps", 200, 1..=MAX_STEPS)?;
                let limit = asked.number("limit", 8, 0..=MAX_SERIES as u64)? as usize;
                let range = asked.range(now_ms)?;
                let step_ms = (range.to_ms - range.from_ms).div_ceil(steps).max(1);
                Ok(Question::Series { range, by: asked.label("by")?, step_ms, limit })
            }
            "/api/v1/download" => {
                let asked = read(&["from", "to", "where", "form"])?;
                let form = Form::ALL.iter().find(|(name, _)| asked.get("form") == Some(*name));
                let form = form.ok_or_else(|| malformed("form must be pb.gz, svg, folded or html"))?.1;
                Ok(Question::Download { range: asked.range(now_ms)?, form })
            }
            _ => Err(Refusal::NotFound),
        }
    }
}

const RANGE: [&str; 3] = ["from", "to", "where"];

fn malformed(what: &str) -> Refusal {
    Refusal::Malformed(what.to_owned())
}

/// A question's parameters: each once, save filters.
struct Parameters<'query> {
    pairs: Vec<(&'static str, Cow<'query, str>)>,
    filters: Vec<(Label, Match)>,
}

impl<'query> Parameters<'query> {
    fn read(query: &'query str, known: &[&'static str]) -> Result<Parameters<'query>, Refusal> {
        let mut asked = Parameters { pairs: Vec::new(), filters: Vec::new() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(known) = known.iter().find(|known| **known == name) else {
                return Err(Refusal::Malformed(format!("unknown parameter `{}`", shown(&name))));
            };
            if *known == "where" {
                if asked.filters.len() == MAX_FILTERS {
                    return Err(Refusal::Malformed(format!("more than {MAX_FILTERS} filters")));
                }
                asked.filters.push(filter(&value)?);
            } else if asked.get(known).is_some() {
                return Err(Refusal::Malformed(format!("the parameter `{known}` is given twice")));
            } else {
                asked.pairs.push((known, value));
            }
        }
        Ok(asked)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_ref())
    }

    fn number(&self, name: &str, default: u64, bounds: std::ops::RangeInclusive<u64>) -> Result<u64, Refusal> {
        let Some(text) = self.get(name) else { return Ok(default) };
        // `parse` takes a plus sign, which is a space that somebody forgot to escape.
        let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        number.filter(|number| bounds.contains(number)).ok_or_else(|| {
            Refusal::Malformed(format!("{name} must be a whole number from {} to {}", bounds.start(), bounds.end()))
        })
    }

    fn label(&self, name: &str) -> Result<Label, Refusal> {
        label(self.get(name).ok_or_else(|| Refusal::Malformed(format!("{name} is missing: a label's name")))?)
    }

    fn range(&self, now_ms: u64) -> Result<RangeQuestion, Refusal> {
        let to_ms = self.number("to", now_ms.min(MAX_MS), 0..=MAX_MS)?;
        let from_ms = self.number("from", to_ms.saturating_sub(DEFAULT_RANGE_MS), 0..=MAX_MS)?;
        if from_ms > to_ms {
            return Err(malformed("from must not be after to"));
        }
        let query = Query { from_ns: from_ms * NS_PER_MS, to_ns: to_ms * NS_PER_MS, filters: self.filters.clone() };
        Ok(RangeQuestion { from_ms, to_ms, query })
    }
}

fn label(name: &str) -> Result<Label, Refusal> {
    Label::from_name(name).ok_or_else(|| {
        let known = Label::ALL.map(Label::name).join(", ");
        Refusal::Malformed(format!("there is no label `{}`; there are {known}", shown(name)))
    })
}

/// `pod=x` is it, `pod^=x` begins so, `pod~=x` has it in it.
fn filter(text: &str) -> Result<(Label, Match), Refusal> {
    if text.len() > MAX_FILTER_BYTES {
        return Err(Refusal::Malformed(format!("a filter has {MAX_FILTER_BYTES} bytes at most")));
    }
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| malformed("a filter is written label=value, label^=value or label~=value"))?;
    let value = value.to_owned();
    if let Some(name) = name.strip_suffix('^') {
        return Ok((label(name)?, Match::Prefix(value)));
    }
    if let Some(name) = name.strip_suffix('~') {
        return Ok((label(name)?, Match::Contains(value)));
    }
    Ok((label(name)?, Match::Equals(value)))
}

/// As much of somebody's text as an error message needs.
fn shown(text: &str) -> &str {
    crate::profile::beginning(text, 40)
}

#[cfg(test)]
#[path = "question_tests.rs"]
mod tests;
