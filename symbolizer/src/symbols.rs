//! [`SymbolIndex`]: address to symbol, by the same rules as `llvm-symbolizer`.
//!
//! Among symbols at one address the largest wins, and among those the one that comes last in the table. A symbol of size zero
//! reaches to the next one (here: not beyond its section); one with a size ends there. Only symbols of executable sections are kept: 12 bytes each, names
//! and sizes stay in the file.

use std::collections::HashSet;

use object::read::{ObjectSymbol, ObjectSymbolTable, SymbolFlags};
use object::{Object, ObjectSection, SectionFlags, SectionIndex, SymbolIndex as Index, elf as constants};

use crate::dynamic::DynamicSymbols;
use crate::limits::{Deadline, MAX_SYMBOLS, TimeUp};

/// Which of a file's tables.
#[derive(Debug)]
enum Table {
    Static,
    Dynamic,
    /// The dynamic one of a file without section headers.
    Headerless(DynamicSymbols),
}

/// Symbols of executable sections, by address.
#[derive(Debug)]
pub(crate) struct SymbolIndex {
    table: Table,
    addresses: Vec<u64>,
    indices: Vec<u32>,
    /// `STT_FILE` entries, ascending: a local symbol belongs to the last one before it.
    files: Vec<u32>,
    /// There were more than [`MAX_SYMBOLS`].
    pub(crate) cut: bool,
}

/// A symbol that covers an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) file: Option<&'a [u8]>,
}

impl SymbolIndex {
    /// Indexes `.symtab`, or `.dynsym` if there is no symbol in it, or what the dynamic loader is told of if there are no
    /// sections at all.
    pub(crate) fn build(file: &object::File<'_>, deadline: &Deadline) -> Result<Self, TimeUp> {
        if file.sections().next().is_none() {
            return Self::build_headerless(file, deadline);
        }
        let index = Self::build_one(file, Table::Static, deadline)?;
        if index.addresses.is_empty() { Self::build_one(file, Table::Dynamic, deadline) } else { Ok(index) }
    }

    fn of(table: Table) -> Self {
        Self { table, addresses: Vec::new(), indices: Vec::new(), files: Vec::new(), cut: false }
    }

    fn build_headerless(file: &object::File<'_>, deadline: &Deadline) -> Result<Self, TimeUp> {
        let Some(symbols) = DynamicSymbols::locate(file) else { return Ok(Self::of(Table::Dynamic)) };
        let (found, cut) = symbols.functions(file, deadline)?;
        let mut index = Self { cut, ..Self::of(Table::Headerless(symbols)) };
        index.settle(found);
        Ok(index)
    }

    fn build_one(file: &object::File<'_>, table: Table, deadline: &Deadline) -> Result<Self, TimeUp> {
        let mut index = Self::of(table);
        let Some(symbols) = index.symbols(file) else { return Ok(index) };
        let executable: HashSet<SectionIndex> = file
            .sections()
            .filter(|section| {
                let wanted = (constants::SHF_ALLOC | constants::SHF_EXECINSTR).0;
                matches!(section.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags.0 & wanted == wanted)
            })
            .map(|section| section.index())
            .collect();
        let mapping_symbols = file.architecture() == object::Architecture::Aarch64;
        let mut found: Vec<(u64, u64, u32)> = Vec::new();
        for symbol in symbols.symbols() {
            deadline.tick()?;
            let SymbolFlags::Elf { st_info, .. } = symbol.flags() else { continue };
            let number = symbol.index().0 as u32;
            match st_info.st_type() {
                constants::STT_FILE => index.files.push(number),
                constants::STT_NOTYPE | constants::STT_FUNC | constants::STT_OBJECT | constants::STT_GNU_IFUNC => {
                    if symbol.section_index().is_none_or(|section| !executable.contains(&section)) {
                        continue;
                    }
                    if mapping_symbols
                        && symbol.name_bytes().is_ok_and(|name| name.starts_with(b"$x") || name.starts_with(b"$d"))
                    {
                        continue;
                    }
                    if found.len() == MAX_SYMBOLS {
                        index.cut = true;
                        break;
                    }
                    found.push((symbol.address(), symbol.size(), number));
                }
                _ => {}
            }
        }
        index.settle(found);
        Ok(index)
    }

    /// Takes over (address, size, number) of each symbol; of those at one address the last by size and number.
    fn settle(&mut self, mut found: Vec<(u64, u64, u32)>) {
        found.sort_unstable();
        self.addresses.reserve_exact(found.len());
        self.indices.reserve_exact(found.len());
        for (position, (address, _, number)) in found.iter().enumerate() {
            if found.get(position + 1).is_some_and(|next| next.0 == *address) {
                continue;
            }
            self.addresses.push(*address);
            self.indices.push(*number);
        }
        self.addresses.shrink_to_fit();
        self.indices.shrink_to_fit();
        self.files.shrink_to_fit();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Heap bytes.
    pub(crate) fn weight(&self) -> usize {
        self.addresses.capacity() * 8 + (self.indices.capacity() + self.files.capacity()) * 4
    }

    /// The symbol that covers `address`; `file` is the one that this index was built from.
    pub(crate) fn find<'a>(&self, file: &object::File<'a>, address: u64) -> Option<Found<'a>> {
        let position = self.addresses.partition_point(|start| *start <= address).checked_sub(1)?;
        let number = *self.indices.get(position)?;
        if let Table::Headerless(symbols) = &self.table {
            return Some(Found { name: symbols.covering(file, number, address)?, file: None });
        }
        let symbols = self.symbols(file)?;
        let symbol = symbols.symbol_by_index(Index(number as usize)).ok()?;
        let covered = match symbol.size() {
            0 => same_section(file, &symbol, address),
            size => address.wrapping_sub(symbol.address()) < size,
        };
        if !covered {
            return None;
        }
        let source = if symbol.is_local() { self.source_file(&symbols, number) } else { None };
        Some(Found { name: symbol.name_bytes().ok().filter(|name| !name.is_empty())?, file: source })
    }

    fn source_file<'a>(&self, symbols: &object::read::SymbolTable<'a, '_>, number: u32) -> Option<&'a [u8]> {
        let position = self.files.partition_point(|file| *file < number).checked_sub(1)?;
        let entry = symbols.symbol_by_index(Index(*self.files.get(position)? as usize)).ok()?;
        entry.name_bytes().ok().filter(|name| !name.is_empty())
    }

    fn symbols<'a, 'file>(&self, file: &'file object::File<'a>) -> Option<object::read::SymbolTable<'a, 'file>> {
        match &self.table {
            Table::Static => file.symbol_table(),
            Table::Dynamic => file.dynamic_symbol_table(),
            Table::Headerless(_) => None,
        }
    }
}

fn same_section(file: &object::File<'_>, symbol: &object::read::Symbol<'_, '_>, address: u64) -> bool {
    symbol
        .section_index()
        .and_then(|section| file.section_by_index(section).ok())
        .is_some_and(|section| address >= section.address() && address - section.address() < section.size())
}
