//! What `PT_DYNAMIC` tells the dynamic loader: where symbols, strings and relocations are, without a section header
//! (System V ABI, "Dynamic Section").
//!
//! Packers, `sstrip` and `strip --strip-section-headers` leave nothing else. 64-bit files only. The number of symbols is said
//! nowhere: `DT_HASH` has a chain for each, and in `DT_GNU_HASH` the last chain ends with the last symbol. Symbols without a size
//! name nothing here: what would bound them is their section.

use std::ops::Range;

use object::elf::{
    DT_GNU_HASH, DT_HASH, DT_RELA, DT_RELASZ, DT_STRSZ, DT_STRTAB, DT_SYMTAB, DynamicTag, FileHeader64, Rela64,
    STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, Sym64,
};
use object::read::elf::{Dyn, ElfFile64, GnuHashTable, HashTable, ProgramHeader, Sym};
use object::{Endianness, ReadRef, StringTable};

use crate::elf::{Segments, contains, executable_ranges};
use crate::limits::{Deadline, MAX_DYNAMIC_ENTRIES, MAX_SYMBOLS, TimeUp};

/// The entries of `PT_DYNAMIC`, each kind once.
struct Dynamic<'a> {
    endian: Endianness,
    entries: &'a [object::elf::Dyn64<Endianness>],
    segments: Segments,
    image: &'a [u8],
}

impl<'a> Dynamic<'a> {
    fn of(file: &object::File<'a>) -> Option<Self> {
        let elf = elf64(file)?;
        let (endian, image) = (elf.endian(), elf.data());
        let of_header =
            |header: &'a object::elf::ProgramHeader64<Endianness>| header.dynamic(endian, image).ok().flatten();
        let entries = elf.elf_program_headers().iter().find_map(of_header)?;
        let entries = entries.get(..MAX_DYNAMIC_ENTRIES).unwrap_or(entries);
        Some(Self { endian, entries, segments: Segments::of(file), image })
    }

    fn value(&self, tag: DynamicTag) -> Option<u64> {
        let before_end = self.entries.iter().take_while(|entry| entry.d_tag(self.endian) != object::elf::DT_NULL);
        before_end.into_iter().find(|entry| entry.d_tag(self.endian) == tag).map(|entry| entry.d_val(self.endian))
    }

    /// The bytes in the file from the address that `tag` tells to the end of its segment.
    fn bytes(&self, tag: DynamicTag) -> Option<&'a [u8]> {
        self.segments.bytes(self.image, self.value(tag)?)
    }

    /// Where in the file that address is.
    fn place(&self, tag: DynamicTag) -> Option<u64> {
        self.segments.place(self.value(tag)?)
    }

    fn symbol_count(&self) -> Option<usize> {
        let of_chains = || HashTable::<FileHeader64<Endianness>>::parse(self.endian, self.bytes(DT_HASH)?).ok();
        if let Some(table) = of_chains() {
            return Some(table.symbol_table_length() as usize);
        }
        let table = GnuHashTable::<FileHeader64<Endianness>>::parse(self.endian, self.bytes(DT_GNU_HASH)?).ok()?;
        Some(table.symbol_table_length(self.endian)? as usize)
    }
}

/// The file, if it is one of 64 bits.
pub(crate) fn elf64<'file, 'a>(file: &'file object::File<'a>) -> Option<&'file ElfFile64<'a, Endianness>> {
    match file {
        object::File::Elf64(elf) => Some(elf),
        _ => None,
    }
}

/// The relocations that the dynamic loader applies (`DT_RELA`); empty if there are none.
pub(crate) fn relocations<'a>(file: &object::File<'a>) -> &'a [Rela64<Endianness>] {
    let found = || {
        let dynamic = Dynamic::of(file)?;
        let count = usize::try_from(dynamic.value(DT_RELASZ)?).ok()? / size_of::<Rela64<Endianness>>();
        let bytes = dynamic.bytes(DT_RELA)?;
        let count = count.min(bytes.len() / size_of::<Rela64<Endianness>>());
        bytes.read_slice_at(0, count).ok()
    };
    found().unwrap_or_default()
}

/// Where in the file the dynamic loader's symbols and their names are.
#[derive(Clone, Debug)]
pub(crate) struct DynamicSymbols {
    first: u64,
    count: usize,
    strings: Range<u64>,
}

/// Of each function its address, size and number, and whether there were more than [`MAX_SYMBOLS`].
pub(crate) type Functions = (Vec<(u64, u64, u32)>, bool);

impl DynamicSymbols {
    /// Their place in `file`; `None` if it tells of none.
    pub(crate) fn locate(file: &object::File<'_>) -> Option<Self> {
        let dynamic = Dynamic::of(file)?;
        let room = dynamic.bytes(DT_SYMTAB)?.len() / size_of::<Sym64<Endianness>>();
        let names = dynamic.bytes(DT_STRTAB)?.len() as u64;
        let strings = dynamic.place(DT_STRTAB)?;
        Some(Self {
            first: dynamic.place(DT_SYMTAB)?,
            count: dynamic.symbol_count()?.min(room),
            strings: strings..strings + dynamic.value(DT_STRSZ).map_or(names, |size| size.min(names)),
        })
    }

    fn entries<'a>(&self, elf: &ElfFile64<'a, Endianness>) -> &'a [Sym64<Endianness>] {
        elf.data().read_slice_at(self.first, self.count).unwrap_or_default()
    }

    /// All functions with a size.
    pub(crate) fn functions(&self, file: &object::File<'_>, deadline: &Deadline) -> Result<Functions, TimeUp> {
        let mut found = Vec::new();
        let Some(elf) = elf64(file) else { return Ok((found, false)) };
        let (endian, code) = (elf.endian(), executable_ranges(file));
        for (number, symbol) in (0..).zip(self.entries(elf)) {
            deadline.tick()?;
            let (address, size) = (symbol.st_value(endian), symbol.st_size(endian));
            let kind = matches!(symbol.st_type(), STT_NOTYPE | STT_FUNC | STT_GNU_IFUNC);
            if !kind || size == 0 || symbol.is_undefined(endian) || !contains(&code, address) {
                continue;
            }
            if found.len() == MAX_SYMBOLS {
                return Ok((found, true));
            }
            found.push((address, size, number));
        }
        Ok((found, false))
    }

    /// The name of the symbol of that number, if it covers `address`.
    pub(crate) fn covering<'a>(&self, file: &object::File<'a>, number: u32, address: u64) -> Option<&'a [u8]> {
        let elf = elf64(file)?;
        let symbol = self.entries(elf).get(number as usize)?;
        if address.wrapping_sub(symbol.st_value(elf.endian())) >= symbol.st_size(elf.endian()) {
            return None;
        }
        let strings = StringTable::new(elf.data(), self.strings.start, self.strings.end);
        symbol.name(elf.endian(), strings).ok().filter(|name| !name.is_empty())
    }
}
