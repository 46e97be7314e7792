//! What a one-shot says on its standard output, and how a profile travels through a pod's log: in numbered parts with a checksum each.
//!
//! ```text
//! everflame/1 progress 12000 30000 1204            ms passed, ms wanted, samples
//! everflame/1 summary 30.0 s, 8 CPUs, 99 Hz: …
//! everflame/1 part 0 2 SHA-256 BASE64              number, of how many
//! everflame/1 part 1 2 SHA-256 BASE64
//! everflame/1 end 2 8123 SHA-256                   parts, bytes, of the whole
//! ```
//!
//! Free of I/O. A log may be read twice, be cut anywhere, and holds whatever else the container wrote: [`Parcel`] takes lines in any
//! order, doubled and damaged ones too, and gives the profile out once all of it is there and its checksum right.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::profile::pprof::MAX_COMPRESSED_BYTES;
use crate::report;

/// What each line begins with. The number is raised with each change that an older reader would misread.
const MARK: &str = "everflame/1 ";
/// The same without the number.
const ANY_MARK: &str = "everflame/";
/// Bytes of a part: a line stays below the 16 KiB at which container runtimes cut lines.
pub const PART_BYTES: usize = 6 << 10;
/// Most parts: as many bytes as a pprof file may have.
pub const MAX_PARTS: usize = MAX_COMPRESSED_BYTES.div_ceil(PART_BYTES);
/// Longest line that is looked at, bytes: a part with its head.
pub const MAX_LINE: usize = 12 << 10;
/// Longest text that is shown of a line, characters.
const MAX_SHOWN: usize = 500;

/// A profile that is too large to be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has {0} bytes, more than {MAX_COMPRESSED_BYTES}: take less time, a lower -F or fewer pods")]
pub struct TooLarge(pub usize);

/// The lines that carry `bytes`.
///
/// # Errors
/// [`TooLarge`]: what no reader would take.
pub fn wrap(bytes: &[u8]) -> Result<String, TooLarge> {
    if bytes.len() > MAX_COMPRESSED_BYTES {
        return Err(TooLarge(bytes.len()));
    }
    let count = bytes.len().div_ceil(PART_BYTES);
    let mut text = String::with_capacity(bytes.len() / 2 * 3 + 1024);
    for (number, part) in bytes.chunks(PART_BYTES).enumerate() {
        text += &format!("{MARK}part {number} {count} {} {}\n", checksum(part), STANDARD.encode(part));
    }
    text += &format!("{MARK}end {count} {} {}\n", bytes.len(), checksum(bytes));
    Ok(text)
}

/// The line that says how far a recording is.
pub fn progress(elapsed: Duration, of: Duration, samples: u64) -> String {
    format!("{MARK}progress {} {} {samples}\n", elapsed.as_millis(), of.as_millis())
}

/// The line that says what was recorded.
pub fn summary(text: &str) -> String {
    format!("{MARK}summary {}\n", text.replace(['\n', '\r'], " "))
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// How far the recording is.
    Progress {
        /// Since the first sample.
        elapsed: Duration,
        /// How long it shall be; zero without an end.
        of: Duration,
        /// Taken so far.
        samples: u64,
    },
    /// What was recorded, in a sentence.
    Summary(String),
    /// A part of the profile, or its end.
    Parcel,
    /// One of these lines, damaged; it may come whole when the log is read again.
    Damaged,
    /// A line of another version of the program.
    OtherVersion,
    /// What else was written, for people.
    Note(String),
}

/// Why there is no profile (yet).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// Not one part, nor the end.
    #[error("no profile was handed over")]
    Nothing,
    /// The closing line is missing.
    #[error("the profile's end is missing ({parts} parts of it are there)")]
    NoEnd {
        /// Those that are there.
        parts: usize,
    },
    /// Parts are missing.
    #[error("{missing} of the profile's {of} parts are missing or damaged")]
    Parts {
        /// How many.
        missing: usize,
        /// Of how many.
        of: usize,
    },
    /// Each part is right, the whole is not.
    #[error("the profile's checksum is wrong")]
    Checksum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    count: usize,
    bytes: usize,
    checksum: [u8; 32],
}

/// A profile on its way: what has come of it.
#[derive(Clone, Debug, Default)]
pub struct Parcel {
    parts: BTreeMap<usize, Vec<u8>>,
    end: Option<End>,
}

