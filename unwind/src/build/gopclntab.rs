//! Go's `.gopclntab`: every function's frame size by pc, also in stripped files.
//!
//! A function's pcsp table says how far sp is below its value at entry, so CFA = sp + delta + 8. Go code with a frame keeps
//! the caller's rbp at CFA − 16 (assembler and compiler both insert that).
//!
//! **Why not `.debug_frame`:** Go's has the same CFAs but says nothing of rbp, which the stack switches below need, and it is
//! gone from stripped files. A test compares the CFAs of the two.
//!
//! **Does not:** name functions (the symbolizer does), Go before 1.16, tables in big-endian files. rbx and r12, which Go code
//! does not preserve, count as unchanged: C code above a Go callback that bases its CFA on them can't be unwound.

use super::bytes::Bytes;
use super::elf::{Code, Elf};
use super::intern::{Interner, SIGNAL};
use super::limits::{BuildError, BuildStats, Limits};
use super::switches::{Special, frame_rule, injected_rule, special, switch_rows};
use super::table::Functions;

/// Sections that hold the table; the second one in position-independent files before Go 1.26.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

/// The layouts that differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    Go116,
    Go118,
    Go120,
}

impl Version {
    fn of(magic: u32) -> Option<Self> {
        match magic {
            0xffff_fffa => Some(Version::Go116),
            0xffff_fff0 => Some(Version::Go118),
            0xffff_fff1 => Some(Version::Go120),
            _ => None,
        }
    }

    /// Offsets of the name, the pcsp table and the flags in a function's record.
    fn record(self) -> (usize, usize, Option<usize>) {
        match self {
            // The flags came with Go 1.17 under the same magic: what this byte holds in 1.16 is padding.
            Version::Go116 => (8, 20, None),
            Version::Go118 => (4, 16, Some(37)),
            Version::Go120 => (4, 16, Some(41)),
        }
    }
}

/// The function is the outermost one of its stack.
const FLAG_TOP_FRAME: u8 = 1;
/// The function writes its stack pointer.
pub(super) const FLAG_SP_WRITE: u8 = 2;
/// The function is written in assembler.
const FLAG_ASSEMBLER: u8 = 4;

/// Longest name that is looked at: the special functions have short ones.
const MAX_NAME: usize = 64;
/// Most changes of sp in one function.
const MAX_CHANGES: usize = 1 << 16;
/// Most changes of sp, and most bytes, of a function that switches stacks: they are short, and looked at closely.
const MAX_SWITCH_CHANGES: usize = 256;
/// See [`MAX_SWITCH_CHANGES`].
const MAX_SWITCH_BYTES: usize = 4096;
/// Most places that are tried as the linker's module data.
const MAX_MODULES: usize = 16;
/// Most places that are tried as a table, where no section names it.
const MAX_CANDIDATES: usize = 16;

/// A parsed header.
struct Table<'a> {
    version: Version,
    names: &'a [u8],
    pcsp: &'a [u8],
    /// The function table, which the records follow.
    functions: &'a [u8],
    count: usize,
    /// What the entries' addresses count from.
    text: u64,
}

/// Sections that say that a file was made by Go's linker.
const MARKS: [&str; 2] = [".go.buildinfo", ".note.go.buildid"];

/// The file's table, parsed; `None` if it has none, `Some(None)` if it can't be read.
fn find<'a>(elf: &Elf<'a>, code: &Code, limits: &Limits) -> Option<Option<Table<'a>>> {
    if let Some(section) = SECTIONS.iter().find_map(|name| elf.section(name)) {
        let data = elf.bytes_between(section.address, section.address.saturating_add(section.size));
        return Some(Table::parse(elf, code, section.address, data, limits));
    }
    if elf.has_sections() && !MARKS.iter().any(|name| elf.section(name).is_some()) {
        return None;
    }
    // No section headers, or a linker that has put the section into another (`.data.rel.ro` of position-independent files):
    // by its magic, at a multiple of 8 as it is placed.
    let candidates = elf.loaded(limits.section_bytes).flat_map(|(address, bytes)| {
        let skipped = address.next_multiple_of(8) - address;
        let aligned = bytes.get(skipped as usize..).unwrap_or_default();
        let found = aligned
            .chunks_exact(8)
            .enumerate()
            .filter(|(_, word)| matches!(word, [0xf0 | 0xf1 | 0xfa, 0xff, 0xff, 0xff, 0, 0, 1, 8]));
        found
            .map(move |(index, _)| (address + skipped + index as u64 * 8, aligned.get(index * 8..).unwrap_or_default()))
    });
    // Code that looks for the magic holds it as well.
    let mut any = None;
    for (address, data) in candidates.take(MAX_CANDIDATES) {
        any = Some(Table::parse(elf, code, address, data, limits).filter(|table| table.function(0).is_some()));
        if let Some(Some(_)) = any {
            break;
        }
    }
    any
}

