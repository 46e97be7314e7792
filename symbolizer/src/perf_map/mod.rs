//! [`PerfMap`]: names for code made at run time, from the bytes of a `/tmp/perf-PID.map`.
//!
//! One line per function: hexadecimal start, hexadecimal size, name (with spaces). Runtimes append as they compile, so a later
//! line replaces what it overlaps, and the last line may be unfinished: it is left for the next reading.

pub mod locate;

use std::collections::BTreeMap;

use crate::text::prefix;

/// Bounds on what a map may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerfMapLimits {
    /// Functions kept.
    pub functions: usize,
    /// Bytes of all names together.
    pub name_bytes: usize,
    /// Longest name, in bytes; longer ones are cut.
    pub name: usize,
}

impl Default for PerfMapLimits {
    fn default() -> Self {
        Self { functions: 1 << 18, name_bytes: 32 << 20, name: 4 << 10 }
    }
}

/// What parsing found and left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerfMapCounts {
    /// Lines taken.
    pub taken: u64,
    /// Lines that are not of the format, or of no size.
    pub garbage: u64,
    /// Lines refused by the limits.
    pub refused: u64,
    /// Names cut.
    pub cut: u64,
    /// 1 if the last line had no end.
    pub unfinished: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function {
    start: u64,
    end: u64,
    name: u32,
    name_length: u32,
}

/// Addresses to names.
#[derive(Debug, Default)]
pub struct PerfMap {
    functions: Vec<Function>,
    names: String,
    counts: PerfMapCounts,
}

fn number(word: &[u8]) -> Option<u64> {
    let word = word.strip_prefix(b"0x").or_else(|| word.strip_prefix(b"0X")).unwrap_or(word);
    if word.is_empty() || !word.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()
}

/// Start, end and name.
fn line(text: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut parts = text.trim_ascii().splitn(3, u8::is_ascii_whitespace);
    let start = number(parts.next()?)?;
    let size = number(parts.next()?)?;
    let name = parts.next()?.trim_ascii();
    let end = start.checked_add(size)?;
    (size > 0 && !name.is_empty()).then_some((start, end, name))
}

impl PerfMap {
    /// Parses the whole file.
    pub fn parse(bytes: &[u8], limits: PerfMapLimits) -> Self {
        let mut map = Self::default();
        let mut functions: BTreeMap<u64, Function> = BTreeMap::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let text = &rest[..end];
            rest = &rest[end + 1..];
            if text.trim_ascii().is_empty() {
                continue;
            }
            let Some((start, end, name)) = line(text) else {
                map.counts.garbage += 1;
                continue;
            };
            if let Some(function) = map.take(start, end, name, functions.len(), limits) {
                insert(&mut functions, function);
            }
        }
        map.counts.unfinished = u64::from(!rest.trim_ascii().is_empty());
        map.functions = functions.into_values().collect();
        map.names.shrink_to_fit();
        map
    }

    fn take(&mut self, start: u64, end: u64, name: &[u8], count: usize, limits: PerfMapLimits) -> Option<Function> {
        let text = String::from_utf8_lossy(name);
        let cut = prefix(&text, limits.name).len();
        // A cut of an older function can make two of it.
        if count + 2 > limits.functions || self.names.len() + cut > limits.name_bytes {
            self.counts.refused += 1;
            return None;
        }
        let position = u32::try_from(self.names.len()).ok()?;
        self.counts.cut += u64::from(cut < text.len());
        self.counts.taken += 1;
        self.names.push_str(&text[..cut]);
        Some(Function { start, end, name: position, name_length: cut as u32 })
    }

    /// The name of the function that contains `address`.
    pub fn lookup(&self, address: u64) -> Option<&str> {
        let position = self.functions.partition_point(|function| function.start <= address).checked_sub(1)?;
        let function = self.functions.get(position).filter(|function| address < function.end)?;
        self.names.get(function.name as usize..)?.get(..function.name_length as usize)
    }

    /// What parsing found and left out.
    pub fn counts(&self) -> PerfMapCounts {
        self.counts
    }

    /// Heap bytes, about.
    pub fn memory(&self) -> usize {
        self.functions.capacity() * size_of::<Function>() + self.names.capacity()
    }
}

/// Puts a function in; what it overlaps is cut back to what is left of it.
fn insert(functions: &mut BTreeMap<u64, Function>, new: Function) {
    let overlapping: Vec<Function> =
        functions.range(..new.end).rev().take_while(|(_, old)| old.end > new.start).map(|(_, old)| *old).collect();
    for old in overlapping {
        functions.remove(&old.start);
        if old.start < new.start {
            functions.insert(old.start, Function { end: new.start, ..old });
        }
        if old.end > new.end {
            functions.insert(new.end, Function { start: new.end, ..old });
        }
    }
    functions.insert(new.start, new);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_lines_win_and_what_is_no_line_is_counted() {
        let text = b"1000 100 old whole\r\n0x1040 0X20 new part\n2000 10 a name with  spaces (x.js:1:2)\n\
            2000 10 replaced\nnot a line\n3000 0 empty\n4000 10\n4000 10 \n-1 10 signed\nffffffffffffffff 10 wraps\n\n5000 10 unfini";
        let map = PerfMap::parse(text, PerfMapLimits::default());
        for (address, expected) in [
            (0xfff, None),
            (0x1000, Some("old whole")),
            (0x103f, Some("old whole")),
            (0x1040, Some("new part")),
            (0x105f, Some("new part")),
            (0x1060, Some("old whole")),
            (0x10ff, Some("old whole")),
            (0x1100, None),
            (0x2000, Some("replaced")),
            (0x200f, Some("replaced")),
            (0x2010, None),
            (0x3000, None),
            (0x5000, None),
        ] {
            assert_eq!(map.lookup(address), expected, "{address:#x}");
        }
        let counts = PerfMapCounts { taken: 4, garbage: 6, refused: 0, cut: 0, unfinished: 1 };
        assert_eq!(map.counts(), counts);
    }

    #[test]
    fn the_limits_hold_and_are_counted() {
        let text: String = (0..100).map(|i| format!("{:x} 10 name-{i:04}\n", i * 16)).collect();
        let limits = PerfMapLimits { functions: 11, name_bytes: 1 << 20, name: 6 };
        let map = PerfMap::parse(text.as_bytes(), limits);
        assert_eq!(map.counts(), PerfMapCounts { taken: 10, refused: 90, cut: 10, ..PerfMapCounts::default() });
        assert_eq!(map.lookup(0x95), Some("name-0"));
        let limits = PerfMapLimits { name_bytes: 18, ..PerfMapLimits::default() };
        assert_eq!(PerfMap::parse(text.as_bytes(), limits).counts().taken, 2);
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced() {
        let map = PerfMap::parse(b"10 10 f\xff\xfeg\n", PerfMapLimits::default());
        assert_eq!(map.lookup(0x10), Some("f\u{fffd}\u{fffd}g"));
    }
}
