//! The state of one row of call-frame information, and the rule that it comes to.
//!
//! Only five columns matter: rbx, rbp, rsp, r12 and the return address.

use super::expression::{MAX_EXPRESSION, Shape, shape};
use super::intern::{self, Interner};
use super::limits::{BuildError, BuildStats, Limits, Unsupported};
use crate::rule::{EscapeRule, Kind, MAX_PACKED_OFFSET, PackedRule, RowRule, dwarf, escape_flags};

/// Where a register's value in the caller is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Saved<'a> {
    /// Nothing was said of it.
    Unspecified,
    /// It has no value in the caller.
    Undefined,
    /// It was not changed.
    Same,
    /// In memory at CFA + this.
    Offset(i64),
    /// It is CFA + this.
    ValueOffset(i64),
    /// In another register.
    Register(u16),
    /// In memory at the address that the expression computes.
    Expression(&'a [u8]),
    /// It is what the expression computes.
    ValueExpression,
}

/// Tracked columns; the order is that of [`Frame::saved`].
pub(crate) const RBX: usize = 0;
pub(crate) const RBP: usize = 1;
pub(crate) const R12: usize = 2;
pub(crate) const RSP: usize = 3;
pub(crate) const RA: usize = 4;
/// How many columns are tracked.
pub(crate) const COLUMNS: usize = 5;

/// The tracked column of a DWARF register number.
#[inline(always)]
pub(crate) fn column(register: u64) -> Option<usize> {
    match register {
        3 => Some(RBX),
        6 => Some(RBP),
        7 => Some(RSP),
        12 => Some(R12),
        16 => Some(RA),
        _ => None,
    }
}

/// Units of [`Limits::work`] that finding a rule by its hash takes.
const LOOKUP_WORK: u64 = 16;

/// No register, as a number.
pub(crate) const NO_REGISTER: u16 = u16::MAX;

/// One row's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Frame<'a> {
    /// The CFA is this register, [`NO_REGISTER`] before one was named, …
    pub(crate) cfa_register: u16,
    /// … plus this, …
    pub(crate) cfa_offset: i64,
    /// … unless there is an expression for it. Register and offset outlive it: naming a register ends the expression, and the
    /// offset is what it was (as in libgcc, and as libgcrypt's assembler relies on).
    pub(crate) cfa_expression: Option<&'a [u8]>,
    pub(crate) saved: [Saved<'a>; COLUMNS],
}