impl<'a> Table<'a> {
    fn parse(elf: &Elf<'a>, code: &Code, address: u64, data: &'a [u8], limits: &Limits) -> Option<Self> {
        let mut bytes = Bytes::at(data, 0);
        let version = Version::of(bytes.u32()?)?;
        // Padding, instruction quantum, pointer size.
        if bytes.take(4)? != [0, 0, 1, 8] {
            return None;
        }
        let mut word = || bytes.u64().and_then(|word| usize::try_from(word).ok());
        let count = word()?;
        let _files = word()?;
        let header_text = if version == Version::Go116 { 0 } else { word()? as u64 };
        let names = data.get(word()?..)?;
        let (_units, _files) = (word()?, word()?);
        let pcsp = data.get(word()?..)?;
        let functions = data.get(word()?..)?;
        let mut table = Self { version, names, pcsp, functions, count, text: 0 };
        table.text = match version {
            Version::Go116 => 0,
            // From Go 1.26 on the header has none.
            _ if header_text != 0 => header_text,
            _ => text_of_module(elf, code, address, limits).or_else(|| table.text_of_entry(elf))?,
        };
        Some(table)
    }

    /// The index-th function: where it starts, and where its record is.
    fn function(&self, index: usize) -> Option<(u64, usize)> {
        let (start, record);
        if self.version == Version::Go116 {
            let mut bytes = Bytes::at(self.functions, index.checked_mul(16)?);
            (start, record) = (bytes.u64()?, bytes.u64()?);
        } else {
            let mut bytes = Bytes::at(self.functions, index.checked_mul(8)?);
            (start, record) = (self.text.checked_add(bytes.u32()?.into())?, u64::from(bytes.u32()?));
        }
        Some((start, usize::try_from(record).ok()?))
    }

    fn name(&self, record: usize) -> Option<&'a [u8]> {
        let offset = Bytes::at(self.functions, record.checked_add(self.version.record().0)?).u32()?;
        let start = offset as usize;
        let length = self.names.len().min(start.saturating_add(MAX_NAME));
        Bytes::at(self.names.get(..length)?, start).text().or(Some(&[]))
    }

    fn flags(&self, record: usize) -> Option<u8> {
        match self.version.record().2 {
            Some(offset) => Bytes::at(self.functions, record.checked_add(offset)?).u8(),
            // Unknown: every name is looked at.
            None => Some(FLAG_ASSEMBLER),
        }
    }

    /// A pcsp table's bytes; `None` if the function has none.
    fn pcsp(&self, record: usize) -> Option<Bytes<'a>> {
        let offset = Bytes::at(self.functions, record.checked_add(self.version.record().1)?).u32()?;
        (offset != 0).then(|| Bytes::at(self.pcsp, offset as usize))
    }

    /// The start of the text by the one function whose address the ELF header has: only where the linker is Go's own.
    fn text_of_entry(&self, elf: &Elf<'_>) -> Option<u64> {
        let entry = elf.entry()?;
        // jmp _rt0_amd64; the entry of a C program is another.
        if elf.bytes_from(entry).first() != Some(&0xe9) {
            return None;
        }
        (0..self.count).find_map(|index| {
            let (offset, record) = self.function(index)?;
            (self.name(record)? == b"_rt0_amd64_linux").then(|| entry.checked_sub(offset)).flatten()
        })
    }
}

/// Where `text` is in the linker's module data, which begins with the address of the table.
const MODULE_TEXT: u64 = 176;

/// The start of the text from the module data.
fn text_of_module(elf: &Elf<'_>, code: &Code, table: u64, limits: &Limits) -> Option<u64> {
    let word = |address: u64| {
        let stored = Bytes::at(elf.bytes_from(address), 0).u64().filter(|word| *word != 0);
        // Some linkers leave the place of a relocation empty.
        stored.or_else(|| elf.relative_relocation(address))
    };
    let text_at = |module: u64| {
        let text = word(module.checked_add(MODULE_TEXT)?)?;
        code.offsets(text, text.checked_add(1)?).map(|_| text)
    };
    if let Some(section) = elf.section(".go.module") {
        return (word(section.address)? == table).then(|| text_at(section.address)).flatten();
    }
    let candidates = elf.loaded(limits.section_bytes).flat_map(|(address, bytes)| {
        let skipped = address.next_multiple_of(8) - address;
        let words = bytes.get(skipped as usize..).unwrap_or_default().chunks_exact(8).enumerate();
        words
            .filter(|(_, word)| *word == table.to_le_bytes())
            .map(move |(index, _)| address + skipped + index as u64 * 8)
    });
    candidates.take(MAX_MODULES).find_map(text_at)
}

