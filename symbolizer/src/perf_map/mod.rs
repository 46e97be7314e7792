//! [`PerfMap`]: names for code made at run time, from the bytes of a `/tmp/perf-PID.map`.
//!
//! One line per function: hexadecimal start, hexadecimal size, name (with spaces). Runtimes append as they compile, so a later
//! line replaces what it overlaps, and the last line may be unfinished: it is left for the next reading.

mod build;
pub mod locate;

use std::time::Duration;

use build::Builder;

use crate::limits::Deadline;

/// Bounds on what a map may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerfMapLimits {
    /// Functions kept.
    pub functions: usize,
    /// Bytes of all names together.
    pub name_bytes: usize,
    /// Longest name, in bytes; longer ones are cut.
    pub name: usize,
    /// How long parsing may take. What was read by then is the map as it was when it had so many lines: its names may be those of
    /// code that is not there any more.
    pub time: Duration,
}

impl Default for PerfMapLimits {
    fn default() -> Self {
        Self { functions: 1 << 18, name_bytes: 32 << 20, name: 4 << 10, time: Duration::from_secs(5) }
    }
}

/// What parsing found and left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerfMapCounts {
    /// Lines taken.
    pub taken: u64,
    /// Lines that are not of the format, or of no size.
    pub garbage: u64,
    /// Lines refused by the limits; the names that they would have replaced were dropped. And rests of earlier functions that
    /// found no place when a later line cut them in two.
    pub refused: u64,
    /// Names cut.
    pub cut: u64,
    /// Lines not looked at, since the time was up.
    pub out_of_time: u64,
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

