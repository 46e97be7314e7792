//! [`rows_of_elf`]: which sources an executable has, and which of them wins where.

use super::bytes::Bytes;
use super::cfi::{Format, Reader};
use super::elf::{Code, Elf};
use super::gopclntab;
use super::intern::{GAP, Interner, UNSUPPORTED};
use super::known::{Source, fill_known};
use super::limits::{BuildError, BuildStats, Limits};
use super::pointer::pointer;
use super::table::{CompactRow, fill};
use crate::rule::{Row, RowRule};

/// The rows of one executable: sorted by address, strictly ascending, no two neighbours with equal rules, the last one a gap.
///
/// A row takes 8 bytes here; [`ElfRows::iter`] spells it out.
#[derive(Debug)]
pub struct ElfRows {
    pub(super) base: u64,
    pub(super) rows: Vec<CompactRow>,
    pub(super) rules: Vec<RowRule>,
    /// What was read, kept and left out.
    pub stats: BuildStats,
    /// Whether the rows of Go functions came from `.gopclntab`.
    pub is_go: bool,
    /// The ELF entry point, if there is one.
    pub entry: Option<u64>,
}

impl ElfRows {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the file has no unwind information at all.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows in order of address.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row> + '_ {
        self.rows.iter().map(|row| Row { address: self.base + u64::from(row.offset), rule: self.rule(row.rule) })
    }

    /// The rule that holds at an ELF address; [`RowRule::GAP`] before the first row.
    pub fn lookup(&self, address: u64) -> RowRule {
        let Some(offset) = address.checked_sub(self.base) else { return RowRule::GAP };
        let after = self.rows.partition_point(|row| u64::from(row.offset) <= offset);
        after.checked_sub(1).and_then(|index| self.rows.get(index)).map_or(RowRule::GAP, |row| self.rule(row.rule))
    }

    fn rule(&self, number: u32) -> RowRule {
        self.rules.get(number as usize).copied().unwrap_or(RowRule::GAP)
    }
}

/// The rows of the kernel's vDSO image, which is an ELF file like any other.
///
/// # Errors
/// As [`rows_of_elf`].
pub fn rows_of_vdso(image: &[u8]) -> Result<ElfRows, BuildError> {
    rows_of_elf(image, &Limits::default())
}

/// The rows of one ELF file: from `.eh_frame`; where that is silent from `.gopclntab` in Go files and from `.debug_frame` in
/// others; and where all are, from what is known of entries, signal trampolines and PLTs.
///
/// # Errors
/// When the file is not an x86-64 ELF file with code, or goes beyond a limit. A file without unwind information is not an
/// error: it has no rows.
pub fn rows_of_elf(data: &[u8], limits: &Limits) -> Result<ElfRows, BuildError> {
    let mut stats = BuildStats::default();
    let elf = Elf::parse(data, limits, &mut stats)?;
    let code = elf.code()?;
    let mut rules = Interner::new(limits.rules);
    let rows = eh_frame(&elf, &code, &mut rules, limits, &mut stats)?;
    let go = gopclntab::functions(&elf, &code, &mut rules, limits, &mut stats)?;
    let is_go = go.is_some();
    // Go functions are 32-byte aligned, with breakpoints between them.
    let joins = |end: u32, start: u32| start - end < GO_ALIGNMENT && start.is_multiple_of(GO_ALIGNMENT);
    let rows = match go {
        Some(functions) => fill(rows, functions.into_rows(&mut stats, joins)),
        None => rows,
    };
    let known = |rows, source, rules: &mut Interner, stats: &mut BuildStats| {
        fill_known(rows, source, &elf, &code, rules, limits, stats)
    };
    let rows = known(rows, Source::Patterns, &mut rules, &mut stats)?;
    // Go's own .debug_frame says less than its .gopclntab.
    let rows = match is_go {
        true => rows,
        false => fill(rows, debug_frame(&elf, &code, &mut rules, limits, &mut stats)?),
    };
    let rows = known(rows, Source::NamedSections, &mut rules, &mut stats)?;
    let rows = known(rows, Source::Entries, &mut rules, &mut stats)?;
    if rows.len() > limits.rows {
        return Err(BuildError::TooManyRows { limit: limits.rows });
    }
    let (rules, refused) = rules.finish();
    stats.rules_refused = refused;
    stats.rows_kept = rows.len() as u64;
    stats.rows_unsupported = rows.iter().filter(|row| row.rule == UNSUPPORTED).count() as u64;
    debug_assert!(rows.last().is_none_or(|row| row.rule == GAP));
    Ok(ElfRows { base: code.base, rows, rules, stats, is_go, entry: elf.entry() })
}

