//! Every counter there is as one family, by the part that counts it, and how full tables and caches are.
//!
//! The families beside it in [`super::metrics`] are chosen for people; here is what `record --statistics` prints, from the same
//! tables, so that a new counter is exported as soon as it compiles.

use std::fmt;

use super::metrics::Sheet;
use super::status::{NamingNumbers, Numbers};
use crate::engine::{Group, TableSizes, of_parts, of_programs};
use crate::export::text::TextCounters;
use crate::identity::Sizes;

fn groups(numbers: &Numbers, naming: &NamingNumbers, texts: &TextCounters) -> Vec<Group> {
    let mut groups = vec![of_programs(&numbers.programs)];
    groups.extend(of_parts(&numbers.engine, &numbers.executables, &numbers.tables, &numbers.processes));
    groups.push(("names", naming.symbolizer.counts()));
    groups.push(("texts", texts.named()));
    groups
}

pub(super) fn counters(
    sheet: &mut Sheet<'_, '_>,
    numbers: &Numbers,
    naming: &NamingNumbers,
    texts: &TextCounters,
) -> Result<(), fmt::Error> {
    let groups = groups(numbers, naming, texts);
    sheet.counters("everflame_statistics", "Every counter by the part that counts it", ["part", "name"], &groups)
}

pub(super) fn sizes(sheet: &mut Sheet<'_, '_>, numbers: &Numbers, naming: &NamingNumbers) -> Result<(), fmt::Error> {
    let TableSizes { used_bytes, escape_bytes, taken_bytes, most_bytes, executables, processes } = numbers.table_sizes;
    let names = &naming.symbolizer;
    let bytes = [
        ("unwind_used", used_bytes),
        ("unwind_taken", taken_bytes),
        ("unwind_most", most_bytes),
        ("escape_rules", escape_bytes),
        ("names", names.memo_bytes),
        ("perf_maps", naming.perf_map_bytes),
    ];
    sheet.gauges("everflame_table_bytes", "Bytes of tables and caches", "table", &bytes)?;
    let Sizes { pods, containers, processes: identified_processes, cgroups } = naming.identity_sizes;
    let entries = [
        ("executables", executables),
        ("processes", processes),
        ("names", names.memo_entries),
        ("symbol_files", names.files_open),
        ("pods", pods),
        ("containers", containers),
        ("identified_processes", identified_processes),
        ("cgroups", cgroups),
    ];
    sheet.gauges("everflame_table_entries", "What tables and caches hold", "table", &entries)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::Ordering;

    use profiler_common::Counter;
    use symbolizer::{Failure, Statistics};

    use super::*;

    #[test]
    fn counters_of_every_part_are_there_and_no_two_have_the_same_labels() {
        let mut numbers = Numbers::default();
        numbers.programs[Counter::CopiesLimited as usize] = 1;
        numbers.engine.waits_cut = 2;
        numbers.executables.roots_avoided = 3;
        numbers.tables.grace_periods_refused = 4;
        numbers.processes.maps_not_read = 5;
        let mut failures = vec![0; Failure::ALL.len()];
        failures[Failure::Silent as usize] = 6;
        let naming =
            NamingNumbers { symbolizer: Statistics { failures, ..Statistics::default() }, ..NamingNumbers::default() };
        let texts = TextCounters::default();
        texts.replaced.store(7, Ordering::Relaxed);

        let groups = groups(&numbers, &naming, &texts);
        let all: Vec<(&str, &str, u64)> = groups
            .iter()
            .flat_map(|(part, counts)| counts.iter().map(|(name, count)| (*part, *name, *count)))
            .collect();
        let counted: Vec<_> = all.iter().filter(|(.., count)| *count > 0 && *count < 8).collect();
        let expected = [
            ("programs", "copies_limited", 1),
            ("engine", "waits_cut", 2),
            ("executables", "roots_avoided", 3),
            ("tables", "grace_periods_refused", 4),
            ("processes", "maps_not_read", 5),
            ("names", "silent_file_system", 6),
            ("texts", "replaced", 7),
        ];
        for one in &expected {
            assert!(counted.contains(&one), "{one:?} is missing in {counted:?}");
        }
        let labels: HashSet<_> = all.iter().map(|(part, name, _)| (part, name)).collect();
        assert_eq!(labels.len(), all.len(), "{all:?}");
    }
}
