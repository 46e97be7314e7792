//! `.eh_frame` and `.debug_frame`: from entries to functions with rows.
//!
//! An interpreter of its own, because the agent parses an executable when it is first sampled and a generic one is several
//! times slower: it follows five columns, keeps each CIE's initial state, and joins equal rows as it makes them. A test
//! compares it with gimli on real files.
//!
//! **Does not:** relocatable objects, LSDA, personality.

use std::collections::HashMap;

use super::bytes::Bytes;
use super::elf::Code;
use super::frame::Frame;
use super::intern::{self, Interner};
use super::limits::{BuildError, BuildStats, Limits};
use super::pointer::{PointerFault, pointer, skip_pointer};
use super::program::{Factors, Program, Step};
use super::table::Functions;
use crate::rule::dwarf;

/// CIEs kept; one more makes the file hostile or absurd, and FDEs that refer to it count as malformed.
const MAX_CIES: usize = 1 << 18;

/// Units of [`Limits::work`] that an entry takes beside its bytes.
const ENTRY_WORK: u64 = 16;

/// Which of the two formats a section has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// `.eh_frame`, loaded at this address; `terminated` when its length is not known and a zero length ends it.
    EhFrame {
        /// ELF address of the section's first byte.
        address: u64,
        /// Whether the first zero length is the end.
        terminated: bool,
    },
    /// `.debug_frame`.
    DebugFrame,
}

/// A common information entry, and the state that its own program leaves.
#[derive(Clone, Debug)]
struct Cie<'a> {
    factors: Factors,
    pointer_encoding: u8,
    has_augmentation_data: bool,
    is_signal: bool,
    address_size: u8,
    initial: Frame<'a>,
}

/// Why an entry gives no rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Malformed,
    Encoding,
    /// The whole file goes beyond a limit.
    Refused(BuildError),
}

impl From<PointerFault> for Fault {
    fn from(fault: PointerFault) -> Self {
        match fault {
            PointerFault::Malformed => Fault::Malformed,
            PointerFault::Encoding => Fault::Encoding,
        }
    }
}

impl From<BuildError> for Fault {
    fn from(error: BuildError) -> Self {
        Fault::Refused(error)
    }
}

/// Reads one section.
pub(crate) struct Reader<'a, 'b> {
    data: &'a [u8],
    format: Format,
    code: &'b Code,
    rules: &'b mut Interner,
    limits: &'b Limits,
    stats: &'b mut BuildStats,
    cies: Vec<Cie<'a>>,
    /// Section offset → index in `cies`, or why it is none.
    known: HashMap<usize, Result<usize, Fault>>,
    remembered: Vec<Frame<'a>>,
}

/// One entry's place in the section.
struct Entry {
    /// After the CIE id or pointer.
    body: usize,
    end: usize,
    /// Offset of the CIE, or `None` when it is one itself.
    cie: Option<Option<usize>>,
}

impl<'a, 'b> Reader<'a, 'b> {
    pub(crate) fn new(
        data: &'a [u8],
        format: Format,
        code: &'b Code,
        rules: &'b mut Interner,
        limits: &'b Limits,
        stats: &'b mut BuildStats,
    ) -> Self {
        let (cies, known, remembered) = (Vec::new(), HashMap::new(), Vec::new());
        Self { data, format, code, rules, limits, stats, cies, known, remembered }
    }

    /// All functions of the section.
    pub(crate) fn functions(mut self) -> Result<Functions, BuildError> {
        let mut functions = Functions::default();
        let mut position = 0;
        let mut last_cie = None::<(usize, usize)>;
        while position < self.data.len() {
            let Some(entry) = self.entry(position) else {
                if self.is_terminator(position) && !self.is_terminated() {
                    position += 4;
                    continue;
                }
                // A length that leads out of the section: nothing after it can be trusted.
                self.stats.fdes_malformed += u64::from(!self.is_terminator(position));
                break;
            };
            self.stats.draw(ENTRY_WORK + (entry.end - position) as u64, self.limits)?;
            position = entry.end;
            let Some(cie_offset) = entry.cie else { continue };
            self.stats.fdes += 1;
            let cie = match (cie_offset, last_cie) {
                (Some(offset), Some((known, index))) if offset == known => Ok(index),
                (Some(offset), _) => self.cie_at(offset),
                (None, _) => Err(Fault::Malformed),
            };
            let done = cie.and_then(|index| {
                last_cie = cie_offset.map(|offset| (offset, index));
                let cie = self.cies.get(index).cloned().ok_or(Fault::Malformed)?;
                self.function(&entry, &cie, &mut functions)
            });
            match done {
                Ok(Some((start, end))) => functions.close(start, end, self.limits)?,
                Ok(None) => {}
                Err(Fault::Malformed) => self.stats.fdes_malformed += 1,
                Err(Fault::Encoding) => self.stats.fdes_encoding += 1,
                Err(Fault::Refused(error)) => return Err(error),
            }
        }
        functions.open();
        Ok(functions)
    }