impl Frame<'_> {
    pub(crate) const EMPTY: Self =
        Self { cfa_register: NO_REGISTER, cfa_offset: 0, cfa_expression: None, saved: [Saved::Unspecified; COLUMNS] };

    /// The number of the rule that this row comes to.
    #[inline(always)]
    pub(crate) fn rule(
        &self,
        rules: &mut Interner,
        stats: &mut BuildStats,
        limits: &Limits,
    ) -> Result<u32, BuildError> {
        let (register, offset) = (self.cfa_register, self.cfa_offset);
        if matches!(register, 6 | 7)
            && self.cfa_expression.is_none()
            && offset & 7 == 0
            && offset as u64 <= MAX_PACKED_OFFSET
            && self.saved[RA] == Saved::Offset(-8)
            && self.saved[RSP] == Saved::Unspecified
            && let Some(fp) = slot(self.saved[RBP])
            && let Some(rbx) = slot(self.saved[RBX])
            && let Some(r12) = slot(self.saved[R12])
        {
            let kind = if register == 7 { Kind::Sp } else { Kind::Fp };
            let rule = PackedRule::frame(kind, offset as u64, fp, rbx, r12);
            return match rules.cached(rule) {
                Some(number) => Ok(number),
                None => uncached(rule, rules, stats, limits),
            };
        }
        self.rare_rule(rules, stats, limits)
    }

    #[cold]
    fn rare_rule(&self, rules: &mut Interner, stats: &mut BuildStats, limits: &Limits) -> Result<u32, BuildError> {
        stats.draw(LOOKUP_WORK + self.expression_bytes(), limits)?;
        Ok(match self.rare(&mut stats.unsupported) {
            Some(rule) => rules.number(rule),
            None => intern::UNSUPPORTED,
        })
    }

    /// Bytes of expressions that are looked at to find the rule.
    fn expression_bytes(&self) -> u64 {
        let of_column = |saved: &Saved<'_>| match saved {
            Saved::Expression(expression) => expression.len(),
            _ => 0,
        };
        let lengths = self.saved.iter().map(of_column).chain(self.cfa_expression.map(<[u8]>::len));
        lengths.map(|length| length.min(MAX_EXPRESSION) as u64).sum()
    }

    /// The rule of a row that is not one of the usual ones; `None`, counted, if it can't be expressed.
    fn rare(&self, unsupported: &mut Unsupported) -> Option<RowRule> {
        if self.saved[RA] == Saved::Undefined {
            return Some(RowRule::END);
        }
        // rsp = CFA is what everyone assumes of it.
        if !matches!(self.saved[RSP], Saved::Unspecified | Saved::Same | Saved::ValueOffset(0)) {
            unsupported.stack_pointer += 1;
            return None;
        }
        let shape = match self.cfa_expression {
            Some(expression) => shape(expression),
            None => Some(Shape::Sum { register: self.cfa_register, offset: self.cfa_offset }),
        };
        let Some(shape) = shape else {
            unsupported.cfa_expression += 1;
            return None;
        };
        if shape == (Shape::Sum { register: NO_REGISTER, offset: 0 }) {
            unsupported.cfa_missing += 1;
            return None;
        }
        let rule = match shape {
            Shape::Plt { threshold } => {
                let plain = self.saved[RA] == Saved::Offset(-8)
                    && [RBX, RBP, R12].into_iter().all(|column| slot(self.saved[column]) == Some(0));
                if !plain {
                    unsupported.cfa_expression += 1;
                    return None;
                }
                return Some(RowRule::Packed(PackedRule::plt(threshold)));
            }
            Shape::Sum { register, offset } => Base { register, inner: offset, outer: None },
            Shape::Dereference { register, inner, outer } => Base { register, inner, outer: Some(outer) },
        };
        let Some(mut escape) = rule.escape() else {
            unsupported.cfa_operand += 1;
            return None;
        };
        if rule.return_address(self.saved[RA], &mut escape).is_none() {
            unsupported.return_address += 1;
            return None;
        }
        for (column, at_cfa, at_base) in [
            (RBP, escape_flags::FP_AT_CFA, escape_flags::FP_AT_BASE),
            (RBX, escape_flags::RBX_AT_CFA, escape_flags::RBX_AT_BASE),
            (R12, escape_flags::R12_AT_CFA, escape_flags::R12_AT_BASE),
        ] {
            let own = [dwarf::RBX, dwarf::RBP, dwarf::R12][column] as u16;
            let (flag, offset) = match rule.saved(self.saved[column], own) {
                None if column == RBP => {
                    unsupported.saved_register += 1;
                    return None;
                }
                None => {
                    unsupported.registers_approximated += 1;
                    continue;
                }
                Some(Place::Unchanged) => continue,
                Some(Place::AtCfa(offset)) => (at_cfa, offset),
                Some(Place::AtBase(offset)) => (at_base, offset),
            };
            escape.flags |= flag;
            match column {
                RBP => escape.fp = offset,
                RBX => escape.rbx = offset,
                _ => escape.r12 = offset,
            }
        }
        Some(packed(&escape).map_or(RowRule::Escape(escape), RowRule::Packed))
    }
}

/// A packed rule's number where the cache does not have it. Two rules that drive each other out of the cache cost this for each
/// row.
#[cold]
fn uncached(
    rule: PackedRule,
    rules: &mut Interner,
    stats: &mut BuildStats,
    limits: &Limits,
) -> Result<u32, BuildError> {
    stats.draw(LOOKUP_WORK, limits)?;
    Ok(rules.uncached(rule))
}

