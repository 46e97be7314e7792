//! Where Go's `.gopclntab` is, and where in it each function's record is.
//!
//! Three things are searched for where a file does not name them: the table itself, by its magic; the start of the text, from
//! which a table counts addresses, in the linker's module data; and, failing that, by the one function that the ELF header has.
//!
//! **Does not:** say what the rows are.

use super::bytes::Bytes;
use super::elf::{Code, Elf};
use super::limits::{BuildError, BuildStats, Limits};

/// Sections that hold the table; the second one in position-independent files before Go 1.26.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

/// The layouts that differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    Go116,
    Go118,
    Go120,
}

impl Version {
    fn of(magic: u32) -> Option<Self> {
        match magic {
            0xffff_fffa => Some(Version::Go116),
            0xffff_fff0 => Some(Version::Go118),
            0xffff_fff1 => Some(Version::Go120),
            _ => None,
        }
    }

    /// Offsets of the name, the pcsp table and the flags in a function's record.
    fn record(self) -> (usize, usize, Option<usize>) {
        match self {
            // The flags came with Go 1.17 under the same magic: what this byte holds in 1.16 is padding.
            Version::Go116 => (8, 20, None),
            Version::Go118 => (4, 16, Some(37)),
            Version::Go120 => (4, 16, Some(41)),
        }
    }
}

/// The function is written in assembler.
const FLAG_ASSEMBLER: u8 = 4;

/// Longest name that is looked at: the special functions have short ones.
const MAX_NAME: usize = 64;
/// Most places that are tried as the linker's module data.
const MAX_MODULES: usize = 16;
/// Most places that are tried as a table, where no section names it.
const MAX_CANDIDATES: usize = 16;
/// Units of [`Limits::work`] that a function's record and name take.
pub(super) const FUNCTION_WORK: u64 = 16;

/// A parsed header.
pub(super) struct Table<'a> {
    version: Version,
    names: &'a [u8],
    pcsp: &'a [u8],
    /// The function table, which the records follow.
    functions: &'a [u8],
    /// How many functions it says that it has: any number.
    pub(super) count: usize,
    /// What the entries' addresses count from.
    text: u64,
}

/// Sections that say that a file was made by Go's linker.
const MARKS: [&str; 2] = [".go.buildinfo", ".note.go.buildid"];

/// The file's table, parsed; `None` if it has none, `Some(None)` if it can't be read.
pub(super) fn find<'a>(
    elf: &Elf<'a>,
    code: &Code,
    limits: &Limits,
    stats: &mut BuildStats,
) -> Result<Option<Option<Table<'a>>>, BuildError> {
    if let Some(section) = SECTIONS.iter().find_map(|name| elf.section(name)) {
        let data = elf.bytes_between(section.address, section.address.saturating_add(section.size));
        if data.len() as u64 > limits.section_bytes {
            return Ok(Some(None));
        }
        return Table::parse(elf, code, section.address, data, limits, stats).map(Some);
    }
    if elf.has_sections() && !MARKS.iter().any(|name| elf.section(name).is_some()) {
        return Ok(None);
    }
    // No section headers, or a linker that has put the section into another (`.data.rel.ro` of position-independent files):
    // by its magic, at a multiple of 8 as it is placed.
    let is_magic = |word: &[u8]| matches!(word, [0xf0 | 0xf1 | 0xfa, 0xff, 0xff, 0xff, 0, 0, 1, 8]);
    // Code that looks for the magic holds it as well.
    let (mut any, mut tried) = (None, 0);
    for (start, bytes) in elf.loaded(limits.section_bytes) {
        stats.draw(bytes.len() as u64 / WORD, limits)?;
        for (address, data) in words(start, bytes, is_magic) {
            let table = Table::parse(elf, code, address, data, limits, stats)?;
            any = Some(table.filter(|table| table.function(0).is_some()));
            tried += 1;
            if tried == MAX_CANDIDATES || matches!(any, Some(Some(_))) {
                return Ok(any);
            }
        }
    }
    Ok(any)
}

/// Bytes of a word as the linker aligns it.
const WORD: u64 = 8;

