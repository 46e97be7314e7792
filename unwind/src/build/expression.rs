//! The few DWARF expressions that compilers and linkers put into call-frame information, recognised by shape.

use super::bytes::Bytes;
use crate::rule::dwarf;

/// What an expression computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// register + offset.
    Sum {
        /// DWARF number.
        register: u16,
        /// Added to its value.
        offset: i64,
    },
    /// `*(register + inner) + outer`: the frame of a function that realigned its stack.
    Dereference {
        /// DWARF number.
        register: u16,
        /// Added before the load.
        inner: i64,
        /// Added after the load.
        outer: i64,
    },
    /// `rsp + 8 + ((rip & 15 >= threshold) << 3)`: a lazily bound PLT entry.
    Plt {
        /// First offset in the entry at which the index has been pushed.
        threshold: u8,
    },
}

const DW_OP_DEREF: u8 = 0x06;
const DW_OP_CONST1U: u8 = 0x08;
const DW_OP_CONST1S: u8 = 0x09;
const DW_OP_CONST2U: u8 = 0x0a;
const DW_OP_CONST2S: u8 = 0x0b;
const DW_OP_CONST4U: u8 = 0x0c;
const DW_OP_CONST4S: u8 = 0x0d;
const DW_OP_CONSTU: u8 = 0x10;
const DW_OP_CONSTS: u8 = 0x11;
const DW_OP_AND: u8 = 0x1a;
const DW_OP_MINUS: u8 = 0x1c;
const DW_OP_PLUS: u8 = 0x22;
const DW_OP_PLUS_UCONST: u8 = 0x23;
const DW_OP_SHL: u8 = 0x24;
const DW_OP_GE: u8 = 0x2a;
const DW_OP_LIT0: u8 = 0x30;
const DW_OP_LIT31: u8 = 0x4f;
const DW_OP_BREG0: u8 = 0x70;
const DW_OP_BREG31: u8 = 0x8f;
const DW_OP_BREGX: u8 = 0x92;

/// Longest expression that is looked at: real ones have at most some twenty bytes, and one may be looked at for each row.
pub(super) const MAX_EXPRESSION: usize = 64;

/// The shape of `expression`, or `None` for anything else.
pub(crate) fn shape(expression: &[u8]) -> Option<Shape> {
    if expression.len() > MAX_EXPRESSION {
        return None;
    }
    if let Some(threshold) = plt(expression) {
        return Some(Shape::Plt { threshold });
    }
    let mut bytes = Bytes::at(expression, 0);
    let (register, mut inner) = register(&mut bytes)?;
    let mut outer = None::<i64>;
    while !bytes.is_empty() {
        let operation = bytes.u8()?;
        let added = match operation {
            DW_OP_DEREF if outer.is_none() => {
                outer = Some(0);
                continue;
            }
            DW_OP_PLUS_UCONST => i64::try_from(bytes.uleb()?).ok()?,
            _ => {
                let value = constant(operation, &mut bytes)?;
                match bytes.u8()? {
                    DW_OP_PLUS => value,
                    DW_OP_MINUS => value.checked_neg()?,
                    _ => return None,
                }
            }
        };
        let sum = outer.as_mut().unwrap_or(&mut inner);
        *sum = sum.checked_add(added)?;
    }
    Some(match outer {
        None => Shape::Sum { register, offset: inner },
        Some(outer) => Shape::Dereference { register, inner, outer },
    })
}

fn register(bytes: &mut Bytes<'_>) -> Option<(u16, i64)> {
    match bytes.u8()? {
        operation @ DW_OP_BREG0..=DW_OP_BREG31 => Some((u16::from(operation - DW_OP_BREG0), bytes.sleb()?)),
        DW_OP_BREGX => Some((u16::try_from(bytes.uleb()?).ok()?, bytes.sleb()?)),
        _ => None,
    }
}

fn constant(operation: u8, bytes: &mut Bytes<'_>) -> Option<i64> {
    Some(match operation {
        DW_OP_LIT0..=DW_OP_LIT31 => i64::from(operation - DW_OP_LIT0),
        DW_OP_CONST1U => i64::from(bytes.u8()?),
        DW_OP_CONST1S => i64::from(bytes.u8()?.cast_signed()),
        DW_OP_CONST2U => i64::from(bytes.u16()?),
        DW_OP_CONST2S => i64::from(bytes.u16()?.cast_signed()),
        DW_OP_CONST4U => i64::from(bytes.u32()?),
        DW_OP_CONST4S => i64::from(bytes.u32()?.cast_signed()),
        DW_OP_CONSTU => i64::try_from(bytes.uleb()?).ok()?,
        DW_OP_CONSTS => bytes.sleb()?,
        _ => return None,
    })
}

/// The threshold of the linker's PLT expression.
fn plt(expression: &[u8]) -> Option<u8> {
    const RSP: u8 = DW_OP_BREG0 + dwarf::RSP as u8;
    const RIP: u8 = DW_OP_BREG0 + dwarf::RA as u8;
    const FIFTEEN: u8 = DW_OP_LIT0 + 15;
    const THREE: u8 = DW_OP_LIT0 + 3;
    match *expression {
        [RSP, 8, RIP, 0, FIFTEEN, DW_OP_AND, literal, DW_OP_GE, THREE, DW_OP_SHL, DW_OP_PLUS] => {
            literal.checked_sub(DW_OP_LIT0).filter(|threshold| *threshold <= 16)
        }
        _ => None,
    }
}