    fn is_terminated(&self) -> bool {
        matches!(self.format, Format::EhFrame { terminated: true, .. })
    }

    fn is_terminator(&self, position: usize) -> bool {
        self.data.get(position..position + 4) == Some(&[0; 4])
    }

    /// The entry at `position`; `None` for a terminator or a damaged length.
    #[inline(always)]
    fn entry(&self, position: usize) -> Option<Entry> {
        let mut bytes = Bytes::at(self.data, position);
        let short = bytes.u32()?;
        let (length, is_64) = match short {
            0 | 0xffff_fff0..=0xffff_fffe => return None,
            u32::MAX => (usize::try_from(bytes.u64()?).ok()?, true),
            _ => (short as usize, false),
        };
        let id_position = bytes.position();
        let end = id_position.checked_add(length).filter(|end| *end <= self.data.len())?;
        let id = if is_64 && self.format == Format::DebugFrame { bytes.u64()? } else { u64::from(bytes.u32()?) };
        if bytes.position() > end {
            return None;
        }
        let cie = match self.format {
            Format::EhFrame { .. } if id == 0 => None,
            Format::EhFrame { .. } => Some(usize::try_from(id).ok().and_then(|back| id_position.checked_sub(back))),
            Format::DebugFrame if id == if is_64 { u64::MAX } else { u64::from(u32::MAX) } => None,
            Format::DebugFrame => Some(usize::try_from(id).ok()),
        };
        Some(Entry { body: bytes.position(), end, cie })
    }

    fn cie_at(&mut self, offset: usize) -> Result<usize, Fault> {
        if let Some(known) = self.known.get(&offset) {
            return *known;
        }
        if self.known.len() >= MAX_CIES {
            return Err(Fault::Malformed);
        }
        let parsed = self.parse_cie(offset);
        if let Err(refused @ Fault::Refused(_)) = parsed {
            return Err(refused);
        }
        let index = parsed.map(|cie| {
            self.cies.push(cie);
            self.cies.len() - 1
        });
        self.known.insert(offset, index);
        index
    }