/// The slot number of a register saved at CFA − 8·n that fits a packed rule; 0 when it is unchanged.
#[inline(always)]
fn slot(saved: Saved<'_>) -> Option<u8> {
    match saved {
        Saved::Unspecified | Saved::Undefined | Saved::Same => Some(0),
        Saved::Offset(offset) if offset & 7 == 0 && (-2040..=-16).contains(&offset) => Some((-offset / 8) as u8),
        _ => None,
    }
}

/// The CFA of an escape rule.
struct Base {
    register: u16,
    inner: i64,
    outer: Option<i64>,
}

enum Place {
    Unchanged,
    AtCfa(i32),
    AtBase(i32),
}

impl Base {
    fn escape(&self) -> Option<EscapeRule> {
        Some(EscapeRule {
            register: Some(u32::from(self.register)).filter(|register| *register <= 15)?,
            flags: if self.outer.is_some() { escape_flags::DEREFERENCE } else { 0 },
            inner: i32::try_from(self.inner).ok()?,
            outer: i32::try_from(self.outer.unwrap_or(0)).ok()?,
            return_address: -8,
            ..EscapeRule::default()
        })
    }

    /// Where an address expression points, as something that an escape rule can say.
    fn place(&self, expression: &[u8]) -> Option<Place> {
        let Some(Shape::Sum { register, offset }) = shape(expression) else { return None };
        if register != self.register {
            return None;
        }
        // Without a dereference the CFA is a constant away from the base register, and one form is enough.
        Some(match self.outer {
            Some(_) => Place::AtBase(i32::try_from(offset).ok()?),
            None => Place::AtCfa(i32::try_from(offset.checked_sub(self.inner)?).ok()?),
        })
    }

    fn return_address(&self, saved: Saved<'_>, escape: &mut EscapeRule) -> Option<()> {
        match saved {
            Saved::Offset(offset) => escape.return_address = i32::try_from(offset).ok()?,
            Saved::Register(register @ 0..=15) => {
                escape.flags |= escape_flags::RETURN_IN_REGISTER;
                escape.return_address = i32::from(register);
            }
            Saved::Expression(expression) => match self.place(expression)? {
                Place::AtCfa(offset) => escape.return_address = offset,
                _ => return None,
            },
            _ => return None,
        }
        Some(())
    }

    fn saved(&self, saved: Saved<'_>, own: u16) -> Option<Place> {
        match saved {
            Saved::Unspecified | Saved::Undefined | Saved::Same => Some(Place::Unchanged),
            Saved::Register(register) if register == own => Some(Place::Unchanged),
            Saved::Offset(offset) => Some(Place::AtCfa(i32::try_from(offset).ok()?)),
            Saved::Expression(expression) => self.place(expression),
            _ => None,
        }
    }
}

/// The same rule in 8 bytes, if it fits.
fn packed(escape: &EscapeRule) -> Option<PackedRule> {
    let kind = match escape.register {
        dwarf::RSP => Kind::Sp,
        dwarf::RBP => Kind::Fp,
        _ => return None,
    };
    let at_cfa = escape_flags::FP_AT_CFA | escape_flags::RBX_AT_CFA | escape_flags::R12_AT_CFA;
    if escape.flags & !at_cfa != 0 || escape.return_address != -8 {
        return None;
    }
    let offset = u64::try_from(i64::from(escape.inner) + i64::from(escape.outer)).ok()?;
    let slot_of = |flag: u32, offset: i32| {
        slot(if escape.flags & flag != 0 { Saved::Offset(offset.into()) } else { Saved::Unspecified })
    };
    let fits = offset % 8 == 0 && offset <= MAX_PACKED_OFFSET;
    fits.then_some(PackedRule::frame(
        kind,
        offset,
        slot_of(escape_flags::FP_AT_CFA, escape.fp)?,
        slot_of(escape_flags::RBX_AT_CFA, escape.rbx)?,
        slot_of(escape_flags::R12_AT_CFA, escape.r12)?,
    ))
}
