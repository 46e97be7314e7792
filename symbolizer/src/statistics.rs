//! Counters: every way in which names are missing, cut or refused has one.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why names are missing, cut or late. One reason = one counter.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        pub enum Failure { $($(#[$doc])* $name,)* }
        impl Failure {
            /// Every reason.
            pub const ALL: &'static [Failure] = &[$(Failure::$name,)*];
            /// The name used in counters and reports.
            pub fn name(self) -> &'static str { match self { $(Failure::$name => $text,)* } }
        }
    };
}

failures! {
    /// The executable could not be mapped or read.
    Unreadable = "unreadable",
    /// Not an ELF file, or its headers are broken.
    NotElf = "not_elf",
    /// An ELF file without any symbol, debug or Go table.
    NoSymbols = "no_symbols",
    /// The file was truncated while it was being read; its names are dropped.
    Truncated = "truncated_while_read",
    /// DWARF that can't be parsed, in a whole file or in one unit.
    MalformedDebugInfo = "malformed_debug_info",
    /// A Go line table that can't be parsed.
    MalformedGoTable = "malformed_go_table",
    /// More symbols than [`MAX_SYMBOLS`](crate::limits::MAX_SYMBOLS): the rest was left out.
    TooManySymbols = "too_many_symbols",
    /// More stubs than [`MAX_STUBS`](crate::limits::MAX_STUBS), or more than
    /// [`MAX_STUB_RELOCATIONS`](crate::limits::MAX_STUB_RELOCATIONS) to look at for their names: the rest was left out.
    TooManyStubs = "too_many_stubs",
    /// More units, functions, rows, ranges, files or abbreviations than the limits allow: the rest, or the unit, was left out.
    TooMuchDebugInfo = "too_much_debug_info",
    /// A compressed section larger than [`MAX_DECOMPRESSED`](crate::limits::MAX_DECOMPRESSED), or broken.
    Decompression = "decompression",
    /// Parsing took longer than the limit; the file's debug information is not used further.
    TimeLimit = "time_limit",
    /// The caller stopped waiting, or did not begin to, since the worker owes an answer: names come with the next call, a perf
    /// map's once it was read.
    Late = "late",
    /// An executable, a debug file or a perf map that was not read, since its file system did not answer a short time ago.
    Silent = "silent_file_system",
    /// A worker's queue was full.
    QueueFull = "queue_full",
    /// A panic while parsing, caught at the worker's rim; the file is not parsed again.
    Panic = "panic",
    /// A name longer than [`MAX_NAME`](crate::limits::MAX_NAME), cut.
    NameCut = "name_cut",
    /// A name that could not be demangled within the limits: it is shown mangled.
    Demangle = "demangle",
    /// A debug file whose build id or checksum does not match.
    DebugFileMismatch = "debug_file_mismatch",
    /// A debug file that exists but could not be read or parsed.
    DebugFileUnreadable = "debug_file_unreadable",
    /// The kernel can't resolve paths inside the target's root (`openat2`, Linux 5.6): its debug files are not used.
    RootUnsupported = "root_unsupported",
    /// A split-DWARF unit whose `.dwo` was not found.
    SplitUnitMissing = "split_unit_missing",
    /// A supplementary (dwz) file that was not found.
    SupplementaryMissing = "supplementary_missing",
    /// A perf map that was dropped to stay within the budget of all: its names come when it is read again.
    PerfMapDropped = "perf_map_dropped",
    /// A perf map's lines, and rests of lines, that were refused by [`PerfMapLimits`](crate::perf_map::PerfMapLimits), at each
    /// reading.
    PerfMapRefused = "perf_map_lines_refused",
    /// A perf map's lines that were not looked at, since reading it took longer than the limit, at each reading.
    PerfMapOutOfTime = "perf_map_lines_out_of_time",
}

/// A snapshot of everything counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Addresses answered from the memo.
    pub memo_hits: u64,
    /// Addresses that had to be looked up.
    pub memo_misses: u64,
    /// Estimated bytes in the memo now.
    pub memo_bytes: u64,
    /// Entries in the memo now.
    pub memo_entries: u64,
    /// Entries that the budget pushed out.
    pub memo_evictions: u64,
    /// Files parsed (again after an eviction).
    pub files_opened: u64,
    /// Parsed files dropped to stay within the budgets.
    pub files_evicted: u64,
    /// Parsed files now.
    pub files_open: u64,
    /// Separate debug files in use, ever.
    pub debug_files: u64,
    /// Failures in the order of [`Failure::ALL`].
    pub failures: Vec<u64>,
}

