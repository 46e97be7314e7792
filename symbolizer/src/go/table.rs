//! The bytes of `.gopclntab`: header, function table, and the delta-encoded tables from program counter to value.

use crate::limits::{Deadline, TimeUp};

/// Formats, by their magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Go 1.16 and 1.17: entries are addresses.
    Go116,
    /// Go 1.18 and 1.19: entries are offsets from the text's start.
    Go118,
    /// Since Go 1.20: functions have start lines, inlined calls are found by their caller's pc.
    Go120,
}

impl Version {
    fn of(magic: u32) -> Option<Self> {
        match magic {
            0xffff_fffa => Some(Self::Go116),
            0xffff_fff0 => Some(Self::Go118),
            0xffff_fff1 => Some(Self::Go120),
            _ => None,
        }
    }
}

/// A parsed header and the tables behind it. Little-endian and 64-bit only: what this profiler runs on.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    pub(crate) version: Version,
    quantum: u64,
    functions: u64,
    names: &'a [u8],
    units: &'a [u8],
    files: &'a [u8],
    values: &'a [u8],
    records: &'a [u8],
}

/// A function's record.
#[derive(Debug)]
pub(crate) struct Function<'a> {
    pub(crate) entry: u64,
    pub(crate) end: u64,
    pub(crate) start_line: u32,
    name: u32,
    record: &'a [u8],
}

/// A place in the source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place<'a> {
    pub(crate) file: Option<&'a [u8]>,
    pub(crate) line: u32,
}

/// One inlined call.
#[derive(Debug)]
pub(crate) struct InlinedCall {
    pub(crate) name: u32,
    pub(crate) start_line: u32,
    pub(crate) caller: Caller,
}

/// How to find the caller of an inlined call.
#[derive(Debug)]
pub(crate) enum Caller {
    /// Its place and its own caller are those of the instruction at this offset in the function.
    At(u64),
    /// It is the call of that number in the tree (`None` = the function itself), at this place.
    Is { parent: Option<u32>, file: u32, line: u32 },
}

/// Number of the table "instruction → inlined call", among the tables of a function.
const INLINE_INDEX_TABLE: u32 = 2;
/// Number of the tree of inlined calls, among the data of a function.
const INLINE_TREE_DATA: u32 = 3;
/// Longest name or path read.
const MAX_TEXT: usize = 64 << 10;
/// Bytes of the header that are looked at.
const HEADER: usize = 8 * 9;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn double_word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn text(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let bytes = bytes.get(at..)?;
    let bytes = &bytes[..bytes.len().min(MAX_TEXT)];
    bytes.iter().position(|byte| *byte == 0).map(|end| &bytes[..end])
}

