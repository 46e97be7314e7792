//! Two profiles compared, function by function.
//!
//! Compared are shares, since two recordings are seldom equally long: a function that took 5 % before and 8 % after is 3 points up,
//! whatever the machine did besides. Values are there for those who know that both are of the same work.

use std::collections::HashMap;
use std::fmt::Write;

use pprof_proto::Profile;
use serde::Serialize;

use super::numbers::value;
use super::shown::shown;
use super::stack_table::StackTable;
use super::top::{TopError, TopRow, rows};

/// What to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferenceOptions {
    /// Functions to list.
    pub rows: usize,
    /// Name of the sample type; `None`: each profile's own default.
    pub sample_type: Option<String>,
}

/// Why two profiles can't be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DifferenceError {
    /// One of them can't be read as a table.
    #[error(transparent)]
    Profile(#[from] TopError),
    /// They measure different things.
    #[error("the first profile is of {before} and the second of {after}: choose one with --sample-type")]
    Types {
        /// Type and unit of the first.
        before: String,
        /// Of the second.
        after: String,
    },
}

/// A function in both profiles; 0 where it does not occur.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    /// Name of the function.
    pub function: String,
    /// Basename of the executable; empty if there is none.
    pub executable: String,
    /// Spent in the function itself, before and after.
    pub own: [i64; 2],
    /// Spent in the function and all that it called.
    pub total: [i64; 2],
    /// Change of the own share, in points of percent.
    pub own_points: f64,
    /// Change of the total share, in points of percent.
    pub total_points: f64,
}

/// Two profiles compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// What the values mean, such as `cpu`.
    pub sample_type: String,
    /// Their unit.
    pub unit: String,
    /// Sum of all samples, before and after.
    pub sum: [i64; 2],
    /// Functions, the largest change of the own or the total share first.
    pub functions: Vec<Changed>,
    /// Further functions that changed.
    pub more: usize,
}

/// Compares two profiles.
///
/// # Errors
/// [`DifferenceError`].
pub fn of(before: &Profile, after: &Profile, options: &DifferenceOptions) -> Result<Difference, DifferenceError> {
    let tables = [before, after].map(|profile| StackTable::from_profile(profile).map_err(TopError::from));
    let [before, after] = tables;
    let tables = [before?, after?];
    let mut kinds = Vec::with_capacity(2);
    for table in &tables {
        let chosen = table.choose(options.sample_type.as_deref()).map_err(TopError::from)?;
        let kind = table.sample_types.get(chosen);
        kinds.push((chosen, kind.map_or(("", ""), |kind| (kind.name.as_str(), kind.unit.as_str()))));
    }
    let (first, second) = (kinds[0], kinds[1]);
    if first.1 != second.1 {
        let words = |(name, unit): (&str, &str)| shown(&format!("{name}/{unit}")).into_owned();
        return Err(DifferenceError::Types { before: words(first.1), after: words(second.1) });
    }
    let sum = [tables[0].total(first.0), tables[1].total(second.0)];
    let mut both: HashMap<(&str, &str), [(i128, i128); 2]> = HashMap::new();
    for (side, (table, chosen)) in tables.iter().zip([first.0, second.0]).enumerate() {
        for TopRow { function, mapping, own, total, .. } in rows(table, chosen, false) {
            both.entry((function, mapping)).or_default()[side] = (own, total);
        }
    }
    let points = |values: [i128; 2]| share(values[1], sum[1]) - share(values[0], sum[0]);
    let mut functions: Vec<Changed> = both
        .into_iter()
        .map(|((function, executable), [before, after])| Changed {
            function: function.to_owned(),
            executable: executable.to_owned(),
            own: [before.0, after.0].map(clamped),
            total: [before.1, after.1].map(clamped),
            own_points: points([before.0, after.0]),
            total_points: points([before.1, after.1]),
        })
        .filter(|changed| changed.own_points != 0.0 || changed.total_points != 0.0)
        .collect();
    functions.sort_by(|left, right| {
        // A function that only calls may be all that changed.
        let size = |changed: &Changed| {
            let (own, total) = (changed.own_points.abs(), changed.total_points.abs());
            (own.max(total), own)
        };
        let (a, b) = (size(left), size(right));
        let change = b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1));
        change.then_with(|| (&left.function, &left.executable).cmp(&(&right.function, &right.executable)))
    });
    let more = functions.len().saturating_sub(options.rows);
    functions.truncate(options.rows);
    Ok(Difference { sample_type: first.1.0.to_owned(), unit: first.1.1.to_owned(), sum, functions, more })
}

