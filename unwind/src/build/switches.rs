//! Go functions that are not like others: outermost frames, the signal trampoline, and switches between stacks.
//!
//! Code runs on a goroutine's stack or on its thread's (g0), and a few assembler functions go from one to the other. What is
//! on the new stack is not below what is on the old one, so sp leads nowhere, but rbp does: these functions have a frame, and
//! rbp points into it until they return.
//!
//! | functions | rule |
//! |---|---|
//! | `goexit`, `mstart`, `rt0_go`, `_rt0_amd64*`, all with the top-frame flag but `sigtramp*` | outermost |
//! | `sigreturn__sigaction` (`sigreturn` before Go 1.21) | signal trampoline |
//! | `mcall`, `morestack`, `clone`, `switchToCrashStack0` | once they have written sp: outermost. They never come back, rbp is zero, and the goroutine they left is not what runs |
//! | `gogo` | once it has written sp: unsupported, for its last eight instructions |
//! | `asyncPreempt` | ordinary, but its caller was interrupted and did not call: exact address |
//! | all others that write sp, and have a frame (`systemstack`, `asmcgocall`, `cgocallback`, `nanotime1`, `time.now`, …) | CFA = rbp + 16 |
//! | the same without a frame (`systemstack` and `asmcgocall` before Go 1.21) | on the other stack CFA = rbp + 16, which is that of their caller: one frame is lost |
//!
//! Sampled programs (Go 1.21 and 1.26, stripped, with and without cgo callbacks; 20,000 stacks) end outermost in all cases but
//! one: while `gcAssistAlloc` waits on g0, another thread may move the goroutine's stack, and the rbp saved on g0 is stale
//! until `systemstack` reloads it. Such a stack ends at an address that is no code.
//!
//! CFA = rbp + 16 is written as an escape rule here, because the packed form promises a CFA further up *the same* stack.

use super::intern::{END, Interner, UNSUPPORTED};
use super::limits::Unsupported;
use super::table::Functions;
use crate::rule::{EscapeRule, Kind, MAX_PACKED_OFFSET, PackedRule, RowRule, dwarf, escape_flags};

/// What is special about a Go function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Special {
    /// Nothing.
    None,
    /// It has no caller.
    Outermost,
    /// Signal handlers return to it.
    Trampoline,
    /// It writes its stack pointer.
    Switch(Switch),
    /// A signal handler made it look as if the interrupted instruction had called it.
    Injected,
}

/// What holds once a function has written its stack pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Switch {
    /// It comes back, and rbp is as before.
    Returns,
    /// It has no caller.
    Outermost,
    /// Neither sp nor rbp leads to a caller.
    Lost,
}

/// Functions that write sp, for tables that have no flags.
const SWITCHES: [&[u8]; 8] = [
    b"runtime.systemstack",
    b"runtime.asmcgocall",
    b"runtime.cgocallback",
    b"runtime.nanotime1",
    b"runtime.walltime",
    b"runtime.walltime1",
    b"runtime.sigfwd",
    b"time.now",
];

/// What is special about the function of that name.
pub(super) fn special(name: &[u8], top_frame: bool, writes_sp: bool) -> Special {
    match name {
        b"runtime.goexit" | b"runtime.mstart" | b"runtime.rt0_go" | b"_rt0_amd64_linux" | b"_rt0_amd64" => {
            Special::Outermost
        }
        b"runtime.sigreturn__sigaction" | b"runtime.sigreturn" => Special::Trampoline,
        b"runtime.mcall" | b"runtime.morestack" | b"runtime.clone" | b"runtime.switchToCrashStack0" => {
            Special::Switch(Switch::Outermost)
        }
        b"runtime.asyncPreempt" => Special::Injected,
        b"gogo" | b"runtime.gogo" => Special::Switch(Switch::Lost),
        _ if name.starts_with(b"runtime.sigtramp") => Special::None,
        _ if top_frame => Special::Outermost,
        _ if writes_sp || SWITCHES.contains(&name) => Special::Switch(Switch::Returns),
        _ => Special::None,
    }
}

/// The rule of ordinary Go code whose sp is `delta` bytes below where it was at entry.
pub(super) fn frame_rule(delta: i64, rules: &mut Interner, unsupported: &mut Unsupported) -> u32 {
    match delta.checked_add(8).and_then(|offset| u64::try_from(offset).ok()) {
        Some(offset) if offset >= 8 && offset.is_multiple_of(8) && offset <= MAX_PACKED_OFFSET => {
            let fp_slot = if delta >= 8 { 2 } else { 0 };
            rules.packed(PackedRule::frame(Kind::Sp, offset, fp_slot, 0, 0))
        }
        _ => {
            unsupported.cfa_operand += 1;
            UNSUPPORTED
        }
    }
}

/// [`frame_rule`] for a function that a signal handler injected.
pub(super) fn injected_rule(delta: i64, rules: &mut Interner, unsupported: &mut Unsupported) -> u32 {
    let ordinary = frame_rule(delta, rules, unsupported);
    match rules.rule(ordinary) {
        RowRule::Packed(rule) if rule.kind() == Kind::Sp as u8 => rules.packed(rule.with_exact_caller()),
        _ => ordinary,
    }
}