/// Where in `section` a header begins: at its start, or (in a section shared with other data) at a multiple of 8.
pub(crate) fn find_header(section: &[u8], deadline: &Deadline) -> Result<Option<usize>, TimeUp> {
    for at in (0..section.len()).step_by(8) {
        deadline.tick()?;
        let Some(magic) = word(section, at) else { break };
        if Version::of(magic).is_some() && Table::parse(&section[at..]).is_some() {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

impl<'a> Table<'a> {
    /// Parses the header at the start of `bytes`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let version = Version::of(word(bytes, 0)?)?;
        let [0, 0, quantum @ (1 | 2 | 4), 8] = bytes.get(4..8)? else { return None };
        if bytes.len() < HEADER {
            return None;
        }
        // After the counts of functions and files, 1.18 has the text's start (unused since 1.26).
        let offsets = if version == Version::Go116 { 24 } else { 32 };
        let part = |number: usize| {
            let offset = usize::try_from(double_word(bytes, offsets + number * 8)?).ok()?;
            bytes.get(offset..)
        };
        let table = Self {
            version,
            quantum: u64::from(*quantum),
            functions: double_word(bytes, 8)?,
            names: part(0)?,
            units: part(1)?,
            files: part(2)?,
            values: part(3)?,
            records: part(4)?,
        };
        (table.functions > 0 && table.entry(table.functions).is_some()).then_some(table)
    }

    pub(crate) fn functions(&self) -> u64 {
        self.functions
    }

    /// Entry (an offset from the text's start, or an address) and the record's place of function `number`; the last number is
    /// the end of all.
    fn entry(&self, number: u64) -> Option<(u64, u64)> {
        if self.version == Version::Go116 {
            let at = usize::try_from(number.checked_mul(16)?).ok()?;
            Some((double_word(self.records, at)?, double_word(self.records, at + 8).unwrap_or(0)))
        } else {
            let at = usize::try_from(number.checked_mul(8)?).ok()?;
            Some((word(self.records, at)?.into(), word(self.records, at + 4).unwrap_or(0).into()))
        }
    }

    /// Entry of the first function, as [`Table::function`] counts.
    pub(crate) fn first_entry(&self) -> Option<u64> {
        self.entry(0).map(|(entry, _)| entry)
    }

    fn base(&self, text: u64) -> u64 {
        if self.version == Version::Go116 { 0 } else { text }
    }

    /// The function that contains `address`.
    pub(crate) fn function(&self, text: u64, address: u64) -> Option<Function<'a>> {
        let wanted = address.checked_sub(self.base(text))?;
        let (mut low, mut high) = (0, self.functions);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.0 <= wanted { low = middle + 1 } else { high = middle }
        }
        self.function_at(text, low.checked_sub(1)?).filter(|function| address < function.end)
    }

    /// Function `number`.
    pub(crate) fn function_at(&self, text: u64, number: u64) -> Option<Function<'a>> {
        let base = self.base(text);
        let (entry, place) = self.entry(number)?;
        let (end, _) = self.entry(number + 1).filter(|(end, _)| *end >= entry)?;
        let record = self.records.get(usize::try_from(place).ok()?..)?;
        // From here on all versions look alike: the entry is 8 bytes in 1.16, 4 later.
        let record = record.get(if self.version == Version::Go116 { 8 } else { 4 }..)?;
        Some(Function {
            entry: base.checked_add(entry)?,
            end: base.checked_add(end)?,
            start_line: if self.version == Version::Go120 { word(record, 32)? } else { 0 },
            name: word(record, 0)?,
            record,
        })
    }

    pub(crate) fn name(&self, offset: u32) -> Option<&'a [u8]> {
        text(self.names, offset as usize).filter(|name| !name.is_empty())
    }

    /// The file of that number in the function's compilation unit.
    pub(crate) fn file(&self, function: &Function<'_>, number: u32) -> Option<&'a [u8]> {
        let index = word(function.record, 28)?.checked_add(number)?;
        let offset = word(self.units, (index as usize).checked_mul(4)?)?;
        text(self.files, offset as usize)
    }

    /// Where the instruction at `offset` in the function comes from.
    pub(crate) fn place(&self, function: &Function<'_>, offset: u64, deadline: &Deadline) -> Result<Place<'a>, TimeUp> {
        let (Some(files), Some(lines)) = (word(function.record, 16), word(function.record, 20)) else {
            return Ok(Place::default());
        };
        let file = self.value(files, offset, deadline)?.and_then(|number| u32::try_from(number).ok());
        let line = self.value(lines, offset, deadline)?.and_then(|line| u32::try_from(line).ok());
        Ok(Place { file: file.and_then(|number| self.file(function, number)), line: line.unwrap_or(0) })
    }

    /// The value at `offset` in the table at `start`.
    fn value(&self, start: u32, offset: u64, deadline: &Deadline) -> Result<Option<i32>, TimeUp> {
        let Some(mut bytes) = self.values.get(start as usize..).filter(|_| start != 0) else { return Ok(None) };
        let (mut position, mut value, mut first) = (0_u64, -1_i32, true);
        loop {
            deadline.tick()?;
            let Some(delta) = variable(&mut bytes) else { return Ok(None) };
            if delta == 0 && !first {
                return Ok(None);
            }
            first = false;
            // Zigzag: the lowest bit is the sign.
            value = value.wrapping_add((delta >> 1) as i32 ^ -((delta & 1) as i32));
            let Some(step) = variable(&mut bytes) else { return Ok(None) };
            position = position.wrapping_add(u64::from(step) * self.quantum);
            if offset < position {
                return Ok(Some(value));
            }
        }
    }

    /// The number of the innermost inlined call at `offset`.
    pub(crate) fn inline_index(
        &self,
        function: &Function<'_>,
        offset: u64,
        deadline: &Deadline,
    ) -> Result<Option<u32>, TimeUp> {
        let tables = word(function.record, 24).unwrap_or(0);
        if tables <= INLINE_INDEX_TABLE {
            return Ok(None);
        }
        let at = self.fixed() + INLINE_INDEX_TABLE as usize * 4;
        let Some(start) = word(function.record, at) else { return Ok(None) };
        Ok(self.value(start, offset, deadline)?.and_then(|index| u32::try_from(index).ok()))
    }

    /// Bytes of the record before its list of tables.
    fn fixed(&self) -> usize {
        if self.version == Version::Go120 { 40 } else { 36 }
    }

    /// Where the function's tree of inlined calls is, from the start of all function data.
    pub(crate) fn tree_offset(&self, function: &Function<'_>) -> Option<u32> {
        if self.version == Version::Go116 {
            return None;
        }
        let tables = word(function.record, 24)?;
        let count = *function.record.get(self.fixed() - 1)?;
        if u32::from(count) <= INLINE_TREE_DATA {
            return None;
        }
        let at = self.fixed().checked_add((tables.checked_add(INLINE_TREE_DATA)? as usize).checked_mul(4)?)?;
        word(function.record, at).filter(|offset| *offset != u32::MAX)
    }

    /// Call `index` of a tree.
    pub(crate) fn inlined_call(&self, tree: &[u8], index: u32) -> Option<InlinedCall> {
        let size = if self.version == Version::Go120 { 16 } else { 20 };
        let entry = tree.get((index as usize).checked_mul(size)?..)?.get(..size)?;
        if self.version == Version::Go120 {
            return Some(InlinedCall {
                name: word(entry, 4)?,
                start_line: word(entry, 12)?,
                caller: Caller::At(word(entry, 8)?.into()),
            });
        }
        let parent = i16::from_le_bytes(entry.get(..2)?.try_into().ok()?);
        let caller = Caller::Is { parent: u32::try_from(parent).ok(), file: word(entry, 4)?, line: word(entry, 8)? };
        Some(InlinedCall { name: word(entry, 12)?, start_line: 0, caller })
    }

    /// Whether the bytes look like the first call of this function's tree.
    pub(crate) fn plausible(&self, function: &Function<'_>, tree: &[u8]) -> bool {
        self.inlined_call(tree, 0).is_some_and(|call| {
            let printable = self.name(call.name).is_some_and(|name| name.iter().all(|byte| *byte >= b' '));
            printable
                && match call.caller {
                    Caller::At(offset) => offset < function.end - function.entry,
                    Caller::Is { parent, .. } => parent.is_none(),
                }
        })
    }
}

impl Function<'_> {
    pub(crate) fn name<'a>(&self, table: &Table<'a>) -> Option<&'a [u8]> {
        table.name(self.name)
    }
}

/// A base-128 number, lowest seven bits first.
fn variable(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