impl Function {
    /// Where its name is.
    fn range(&self) -> std::ops::Range<usize> {
        self.name as usize..self.name as usize + self.name_length as usize
    }
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
        let deadline = Deadline::after(limits.time);
        let mut map = Builder::new(limits);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if deadline.tick().is_err() {
                break;
            }
            let text = &rest[..end];
            rest = &rest[end + 1..];
            if text.trim_ascii().is_empty() {
                continue;
            }
            match line(text) {
                Some((start, end, name)) => map.add(start, end, name),
                None => map.counts.garbage += 1,
            }
        }
        map.counts.out_of_time = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        let last = rest.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        map.counts.unfinished = u64::from(!last.trim_ascii().is_empty());
        map.finish()
    }

    /// The name of the function that contains `address`.
    pub fn lookup(&self, address: u64) -> Option<&str> {
        let position = self.functions.partition_point(|function| function.start <= address).checked_sub(1)?;
        let function = self.functions.get(position).filter(|function| address < function.end)?;
        self.names.get(function.range())
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
        let counts = PerfMapCounts { taken: 4, garbage: 6, unfinished: 1, ..PerfMapCounts::default() };
        assert_eq!(map.counts(), counts);
    }

    #[test]
    fn the_limits_hold_and_are_counted() {
        let text: String = (0..100).map(|i| format!("{:x} 10 name-{i:04}\n", i * 16)).collect();
        let limits = PerfMapLimits { functions: 11, name_bytes: 1 << 20, name: 6, ..PerfMapLimits::default() };
        let map = PerfMap::parse(text.as_bytes(), limits);
        assert_eq!(map.counts(), PerfMapCounts { taken: 11, refused: 89, cut: 11, ..PerfMapCounts::default() });
        assert_eq!((map.lookup(0xa5), map.lookup(0xb5)), (Some("name-0"), None));
        let limits = PerfMapLimits { name_bytes: 18, ..PerfMapLimits::default() };
        assert_eq!(PerfMap::parse(text.as_bytes(), limits).counts().taken, 2);
    }

    #[test]
    fn a_full_map_takes_what_replaces_something() {
        // Three times the same ten functions, each time with new names of as many bytes.
        let text: String = (0..30).map(|i| format!("{:x} 10 name-{i:04}\n", i % 10 * 16)).collect();
        let limits = PerfMapLimits { functions: 10, name_bytes: 90, ..PerfMapLimits::default() };
        let map = PerfMap::parse(text.as_bytes(), limits);
        assert_eq!(map.counts(), PerfMapCounts { taken: 30, ..PerfMapCounts::default() });
        for (address, name) in [(0, "name-0020"), (0x5f, "name-0025"), (0x9f, "name-0029")] {
            assert_eq!(map.lookup(address), Some(name), "{address:#x}");
        }
        assert!(map.memory() <= 10 * size_of::<Function>() + 90, "{}", map.memory());
    }

    #[test]
    fn a_line_past_the_limits_takes_the_names_that_are_not_true_any_more_with_it() {
        let limits = PerfMapLimits { functions: 3, name_bytes: 14, ..PerfMapLimits::default() };
        for (line, refused, expected) in [
            ("0 10 too long to be taken", 1, [None, None, Some("b"), Some("b"), Some("c")]),
            ("0 10 brief", 0, [Some("brief"), Some("brief"), Some("b"), Some("b"), Some("c")]),
            ("8 10 longer", 1, [Some("aaaaaa"), None, None, Some("b"), Some("c")]),
            // Neither the line nor what is left of b behind it.
            ("18 4 x", 2, [Some("aaaaaa"), Some("aaaaaa"), Some("b"), None, Some("c")]),
            ("0 40 all", 0, [Some("all"); 5]),
            ("0 40 more than there is room for", 1, [None; 5]),
            ("40 10 d", 1, [Some("aaaaaa"), Some("aaaaaa"), Some("b"), Some("b"), Some("c")]),
        ] {
            let text = format!("0 10 aaaaaa\n10 10 b\n20 10 c\n{line}\n");
            let map = PerfMap::parse(text.as_bytes(), limits);
            let found = [0, 0xf, 0x10, 0x1f, 0x2f].map(|address| map.lookup(address));
            assert_eq!((found, map.counts().refused), (expected, refused), "{line}");
        }
    }

    #[test]
    fn what_is_cut_in_two_keeps_its_name_on_both_sides() {
        let map = PerfMap::parse(b"0 100 whole\n40 10 part\n40 10 again\n0 10 first\n", PerfMapLimits::default());
        let found = [0, 0x10, 0x40, 0x50, 0xff].map(|address| map.lookup(address));
        assert_eq!(found, [Some("first"), Some("whole"), Some("again"), Some("whole"), Some("whole")]);
    }

    #[test]
    fn a_function_in_a_thousand_pieces_has_its_name_once() {
        let name = "n".repeat(4000);
        let parts: String = (1..1000).map(|part| format!("{:x} 10 p\n", part * 0x100)).collect();
        let limits = PerfMapLimits { functions: 2000, name_bytes: 5000, ..PerfMapLimits::default() };
        let map = PerfMap::parse(format!("0 100000 {name}\n{parts}").as_bytes(), limits);
        assert_eq!(map.counts(), PerfMapCounts { taken: 1000, ..PerfMapCounts::default() });
        for at in (0x80..0x3_e800).step_by(0x100) {
            assert_eq!(map.lookup(at), Some(&*name), "{at:#x}");
            assert_eq!(map.lookup(at + 0x80), Some(if at < 0x3_e780 { "p" } else { &*name }), "{at:#x}");
        }
        assert_eq!(map.names.len(), 4000 + 999);
        // With its last piece the name goes, and there is room for another.
        let text = format!("0 100000 {name}\n{parts}0 40000 {}\n40000 c0000 {name}\n", &name[1..]);
        let map = PerfMap::parse(text.as_bytes(), limits);
        assert_eq!((map.counts().taken, map.counts().refused), (1001, 1));
        assert_eq!((map.lookup(0), map.lookup(0x4_0000), map.names.len()), (None, Some(&*name), 4000));
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced() {
        let map = PerfMap::parse(b"10 10 f\xff\xfeg\n", PerfMapLimits::default());
        assert_eq!(map.lookup(0x10), Some("f\u{fffd}\u{fffd}g"));
    }

    #[test]
    fn a_long_name_is_cut_where_a_character_ends_whatever_its_bytes() {
        let limits = PerfMapLimits { name: 6, ..PerfMapLimits::default() };
        for (name, kept) in [
            (&b"abcdef"[..], "abcdef"),
            (b"abcdefg", "abcdef"),
            // Of two and three bytes, from the fifth, sixth and seventh on.
            ("abcd\u{20ac}".as_bytes(), "abcd"),
            ("abcde\u{e9}".as_bytes(), "abcde"),
            ("abcde\u{20ac}x".as_bytes(), "abcde"),
            ("abcdef\u{e9}".as_bytes(), "abcdef"),
            (b"abcde\xff", "abcde"),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", "\u{fffd}\u{fffd}"),
        ] {
            let map = PerfMap::parse(&[&b"10 10 "[..], name, b"\n"].concat(), limits);
            assert_eq!((map.lookup(0x10), map.counts().cut), (Some(kept), u64::from(name != b"abcdef")), "{name:?}");
        }
    }

    #[test]
    fn what_is_not_read_in_time_is_counted_and_what_was_read_serves() {
        const LINES: u64 = 10_000;
        let text: String = (0..LINES).map(|i| format!("{:x} 10 name\n", i * 16)).collect();
        let limits = PerfMapLimits { time: Duration::ZERO, ..PerfMapLimits::default() };
        let map = PerfMap::parse(format!("{text}5000").as_bytes(), limits);
        let PerfMapCounts { taken, out_of_time, unfinished, .. } = map.counts();
        assert_eq!((taken + out_of_time, unfinished), (LINES, 1));
        assert!(taken > 0 && out_of_time > 0, "{taken} of {LINES}");
        assert_eq!(map.lookup((taken - 1) * 16), Some("name"));
        assert_eq!(map.lookup(taken * 16), None);
    }
}