impl Difference {
    /// The table as text, with a line break at its end.
    pub fn text(&self) -> String {
        let sums = self.sum.map(|sum| value(i128::from(sum), &shown(&self.unit)));
        let mut text = format!(
            "{}: {} before, {} after; in percent of each, the largest change first\n",
            shown(&self.sample_type),
            sums[0],
            sums[1]
        );
        text += "    self: before  after  change   total: before  after  change  function\n";
        for changed in &self.functions {
            let part = |values: [i64; 2], points: f64| {
                let [before, after] = [0, 1].map(|side| share(i128::from(values[side]), self.sum[side]));
                format!("{before:>6.1} {after:>6.1} {points:>+7.1}")
            };
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "          {}          {}  {}",
                part(changed.own, changed.own_points),
                part(changed.total, changed.total_points),
                shown(&changed.function)
            );
        }
        if self.more > 0 {
            let _ = writeln!(text, "({} more changed)", self.more);
        }
        text
    }
}

fn share(part: i128, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn clamped(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::shown::tests::HOSTILE;
    use pprof_proto::{Function, Line, Location, Sample, ValueType};

    /// Stacks of functions by number, leaf first, with their CPU time.
    pub(crate) fn profile(names: &[&str], stacks: &[(&[u64], i64)]) -> Profile {
        let mut string_table = vec![String::new(), "cpu".to_owned(), "nanoseconds".to_owned()];
        string_table.extend(names.iter().map(|name| (*name).to_owned()));
        let ids = 1..=names.len() as u64;
        Profile {
            sample_type: vec![ValueType { r#type: 1, unit: 2 }],
            function: ids.clone().map(|id| Function { id, name: id as i64 + 2, ..Function::default() }).collect(),
            location: ids
                .map(|id| Location {
                    id,
                    line: vec![Line { function_id: id, ..Line::default() }],
                    ..Location::default()
                })
                .collect(),
            sample: stacks
                .iter()
                .map(|(stack, value)| Sample { location_id: stack.to_vec(), value: vec![*value], ..Sample::default() })
                .collect(),
            string_table,
            ..Profile::default()
        }
    }

    fn options() -> DifferenceOptions {
        DifferenceOptions { rows: 20, sample_type: None }
    }

    #[test]
    fn shares_are_compared_whatever_the_length() {
        let before = profile(&["main", "old", "same"], &[(&[2, 1], 50), (&[3, 1], 50)]);
        // Twice as long: `same` took as large a share.
        let after = profile(&["main", "same", "new"], &[(&[2, 1], 100), (&[3, 1], 100)]);
        let found = of(&before, &after, &options()).unwrap();
        assert_eq!(found.sum, [100, 200]);
        let rows: Vec<_> =
            found.functions.iter().map(|row| (row.function.as_str(), row.own, row.total, row.own_points)).collect();
        assert_eq!(rows, [("new", [0, 100], [0, 100], 50.0), ("old", [50, 0], [50, 0], -50.0)]);
        assert_eq!(
            found.text(),
            "cpu: 100 ns before, 200 ns after; in percent of each, the largest change first
    self: before  after  change   total: before  after  change  function
             0.0   50.0   +50.0             0.0   50.0   +50.0  new
            50.0    0.0   -50.0            50.0    0.0   -50.0  old
"
        );
        let one = of(&before, &after, &DifferenceOptions { rows: 1, ..options() }).unwrap();
        assert_eq!((one.functions.len(), one.more), (1, 1));
        assert!(one.text().ends_with("(1 more changed)\n"));
    }

    #[test]
    fn lines_hold_no_text_that_does_more_than_being_read() {
        let (mut before, mut after) = (profile(&[HOSTILE], &[(&[1], 5)]), profile(&["x"], &[(&[1], 5)]));
        for kind in [&mut before.string_table, &mut after.string_table] {
            (kind[1], kind[2]) = (HOSTILE.to_owned(), HOSTILE.to_owned());
        }
        let text = of(&before, &after, &options()).unwrap().text();
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:?}");
        assert_eq!((text.lines().count(), text.matches("  a?[2Jb?c??d?0m?]0;e?\n").count()), (4, 1), "{text}");
        after.string_table[1] = "x".to_owned();
        let error = of(&before, &after, &options()).unwrap_err().to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
    }

    #[test]
    fn profiles_of_different_things_and_empty_ones() {
        let cpu = profile(&["main"], &[(&[1], 5)]);
        let mut heap = cpu.clone();
        heap.string_table[1] = "inuse_space".to_owned();
        let error = of(&cpu, &heap, &options()).unwrap_err().to_string();
        assert_eq!(
            error,
            "the first profile is of cpu/nanoseconds and the second of inuse_space/nanoseconds: choose one with --sample-type"
        );
        let empty = profile(&[], &[]);
        assert_eq!(of(&empty, &empty, &options()).unwrap().functions, []);
        let gone = of(&cpu, &empty, &options()).unwrap();
        assert_eq!((gone.functions[0].own, gone.functions[0].own_points), ([5, 0], -100.0));
        let wanted = DifferenceOptions { sample_type: Some("x".to_owned()), ..options() };
        assert!(of(&cpu, &cpu, &wanted).unwrap_err().to_string().contains("`x`"));
        assert!(of(&cpu, &cpu, &options()).unwrap().functions.is_empty());
    }
}
