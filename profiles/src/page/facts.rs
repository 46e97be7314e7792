//! The page's header: what the profile's comments and tables say about its measurement, as labels and text.
//!
//! Only what is known is shown: a profile of another tool has no ledger, and then there is no such line.

use std::collections::HashMap;

use serde::Serialize;

use crate::ledger::Drop;
use crate::profile::LocationKind;
use crate::profile::pprof::comment_pairs;
use crate::report::stack_table::{Frame, StackTable};
use crate::report::{share, thousands};

/// One line of the header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fact {
    pub(super) label: &'static str,
    pub(super) value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tone: Option<&'static str>,
}

impl Fact {
    fn new(label: &'static str, value: String) -> Fact {
        Fact { label, value, detail: None, tone: None }
    }

    fn with_detail(mut self, detail: &'static str) -> Fact {
        self.detail = Some(detail);
        self
    }

    fn warn_if(mut self, doubtful: bool) -> Fact {
        self.tone = doubtful.then_some("warn");
        self
    }
}

/// All that is known, in the order of the header.
pub(super) fn facts(table: &StackTable) -> Vec<Fact> {
    let mut facts = Vec::new();
    if table.time_ns > 0 {
        facts.push(Fact::new("Started", utc(table.time_ns)));
    }
    if table.duration_ns > 0 {
        facts.push(Fact::new("Duration", format!("{:.1} s", table.duration_ns as f64 / 1e9)));
    }
    let sampling = Numbers::of(table, "sampling");
    if let (Some(hz), Some(cpus)) = (sampling.get("hz"), sampling.get("cpus")) {
        let unit = if cpus == 1 { "CPU" } else { "CPUs" };
        facts.push(Fact::new("Rate", format!("{hz} Hz on {cpus} {unit}")));
    }
    let samples = sample_counts(table);
    if counted(table).is_some() {
        facts
            .push(Fact::new("Samples", thousands(samples.iter().fold(0_u64, |sum, count| sum.saturating_add(*count)))));
    }
    facts.extend(complete(table));
    facts.extend(named(table, &samples));
    if let Some(pairs) = comment_pairs(&table.comments, "kernel")
        && let Some((_, release)) = pairs.iter().find(|(key, _)| *key == "release")
    {
        facts.push(Fact::new("Kernel", (*release).to_owned()));
    }
    facts.extend(ledger(table));
    facts
}

/// The numbers of one of our comments.
struct Numbers<'text>(HashMap<&'text str, u64>);

impl<'text> Numbers<'text> {
    fn of(table: &'text StackTable, name: &str) -> Numbers<'text> {
        let pairs = comment_pairs(&table.comments, name).unwrap_or_default();
        Numbers(pairs.into_iter().filter_map(|(key, value)| Some((key, value.parse().ok()?))).collect())
    }

    fn get(&self, key: &str) -> Option<u64> {
        self.0.get(key).copied()
    }

    fn or_zero(&self, key: &str) -> u64 {
        self.get(key).unwrap_or(0)
    }
}

/// Which sample type counts samples; a heap profile has none.
fn counted(table: &StackTable) -> Option<usize> {
    table.sample_types.iter().position(|known| known.name == "samples" && known.unit == "count")
}

/// How many samples each row of the table stands for; 1 if the profile does not say.
fn sample_counts(table: &StackTable) -> Vec<u64> {
    let counted = counted(table);
    let count = |values: &[i64]| counted.and_then(|index| values.get(index)).map_or(1, |value| (*value).max(0) as u64);
    table.samples.iter().map(|sample| count(&sample.values)).collect()
}

fn complete(table: &StackTable) -> Option<Fact> {
    let stacks = Numbers::of(table, "stacks");
    let (complete, user) = (stacks.get("complete")?, stacks.get("user")?);
    let fact = Fact::new("Complete stacks", share(complete, user, 2)?);
    Some(
        fact.with_detail("User stacks that reach the entry point by unwind tables alone")
            .warn_if(complete < user / 20 * 19),
    )
}

fn named(table: &StackTable, samples: &[u64]) -> Option<Fact> {
    // By frame, whether it counts and whether it has a name. An inlined function is not a place of its own in the stack.
    let counts = |frame: &Frame| {
        let function = table.functions.get(frame.function.0 as usize);
        let function = function.filter(|function| !frame.inlined && function.kind != LocationKind::Marker);
        function.map_or((0, 0), |function| (1, u64::from(function.named)))
    };
    let counts: Vec<(u64, u64)> = table.frames.iter().map(counts).collect();
    let (mut named, mut all) = (0_u64, 0_u64);
    for (sample, count) in table.samples.iter().zip(samples) {
        let frames = table.frames_of(sample.stack).iter().filter_map(|frame| counts.get(frame.0 as usize));
        let (places, with_name) = frames.fold((0, 0), |sum, frame| (sum.0 + frame.0, sum.1 + frame.1));
        all = all.saturating_add(count.saturating_mul(places));
        named = named.saturating_add(count.saturating_mul(with_name));
    }
    let fact = Fact::new("Named frames", share(named, all, 1)?);
    Some(fact.with_detail("Frames of all samples that have a function's name").warn_if(named < all / 20 * 19))
}

fn ledger(table: &StackTable) -> Option<Fact> {
    let ledger = Numbers::of(table, "ledger");
    let due = ledger.get("due")?;
    let dropped = Drop::ALL
        .iter()
        .fold(0_u64, |sum, reason| sum.saturating_add(ledger.or_zero(&format!("dropped.{}", reason.name()))));
    let undelivered = ledger.or_zero("undelivered");
    let mut text = format!("{} due", thousands(due));
    if ledger.or_zero("surplus") > 0 {
        text += &format!(" + {} surplus", thousands(ledger.or_zero("surplus")));
    }
    text += &format!(" = {} recorded", thousands(ledger.or_zero("recorded")));
    // As in the result line: what a sleeping CPU's timer did not deliver is idle as well.
    let idle = ledger.or_zero("idle").saturating_add(ledger.or_zero("idle_undelivered"));
    for (count, name) in [(idle, "idle"), (ledger.or_zero("own"), "own"), (ledger.or_zero("filtered"), "filtered")] {
        if count > 0 {
            text += &format!(" + {} {name}", thousands(count));
        }
    }
    text += &format!(" + {} dropped + {} undelivered", thousands(dropped), thousands(undelivered));
    let lost = dropped.saturating_add(undelivered);
    let fact = Fact::new("Ledger", text).with_detail("What became of every hit of the sampling timer");
    Some(fact.warn_if(lost > due / 100))
}

/// `2026-03-02 09:41:07 UTC`.
fn utc(time_ns: i64) -> String {
    let seconds = time_ns.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC", second % 60)
}

/// Days since 1970-01-01 → year, month, day. Counts in years that begin on the 1st of March, so that a leap day comes last.
fn date(days: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    const DAYS_FROM_0000_03_01_TO_1970: i64 = 719_468;
    let shifted = days + DAYS_FROM_0000_03_01_TO_1970;
    let era = shifted.div_euclid(DAYS_IN_400_YEARS);
    let day_of_era = shifted.rem_euclid(DAYS_IN_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Five months from March on have 153 days, again and again.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_704_067_199, "2023-12-31 23:59:59 UTC"),
            (1_772_444_467, "2026-03-02 09:41:07 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ];
        for (seconds, text) in cases {
            assert_eq!(utc(seconds * 1_000_000_000), text);
        }
        assert_eq!(utc(i64::MAX), "2262-04-11 23:47:16 UTC");
    }
}