/// The words at multiples of 8 that are wanted: their addresses, and the bytes from there on.
fn words(start: u64, bytes: &[u8], wanted: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = (u64, &[u8])> {
    let skipped = start.next_multiple_of(WORD) - start;
    let aligned = bytes.get(skipped as usize..).unwrap_or_default();
    let found = aligned.chunks_exact(WORD as usize).enumerate().filter(move |(_, word)| wanted(word));
    found.map(move |(index, _)| {
        let at = index as u64 * WORD;
        (start + skipped + at, aligned.get(at as usize..).unwrap_or_default())
    })
}

impl<'a> Table<'a> {
    fn parse(
        elf: &Elf<'a>,
        code: &Code,
        address: u64,
        data: &'a [u8],
        limits: &Limits,
        stats: &mut BuildStats,
    ) -> Result<Option<Self>, BuildError> {
        let Some(mut table) = Self::header(data) else { return Ok(None) };
        // From Go 1.26 on the header has no start of the text.
        if table.version != Version::Go116 && table.text == 0 {
            let text = match text_of_module(elf, code, address, limits, stats)? {
                None => table.text_of_entry(elf, limits, stats)?,
                found => found,
            };
            let Some(text) = text else { return Ok(None) };
            table.text = text;
        }
        Ok(Some(table))
    }

    /// What the header alone says.
    fn header(data: &'a [u8]) -> Option<Self> {
        let mut bytes = Bytes::at(data, 0);
        let version = Version::of(bytes.u32()?)?;
        // Padding, instruction quantum, pointer size.
        if bytes.take(4)? != [0, 0, 1, 8] {
            return None;
        }
        let mut word = || bytes.u64().and_then(|word| usize::try_from(word).ok());
        let count = word()?;
        let _files = word()?;
        let text = if version == Version::Go116 { 0 } else { word()? as u64 };
        let names = data.get(word()?..)?;
        let (_units, _files) = (word()?, word()?);
        let pcsp = data.get(word()?..)?;
        let functions = data.get(word()?..)?;
        Some(Self { version, names, pcsp, functions, count, text })
    }

    /// The index-th function: where it starts, and where its record is.
    pub(super) fn function(&self, index: usize) -> Option<(u64, usize)> {
        let (start, record);
        if self.version == Version::Go116 {
            let mut bytes = Bytes::at(self.functions, index.checked_mul(16)?);
            (start, record) = (bytes.u64()?, bytes.u64()?);
        } else {
            let mut bytes = Bytes::at(self.functions, index.checked_mul(8)?);
            (start, record) = (self.text.checked_add(bytes.u32()?.into())?, u64::from(bytes.u32()?));
        }
        Some((start, usize::try_from(record).ok()?))
    }

    pub(super) fn name(&self, record: usize) -> Option<&'a [u8]> {
        let offset = Bytes::at(self.functions, record.checked_add(self.version.record().0)?).u32()?;
        let start = offset as usize;
        let length = self.names.len().min(start.saturating_add(MAX_NAME));
        Bytes::at(self.names.get(..length)?, start).text().or(Some(&[]))
    }

    pub(super) fn flags(&self, record: usize) -> Option<u8> {
        match self.version.record().2 {
            Some(offset) => Bytes::at(self.functions, record.checked_add(offset)?).u8(),
            // Unknown: every name is looked at.
            None => Some(FLAG_ASSEMBLER),
        }
    }

    /// A pcsp table's bytes; `None` if the function has none.
    pub(super) fn pcsp(&self, record: usize) -> Option<Bytes<'a>> {
        let offset = Bytes::at(self.functions, record.checked_add(self.version.record().1)?).u32()?;
        (offset != 0).then(|| Bytes::at(self.pcsp, offset as usize))
    }

    /// The start of the text by the one function whose address the ELF header has: only where the linker is Go's own.
    fn text_of_entry(&self, elf: &Elf<'_>, limits: &Limits, stats: &mut BuildStats) -> Result<Option<u64>, BuildError> {
        // jmp _rt0_amd64; the entry of a C program is another.
        let is_jump = |entry: &u64| elf.bytes_from(*entry).first() == Some(&0xe9);
        let Some(entry) = elf.entry().filter(is_jump) else { return Ok(None) };
        for index in 0..self.count.min(limits.functions) {
            // The count may be anything: the table ends where its bytes do.
            let Some((offset, record)) = self.function(index) else { break };
            stats.draw(FUNCTION_WORK, limits)?;
            if self.name(record) == Some(&b"_rt0_amd64_linux"[..]) {
                return Ok(entry.checked_sub(offset));
            }
        }
        Ok(None)
    }
}

/// Where `text` is in the linker's module data, which begins with the address of the table.
const MODULE_TEXT: u64 = 176;

/// The start of the text from the module data.
fn text_of_module(
    elf: &Elf<'_>,
    code: &Code,
    table: u64,
    limits: &Limits,
    stats: &mut BuildStats,
) -> Result<Option<u64>, BuildError> {
    let word = |address: u64, stats: &mut BuildStats| {
        match Bytes::at(elf.bytes_from(address), 0).u64().filter(|word| *word != 0) {
            // Some linkers leave the place of a relocation empty.
            None => elf.relative_relocation(address, limits, stats),
            stored => Ok(stored),
        }
    };
    let text_at = |module: u64, stats: &mut BuildStats| {
        let Some(place) = module.checked_add(MODULE_TEXT) else { return Ok(None) };
        let is_code = |text: &u64| text.checked_add(1).is_some_and(|end| code.offsets(*text, end).is_some());
        word(place, stats).map(|text| text.filter(is_code))
    };
    if let Some(section) = elf.section(".go.module") {
        let is_ours = word(section.address, stats)? == Some(table);
        return if is_ours { text_at(section.address, stats) } else { Ok(None) };
    }
    let mut tried = 0;
    for (start, bytes) in elf.loaded(limits.section_bytes) {
        stats.draw(bytes.len() as u64 / WORD, limits)?;
        for (module, _) in words(start, bytes, |word| word == table.to_le_bytes()) {
            let text = text_at(module, stats)?;
            tried += 1;
            if text.is_some() || tried == MAX_MODULES {
                return Ok(text);
            }
        }
    }
    Ok(None)
}