impl Statistics {
    /// The count of one reason.
    pub fn failure(&self, failure: Failure) -> u64 {
        self.failures.get(failure as usize).copied().unwrap_or(0)
    }

    /// Adds what a caller counted itself, who keeps perf maps, say.
    pub fn add(&mut self, failure: Failure, count: u64) {
        if let Some(counter) = self.failures.get_mut(failure as usize) {
            *counter += count;
        }
    }

    /// Every count with its name, what is there now included.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        let mut named = self.counts();
        named.extend(self.sizes());
        named
    }

    /// What only grows, with its name.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        // Taken apart by name, so that a new count can't be forgotten here.
        let Statistics {
            memo_hits,
            memo_misses,
            memo_bytes: _,
            memo_entries: _,
            memo_evictions,
            files_opened,
            files_evicted,
            files_open: _,
            debug_files,
            failures: _,
        } = self;
        let mut counts = vec![
            ("memo_hits", *memo_hits),
            ("memo_misses", *memo_misses),
            ("memo_evictions", *memo_evictions),
            ("files_opened", *files_opened),
            ("files_evicted", *files_evicted),
            ("debug_files", *debug_files),
        ];
        counts.extend(Failure::ALL.iter().map(|failure| (failure.name(), self.failure(*failure))));
        counts
    }

    /// What is there now, with its name.
    pub fn sizes(&self) -> [(&'static str, u64); 3] {
        [("memo_bytes", self.memo_bytes), ("memo_entries", self.memo_entries), ("files_open", self.files_open)]
    }

    /// Adds what a symbolizer counted that this one took the place of. What is there now stays this one's alone.
    pub fn add_earlier(&mut self, earlier: &Statistics) {
        let Statistics {
            memo_hits,
            memo_misses,
            memo_bytes: _,
            memo_entries: _,
            memo_evictions,
            files_opened,
            files_evicted,
            files_open: _,
            debug_files,
            failures,
        } = earlier;
        self.memo_hits += memo_hits;
        self.memo_misses += memo_misses;
        self.memo_evictions += memo_evictions;
        self.files_opened += files_opened;
        self.files_evicted += files_evicted;
        self.debug_files += debug_files;
        self.failures.resize(Failure::ALL.len(), 0);
        for (count, before) in self.failures.iter_mut().zip(failures) {
            *count += before;
        }
    }
}

/// The live counters, shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) files_opened: AtomicU64,
    pub(crate) files_evicted: AtomicU64,
    pub(crate) files_open: AtomicU64,
    pub(crate) debug_files: AtomicU64,
    failures: [AtomicU64; Failure::ALL.len()],
}

impl Counters {
    pub(crate) fn fail(&self, failure: Failure) {
        self.fail_by(failure, 1);
    }

    pub(crate) fn fail_by(&self, failure: Failure, count: u64) {
        if let Some(counter) = self.failures.get(failure as usize) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Everything but the memo's numbers.
    pub(crate) fn snapshot(&self) -> Statistics {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            files_opened: load(&self.files_opened),
            files_evicted: load(&self.files_evicted),
            files_open: load(&self.files_open),
            debug_files: load(&self.debug_files),
            failures: self.failures.iter().map(load).collect(),
            ..Statistics::default()
        }
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn subtract(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_named_beside_its_count() {
        let counters = Counters::default();
        for (count, failure) in (1..).zip(Failure::ALL) {
            counters.fail_by(*failure, count);
        }
        let named = counters.snapshot().named();
        for (count, failure) in (1..).zip(Failure::ALL) {
            assert!(named.contains(&(failure.name(), count)), "{failure:?}");
        }
        assert_eq!(named.len(), 9 + Failure::ALL.len());
    }

    #[test]
    fn counts_go_on_where_an_earlier_symbolizer_ended_and_sizes_do_not() {
        let counters = Counters::default();
        counters.fail(Failure::Late);
        let one = Statistics { memo_hits: 5, memo_bytes: 100, files_opened: 2, files_open: 2, ..counters.snapshot() };
        let mut all = Statistics::default();
        all.add_earlier(&one);
        let mut now = Statistics { memo_hits: 1, memo_bytes: 7, files_open: 1, ..counters.snapshot() };
        now.add_earlier(&all);
        assert_eq!((now.memo_hits, now.files_opened, now.failure(Failure::Late)), (6, 2, 2));
        assert_eq!(now.sizes(), [("memo_bytes", 7), ("memo_entries", 0), ("files_open", 1)]);
    }
}
