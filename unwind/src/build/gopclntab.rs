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
use super::go_table::{FUNCTION_WORK, Table, find};
use super::intern::{Interner, SIGNAL};
use super::limits::{BuildError, BuildStats, Limits};
use super::switches::{Special, frame_rule, injected_rule, special, switch_rows};
use super::table::Functions;

/// The function is the outermost one of its stack.
const FLAG_TOP_FRAME: u8 = 1;
/// The function writes its stack pointer.
const FLAG_SP_WRITE: u8 = 2;
/// Most changes of sp in one function.
const MAX_CHANGES: usize = 1 << 16;
/// Most changes of sp, and most bytes, of a function that switches stacks: they are short, and looked at closely.
const MAX_SWITCH_CHANGES: usize = 256;
/// See [`MAX_SWITCH_CHANGES`].
const MAX_SWITCH_BYTES: usize = 4096;
/// Units of [`Limits::work`] that a change of sp takes.
const CHANGE_WORK: u64 = 16;
/// Units of [`Limits::work`] for a byte of a function that switches stacks.
const SWITCH_WORK: u64 = 2;

/// The functions of the file's table; `None` when it has no table that we can read.
pub(crate) fn functions(
    elf: &Elf<'_>,
    code: &Code,
    rules: &mut Interner,
    limits: &Limits,
    stats: &mut BuildStats,
) -> Result<Option<Functions>, BuildError> {
    let Some(found) = find(elf, code, limits, stats)? else { return Ok(None) };
    let Some(table) = found else {
        stats.go_tables_refused += 1;
        return Ok(None);
    };
    let mut functions = Functions::default();
    for index in 0..table.count {
        let Some((start, record)) = table.function(index) else {
            // The count goes beyond the table.
            stats.go_malformed += 1;
            break;
        };
        stats.draw(FUNCTION_WORK, limits)?;
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
        match function(&table, record, (from, to), elf, code, &mut functions, rules, limits, stats)? {
            Some((from, to)) => functions.close(from, to, limits)?,
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
    limits: &Limits,
    stats: &mut BuildStats,
) -> Result<Option<(u32, u32)>, BuildError> {
    let Some(flags) = table.flags(record) else { return Ok(None) };
    // Names are looked at only where something can be special: the table of names stays out of memory.
    let name = if flags == 0 { Some(&[][..]) } else { table.name(record) };
    let Some(name) = name else { return Ok(None) };
    let kind = special(name, flags & FLAG_TOP_FRAME != 0, flags & FLAG_SP_WRITE != 0);
    match kind {
        Special::Outermost => {
            functions.row(from, super::intern::END);
            stats.rows_raw += 1;
            return Ok(Some((from, to)));
        }
        Special::Trampoline => {
            // The signal handler returns to its first instruction, and callers are looked up one byte before.
            let before = from.saturating_sub(1);
            functions.row(before, SIGNAL);
            stats.rows_raw += 1;
            return Ok(Some((before, to)));
        }
        Special::None | Special::Switch(_) | Special::Injected => {}
    }
    // A function without a table has no frame: it does not touch sp.
    let mut deltas = Vec::new();
    let end = match table.pcsp(record) {
        None => {
            deltas.push((from, 0));
            Some(to)
        }
        Some(bytes) => pcsp(bytes, (from, to), &mut deltas),
    };
    // Tables may be shared between functions, so their changes are not bounded by the section's size.
    stats.draw((deltas.len() as u64 + 1) * CHANGE_WORK, limits)?;
    let Some(end) = end else { return Ok(None) };
    stats.rows_raw += deltas.len() as u64;
    if let Special::Switch(switch) = kind
        && deltas.len() <= MAX_SWITCH_CHANGES
        && (end - from) as usize <= MAX_SWITCH_BYTES
    {
        let start = code.base + u64::from(from);
        let bytes = elf.bytes_between(start, code.base + u64::from(end));
        stats.draw(bytes.len() as u64 * SWITCH_WORK, limits)?;
        switch_rows(switch, bytes, from, &deltas, functions, rules, &mut stats.unsupported);
    } else {
        let rule_of = if kind == Special::Injected { injected_rule } else { frame_rule };
        for (offset, delta) in deltas {
            functions.row(offset, rule_of(delta, rules, &mut stats.unsupported));
        }
    }
    Ok(Some((from, end)))
}

/// Decodes a pcsp table into (offset, delta) for every change. Gives the end of what it covers.
fn pcsp(mut bytes: Bytes<'_>, (from, to): (u32, u32), changes: &mut Vec<(u32, i64)>) -> Option<u32> {
    let (mut offset, mut delta) = (from, -1i64);
    loop {
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
