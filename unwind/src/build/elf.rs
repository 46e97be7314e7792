//! The parts of an ELF file that a table builder needs: code segments, sections by name, symbols, bytes at an address.
//!
//! Section headers are optional (stripped by some packers): then `PT_GNU_EH_FRAME` leads to `.eh_frame`.

use std::borrow::Cow;

use object::LittleEndian;
use object::elf::{
    DT_NEEDED, DT_NULL, EM_X86_64, FileHeader64, PF_X, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_LOAD, SHT_NOBITS,
};
use object::read::SectionIndex;
use object::read::elf::{CompressionHeader as _, FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};

use super::compressed::decompressed;
use super::limits::{BuildError, BuildStats, Limits, MAX_SEGMENTS};
use super::names::Names;

type Header = FileHeader64<LittleEndian>;

/// The sections that anyone asks for. Only these are kept: a file may have a million others.
const KEPT: [&str; 15] = [
    ".eh_frame",
    ".debug_frame",
    ".gopclntab",
    ".data.rel.ro.gopclntab",
    ".go.buildinfo",
    ".note.go.buildid",
    ".go.module",
    ".rela.dyn",
    ".plt",
    ".plt.sec",
    ".plt.got",
    ".plt.bnd",
    ".iplt",
    ".init",
    ".fini",
];
/// Most entries of the dynamic section that are looked at; real ones have some dozens.
const MAX_DYNAMIC: usize = 4096;
/// Units of [`Limits::work`] that a symbol takes.
const SYMBOL_WORK: u64 = 8;
/// Bytes of an entry of `.rela.dyn`.
const RELOCATION_BYTES: usize = 24;

/// A `PT_LOAD` segment.
#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    memory_size: u64,
    file_offset: u64,
    file_size: u64,
}

/// A section's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) address: u64,
    pub(crate) size: u64,
    index: usize,
}

/// One parsed file.
#[derive(Debug)]
pub(crate) struct Elf<'a> {
    data: &'a [u8],
    header: &'a Header,
    table: SectionTable<'a, Header>,
    has_sections: bool,
    /// The first of each name in [`KEPT`].
    sections: Vec<Section<'a>>,
    /// All loadable segments by address.
    segments: Vec<Segment>,
    /// Executable ranges by address, joined where they touch.
    code: Vec<(u64, u64)>,
    eh_frame_header: Option<u64>,
    dynamic: Option<u64>,
}

impl<'a> Elf<'a> {
    /// Reads the headers; section headers that are damaged or, counted, too many are as if absent.
    pub(crate) fn parse(data: &'a [u8], limits: &Limits, stats: &mut BuildStats) -> Result<Self, BuildError> {
        let header = Header::parse(data).map_err(|_| BuildError::NotElf)?;
        // `parse` accepts either byte order: the type's endianness is only what we say it is.
        let little = header.is_little_endian();
        if !little || header.e_machine(LittleEndian) != EM_X86_64 {
            return Err(BuildError::WrongMachine);
        }
        let mut segments = Vec::new();
        let mut code = Vec::new();
        let (mut eh_frame_header, mut dynamic) = (None, None);
        for program in header.program_headers(LittleEndian, data).map_err(|_| BuildError::NotElf)? {
            let kind = program.p_type(LittleEndian);
            let address = program.p_vaddr(LittleEndian);
            if kind == PT_GNU_EH_FRAME {
                eh_frame_header = Some(address);
            }
            if kind == PT_DYNAMIC {
                dynamic = Some(address);
            }
            let memory_size = program.p_memsz(LittleEndian);
            let Some(end) = address.checked_add(memory_size) else { continue };
            if kind != PT_LOAD || memory_size == 0 {
                continue;
            }
            let (file_offset, file_size) = (program.p_offset(LittleEndian), program.p_filesz(LittleEndian));
            if segments.len() >= MAX_SEGMENTS {
                return Err(BuildError::TooManySegments);
            }
            segments.push(Segment { address, memory_size, file_offset, file_size: file_size.min(memory_size) });
            if program.p_flags(LittleEndian).0 & PF_X.0 != 0 {
                code.push((address, end));
            }
        }
        segments.sort_by_key(|segment| segment.address);
        code.sort_unstable();
        code.dedup_by(|later, earlier| {
            let joined = later.0 <= earlier.1;
            if joined {
                earlier.1 = earlier.1.max(later.1);
            }
            joined
        });
        let mut table = header.sections(LittleEndian, data).unwrap_or_default();
        if table.len() > limits.sections {
            stats.sections_refused += 1;
            table = SectionTable::default();
        }
        let names = header.shstrndx(LittleEndian, data).unwrap_or_default();
        let names = Names::new(data, &table, SectionIndex(names as usize));
        let (mut has_sections, mut sections) = (false, Vec::<Section<'a>>::new());
        for (index, section) in table.iter().enumerate() {
            let Some(name) = names.at(section.sh_name(LittleEndian)) else { continue };
            has_sections = true;
            if KEPT.iter().any(|kept| kept.as_bytes() == name) && sections.iter().all(|known| known.name != name) {
                let (address, size) = (section.sh_addr(LittleEndian), section.sh_size(LittleEndian));
                sections.push(Section { name, address, size, index });
            }
        }
        Ok(Self { data, header, table, has_sections, sections, segments, code, eh_frame_header, dynamic })
    }

    /// The entry point, if the file has one.
    pub(crate) fn entry(&self) -> Option<u64> {
        Some(self.header.e_entry(LittleEndian)).filter(|entry| *entry != 0)
    }

    /// The first section of that name, which is one of [`KEPT`].
    pub(crate) fn section(&self, name: &str) -> Option<Section<'a>> {
        debug_assert!(KEPT.contains(&name), "{name} is not kept");
        self.sections.iter().find(|section| section.name == name.as_bytes()).copied()
    }