    fn parse_cie(&mut self, offset: usize) -> Result<Cie<'a>, Fault> {
        let entry = self.entry(offset).filter(|entry| entry.cie.is_none()).ok_or(Fault::Malformed)?;
        // Apart from the walk over the section: CIEs may overlap, and each may reach to its end.
        self.stats.draw(ENTRY_WORK + (entry.end - entry.body) as u64, self.limits)?;
        let data = self.data.get(..entry.end).ok_or(Fault::Malformed)?;
        let mut bytes = Bytes::at(data, entry.body);
        let mut cie = Self::cie_header(&mut bytes).ok_or(Fault::Malformed)?;
        let mut program = Program { bytes, factors: cie.factors, initial: Frame::EMPTY, pc: 0 };
        let mut frame = Frame::EMPTY;
        self.remembered.clear();
        // Initial instructions have no place to move on from.
        if program.step(&mut frame, &mut self.remembered) != Some(Step::End) {
            return Err(Fault::Malformed);
        }
        cie.initial = frame;
        Ok(cie)
    }

    /// Everything before the initial instructions, which `bytes` is left at.
    fn cie_header(bytes: &mut Bytes<'a>) -> Option<Cie<'a>> {
        let version = bytes.u8()?;
        if !matches!(version, 1 | 3 | 4) {
            return None;
        }
        let augmentation = bytes.text()?;
        let mut address_size = 8;
        if version == 4 {
            address_size = bytes.u8()?;
            if bytes.u8()? != 0 {
                return None;
            }
        }
        if augmentation.starts_with(b"eh") || !matches!(address_size, 4 | 8) {
            return None;
        }
        let code_factor = bytes.uleb()?;
        let data_factor = bytes.sleb()?;
        let return_register = if version == 1 { u64::from(bytes.u8()?) } else { bytes.uleb()? };
        if return_register != u64::from(dwarf::RA) {
            return None;
        }
        let mut cie = Cie {
            factors: Factors { code: code_factor, data: data_factor, absolute_addresses: true },
            pointer_encoding: 0,
            has_augmentation_data: augmentation.first() == Some(&b'z'),
            is_signal: false,
            address_size,
            initial: Frame::EMPTY,
        };
        if !cie.has_augmentation_data {
            // Without its length an unknown augmentation can't be skipped.
            return augmentation.is_empty().then_some(cie);
        }
        let length = usize::try_from(bytes.uleb()?).ok()?;
        let mut rest = *bytes;
        bytes.take(length)?;
        for letter in augmentation.iter().skip(1) {
            match letter {
                b'R' => {
                    cie.pointer_encoding = rest.u8()?;
                    cie.factors.absolute_addresses = cie.pointer_encoding == 0;
                }
                b'L' => _ = rest.u8()?,
                b'P' => {
                    let encoding = rest.u8()?;
                    skip_pointer(&mut rest, encoding)?;
                }
                b'S' => cie.is_signal = true,
                b'B' | b'G' => {}
                // What follows is unknown, and its length covers it.
                _ => break,
            }
        }
        Some(cie)
    }

    /// Runs one FDE; `None` when it was left out, counted.
    #[inline(always)]
    fn function(
        &mut self,
        entry: &Entry,
        cie: &Cie<'a>,
        functions: &mut Functions,
    ) -> Result<Option<(u32, u32)>, Fault> {
        let data = self.data.get(..entry.end).ok_or(Fault::Malformed)?;
        let mut bytes = Bytes::at(data, entry.body);
        let encoding = cie.pointer_encoding;
        let (start, length) = match (self.format, encoding) {
            // What every x86-64 compiler emits.
            (Format::EhFrame { address, .. }, 0x1b) => {
                let place = address.wrapping_add(entry.body as u64);
                let relative = bytes.u32().ok_or(Fault::Malformed)?.cast_signed();
                (place.wrapping_add_signed(relative.into()), u64::from(bytes.u32().ok_or(Fault::Malformed)?))
            }
            (Format::EhFrame { address, .. }, _) => {
                let start = pointer(&mut bytes, encoding, address)?;
                // The length has the same form without the base.
                (start, pointer(&mut bytes, encoding & 0x0f, 0)?)
            }
            (Format::DebugFrame, _) => {
                let mut word = || if cie.address_size == 8 { bytes.u64() } else { bytes.u32().map(u64::from) };
                (word().ok_or(Fault::Malformed)?, word().ok_or(Fault::Malformed)?)
            }
        };
        if start == 0 || length == 0 {
            self.stats.fdes_discarded += 1;
            return Ok(None);
        }
        let end = start.checked_add(length).ok_or(Fault::Malformed)?;
        let Some((from, to)) = self.code.offsets(start, end) else {
            self.stats.outside_code += 1;
            return Ok(None);
        };
        if cie.has_augmentation_data {
            let length = bytes.uleb().and_then(|length| usize::try_from(length).ok()).ok_or(Fault::Malformed)?;
            bytes.take(length).ok_or(Fault::Malformed)?;
        }
        functions.open();
        if cie.is_signal {
            functions.row(from, intern::SIGNAL);
            self.stats.rows_raw += 1;
            return Ok(Some((from, to)));
        }
        let mut program = Program { bytes, factors: cie.factors, initial: cie.initial, pc: start };
        let mut frame = cie.initial;
        self.remembered.clear();
        let mut offset = from;
        loop {
            let step = program.step(&mut frame, &mut self.remembered).ok_or(Fault::Malformed)?;
            let (row, before) = (offset, program.pc);
            if step == Step::Row {
                // The row ends here; the step has left `frame` as it was and moved only the pc.
                let next = before.checked_sub(self.code.base).ok_or(Fault::Malformed)?;
                let next = u32::try_from(next).unwrap_or(u32::MAX);
                if next < offset {
                    return Err(Fault::Malformed);
                }
                if next == offset {
                    continue;
                }
                offset = next;
            }
            functions.row(row, frame.rule(self.rules, self.stats, self.limits)?);
            functions.check_rows(self.limits)?;
            self.stats.rows_raw += 1;
            if step == Step::End || offset >= to {
                return Ok(Some((from, to)));
            }
        }
    }
}
