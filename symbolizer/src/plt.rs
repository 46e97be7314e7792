//! [`Stubs`]: names of the stubs that calls of other libraries' functions go through (`puts@plt`), as `objdump` gives them.
//!
//! x86-64 only. A stub is known by its jump through a slot of the global offset table, its name by the relocation that fills that
//! slot: so the form of a linker's stubs is of no account (lazy or not, with `endbr64` and `.plt.sec` or not, static or not).
//! The first entry of a lazy table, which all others jump to, has no name, as in `objdump`.

use std::collections::HashMap;

use object::elf::{R_X86_64_GLOB_DAT, R_X86_64_IRELATIVE, R_X86_64_JUMP_SLOT};
use object::read::elf::{FileHeader, Rela, SectionHeader};
use object::read::{ObjectSymbol, ObjectSymbolTable};
use object::{Object, ObjectSection, SymbolIndex as Index};

use crate::dynamic::elf64;
use crate::limits::{Deadline, MAX_STUB_RELOCATIONS, MAX_STUBS, TimeUp};

/// What a stub jumps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A symbol of `.dynsym`.
    Symbol(u32),
    /// What the function at this address chooses at the start (`STT_GNU_IFUNC`).
    ChosenBy(u64),
}

#[derive(Debug)]
struct Stub {
    start: u64,
    length: u8,
    target: Target,
}

/// The stubs of one file, by address.
#[derive(Debug, Default)]
pub(crate) struct Stubs {
    stubs: Vec<Stub>,
    /// There were more than [`MAX_STUBS`], or more than [`MAX_STUB_RELOCATIONS`] had to be looked at.
    pub(crate) cut: bool,
}

/// Sections of stubs.
const SECTIONS: [&str; 4] = [".plt", ".plt.sec", ".plt.got", ".iplt"];
/// Stubs begin at multiples of this.
const ALIGNMENT: usize = 8;
/// No stub is longer.
const LONGEST: u64 = 16;

/// The distance from the end of the jump to the slot, and where the jump ends, if `bytes` begin with a stub.
fn jump(bytes: &[u8]) -> Option<(i32, usize)> {
    let mut at = 0;
    let mut skip = |expected: &[u8]| {
        let there = bytes.get(at..).is_some_and(|rest| rest.starts_with(expected));
        at += if there { expected.len() } else { 0 };
        there
    };
    skip(&[0xf3, 0x0f, 0x1e, 0xfa]); // endbr64
    if skip(&[0x41, 0xbb]) {
        skip(bytes.get(6..10)?); // mov $index, %r11d
    }
    skip(&[0xf2]); // bnd
    // jmp *slot(%rip)
    if !skip(&[0xff, 0x25]) {
        return None;
    }
    let distance = bytes.get(at..)?.first_chunk::<4>()?;
    Some((i32::from_le_bytes(*distance), at + 4))
}

impl Stubs {
    /// Finds the stubs of `file`, whose bytes are `image`.
    pub(crate) fn load(file: &object::File<'_>, image: &[u8], deadline: &Deadline) -> Result<Self, TimeUp> {
        let mut stubs = Self::default();
        if file.architecture() != object::Architecture::X86_64 {
            return Ok(stubs);
        }
        // Start, length, slot.
        let mut found: Vec<(u64, u8, u64)> = Vec::new();
        for name in SECTIONS {
            let Some(section) = file.section_by_name(name) else { continue };
            let place = section.file_range().and_then(|(offset, size)| {
                let start = usize::try_from(offset).ok()?;
                image.get(start..start.checked_add(usize::try_from(size).ok()?)?)
            });
            let Some(bytes) = place else { continue };
            for at in (0..bytes.len()).step_by(ALIGNMENT) {
                deadline.tick()?;
                let Some((distance, end)) = jump(&bytes[at..]) else { continue };
                if found.len() == MAX_STUBS {
                    stubs.cut = true;
                    break;
                }
                let start = section.address().wrapping_add(at as u64);
                let slot = start.wrapping_add(end as u64).wrapping_add_signed(distance.into());
                found.push((start, (bytes.len() - at).min(LONGEST as usize) as u8, slot));
            }
        }
        let targets = stubs.targets(file, image, &found, deadline)?;
        found.sort_unstable();
        for (position, (start, length, slot)) in found.iter().enumerate() {
            let Some(target) = targets.get(slot).copied().flatten() else { continue };
            let apart = found.get(position + 1).map_or(LONGEST, |next| (next.0 - start).min(LONGEST));
            stubs.stubs.push(Stub { start: *start, length: (*length).min(apart as u8), target });
        }
        stubs.stubs.shrink_to_fit();
        Ok(stubs)
    }

