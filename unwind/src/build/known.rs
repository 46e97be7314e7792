//! Code without unwind information whose rule is known all the same: entries, signal trampolines, PLT sections, `.init`, `.fini`.
//!
//! C libraries without call-frame information (musl), linkers that write none for their PLT (lld), and assembler. Only gaps
//! are filled: what `.eh_frame` and `.gopclntab` say always wins. `.debug_frame` does not win over patterns: musl's build
//! makes one for its assembler by a script, which takes the trampoline and the new thread's part of `__clone` for functions.

use super::elf::{Code, Elf};
use super::intern::{END, GAP, Interner, SIGNAL};
use super::limits::{BuildError, BuildStats, Limits};
use super::table::{CompactRow, Functions, fill, gaps};
use crate::rule::{Kind, PackedRule};

/// Bytes that an entry point without a size stands for.
const ENTRY_BYTES: u64 = 64;
/// Largest function of a known name that is believed to be the assembler one: C libraries have others called `clone`.
const MAX_ENTRY_SYMBOL: u64 = 256;
/// Functions that have no caller: the start of a program or of a thread.
const ENTRY_SYMBOLS: [&[u8]; 5] = [b"_start", b"clone", b"__clone", b"clone3", b"__clone3"];

/// What is known about the gaps in some rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// Code recognised by its bytes: signal trampolines and musl's `__clone`.
    Patterns,
    /// PLT sections, `.init` and `.fini`, by their names.
    NamedSections,
    /// The entry point, and functions of known names.
    Entries,
}

/// `rows` with what `source` knows about its gaps.
pub(crate) fn fill_known(
    rows: Vec<CompactRow>,
    source: Source,
    elf: &Elf<'_>,
    code: &Code,
    rules: &mut Interner,
    limits: &Limits,
    stats: &mut BuildStats,
) -> Result<Vec<CompactRow>, BuildError> {
    let mut functions = Functions::default();
    let mut known = Known { functions: &mut functions, code, limits, rows: 0 };
    match source {
        Source::Patterns => patterns(&rows, elf, &mut known, rules, stats)?,
        Source::NamedSections => named_sections(elf, &mut known, rules)?,
        Source::Entries => entries(&rows, elf, &mut known, stats)?,
    }
    stats.rows_from_knowledge += known.rows;
    let filled = functions.into_rows(stats, |_, _| false);
    Ok(fill(rows, filled))
}

/// Collects rows by ELF address.
struct Known<'a> {
    functions: &'a mut Functions,
    code: &'a Code,
    limits: &'a Limits,
    rows: u64,
}

impl Known<'_> {
    /// `rows` of (address, rule), up to `end`; nothing if they do not lie in code.
    fn add(&mut self, rows: &[(u64, u32)], end: u64) -> Result<(), BuildError> {
        let Some((from, to)) = rows.first().and_then(|first| self.code.offsets(first.0, end)) else { return Ok(()) };
        self.rows += rows.len() as u64;
        self.functions.open();
        for (address, rule) in rows {
            self.functions.row((address - self.code.base) as u32, *rule);
        }
        self.functions.close(from, to, self.limits)
    }
}

/// Bytes of a PLT entry, and of the header before the entries.
const PLT_ENTRY: u64 = 16;

/// Where `.init` and `.fini` have taken their 8 bytes of stack, and where they have given them back (the `ret`), as offsets. What lies
/// between was put there by the compiler's start files: calls, which leave the stack as it was.
fn start_file_frame(bytes: &[u8]) -> Option<(u64, u64)> {
    const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
    // sub $8, %rsp; … add $8, %rsp; ret (glibc), and push %rax; … pop %rax; ret (musl).
    const FRAMES: [(&[u8], &[u8]); 2] =
        [(&[0x48, 0x83, 0xec, 8], &[0x48, 0x83, 0xc4, 8, 0xc3]), (&[0x50], &[0x58, 0xc3])];
    let body = bytes.strip_prefix(&ENDBR64).unwrap_or(bytes);
    let (take, _) = FRAMES
        .into_iter()
        .find(|(take, give)| body.len() >= take.len() + give.len() && body.starts_with(take) && body.ends_with(give))?;
    let taken = bytes.len() - body.len() + take.len();
    let given = bytes.len() - 1;
    Some((taken as u64, given as u64))
}

