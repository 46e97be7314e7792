//! What a profile holds, for people and for scripts: what was measured, how, and the hottest functions.

use std::collections::BTreeMap;
use std::fmt::Write;

use pprof_proto::Profile;
use serde::Serialize;

use super::numbers::value;
use super::shown::shown;
use super::stack_table::StackTable;
use super::top::{TopError, rows};

/// What to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementOptions {
    /// Functions to list.
    pub rows: usize,
    /// Name of the sample type; `None`: the profile's own default.
    pub sample_type: Option<String>,
}

/// A sample type with the sum of its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// Such as `cpu`.
    pub name: String,
    /// Such as `nanoseconds`.
    pub unit: String,
    /// Sum of all samples.
    pub sum: i64,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Function {
    /// Name of the process; empty if the profile does not say.
    pub process: String,
    /// Name of the function.
    pub function: String,
    /// Basename of the executable; empty if there is none.
    pub executable: String,
    /// Spent in the function itself.
    pub own: i64,
    /// Spent in the function and all that it called.
    pub total: i64,
}

/// What a profile holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// Wall clock at the start, ns since the Unix epoch; 0 if unknown.
    pub time_ns: i64,
    /// Length, ns; 0 if unknown.
    pub duration_ns: i64,
    /// Events between two samples; 0 if unknown.
    pub period: i64,
    /// What was measured.
    pub sample_types: Vec<Measured>,
    /// Which of them the functions' values are of.
    pub sample_type: String,
    /// Rows of the profile: samples with equal stacks and labels.
    pub rows: usize,
    /// Distinct stacks.
    pub stacks: usize,
    /// Comments of the form `name: key=value …`; ours carry the ledger.
    pub comments: BTreeMap<String, BTreeMap<String, String>>,
    /// The hottest first.
    pub functions: Vec<Function>,
    /// Further functions.
    pub more: usize,
}

/// Says what a profile holds.
///
/// # Errors
/// An unknown sample type, or a profile that is too large.
pub fn of(profile: &Profile, options: &StatementOptions) -> Result<Statement, TopError> {
    let table = StackTable::from_profile(profile)?;
    let chosen = table.choose(options.sample_type.as_deref())?;
    let all = rows(&table, chosen, !table.owners.is_empty());
    let more = all.len().saturating_sub(options.rows);
    let function = |row: &super::top::TopRow<'_>| Function {
        process: row.process.to_owned(),
        function: row.function.to_owned(),
        executable: row.mapping.to_owned(),
        own: clamped(row.own),
        total: clamped(row.total),
    };
    let types = table.sample_types.iter().enumerate();
    Ok(Statement {
        time_ns: table.time_ns,
        duration_ns: table.duration_ns,
        period: table.period,
        sample_types: types
            .map(|(index, kind)| Measured { name: kind.name.clone(), unit: kind.unit.clone(), sum: table.total(index) })
            .collect(),
        sample_type: table.sample_types.get(chosen).map(|kind| kind.name.clone()).unwrap_or_default(),
        rows: table.samples.len(),
        stacks: table.stacks.len(),
        comments: table.comments.iter().filter_map(|comment| pairs(comment)).collect(),
        functions: all.iter().take(options.rows).map(function).collect(),
        more,
    })
}

fn pairs(comment: &str) -> Option<(String, BTreeMap<String, String>)> {
    let (name, rest) = comment.split_once(": ")?;
    let pairs = rest.split(' ').map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())));
    Some((name.to_owned(), pairs.collect::<Option<_>>()?))
}

impl Statement {
    /// As lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let sums: Vec<String> = self
            .sample_types
            .iter()
            .map(|kind| format!("{} {}", shown(&kind.name), value(i128::from(kind.sum), &shown(&kind.unit))))
            .collect();
        let _ = writeln!(text, "measured: {}", sums.join(", "));
        if self.duration_ns > 0 {
            let _ = writeln!(text, "length: {:.1} s", self.duration_ns as f64 / 1e9);
        }
        let _ = writeln!(text, "holds: {} rows, {} stacks", self.rows, self.stacks);
        for (name, pairs) in &self.comments {
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{} {}", shown(key), shown(value))).collect();
            let _ = writeln!(text, "{}: {}", shown(name), pairs.join(", "));
        }
        let measured = self.sample_types.iter().find(|kind| kind.name == self.sample_type);
        let (sum, unit) = measured.map_or((0, "".into()), |kind| (kind.sum, shown(&kind.unit)));
        let _ = writeln!(text, "\n self   total  {:>10}  function", shown(&self.sample_type));
        for function in &self.functions {
            let percent = |part: i64| if sum == 0 { 0.0 } else { part as f64 * 100.0 / sum as f64 };
            let process = shown(&function.process);
            let process = if process.is_empty() { String::new() } else { format!("{process}: ") };
            let _ = writeln!(
                text,
                "{:>4.1}% {:>6.1}%  {:>10}  {process}{}",
                percent(function.own),
                percent(function.total),
                value(i128::from(function.own), &unit),
                shown(&function.function)
            );
        }
        if self.more > 0 {
            let _ = writeln!(text, "({} more)", self.more);
        }
        text
    }
}

fn clamped(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::difference::tests::profile;
    use crate::report::shown::tests::HOSTILE;

    #[test]
    fn a_statement_has_sums_comments_and_functions() {
        let mut found = profile(&["main", "work", "rest"], &[(&[2, 1], 3_000_000_000), (&[3, 1], 1_000_000_000)]);
        found.string_table.extend(["ledger: due=5 recorded=4".to_owned(), "free text".to_owned()]);
        let last = found.string_table.len() as i64;
        found.comment = vec![last - 2, last - 1];
        found.duration_nanos = 1_500_000_000;
        let statement = of(&found, &StatementOptions { rows: 2, sample_type: None }).unwrap();
        assert_eq!((statement.rows, statement.stacks, statement.more), (2, 2, 1));
        assert_eq!(
            statement.text(),
            "measured: cpu 4.00 s
length: 1.5 s
holds: 2 rows, 2 stacks
ledger: due 5, recorded 4

 self   total         cpu  function
75.0%   75.0%      3.00 s  work
25.0%   25.0%      1.00 s  rest
(1 more)
"
        );
        let json = serde_json::to_value(&statement).unwrap();
        assert_eq!(json["functions"][0]["own"], 3_000_000_000_i64);
        assert_eq!(json["comments"]["ledger"]["recorded"], "4");
        assert!(of(&found, &StatementOptions { rows: 2, sample_type: Some("x".to_owned()) }).is_err());
    }

    #[test]
    fn lines_hold_no_text_that_does_more_than_being_read_and_json_holds_all() {
        let mut found = profile(&[HOSTILE], &[(&[1], 3)]);
        (found.string_table[1], found.string_table[2]) = (HOSTILE.to_owned(), HOSTILE.to_owned());
        found.string_table.push("\x1b[2J: \x1b[3J=\x1b[4J".to_owned());
        found.comment = vec![found.string_table.len() as i64 - 1];
        let statement = of(&found, &StatementOptions { rows: 2, sample_type: None }).unwrap();
        let text = statement.text();
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:?}");
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.contains("?[2J: ?[3J ?[4J") && text.ends_with("a?[2Jb?c??d?0m?]0;e?\n"), "{text}");
        let json = serde_json::to_value(&statement).unwrap();
        assert_eq!(json["functions"][0]["function"], HOSTILE);
    }
}