/// Functions of Go code start at multiples of this.
const GO_ALIGNMENT: u32 = 32;

fn eh_frame(
    elf: &Elf<'_>,
    code: &Code,
    rules: &mut Interner,
    limits: &Limits,
    stats: &mut BuildStats,
) -> Result<Vec<CompactRow>, BuildError> {
    let section = elf
        .section(".eh_frame")
        .and_then(|section| Some((section.address, elf.section_data(section, limits, stats)?, false)))
        .or_else(|| unnamed_eh_frame(elf, limits).map(|(address, data)| (address, data.into(), true)));
    let Some((address, data, terminated)) = section else { return Ok(Vec::new()) };
    let format = Format::EhFrame { address, terminated };
    let functions = Reader::new(&data, format, code, rules, limits, stats).functions()?;
    Ok(functions.into_rows(stats, |end, start| is_padding(elf, code, end, start)))
}

/// `.eh_frame` without section headers: through `PT_GNU_EH_FRAME`. It reaches to the end of its segment, so its terminator
/// is believed.
fn unnamed_eh_frame<'a>(elf: &Elf<'a>, limits: &Limits) -> Option<(u64, &'a [u8])> {
    let header = elf.eh_frame_header()?;
    let mut bytes = Bytes::at(elf.bytes_from(header), 0);
    if bytes.u8()? != 1 {
        return None;
    }
    let encoding = bytes.u8()?;
    bytes.u16()?;
    let address = pointer(&mut bytes, encoding, header).ok()?;
    let data = elf.bytes_from(address);
    let length = data.len().min(usize::try_from(limits.section_bytes).unwrap_or(usize::MAX));
    data.get(..length).filter(|data| !data.is_empty()).map(|data| (address, data))
}

fn debug_frame(
    elf: &Elf<'_>,
    code: &Code,
    rules: &mut Interner,
    limits: &Limits,
    stats: &mut BuildStats,
) -> Result<Vec<CompactRow>, BuildError> {
    let Some(section) = elf.section(".debug_frame") else { return Ok(Vec::new()) };
    let Some(data) = elf.section_data(section, limits, stats) else { return Ok(Vec::new()) };
    let functions = Reader::new(&data, Format::DebugFrame, code, rules, limits, stats).functions()?;
    Ok(functions.into_rows(stats, |end, start| is_padding(elf, code, end, start)))
}

/// Longest gap between two functions that may be padding: alignment beyond 16 bytes is rare, and a gap row costs 4 bytes.
const MAX_PADDING: u32 = 16;

/// Whether `end..start` is only padding, so that the row before it may go on.
///
/// When `start` is the next multiple of 16 there is no room for a function, and the code is not read: touching every page of
/// a large file's text would cost more than all the rest.
fn is_padding(elf: &Elf<'_>, code: &Code, end: u32, start: u32) -> bool {
    let length = start.saturating_sub(end);
    let (from, to) = (code.base + u64::from(end), code.base + u64::from(start));
    if length > MAX_PADDING || elf.entry().is_some_and(|entry| (from..to).contains(&entry)) {
        return false;
    }
    if length < MAX_PADDING && start.is_multiple_of(16) {
        return true;
    }
    let bytes = elf.bytes_between(from, to);
    bytes.len() == length as usize && is_no_operation(bytes)
}

/// Whether the bytes are breakpoints, zeroes or no-operations.
fn is_no_operation(mut bytes: &[u8]) -> bool {
    loop {
        bytes = match bytes {
            [] => return true,
            // One-byte forms, and the prefixes of the long ones.
            [0x00 | 0x90 | 0xcc | 0x66 | 0x2e, rest @ ..] => rest,
            // nopl: 0f 1f /0 with an addressing form as assemblers pick them by length.
            [0x0f, 0x1f, 0x00, rest @ ..] => rest,
            [0x0f, 0x1f, 0x40, _, rest @ ..] => rest,
            [0x0f, 0x1f, 0x44, _, _, rest @ ..] => rest,
            [0x0f, 0x1f, 0x80, _, _, _, _, rest @ ..] => rest,
            [0x0f, 0x1f, 0x84, _, _, _, _, _, rest @ ..] => rest,
            _ => return false,
        };
    }
}
