//! The call-frame programs of CIEs and FDEs, run one row at a time.

use super::bytes::Bytes;
use super::frame::{Frame, NO_REGISTER, Saved, column};

/// Deepest `DW_CFA_remember_state`; real code nests once.
const MAX_REMEMBERED: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The pc has moved: the state until now was a row.
    Row,
    /// No more instructions.
    End,
}

/// What a CIE says of the operands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors {
    /// Unit of advances.
    pub(super) code: u64,
    /// Unit of offsets.
    pub(super) data: i64,
    /// Whether `set_loc` has an absolute address.
    pub(super) absolute_addresses: bool,
}

/// A call-frame program being run.
pub(super) struct Program<'a> {
    pub(super) bytes: Bytes<'a>,
    pub(super) factors: Factors,
    /// What `restore` goes back to.
    pub(super) initial: Frame<'a>,
    /// Where the row that is being made ends.
    pub(super) pc: u64,
}

impl<'a> Program<'a> {
    /// Runs until the pc moves or the program ends; `None` if it is malformed.
    #[inline(always)]
    pub(super) fn step(&mut self, frame: &mut Frame<'a>, remembered: &mut Vec<Frame<'a>>) -> Option<Step> {
        loop {
            if self.bytes.is_empty() {
                return Some(Step::End);
            }
            let operation = self.bytes.u8()?;
            let low = u64::from(operation & 0x3f);
            match operation >> 6 {
                1 => return self.advance(low),
                2 => {
                    let offset = self.factored()?;
                    set(frame, low, Saved::Offset(offset));
                }
                3 => self.restore(frame, low),
                _ => match operation {
                    // nop: all that follows an FDE is mostly these.
                    0x00 => {}
                    // set_loc
                    0x01 => {
                        let to = match self.factors.absolute_addresses {
                            true => self.bytes.u64()?,
                            // Relative to a place that no compiler uses on this machine.
                            false => return None,
                        };
                        if to < self.pc {
                            return None;
                        }
                        self.pc = to;
                        return Some(Step::Row);
                    }
                    0x02 => {
                        let delta = self.bytes.u8()?;
                        return self.advance(delta.into());
                    }
                    0x03 => {
                        let delta = self.bytes.u16()?;
                        return self.advance(delta.into());
                    }
                    0x04 => {
                        let delta = self.bytes.u32()?;
                        return self.advance(delta.into());
                    }
                    _ => self.rare(operation, frame, remembered)?,
                },
            }
        }
    }

    #[inline(always)]
    fn advance(&mut self, delta: u64) -> Option<Step> {
        self.pc = self.pc.checked_add(delta.checked_mul(self.factors.code)?)?;
        Some(Step::Row)
    }

    #[inline(always)]
    fn factored(&mut self) -> Option<i64> {
        i64::try_from(self.bytes.uleb()?).ok()?.checked_mul(self.factors.data)
    }

    fn factored_signed(&mut self) -> Option<i64> {
        self.bytes.sleb()?.checked_mul(self.factors.data)
    }

    fn block(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.bytes.uleb()?).ok()?;
        self.bytes.take(length)
    }

    #[inline(always)]
    fn restore(&self, frame: &mut Frame<'a>, register: u64) {
        if let Some(column) = column(register) {
            frame.saved[column] = self.initial.saved[column];
        }
    }

    /// The instructions that say what holds, in the order of their numbers.
    #[inline(always)]
    fn rare(&mut self, operation: u8, frame: &mut Frame<'a>, remembered: &mut Vec<Frame<'a>>) -> Option<()> {
        match operation {
            // offset_extended
            0x05 => {
                let (register, offset) = (self.bytes.uleb()?, self.factored()?);
                set(frame, register, Saved::Offset(offset));
            }
            // restore_extended
            0x06 => {
                let register = self.bytes.uleb()?;
                self.restore(frame, register);
            }
            // undefined
            0x07 => set(frame, self.bytes.uleb()?, Saved::Undefined),
            // same_value
            0x08 => set(frame, self.bytes.uleb()?, Saved::Same),
            // register
            0x09 => {
                let (register, other) = (self.bytes.uleb()?, self.bytes.uleb()?);
                set(frame, register, Saved::Register(u16::try_from(other).ok()?));
            }
            // remember_state
            0x0a => {
                if remembered.len() >= MAX_REMEMBERED {
                    return None;
                }
                remembered.push(*frame);
            }
            // restore_state
            0x0b => *frame = remembered.pop()?,
            // def_cfa
            0x0c => {
                let (register, offset) = (self.bytes.uleb()?, self.bytes.uleb()?);
                define(frame, register, i64::try_from(offset).ok()?)?;
            }
            // def_cfa_register
            0x0d => {
                if frame.cfa_register == NO_REGISTER {
                    return None;
                }
                define(frame, self.bytes.uleb()?, frame.cfa_offset)?;
            }
            // def_cfa_offset
            0x0e => {
                if frame.cfa_register == NO_REGISTER {
                    return None;
                }
                frame.cfa_offset = i64::try_from(self.bytes.uleb()?).ok()?;
            }
            // def_cfa_expression
            0x0f => frame.cfa_expression = Some(self.block()?),
            // expression
            0x10 => {
                let (register, expression) = (self.bytes.uleb()?, self.block()?);
                set(frame, register, Saved::Expression(expression));
            }
            // offset_extended_sf
            0x11 => {
                let (register, offset) = (self.bytes.uleb()?, self.factored_signed()?);
                set(frame, register, Saved::Offset(offset));
            }
            // def_cfa_sf
            0x12 => {
                let (register, offset) = (self.bytes.uleb()?, self.factored_signed()?);
                define(frame, register, offset)?;
            }
            // def_cfa_offset_sf
            0x13 => {
                if frame.cfa_register == NO_REGISTER {
                    return None;
                }
                frame.cfa_offset = self.factored_signed()?;
            }
            // val_offset
            0x14 => {
                let (register, offset) = (self.bytes.uleb()?, self.factored()?);
                set(frame, register, Saved::ValueOffset(offset));
            }
            // val_offset_sf
            0x15 => {
                let (register, offset) = (self.bytes.uleb()?, self.factored_signed()?);
                set(frame, register, Saved::ValueOffset(offset));
            }
            // val_expression
            0x16 => {
                let register = self.bytes.uleb()?;
                self.block()?;
                set(frame, register, Saved::ValueExpression);
            }
            // GNU_args_size
            0x2e => _ = self.bytes.uleb()?,
            // GNU_negative_offset_extended
            0x2f => {
                let (register, offset) = (self.bytes.uleb()?, self.factored()?.checked_neg()?);
                set(frame, register, Saved::Offset(offset));
            }
            _ => return None,
        }
        Some(())
    }
}

/// CFA = register + offset from here on.
#[inline(always)]
fn define(frame: &mut Frame<'_>, register: u64, offset: i64) -> Option<()> {
    frame.cfa_register = u16::try_from(register).ok().filter(|register| *register != NO_REGISTER)?;
    frame.cfa_offset = offset;
    frame.cfa_expression = None;
    Some(())
}

#[inline(always)]
fn set<'a>(frame: &mut Frame<'a>, register: u64, saved: Saved<'a>) {
    if let Some(column) = column(register) {
        frame.saved[column] = saved;
    }
}
