//! Bounds on what a file may cost, in memory and time. ELF files are hostile input: each bound that leaves something out has a
//! counter in [`Failure`](crate::Failure). The sizes of sections bound nothing: a sparse file costs its owner nothing.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Symbols indexed per file (12 bytes each). The largest real tables (browsers, compilers) have about a million.
pub const MAX_SYMBOLS: usize = 4_000_000;
/// Entries of `PT_DYNAMIC` looked at; real files have some 30.
pub const MAX_DYNAMIC_ENTRIES: usize = 1024;
/// Stubs of the procedure linkage table per file (32 bytes each); browsers have some 2,000.
pub const MAX_STUBS: usize = 1 << 16;
/// Relocations looked at, from the end, for those that name stubs (24 bytes each in the file).
pub const MAX_STUB_RELOCATIONS: usize = 1 << 20;
/// Bytes of a file without section headers that are searched for Go's table, 8 at a time: 0.1 s at most.
pub const MAX_GO_SEARCH: usize = 256 << 20;
/// Longest linkage name looked at, in bytes; C++ template names of 10 KB are real.
pub const MAX_NAME: usize = 32 << 10;
/// Longest demangled name kept, in bytes.
pub const MAX_DISPLAY_NAME: usize = 4 << 10;
/// Bytes that compressed sections of one file may take when decompressed, together.
pub const MAX_DECOMPRESSED: u64 = 96 << 20;
/// Memory that the decoder of a `.gnu_debugdata` section may use, KiB.
pub const MAX_XZ_MEMORY_KIB: u32 = 32 << 10;
/// DWARF units per file.
pub const MAX_UNITS: usize = 1 << 18;
/// Address ranges of units per file.
pub const MAX_UNIT_RANGES: usize = 1 << 22;
/// Bytes that the parsed abbreviations of one DWARF unit may take: 112 for each, 16 for each attribute. The largest tables that
/// were looked at (Rust, C++) have 2 KB in the file.
pub const MAX_ABBREVIATION_BYTES: usize = 16 << 20;
/// Bytes of a line table's header, which names the files of a unit. The largest looked at (Rust, C++) has 8 KB; 10,000 files take
/// some 300 KB.
pub const MAX_LINE_HEADER: usize = 16 << 20;
/// Files and directories in a line table's header (104 bytes each when parsed).
pub const MAX_LINE_FILES: usize = 1 << 17;
/// Bytes that the opened units of one call may take before they are dropped and opened again.
pub const MAX_OPEN_UNITS: usize = 32 << 20;
/// Bytes that the functions and line tables of one file's units may take while names are looked up, before they are dropped.
pub const MAX_UNIT_TABLES: usize = 96 << 20;
/// Functions per DWARF unit (24 bytes each).
pub const MAX_FUNCTIONS: usize = 1 << 20;
/// Line-table rows per DWARF unit (16 bytes each).
pub const MAX_LINE_ROWS: usize = 1 << 22;
/// References followed from one debugging entry to the one that has its name.
pub const MAX_REFERENCES: usize = 16;
/// Inlined calls at one address.
pub const MAX_INLINED: usize = 256;
/// Names kept per file before they are dropped and read again.
pub const MAX_CACHED_NAMES: usize = 1 << 14;
/// Files that can't be mapped are read into memory up to this size, in bytes.
pub const MAX_READ: u64 = 32 << 20;

/// Ends work that takes too long.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Instant,
    ticks: Cell<u32>,
}

/// The time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeUp;

/// Ticks between looks at the clock; a tick is a debugging entry, a range or an instruction of a line table, well under a
/// microsecond.
const TICKS_PER_LOOK: u32 = 4096;

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, ticks: Cell::new(0) }
    }

    /// Counts one unit of work.
    ///
    /// # Errors
    /// [`TimeUp`] once the limit has passed (noticed every [`TICKS_PER_LOOK`] ticks).
    pub(crate) fn tick(&self) -> Result<(), TimeUp> {
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks.is_multiple_of(TICKS_PER_LOOK) { self.look() } else { Ok(()) }
    }

    /// Looks at the clock: before work that may take as long as thousands of ticks.
    ///
    /// # Errors
    /// [`TimeUp`] once the limit has passed.
    pub(crate) fn look(&self) -> Result<(), TimeUp> {
        if Instant::now() >= self.at { Err(TimeUp) } else { Ok(()) }
    }
}