fn named_sections(elf: &Elf<'_>, known: &mut Known<'_>, rules: &mut Interner) -> Result<(), BuildError> {
    let mut frame = |offset| rules.packed(PackedRule::frame(Kind::Sp, offset, 0, 0, 0));
    // Also: in .init and .fini, 8 bytes of stack taken.
    let (at_call, index_pushed, both_pushed) = (frame(8), frame(16), frame(24));
    for section in elf.sections() {
        let (start, end) = (section.address, section.address.saturating_add(section.size));
        let bytes = elf.bytes_between(start, end);
        match section.name {
            b".plt.sec" | b".plt.got" | b".plt.bnd" => known.add(&[(start, at_call)], end)?,
            b".plt" | b".iplt" => {
                // pushq link_map(%rip); jmpq *resolver(%rip)
                let has_header = bytes.starts_with(&[0xff, 0x35]);
                let entries = if has_header { start.saturating_add(PLT_ENTRY) } else { start };
                let entry = bytes.get(if has_header { PLT_ENTRY as usize } else { 0 }..).unwrap_or_default();
                let rule = match entry {
                    // jmpq *slot(%rip); pushq $index; jmp header
                    [0xff, 0x25, _, _, _, _, 0x68, ..] => Some(rules.packed(PackedRule::plt(11))),
                    // endbr64; pushq $index; [bnd] jmp header
                    [0xf3, 0x0f, 0x1e, 0xfa, 0x68, ..] => Some(rules.packed(PackedRule::plt(9))),
                    // pushq $index; [bnd] jmp header
                    [0x68, ..] => Some(rules.packed(PackedRule::plt(5))),
                    // Entries that only jump, with or without endbr64, or by way of r11.
                    [0xff, 0x25, ..] | [0xf3, 0x0f, 0x1e, 0xfa, 0xff | 0x41 | 0xf2, ..] => Some(at_call),
                    _ => None,
                };
                if has_header {
                    known.add(&[(start, index_pushed), (start + 6, both_pushed)], entries.min(end))?;
                }
                // The threshold counts from a multiple of 16.
                if let Some(rule) = rule.filter(|rule| *rule == at_call || start.is_multiple_of(PLT_ENTRY)) {
                    known.add(&[(entries, rule)], end)?;
                }
            }
            b".init" | b".fini" => {
                if let Some((taken, given)) = start_file_frame(bytes) {
                    known.add(&[(start, at_call), (start + taken, index_pushed), (start + given, at_call)], end)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// musl's `__clone` from `mov $56, %al` to its `ret`.
const MUSL_CLONE: [u8; 57] = [
    0x31, 0xc0, 0xb0, 0x38, 0x49, 0x89, 0xfb, 0x48, 0x89, 0xd7, 0x4c, 0x89, 0xc2, 0x4d, 0x89, 0xc8, 0x4c, 0x8b, 0x54,
    0x24, 0x08, 0x4d, 0x89, 0xd9, 0x48, 0x83, 0xe6, 0xf0, 0x48, 0x83, 0xee, 0x08, 0x48, 0x89, 0x0e, 0x0f, 0x05, 0x85,
    0xc0, 0x75, 0x0f, 0x31, 0xed, 0x5f, 0x41, 0xff, 0xd1, 0x89, 0xc7, 0x31, 0xc0, 0xb0, 0x3c, 0x0f, 0x05, 0xf4, 0xc3,
];
/// Where the new thread's part begins: it has no caller.
const MUSL_CLONE_CHILD: u64 = 41;
/// Where the old thread's part goes on: the final `ret`.
const MUSL_CLONE_RETURN: u64 = 56;
/// `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Where the syscall instructions are. Most code has none: a first look at 64 bytes at once, which compilers make vector code
/// of, passes over it.
fn syscalls(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    const BLOCK: usize = 64;
    (0..bytes.len()).step_by(BLOCK).flat_map(move |start| {
        let end = bytes.len().min(start + BLOCK);
        let block = bytes.get(start..end).unwrap_or_default();
        let next = bytes.get(start + 1..bytes.len().min(end + 1)).unwrap_or_default();
        let pairs = || block.iter().zip(next);
        let any =
            pairs().fold(0, |any, (one, other)| any | (u8::from(*one == SYSCALL[0]) & u8::from(*other == SYSCALL[1])));
        let found = pairs().take(if any == 0 { 0 } else { BLOCK }).enumerate();
        found.filter(|(_, (one, other))| [**one, **other] == SYSCALL).map(move |(index, _)| start + index)
    })
}

/// Searches the gaps for code that is known by its bytes: where a C library's own code is, not in what is linked with one.
fn patterns(
    rows: &[CompactRow],
    elf: &Elf<'_>,
    known: &mut Known<'_>,
    rules: &mut Interner,
    stats: &mut BuildStats,
) -> Result<(), BuildError> {
    if elf.needs_libraries() {
        return Ok(());
    }
    let at_call = rules.packed(PackedRule::frame(Kind::Sp, 8, 0, 0, 0));
    let code = known.code;
    let mut left = known.limits.searched_bytes;
    for (start, end) in gaps(rows, code.length) {
        stats.draw(code.ranges.len() as u64, known.limits)?;
        for range in &code.ranges {
            let (from, to) = (start.max(range.0), end.min(range.1));
            if from >= to || to - from < 8 {
                continue;
            }
            let searched = u64::from(to - from).min(left);
            left -= searched;
            stats.bytes_not_searched += u64::from(to - from) - searched;
            let address = code.base + u64::from(from);
            let bytes = elf.bytes_between(address, address + searched);
            for index in syscalls(bytes) {
                let before = bytes.get(..index).unwrap_or_default();
                let length = [&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0][..], &[0xb8, 0x0f, 0, 0, 0]]
                    .into_iter()
                    .find(|load| before.ends_with(load))
                    .map(<[u8]>::len);
                if let Some(length) = length {
                    // A handler returns to the first instruction, and callers are looked up one byte before.
                    let first = address + (index - length) as u64;
                    known.add(&[(first.saturating_sub(1).max(code.base), SIGNAL)], address + index as u64 + 2)?;
                }
                const SYSCALL_IN_CLONE: usize = 35;
                let clone = index.checked_sub(SYSCALL_IN_CLONE);
                if let Some(clone) =
                    clone.filter(|clone| bytes.get(*clone..).is_some_and(|at| at.starts_with(&MUSL_CLONE)))
                {
                    let first = address + clone as u64;
                    let rows =
                        [(first, at_call), (first + MUSL_CLONE_CHILD, END), (first + MUSL_CLONE_RETURN, at_call)];
                    known.add(&rows, first + MUSL_CLONE.len() as u64)?;
                }
            }
        }
    }
    Ok(())
}

/// The entry point, and functions of known names.
fn entries(
    rows: &[CompactRow],
    elf: &Elf<'_>,
    known: &mut Known<'_>,
    stats: &mut BuildStats,
) -> Result<(), BuildError> {
    let code = known.code;
    // Up to the next row, so that a small gap's rule does not reach over code that has one.
    let uncovered = |address: u64, length: u64| {
        let offset = u32::try_from(address.checked_sub(code.base)?).ok()?;
        let after = rows.partition_point(|row| row.offset <= offset);
        let inside = after.checked_sub(1).and_then(|index| rows.get(index)).is_some_and(|row| row.rule != GAP);
        let range = code.ranges.get(code.ranges.partition_point(|range| range.0 <= offset).checked_sub(1)?)?;
        let limit = rows.get(after).map_or(range.1, |row| row.offset.min(range.1));
        (!inside && offset < range.1).then(|| address.saturating_add(length).min(code.base + u64::from(limit)))
    };
    let entry = elf.entry();
    if let Some((address, end)) = entry.and_then(|address| Some((address, uncovered(address, ENTRY_BYTES)?))) {
        known.add(&[(address, END)], end)?;
    }
    // Threads start in the C library; a program that is linked with one has its only start at the entry point.
    if elf.needs_libraries() {
        return Ok(());
    }
    let mut found = Vec::new();
    elf.symbols(known.limits, stats, |name, address, size| {
        if ENTRY_SYMBOLS.contains(&name) && Some(address) != entry && size <= MAX_ENTRY_SYMBOL {
            found.push((address, if size == 0 { ENTRY_BYTES } else { size }));
        }
    })?;
    for (address, length) in found {
        if let Some(end) = uncovered(address, length) {
            known.add(&[(address, END)], end)?;
        }
    }
    Ok(())
}
