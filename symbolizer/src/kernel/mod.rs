//! [`KernelSymbols`]: names for kernel addresses, from the bytes of `/proc/kallsyms` and `/proc/modules`, and from records about
//! code that comes and goes (BPF programs, trampolines).
//!
//! Compact: 24 bytes per function and one arena of names, about 6 MB for a distribution's kernel. Addresses leave as offsets
//! from `_text` or from the module's base, so that a profile does not give the kernel's layout away.

mod parse;

use std::collections::{BTreeMap, HashMap};

use crate::text::prefix;

/// What sort of kernel code a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelKind {
    /// The kernel proper, its trampolines included.
    Kernel,
    /// A loadable module.
    Module,
    /// A BPF program.
    Bpf,
}

/// A function of the kernel that contains an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSymbol<'a> {
    /// Its name.
    pub name: &'a str,
    /// The module that it is in.
    pub module: Option<&'a str>,
    /// The address, from the function's start.
    pub offset: u64,
    /// The address, from the start of what it is in: the kernel's `_text`, the module, the BPF program.
    pub relative_address: u64,
    /// What sort of code.
    pub kind: KernelKind,
}

/// Whether there are names at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelState {
    /// Names and addresses.
    Available,
    /// All addresses are zero: `kptr_restrict`, or no `CAP_SYSLOG`.
    Restricted,
    /// No symbols.
    Empty,
}

/// What parsing left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// Functions indexed.
    pub functions: u64,
    /// Lines that are not of the format.
    pub malformed: u64,
    /// Symbols beyond [`MAX_KERNEL_SYMBOLS`] or the arena.
    pub refused: u64,
    /// Records refused because there were already [`MAX_DYNAMIC`].
    pub dynamic_refused: u64,
}

/// Symbols taken from kallsyms.
pub const MAX_KERNEL_SYMBOLS: usize = 2_000_000;
/// BPF programs, trampolines and other code with its own record, at one time.
pub const MAX_DYNAMIC: usize = 1 << 16;
/// Longest function believed where nothing says where the last one ends.
pub const MAX_LAST_FUNCTION: u64 = 64 << 10;

#[derive(Clone, Copy, Debug)]
struct Function {
    start: u64,
    length: u32,
    name: u32,
    name_length: u16,
    /// Position in `modules` + 1; 0 = the kernel proper.
    module: u16,
}

#[derive(Debug)]
struct Module {
    name: String,
    base: u64,
}

#[derive(Debug)]
struct Dynamic {
    length: u64,
    name: String,
    kind: KernelKind,
}

/// Kernel addresses to names.
#[derive(Debug)]
pub struct KernelSymbols {
    state: KernelState,
    functions: Vec<Function>,
    names: String,
    modules: Vec<Module>,
    text: u64,
    dynamic: BTreeMap<u64, Dynamic>,
    counts: KernelCounts,
}

impl KernelSymbols {
    /// From the bytes of `/proc/kallsyms`, and of `/proc/modules` if it is readable (without it a module's base is taken to be
    /// its first function).
    pub fn parse(kallsyms: &[u8], modules: Option<&[u8]>) -> Self {
        parse::parse(kallsyms, modules)
    }

    /// Whether there are names at all.
    pub fn state(&self) -> KernelState {
        self.state
    }

    /// What parsing left out.
    pub fn counts(&self) -> KernelCounts {
        self.counts
    }

    /// Heap bytes, about.
    pub fn memory(&self) -> usize {
        self.functions.capacity() * size_of::<Function>() + self.names.capacity() + self.dynamic.len() * 128
    }

    /// The function that contains `address`.
    pub fn lookup(&self, address: u64) -> Option<KernelSymbol<'_>> {
        if let Some((start, code)) = self.dynamic.range(..=address).next_back()
            && address - start < code.length
        {
            let relative_address = match code.kind {
                KernelKind::Bpf => address - start,
                KernelKind::Kernel | KernelKind::Module => address.wrapping_sub(self.text),
            };
            return Some(KernelSymbol {
                name: &code.name,
                module: None,
                offset: address - start,
                relative_address,
                kind: code.kind,
            });
        }
        let position = self.functions.partition_point(|function| function.start <= address).checked_sub(1)?;
        let function = self.functions.get(position)?;
        let offset = address - function.start;
        if offset >= u64::from(function.length) {
            return None;
        }
        let name = self.names.get(function.name as usize..)?.get(..usize::from(function.name_length))?;
        let module = usize::from(function.module).checked_sub(1).and_then(|number| self.modules.get(number));
        Some(KernelSymbol {
            name,
            module: module.map(|module| &*module.name),
            offset,
            relative_address: address.wrapping_sub(module.map_or(self.text, |module| module.base)),
            kind: if module.is_some() { KernelKind::Module } else { KernelKind::Kernel },
        })
    }

    /// Code that came (PERF_RECORD_KSYMBOL): `length` bytes at `address`. What it overlaps is gone.
    pub fn add_ksym(&mut self, address: u64, length: u64, name: &str, kind: KernelKind) {
        let end = address.saturating_add(length);
        if end <= address {
            self.counts.malformed += 1;
            return;
        }
        let overlapping: Vec<u64> = self
            .dynamic
            .range(..end)
            .rev()
            .take_while(|(start, code)| **start >= address || start.saturating_add(code.length) > address)
            .map(|(start, _)| *start)
            .collect();
        for start in overlapping {
            self.dynamic.remove(&start);
        }
        if self.dynamic.len() >= MAX_DYNAMIC {
            self.counts.dynamic_refused += 1;
            return;
        }
        let name = prefix(name, usize::from(u16::MAX)).to_owned();
        self.dynamic.insert(address, Dynamic { length, name, kind });
    }

    /// Code that went.
    pub fn remove(&mut self, address: u64) {
        self.dynamic.remove(&address);
    }
}

/// Names of modules to their numbers, while parsing.
type ModuleNumbers = HashMap<String, u16>;

#[cfg(test)]
mod tests;