    /// Whether the file has section headers.
    pub(crate) fn has_sections(&self) -> bool {
        self.has_sections
    }

    /// The first section of each name in [`KEPT`], in the order of the file.
    pub(crate) fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// A section's bytes, decompressed; `None`, counted, when it is damaged or too large.
    pub(crate) fn section_data(
        &self,
        section: Section<'a>,
        limits: &Limits,
        stats: &mut BuildStats,
    ) -> Option<Cow<'a, [u8]>> {
        let header = self.table.section(SectionIndex(section.index)).ok()?;
        if header.sh_type(LittleEndian) == SHT_NOBITS {
            return None;
        }
        let data = self.bytes_of_section(header, limits);
        if data.is_none() {
            stats.sections_refused += 1;
        }
        data
    }

    fn bytes_of_section(
        &self,
        header: &'a <Header as FileHeader>::SectionHeader,
        limits: &Limits,
    ) -> Option<Cow<'a, [u8]>> {
        let bytes = header.data(LittleEndian, self.data).ok()?;
        if bytes.len() as u64 > limits.section_bytes {
            return None;
        }
        let Some((compression, offset, size)) = header.compression(LittleEndian, self.data).ok()? else {
            return Some(Cow::Borrowed(bytes));
        };
        let (kind, full_size) = (compression.ch_type(LittleEndian), compression.ch_size(LittleEndian));
        let start = usize::try_from(offset).ok()?;
        let data = self.data.get(start..start.checked_add(usize::try_from(size).ok()?)?)?;
        decompressed(kind, data, full_size, limits.section_bytes.min(limits.decompressed_bytes))
    }

    /// The address of the `.eh_frame_hdr` section, from the program headers.
    pub(crate) fn eh_frame_header(&self) -> Option<u64> {
        self.eh_frame_header
    }

    /// Whether the file names shared libraries that it needs. One that does not is a static program or a C library.
    pub(crate) fn needs_libraries(&self) -> bool {
        let Some(dynamic) = self.dynamic else { return false };
        let tags = self.bytes_from(dynamic).chunks_exact(16).filter_map(|entry| entry.first_chunk::<8>());
        tags.take(MAX_DYNAMIC)
            .map(|tag| u64::from_le_bytes(*tag))
            .take_while(|tag| *tag != DT_NULL.0 as u64)
            .any(|tag| tag == DT_NEEDED.0 as u64)
    }

    /// The file's bytes from `address` to the end of what its segment has in the file; empty if there are none.
    pub(crate) fn bytes_from(&self, address: u64) -> &'a [u8] {
        let after = self.segments.partition_point(|segment| segment.address <= address);
        let Some(segment) = after.checked_sub(1).and_then(|index| self.segments.get(index)) else { return &[] };
        let inside = address - segment.address;
        if inside >= segment.file_size || inside >= segment.memory_size {
            return &[];
        }
        let range = || {
            let start = segment.file_offset.checked_add(inside)?;
            let end = segment.file_offset.checked_add(segment.file_size)?.min(self.data.len() as u64);
            self.data.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
        };
        range().unwrap_or(&[])
    }

    /// The file's bytes at `address..end`, as far as they exist.
    pub(crate) fn bytes_between(&self, address: u64, end: u64) -> &'a [u8] {
        let bytes = self.bytes_from(address);
        let length = usize::try_from(end.saturating_sub(address)).unwrap_or(usize::MAX);
        bytes.get(..length.min(bytes.len())).unwrap_or_default()
    }

    /// All segments' file bytes with their addresses, in order of address; at most `limit` bytes, because hostile segments
    /// may all show the same ones.
    pub(crate) fn loaded(&self, limit: u64) -> impl Iterator<Item = (u64, &'a [u8])> + '_ {
        let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
        self.segments.iter().map_while(move |segment| {
            let bytes = self.bytes_from(segment.address);
            left = left.checked_sub(bytes.len())?;
            Some((segment.address, bytes))
        })
    }

    /// Name, address and size of function symbols; at most [`Limits::symbols`] of them are looked at, and the rest counted.
    pub(crate) fn symbols(
        &self,
        limits: &Limits,
        stats: &mut BuildStats,
        mut each: impl FnMut(&'a [u8], u64, u64),
    ) -> Result<(), BuildError> {
        let mut left = limits.symbols;
        for kind in [object::elf::SHT_DYNSYM, object::elf::SHT_SYMTAB] {
            let Ok(symbols) = self.table.symbols(LittleEndian, self.data, kind) else { continue };
            let names = Names::new(self.data, &self.table, symbols.string_section());
            let looked_at = symbols.len().min(left);
            left -= looked_at;
            stats.symbols_refused += (symbols.len() - looked_at) as u64;
            stats.draw(looked_at as u64 * SYMBOL_WORK, limits)?;
            for symbol in symbols.iter().take(looked_at).filter(|symbol| !symbol.is_undefined(LittleEndian)) {
                if let Some(name) = names.at(symbol.st_name(LittleEndian)) {
                    each(name, symbol.st_value(LittleEndian), symbol.st_size(LittleEndian));
                }
            }
        }
        Ok(())
    }

    /// The value that a relocation would store at `address`, for position-independent files.
    pub(crate) fn relative_relocation(
        &self,
        address: u64,
        limits: &Limits,
        stats: &mut BuildStats,
    ) -> Result<Option<u64>, BuildError> {
        let Some(section) = self.section(".rela.dyn") else { return Ok(None) };
        let header = self.table.section(SectionIndex(section.index));
        let bytes = header.and_then(|header| header.data(LittleEndian, self.data)).unwrap_or_default();
        stats.draw((bytes.len() / RELOCATION_BYTES) as u64, limits)?;
        Ok(bytes.chunks_exact(RELOCATION_BYTES).find_map(|entry| {
            let word = |at: usize| entry.get(at..at + 8).and_then(|word| word.try_into().ok()).map(u64::from_le_bytes);
            (word(0)? == address && word(8)? == u64::from(object::elf::R_X86_64_RELATIVE.0)).then(|| word(16)).flatten()
        }))
    }

    /// The executable ranges as offsets from [`Code::base`].
    pub(crate) fn code(&self) -> Result<Code, BuildError> {
        let (Some(first), Some(last)) = (self.code.first(), self.code.last()) else { return Err(BuildError::NoCode) };
        let base = first.0 & !0xfff;
        let bytes = last.1 - base;
        if base >> 44 != 0 {
            return Err(BuildError::AddressTooHigh { address: first.0 });
        }
        let length = u32::try_from(bytes).map_err(|_| BuildError::SpanTooLarge { bytes })?;
        let ranges = self.code.iter().map(|range| ((range.0 - base) as u32, (range.1 - base) as u32)).collect();
        Ok(Code { base, length, ranges })
    }
}

/// Where code may lie.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    /// ELF address that offsets count from: the first executable byte, rounded down to a page.
    pub(crate) base: u64,
    /// Offset of the end of the last executable range.
    pub(crate) length: u32,
    /// Executable ranges as offsets, ascending and apart from each other.
    pub(crate) ranges: Vec<(u32, u32)>,
}

impl Code {
    /// `start..end` as offsets, when it lies in one executable range and is not empty.
    #[inline(always)]
    pub(crate) fn offsets(&self, start: u64, end: u64) -> Option<(u32, u32)> {
        let from = u32::try_from(start.checked_sub(self.base)?).ok()?;
        let to = u32::try_from(end.checked_sub(self.base)?).ok()?;
        let range = match self.ranges.as_slice() {
            [only] => only,
            many => many.get(many.partition_point(|range| range.0 <= from).checked_sub(1)?)?,
        };
        (from < to && range.0 <= from && to <= range.1).then_some((from, to))
    }
}