/// The functions of the file's table; `None` when it has no table that we can read.
pub(crate) fn functions(
    elf: &Elf<'_>,
    code: &Code,
    rules: &mut Interner,
    limits: &Limits,
    stats: &mut BuildStats,
) -> Result<Option<Functions>, BuildError> {
    let Some(found) = find(elf, code, limits) else { return Ok(None) };
    let Some(table) = found else {
        stats.go_tables_refused += 1;
        return Ok(None);
    };
    let mut functions = Functions::default();
    // pcsp tables are shared between functions, so their steps are not bounded by the section's size alone.
    let mut budget = table.pcsp.len() as u64 * 16;
    for index in 0..table.count {
        let Some((start, record)) = table.function(index) else {
            // The count goes beyond the table.
            stats.go_malformed += 1;
            break;
        };
        stats.go_functions += 1;
        let end = table.function(index + 1).map_or(start, |next| next.0);
        if end == start {
            stats.fdes_discarded += 1;
            continue;
        }
        let Some((from, to)) = code.offsets(start, end) else {
            stats.outside_code += 1;
            continue;
        };
        functions.open();
        let written = function(&table, record, (from, to), elf, code, &mut functions, rules, stats, &mut budget);
        match written {
            Some((from, to)) => functions.close(from, to, limits)?,
            None if budget == 0 => return Err(BuildError::TooMuchWork),
            None => stats.go_malformed += 1,
        }
    }
    functions.open();
    Ok(Some(functions))
}

/// One function's rows; `None` if its record is malformed. Gives what they cover.
#[expect(clippy::too_many_arguments, reason = "the whole state of the table being read; a struct would only rename it")]
fn function(
    table: &Table<'_>,
    record: usize,
    (from, to): (u32, u32),
    elf: &Elf<'_>,
    code: &Code,
    functions: &mut Functions,
    rules: &mut Interner,
    stats: &mut BuildStats,
    budget: &mut u64,
) -> Option<(u32, u32)> {
    let flags = table.flags(record)?;
    // Names are looked at only where something can be special: the table of names stays out of memory.
    let name = if flags == 0 { &[][..] } else { table.name(record)? };
    let kind = special(name, flags & FLAG_TOP_FRAME != 0, flags & FLAG_SP_WRITE != 0);
    match kind {
        Special::Outermost => {
            functions.row(from, super::intern::END);
            stats.rows_raw += 1;
            return Some((from, to));
        }
        Special::Trampoline => {
            // The signal handler returns to its first instruction, and callers are looked up one byte before.
            let before = from.saturating_sub(1);
            functions.row(before, SIGNAL);
            stats.rows_raw += 1;
            return Some((before, to));
        }
        Special::None | Special::Switch(_) | Special::Injected => {}
    }
    // A function without a table has no frame: it does not touch sp.
    let mut deltas = Vec::new();
    let end = match table.pcsp(record) {
        None => {
            deltas.push((from, 0));
            to
        }
        Some(bytes) => pcsp(bytes, (from, to), budget, &mut deltas)?,
    };
    stats.rows_raw += deltas.len() as u64;
    if let Special::Switch(switch) = kind
        && deltas.len() <= MAX_SWITCH_CHANGES
        && (end - from) as usize <= MAX_SWITCH_BYTES
    {
        let start = code.base + u64::from(from);
        let bytes = elf.bytes_between(start, code.base + u64::from(end));
        switch_rows(switch, bytes, from, &deltas, functions, rules, &mut stats.unsupported);
    } else {
        let rule_of = if kind == Special::Injected { injected_rule } else { frame_rule };
        for (offset, delta) in deltas {
            functions.row(offset, rule_of(delta, rules, &mut stats.unsupported));
        }
    }
    Some((from, end))
}

/// Decodes a pcsp table into (offset, delta) for every change. Gives the end of what it covers.
fn pcsp(mut bytes: Bytes<'_>, (from, to): (u32, u32), budget: &mut u64, changes: &mut Vec<(u32, i64)>) -> Option<u32> {
    let (mut offset, mut delta) = (from, -1i64);
    loop {
        *budget = budget.checked_sub(1)?;
        let change = bytes.uleb()?;
        if change == 0 && offset != from {
            return Some(offset);
        }
        // Zigzag.
        delta = delta.checked_add((change >> 1).cast_signed() ^ -((change & 1).cast_signed()))?;
        let length = u32::try_from(bytes.uleb()?).ok()?;
        if changes.len() >= MAX_CHANGES {
            return None;
        }
        changes.push((offset, delta));
        offset = offset.checked_add(length)?;
        if offset >= to || length == 0 {
            return Some(offset.min(to)).filter(|end| *end > from);
        }
    }
}
