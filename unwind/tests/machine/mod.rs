//! A made-up machine: registers and memory with values that can't be confused, so that two ways to express the same rule
//! can be compared by what they compute.

use unwind::rule::{EscapeRule, Kind, PackedRule, RowRule, dwarf, escape_flags};

/// What a rule says about the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// No rows here.
    Gap,
    /// The outermost frame.
    End,
    /// A signal trampoline.
    Signal,
    /// Can't be expressed.
    Unsupported,
    /// One frame up.
    Frame(Frame),
}

/// Registers of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    pub(crate) sp: u64,
    pub(crate) pc: u64,
    pub(crate) fp: u64,
    pub(crate) rbx: u64,
    pub(crate) r12: u64,
}

/// The value of a register in the callee, by its DWARF number.
pub(crate) fn register(number: u32) -> u64 {
    0x7fff_0000_0000 + u64::from(number) * 0x1_0000_0000_0000 + u64::from(number) * 0x1_0000
}

/// What memory holds at an address.
pub(crate) fn memory(address: u64) -> u64 {
    address.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) ^ 0x5555
}

/// What `rule` says at `pc`.
pub(crate) fn caller(rule: RowRule, pc: u64) -> Caller {
    match rule {
        RowRule::Packed(packed) => packed_caller(packed, pc),
        RowRule::Escape(escape) => escape_caller(escape),
    }
}

fn packed_caller(rule: PackedRule, pc: u64) -> Caller {
    let operand = u64::from(rule.operand());
    let kind = |kind: Kind| kind as u8 == rule.kind();
    let cfa = if kind(Kind::Sp) {
        register(dwarf::RSP) + operand * 8
    } else if kind(Kind::Fp) {
        register(dwarf::RBP) + operand * 8
    } else if kind(Kind::Plt) {
        register(dwarf::RSP) + 8 + 8 * u64::from(pc & 15 >= operand)
    } else if kind(Kind::End) {
        return Caller::End;
    } else if kind(Kind::Signal) {
        return Caller::Signal;
    } else if kind(Kind::Unsupported) {
        return Caller::Unsupported;
    } else {
        assert!(kind(Kind::Gap), "{rule:?} is of no known kind");
        return Caller::Gap;
    };
    let saved = |shift: u32, number: u32| match (rule.0 >> shift) & 0xff {
        0 => register(number),
        slot => memory(cfa - 8 * slot),
    };
    Caller::Frame(Frame {
        sp: cfa,
        pc: memory(cfa - 8),
        fp: saved(32, dwarf::RBP),
        rbx: saved(40, dwarf::RBX),
        r12: saved(48, dwarf::R12),
    })
}

fn escape_caller(rule: EscapeRule) -> Caller {
    let base = register(rule.register);
    let has = |flag: u32| rule.flags & flag != 0;
    let inner = base.wrapping_add_signed(rule.inner.into());
    let cfa = if has(escape_flags::DEREFERENCE) { memory(inner) } else { inner };
    let cfa = cfa.wrapping_add_signed(rule.outer.into());
    let pc = if has(escape_flags::RETURN_IN_REGISTER) {
        register(rule.return_address as u32)
    } else {
        memory(cfa.wrapping_add_signed(rule.return_address.into()))
    };
    let saved = |at_cfa: u32, at_base: u32, offset: i32, number: u32| {
        if has(at_cfa) {
            memory(cfa.wrapping_add_signed(offset.into()))
        } else if has(at_base) {
            memory(base.wrapping_add_signed(offset.into()))
        } else {
            register(number)
        }
    };
    Caller::Frame(Frame {
        sp: cfa,
        pc,
        fp: saved(escape_flags::FP_AT_CFA, escape_flags::FP_AT_BASE, rule.fp, dwarf::RBP),
        rbx: saved(escape_flags::RBX_AT_CFA, escape_flags::RBX_AT_BASE, rule.rbx, dwarf::RBX),
        r12: saved(escape_flags::R12_AT_CFA, escape_flags::R12_AT_BASE, rule.r12, dwarf::R12),
    })
}