/// CFA = rbp + 16, on whichever stack that is.
const THROUGH_FRAME: EscapeRule = EscapeRule {
    register: dwarf::RBP,
    flags: escape_flags::FP_AT_CFA,
    inner: 16,
    outer: 0,
    return_address: -8,
    fp: -16,
    rbx: 0,
    r12: 0,
};

/// An instruction that writes sp otherwise than by a constant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Write {
    /// From memory: to the other stack, or back.
    Load,
    /// From a register: back.
    Move,
    /// Rounded down: what is below is a stack of its own.
    Align,
}

/// The writes of sp in `code`, with the offsets after them. Found by their bytes: the functions are few and known.
fn writes(code: &[u8]) -> impl Iterator<Item = (u32, Write)> + '_ {
    code.windows(4).enumerate().filter_map(|(index, window)| {
        let (length, write) = match *window {
            // mov displacement(register), %rsp
            [0x48 | 0x49, 0x8b, modrm, _] if modrm & 0xf8 == 0x60 && modrm & 7 != 4 => (4, Write::Load),
            // mov (register), %rsp
            [0x48 | 0x49, 0x8b, modrm, _] if modrm & 0xf8 == 0x20 && !matches!(modrm & 7, 4 | 5) => (3, Write::Load),
            // mov register, %rsp
            [0x48 | 0x4c, 0x89, modrm, _] if modrm & 0xc7 == 0xc4 => (3, Write::Move),
            // and $-16, %rsp
            [0x48, 0x83, 0xe4, 0xf0] => (4, Write::Align),
            _ => return None,
        };
        Some((index as u32 + length, write))
    })
}

/// Where, counted from its start, a function's rbp points at its own frame; `None` if it has no frame.
fn frame_established(code: &[u8]) -> Option<u32> {
    match *code {
        // push %rbp; mov %rsp, %rbp
        [0x55, 0x48, 0x89, 0xe5, ..] => Some(4),
        // sub $n, %rsp; mov %rbp, m(%rsp); lea m(%rsp), %rbp: before Go 1.21
        [0x48, 0x83, 0xec, _, 0x48, 0x89, 0x6c, 0x24, saved, 0x48, 0x8d, 0x6c, 0x24, frame, ..] if saved == frame => {
            Some(14)
        }
        _ => None,
    }
}

/// The rows of a function that writes sp: `deltas` are what its pcsp table says, from `start` on.
pub(super) fn switch_rows(
    switch: Switch,
    code: &[u8],
    start: u32,
    deltas: &[(u32, i64)],
    functions: &mut Functions,
    rules: &mut Interner,
    unsupported: &mut Unsupported,
) {
    let through_frame = rules.number(RowRule::Escape(THROUGH_FRAME));
    let first_write = writes(code).next().map(|(offset, _)| offset);
    // From each of these offsets on, sp is (not) on the stack that the function was entered on.
    let mut turns: Vec<(u32, u32)> = Vec::new();
    match (switch, frame_established(code)) {
        (Switch::Outermost | Switch::Lost, _) => {
            let rule = if switch == Switch::Outermost { END } else { UNSUPPORTED };
            unsupported.go_stack_switch += u64::from(switch == Switch::Lost);
            turns.extend(first_write.map(|offset| (offset, rule)));
        }
        (Switch::Returns, Some(offset)) => turns.push((offset, through_frame)),
        (Switch::Returns, None) => {
            let mut away = false;
            for (offset, write) in writes(code) {
                away = match write {
                    Write::Load => !away,
                    Write::Move => false,
                    Write::Align => true,
                };
                turns.push((offset, if away { through_frame } else { super::intern::GAP }));
            }
        }
    }
    // Both lists ascend: what the last turn says holds, unless it says nothing or the frame is gone.
    let has_frame = frame_established(code).is_some();
    let mut rows: Vec<u32> = deltas.iter().map(|(offset, _)| *offset).collect();
    rows.extend(turns.iter().map(|(offset, _)| start.saturating_add(*offset)));
    rows.sort_unstable();
    rows.dedup();
    let (mut deltas, mut turns) = (deltas.iter().peekable(), turns.iter().peekable());
    let (mut delta, mut turn) = (0, None);
    for offset in rows {
        while let Some((_, next)) = deltas.next_if(|(from, _)| *from <= offset) {
            delta = *next;
        }
        while let Some((_, next)) = turns.next_if(|(from, _)| start.saturating_add(*from) <= offset) {
            turn = Some(*next);
        }
        let rule = match turn {
            Some(rule) if rule == through_frame && has_frame && delta == 0 => None,
            Some(super::intern::GAP) | None => None,
            Some(rule) => Some(rule),
        };
        functions.row(offset, rule.unwrap_or_else(|| frame_rule(delta, rules, unsupported)));
    }
}
