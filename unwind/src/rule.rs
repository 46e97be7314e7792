//! What one unwind row says about the caller, packed into 8 bytes (with a 32-byte escape for the rare rest).
//!
//! Layout of [`PackedRule`] (x86-64), low bit first:
//!
//! | bits | what |
//! |---|---|
//! | 0..4 | [`Kind`] |
//! | 4..32 | CFA offset / 8 (`Sp`, `Fp`), threshold (`Plt`), word address of the escape record (`Escape`) |
//! | 32..40 | where rbp is saved: CFA − 8·n, 0 = unchanged |
//! | 40..48 | where rbx is saved, the same |
//! | 48..56 | where r12 is saved, the same |
//! | 56 | the caller was interrupted, not calling: its address is exact ([`CALLER_IS_EXACT`]) |
//!
//! The return address is at CFA − 8 in all but escape and signal rules. rbx and r12 are followed because real code takes its
//! CFA from them across calls (`_dl_runtime_resolve` in glibc: rbx); other registers can base a CFA in the leaf frame only.

/// The discriminant of a [`PackedRule`].
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// Code without unwind information. Zero, so that absent tables read as gaps.
    Gap = 0,
    /// CFA = sp + offset.
    Sp = 1,
    /// CFA = fp + offset.
    Fp = 2,
    /// The return address is undefined: the outermost frame.
    End = 3,
    /// A signal trampoline: every register is in the `ucontext` that sp points at.
    Signal = 4,
    /// A PLT entry: CFA = sp + 8, and 8 more from `pc & 15 >= threshold` on.
    Plt = 5,
    /// The rule is an [`EscapeRule`] elsewhere in the slab.
    Escape = 6,
    /// A rule that this unwinder can't express.
    Unsupported = 7,
}

/// An 8-byte rule; see the module documentation for its bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct PackedRule(pub u64);

/// Bit of a packed frame rule: execution stands at the return address itself, it is no return from a call. Go's
/// `runtime.asyncPreempt` is pushed so by a signal handler.
pub const CALLER_IS_EXACT: u64 = 1 << 56;

/// Largest CFA offset that a packed rule holds, in bytes. 28 bits of 8-byte units: 2 GiB of stack frame.
pub const MAX_PACKED_OFFSET: u64 = ((1 << 28) - 1) * 8;

impl PackedRule {
    /// A rule of `kind` with no operand.
    #[inline(always)]
    pub const fn plain(kind: Kind) -> Self {
        Self(kind as u64)
    }

    /// CFA = (sp or fp) + `offset` (a multiple of 8, at most [`MAX_PACKED_OFFSET`]); saved registers as CFA − 8·slot.
    pub const fn frame(kind: Kind, offset: u64, fp_slot: u8, rbx_slot: u8, r12_slot: u8) -> Self {
        Self(
            kind as u64
                | ((offset / 8) << 4)
                | ((fp_slot as u64) << 32)
                | ((rbx_slot as u64) << 40)
                | ((r12_slot as u64) << 48),
        )
    }

    /// The same rule for a frame whose caller was interrupted.
    pub const fn with_exact_caller(self) -> Self {
        Self(self.0 | CALLER_IS_EXACT)
    }

    /// CFA = sp + 8 + 8·(pc & 15 ≥ `threshold`).
    pub const fn plt(threshold: u8) -> Self {
        Self(Kind::Plt as u64 | ((threshold as u64) << 4))
    }

    /// The rule is the escape record at this word address of the slab.
    pub const fn escape(word_address: u32) -> Self {
        Self(Kind::Escape as u64 | ((word_address as u64) << 4))
    }

    /// The four bits that say which [`Kind`] this is.
    #[inline(always)]
    pub const fn kind(self) -> u8 {
        (self.0 & 15) as u8
    }

    /// The 28-bit operand.
    #[inline(always)]
    pub const fn operand(self) -> u32 {
        (self.0 as u32) >> 4
    }