impl Parcel {
    /// Takes a line, in any order and any number of times.
    pub fn take(&mut self, line: &[u8]) -> Line {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches(['\n', '\r']);
        let Some(rest) = text.strip_prefix(MARK) else {
            return if text.starts_with(ANY_MARK) && !MARK.starts_with(text) {
                Line::OtherVersion
            } else {
                Line::Note(shown(text))
            };
        };
        let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match kind {
            "progress" => progress_of(rest).unwrap_or(Line::Damaged),
            "summary" => Line::Summary(shown(rest)),
            "part" => self.part(rest).unwrap_or(Line::Damaged),
            "end" => self.end_of(rest).unwrap_or(Line::Damaged),
            _ => Line::Damaged,
        }
    }

    fn part(&mut self, rest: &str) -> Option<Line> {
        let [number, count, sum, body] = fields(rest)?;
        let (number, count) = (number.parse::<usize>().ok()?, count.parse::<usize>().ok()?);
        let is_sane = count <= MAX_PARTS && number < count && self.end.is_none_or(|end| end.count == count);
        if !is_sane || body.len() > base64::encoded_len(PART_BYTES, true)? {
            return None;
        }
        let bytes = STANDARD.decode(body).ok()?;
        // A part that is there is right by its own checksum: the first one stays.
        if checksum(&bytes) == sum {
            self.parts.entry(number).or_insert(bytes);
            Some(Line::Parcel)
        } else {
            None
        }
    }

    fn end_of(&mut self, rest: &str) -> Option<Line> {
        let [count, bytes, sum] = fields(rest)?;
        let (count, bytes) = (count.parse::<usize>().ok()?, bytes.parse::<usize>().ok()?);
        if bytes > MAX_COMPRESSED_BYTES || count != bytes.div_ceil(PART_BYTES) {
            return None;
        }
        self.end.get_or_insert(End { count, bytes, checksum: digest(sum)? });
        Some(Line::Parcel)
    }

    /// How many parts are there, and of how many once that is known.
    pub fn progress(&self) -> (usize, Option<usize>) {
        (self.parts.len(), self.end.map(|end| end.count))
    }

    /// The profile's bytes.
    ///
    /// # Errors
    /// [`Incomplete`]: read the log again.
    pub fn open(&self) -> Result<Vec<u8>, Incomplete> {
        let Some(end) = self.end else {
            let parts = self.parts.len();
            return Err(if parts == 0 { Incomplete::Nothing } else { Incomplete::NoEnd { parts } });
        };
        let present = (0..end.count).filter(|number| self.parts.contains_key(number)).count();
        if present < end.count {
            return Err(Incomplete::Parts { missing: end.count - present, of: end.count });
        }
        let bytes = self.parts.range(..end.count).map(|(_, part)| &**part).collect::<Vec<_>>().concat();
        if bytes.len() == end.bytes && <[u8; 32]>::from(Sha256::digest(&bytes)) == end.checksum {
            Ok(bytes)
        } else {
            Err(Incomplete::Checksum)
        }
    }

    /// Forgets everything, so that a log read anew decides alone.
    pub fn clear(&mut self) {
        *self = Parcel::default();
    }
}

fn progress_of(rest: &str) -> Option<Line> {
    let [elapsed, of, samples] = fields(rest)?;
    Some(Line::Progress {
        elapsed: Duration::from_millis(elapsed.parse().ok()?),
        of: Duration::from_millis(of.parse().ok()?),
        samples: samples.parse().ok()?,
    })
}

/// Exactly `N` words.
fn fields<const N: usize>(text: &str) -> Option<[&str; N]> {
    let mut words = text.split(' ');
    let mut found = [""; N];
    for field in &mut found {
        *field = words.next()?;
    }
    words.next().is_none().then_some(found)
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// What a terminal may be given of a text from elsewhere.
pub fn shown(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    let plain: String = text.chars().take(MAX_SHOWN).map(plain).collect();
    report::shown(&plain).into_owned()
}

/// Cuts a stream into lines; of a longer one than [`MAX_LINE`] only the beginning is kept.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Gives `each` every line that ends in these bytes.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = bytes.split_at(end + 1);
            self.keep(head);
            each(&self.line);
            self.line.clear();
            bytes = rest;
        }
        self.keep(bytes);
    }

    /// The last line, which has no end.
    pub fn finish(self, mut each: impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            each(&self.line);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

#[cfg(test)]
#[path = "parcel_tests.rs"]
mod tests;
