//! Every counter by name, for a reader who wants them all: `record --statistics` and the agent's `/metrics`; and how full the tables
//! are.
//!
//! The structures are taken apart by name here, without `..`: a new counter does not compile until it is in the table.

use profiler_common::{COUNTERS, Counter};

use super::counters::EngineCounters;
use super::finish::Recording;
use super::run::Engine;
use crate::process::{ExecutableCounters, ProcessCounters};
use crate::tables::TableCounters;

/// Counters of one part, with their names.
pub type Group = (&'static str, Vec<(&'static str, u64)>);

macro_rules! named {
    ($from:expr, $structure:ident { $($field:ident),* $(,)? } $(without $left:ident)?) => {{
        let $structure { $($field,)* $($left: _,)? } = $from;
        vec![$((stringify!($field), *$field)),*]
    }};
}

impl Recording {
    /// All counters, by the part that counts them.
    pub fn statistics(&self) -> Vec<Group> {
        let (executables, tables) = (&self.executable_counters, &self.table_counters);
        let mut groups = of_parts(&self.counters, executables, tables, &self.process_counters);
        groups.push(("memory", vec![("maps_and_rings_bytes", self.kernel_bytes)]));
        groups
    }
}

/// All counters but the programs' own, by the part that counts them. All of them only grow.
pub fn of_parts(
    engine: &EngineCounters,
    executables: &ExecutableCounters,
    tables: &TableCounters,
    processes: &ProcessCounters,
) -> Vec<Group> {
    vec![
        ("engine", of_engine(engine)),
        ("executables", of_executables(executables)),
        ("tables", of_tables(tables)),
        ("processes", of_processes(processes)),
        ("mapped_files", vec![("replaced_pages", crate::process::mapped_file::replaced_pages() as u64)]),
    ]
}

/// How full the engine's tables are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSizes {
    /// Bytes of the slab that unwind tables, process tables and escape rules are in.
    pub used_bytes: u64,
    /// Of those, the escape rules', which stay for good.
    pub escape_bytes: u64,
    /// Bytes that the slab has taken from the kernel.
    pub taken_bytes: u64,
    /// Bytes that it may take.
    pub most_bytes: u64,
    /// Executables known.
    pub executables: u64,
    /// Processes known.
    pub processes: u64,
}

impl Engine {
    /// How full the tables are now.
    pub fn table_sizes(&self) -> TableSizes {
        TableSizes {
            used_bytes: self.tables.used_bytes(),
            escape_bytes: self.tables.escape_bytes(),
            taken_bytes: self.tables.bytes(),
            most_bytes: self.options.unwind_bytes,
            executables: self.executables.known() as u64,
            processes: self.processes.len() as u64,
        }
    }
}

/// The programs' own counters by name, in the order of [`Counter`].
pub fn of_programs(counts: &[u64; COUNTERS]) -> Group {
    const NAMES: [(Counter, &str); COUNTERS] = [
        (Counter::Hits, "hits"),
        (Counter::Idle, "idle"),
        (Counter::Own, "own"),
        (Counter::Filtered, "filtered"),
        (Counter::Recorded, "recorded"),
        (Counter::RingFull, "ring_full"),
        (Counter::Copies, "copies"),
        (Counter::CopiesLimited, "copies_limited"),
        (Counter::ExecHook, "exec_hook"),
        (Counter::ExitHook, "exit_hook"),
        (Counter::NoScratch, "no_scratch"),
        (Counter::RenameHook, "rename_hook"),
    ];
    ("programs", NAMES.map(|(counter, name)| (name, counts[counter as usize])).into())
}

fn of_engine(counters: &EngineCounters) -> Vec<(&'static str, u64)> {
    named!(counters, EngineCounters {
        samples,
        filtered,
        malformed_records,
        batch_full,
        stale,
        late,
        finished_in_kernel,
        finished_from_copy,
        no_memory,
        copy_missing,
        copies_lost,
        copies_not_in_ring,
        copies_unclaimed,
        waits_cut,
        throttled,
        side_band_lost,
        side_band_gaps,
        malformed_side_band,
        kernel_symbols_dropped,
        cgroups_dropped,
        announcements_deferred,
        republish_deferred,
        kernel_walked_frames,
        cache_hits,
        verified_same,
        verified_different,
        verified_cut,
        program_ns,
    } without costs_ns)
}

fn of_executables(counters: &ExecutableCounters) -> Vec<(&'static str, u64)> {
    named!(
        counters,
        ExecutableCounters {
            rows,
            unsupported_rows,
            build_ns,
            without_rows,
            not_opened,
            replaced,
            not_elf,
            too_many,
            forgotten,
            refused,
            refused_too_large,
            refused_for_others,
            evicted,
            opened_aside,
            stuck,
            left_open,
            avoided,
            not_asked,
            roots_refused,
            roots_avoided,
        }
    )
}

fn of_tables(counters: &TableCounters) -> Vec<(&'static str, u64)> {
    named!(
        counters,
        TableCounters { refused, escapes_refused, processes_refused, grace_periods, grace_periods_refused }
    )
}

fn of_processes(counters: &ProcessCounters) -> Vec<(&'static str, u64)> {
    named!(
        counters,
        ProcessCounters {
            unknown,
            too_many,
            maps_read,
            maps_reread,
            maps_not_read,
            rescans,
            found_by_rescan,
            mappings_dropped,
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_stands_beside_its_own_name() {
        let counters = EngineCounters { waits_cut: 7, copies_not_in_ring: 8, costs_ns: vec![9], ..Default::default() };
        let named = of_engine(&counters);
        let counted: Vec<_> = named.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [&("copies_not_in_ring", 8), &("waits_cut", 7)]);
        let counters = ExecutableCounters { roots_refused: 5, ..Default::default() };
        assert!(of_executables(&counters).contains(&("roots_refused", 5)));
    }

    #[test]
    fn every_counter_of_the_programs_has_a_name_of_its_own() {
        let counts = std::array::from_fn(|at| at as u64);
        let (_, named) = of_programs(&counts);
        assert_eq!(named.iter().map(|(_, count)| *count).collect::<Vec<_>>(), counts);
        assert_eq!((named[Counter::RenameHook as usize].0, named[Counter::Hits as usize].0), ("rename_hook", "hits"));
    }
}