    /// What fills each slot.
    fn targets(
        &mut self,
        file: &object::File<'_>,
        image: &[u8],
        found: &[(u64, u8, u64)],
        deadline: &Deadline,
    ) -> Result<HashMap<u64, Option<Target>>, TimeUp> {
        let mut targets: HashMap<u64, Option<Target>> = found.iter().map(|(_, _, slot)| (*slot, None)).collect();
        let Some(elf) = elf64(file) else { return Ok(targets) };
        let endian = elf.endian();
        let mips = elf.elf_header().is_mips64el(endian);
        let (mut missing, mut left) = (targets.len(), MAX_STUB_RELOCATIONS);
        // Slots of stubs are named by the last relocations: those of the procedure linkage table come after all others, and
        // among the others those with a symbol after the relative ones.
        for section in elf.elf_section_table().iter().collect::<Vec<_>>().into_iter().rev() {
            let Ok(Some((relocations, _))) = section.rela(endian, image) else { continue };
            for relocation in relocations.iter().rev() {
                if missing == 0 {
                    return Ok(targets);
                }
                if left == 0 {
                    self.cut = true;
                    return Ok(targets);
                }
                left -= 1;
                deadline.tick()?;
                let Some(target @ None) = targets.get_mut(&relocation.r_offset(endian)) else { continue };
                *target = match relocation.r_type(endian, mips) {
                    R_X86_64_JUMP_SLOT | R_X86_64_GLOB_DAT => Some(Target::Symbol(relocation.r_sym(endian, mips))),
                    R_X86_64_IRELATIVE => Some(Target::ChosenBy(relocation.r_addend(endian) as u64)),
                    _ => continue,
                };
                missing -= 1;
            }
        }
        Ok(targets)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stubs.is_empty()
    }

    /// Heap bytes.
    pub(crate) fn weight(&self) -> usize {
        self.stubs.capacity() * size_of::<Stub>()
    }

    /// What the stub at `address` jumps to.
    pub(crate) fn find(&self, address: u64) -> Option<Target> {
        let position = self.stubs.partition_point(|stub| stub.start <= address).checked_sub(1)?;
        let stub = self.stubs.get(position)?;
        (address - stub.start < u64::from(stub.length)).then_some(stub.target)
    }
}

impl Target {
    /// The name of the symbol, if it is one; `file` is the one that the stub was found in.
    pub(crate) fn symbol<'a>(self, file: &object::File<'a>) -> Option<&'a [u8]> {
        let Target::Symbol(number) = self else { return None };
        let symbols = file.dynamic_symbol_table()?;
        let symbol = symbols.symbol_by_index(Index(number as usize)).ok()?;
        symbol.name_bytes().ok().filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::jump;

    #[test]
    fn jumps_of_every_linkers_stubs_are_read_and_no_others() {
        type Case<'a> = (&'a str, &'a [u8], Option<(i32, usize)>);
        let cases: [Case<'_>; 9] = [
            ("lazy", &[0xff, 0x25, 0xca, 0x2f, 0, 0, 0x68, 0, 0, 0, 0], Some((0x2fca, 6))),
            ("endbr64", &[0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, 1, 0, 0, 0], Some((1, 10))),
            ("endbr64 bnd", &[0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0xff, 0xff, 0xff, 0xff], Some((-1, 11))),
            (
                "endbr64 with an index",
                &[0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0xbb, 7, 0, 0, 0, 0xff, 0x25, 2, 0, 0, 0],
                Some((2, 16)),
            ),
            ("cut", &[0xff, 0x25, 0xca, 0x2f, 0], None),
            ("an index cut", &[0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0xbb, 7], None),
            ("the first of a lazy table", &[0xff, 0x35, 0xca, 0x2f, 0, 0, 0xff, 0x25], None),
            ("a call", &[0xff, 0x15, 0xca, 0x2f, 0, 0], None),
            ("nothing", &[], None),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(jump(bytes), expected, "{name}");
        }
    }
}