    /// Where rbp is saved: CFA − 8 · this; 0: where it was.
    #[inline(always)]
    pub const fn fp_slot(self) -> u64 {
        (self.0 >> 32) & 0xff
    }

    /// Where rbx is saved.
    #[inline(always)]
    pub const fn rbx_slot(self) -> u64 {
        (self.0 >> 40) & 0xff
    }

    /// Where r12 is saved.
    #[inline(always)]
    pub const fn r12_slot(self) -> u64 {
        (self.0 >> 48) & 0xff
    }
}

/// A rule that does not fit 8 bytes: CFA = `[*](register + inner) + outer`, and saved registers anywhere.
///
/// Eight words in the slab; offsets are `i32` in bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default, PartialOrd, Ord)]
pub struct EscapeRule {
    /// DWARF number of the base register (0..=15).
    pub register: u32,
    /// [`escape_flags`] bits.
    pub flags: u32,
    /// Added to the register's value.
    pub inner: i32,
    /// Added after the dereference (or added as well, when there is none).
    pub outer: i32,
    /// Where the return address is: CFA + this; or the DWARF number of the register that holds it.
    pub return_address: i32,
    /// Where rbp is saved, relative to the CFA or to the base register.
    pub fp: i32,
    /// Where rbx is saved.
    pub rbx: i32,
    /// Where r12 is saved.
    pub r12: i32,
}

/// Words of an [`EscapeRule`] in the slab.
pub const ESCAPE_WORDS: u32 = 8;
const _: () = assert!(size_of::<EscapeRule>() == ESCAPE_WORDS as usize * 4);

/// Bits of [`EscapeRule::flags`].
pub mod escape_flags {
    /// The CFA is read from memory at register + inner.
    pub const DEREFERENCE: u32 = 1;
    /// `return_address` names a register (leaf frames only, e.g. `__vfork`).
    pub const RETURN_IN_REGISTER: u32 = 2;
    /// rbp was saved at CFA + `fp`.
    pub const FP_AT_CFA: u32 = 4;
    /// rbp was saved at base register + `fp`.
    pub const FP_AT_BASE: u32 = 8;
    /// rbx was saved at CFA + `rbx`.
    pub const RBX_AT_CFA: u32 = 16;
    /// rbx was saved at base register + `rbx`.
    pub const RBX_AT_BASE: u32 = 32;
    /// r12 was saved at CFA + `r12`.
    pub const R12_AT_CFA: u32 = 64;
    /// r12 was saved at base register + `r12`.
    pub const R12_AT_BASE: u32 = 128;
}

/// DWARF register numbers of x86-64 (System V ABI, figure 3.36).
pub mod dwarf {
    /// rbx.
    pub const RBX: u32 = 3;
    /// rbp.
    pub const RBP: u32 = 6;
    /// rsp.
    pub const RSP: u32 = 7;
    /// r12.
    pub const R12: u32 = 12;
    /// The return-address column.
    pub const RA: u32 = 16;
}

/// What a table builder says of one row: everything a [`PackedRule`] or an [`EscapeRule`] can express, not yet placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum RowRule {
    /// Fits 8 bytes.
    Packed(PackedRule),
    /// Needs an escape record.
    Escape(EscapeRule),
}

impl RowRule {
    /// No unwind information from here on.
    pub const GAP: RowRule = RowRule::Packed(PackedRule::plain(Kind::Gap));
    /// The outermost frame.
    pub const END: RowRule = RowRule::Packed(PackedRule::plain(Kind::End));
    /// A signal trampoline.
    pub const SIGNAL: RowRule = RowRule::Packed(PackedRule::plain(Kind::Signal));
    /// A rule that can't be expressed.
    pub const UNSUPPORTED: RowRule = RowRule::Packed(PackedRule::plain(Kind::Unsupported));
}

/// One row: from `address` (an ELF virtual address) up to the next row's, `rule` holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// First address, as the ELF file counts (before the load bias).
    pub address: u64,
    /// What to do there.
    pub rule: RowRule,
}
