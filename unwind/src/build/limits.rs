//! What the table builder refuses, what that costs, and what it counts.

/// Bounds on one executable. Each is there because a file's author is not our friend; the defaults are far above what real
/// files need (the largest seen: 1.3 M rows, 1,300 rules, 151 MB of code, 22 M units of work).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most rows kept. One costs 8 bytes while building and 4 in the slab: 64 MiB and 32 MiB at the default.
    pub rows: usize,
    /// Most distinct rules. One costs about 100 bytes while building and 8 in the slab; rules past it become unsupported.
    pub rules: usize,
    /// Most 4 KiB pages of code between the first and the last row. One costs 8 bytes in the slab.
    pub pages: usize,
    /// Most FDEs, or Go functions, in one file. One costs 24 bytes while building.
    pub functions: usize,
    /// Most bytes of one section in the file.
    pub section_bytes: u64,
    /// Most bytes that a compressed section may have when decompressed: unlike the file's own, they are all in memory.
    pub decompressed_bytes: u64,
    /// Most section headers. Linkers make some dozens; with extended numbering there may be more than 65,535.
    pub sections: usize,
    /// Most symbols looked at when an entry point has no rows of its own.
    pub symbols: usize,
    /// Most bytes of code without rows that are searched for signal trampolines.
    pub searched_bytes: u64,
    /// Most work, in units of about what a byte of a call-frame program takes (1 to 10 ns), over everything in the file that
    /// can be made to be read again and again, or to take long and give nothing.
    pub work: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: 8 << 20,
            rules: 1 << 19,
            pages: 1 << 19,
            functions: 4 << 20,
            section_bytes: 512 << 20,
            decompressed_bytes: 64 << 20,
            sections: 1 << 20,
            symbols: 1 << 20,
            searched_bytes: 8 << 20,
            work: 256 << 20,
        }
    }
}

/// Most `PT_LOAD` segments; linkers make four, and some steps look at each.
pub const MAX_SEGMENTS: usize = 128;

/// Why a file gives no rows at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The header is damaged, or is not ELF.
    #[error("not an ELF file")]
    NotElf,
    /// 32 bits, big endian, or another machine.
    #[error("not a little-endian x86-64 ELF file")]
    WrongMachine,
    /// No loadable executable segment in the program headers.
    #[error("the ELF file has no executable segment")]
    NoCode,
    /// More loadable segments than [`MAX_SEGMENTS`].
    #[error("more than {MAX_SEGMENTS} loadable segments")]
    TooManySegments,
    /// The executable segments span 4 GiB or more.
    #[error("the executable segments span {bytes} bytes, 4 GiB or more")]
    SpanTooLarge {
        /// From the first to the last executable byte.
        bytes: u64,
    },
    /// Code above 2⁴⁴: its page number does not fit a descriptor.
    #[error("code at {address:#x}, beyond 16 TiB")]
    AddressTooHigh {
        /// The first executable byte.
        address: u64,
    },
    /// More rows than [`Limits::rows`].
    #[error("more than {limit} rows")]
    TooManyRows {
        /// The bound.
        limit: usize,
    },
    /// More FDEs or Go functions than [`Limits::functions`].
    #[error("more than {limit} functions")]
    TooManyFunctions {
        /// The bound.
        limit: usize,
    },
    /// More code pages than [`Limits::pages`].
    #[error("{pages} pages of code, more than {limit}")]
    TooManyPages {
        /// What the rows span.
        pages: u64,
        /// The bound.
        limit: usize,
    },
    /// More work than [`Limits::work`].
    #[error("reading the file takes more than {limit} units of work")]
    TooMuchWork {
        /// The bound.
        limit: u64,
    },
}

/// What happened on the way, each loss by its reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildStats {
    /// FDEs read.
    pub fdes: u64,
    /// Go functions read.
    pub go_functions: u64,
    /// Rows that the call-frame programs and pcsp tables gave, before equal neighbours were joined.
    pub rows_raw: u64,
    /// Rows kept.
    pub rows_kept: u64,
    /// Kept rows whose rule is unsupported.
    pub rows_unsupported: u64,
    /// FDEs left out because they, or their CIE, are malformed.
    pub fdes_malformed: u64,
    /// FDEs and Go functions left out because they lie outside the executable segments.
    pub outside_code: u64,
    /// FDEs left out because they start at 0 or have no length (the linker discarded their function), and Go functions without
    /// code.
    pub fdes_discarded: u64,
    /// FDEs cut or left out because another one covers the same code.
    pub fdes_overlapping: u64,
    /// FDEs with a pointer encoding that needs a base we do not have.
    pub fdes_encoding: u64,
    /// Go functions left out because their pcsp table or their record is malformed.
    pub go_malformed: u64,
    /// pclntab tables left out because their version or start address is unknown, or because they are larger than
    /// [`Limits::section_bytes`].
    pub go_tables_refused: u64,
    /// Sections left out because they are damaged, or larger than [`Limits::section_bytes`] or [`Limits::decompressed_bytes`];
    /// and 1 for all of them if there are more than [`Limits::sections`].
    pub sections_refused: u64,
    /// Raw rows with a rule past [`Limits::rules`].
    pub rules_refused: u64,
    /// Unsupported raw rows by reason.
    pub unsupported: Unsupported,
    /// Rows for entries, trampolines and PLT sections that have no unwind information of their own.
    pub rows_from_knowledge: u64,
    /// Symbols not looked at because of [`Limits::symbols`].
    pub symbols_refused: u64,
    /// Bytes of code not searched for trampolines because of [`Limits::searched_bytes`].
    pub bytes_not_searched: u64,
    /// Work done, in units of [`Limits::work`].
    pub work: u64,
}

impl BuildStats {
    /// Draws on [`Limits::work`]. For a block of work at once, before it or, where its size is bounded, after it: what is
    /// done for each row has no time for this.
    #[inline(always)]
    pub(crate) fn draw(&mut self, units: u64, limits: &Limits) -> Result<(), BuildError> {
        self.work = self.work.saturating_add(units);
        if self.work > limits.work { Err(BuildError::TooMuchWork { limit: limits.work }) } else { Ok(()) }
    }
}

/// Why a row can't be expressed, counted before equal neighbours are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsupported {
    /// An expression for the CFA that is none of the known shapes.
    pub cfa_expression: u64,
    /// CFA from a register above r15, or an offset beyond 32 bits.
    pub cfa_operand: u64,
    /// No CFA at all.
    pub cfa_missing: u64,
    /// A rule for the stack pointer.
    pub stack_pointer: u64,
    /// A rule for the return address that is none of the known shapes.
    pub return_address: u64,
    /// A rule for rbp that is none of the known shapes: mostly `*(rbp + 0)` beside a CFA from r10, in the few instructions of a
    /// prologue that realigns the stack.
    pub saved_register: u64,
    /// A rule for rbx or r12 that is none of the known shapes. The row is kept and says "unchanged": a caller's CFA depends on
    /// these two in a handful of functions, while ending the stack here is certain to lose all callers.
    pub registers_approximated: u64,
    /// Go code after it has written its stack pointer (`runtime.gogo`).
    pub go_stack_switch: u64,
}
