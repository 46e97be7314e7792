//! Kernel frames: kallsyms read once, then kept true by ksymbol records; read again when an address has no name, since a module
//! may have been loaded.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use symbolizer::kernel::{KernelKind, KernelSymbols};

use super::functions::Functions;
use crate::process::build_id_of_notes;
use crate::sampler::perf_record::KernelSymbol as KernelSymbolRecord;
use profiles::profile::{Batch, LocationKind, Mapping, MappingIndex};

/// KASLR moves the kernel by multiples of 2 MiB, so these bits of an address tell nothing that it hides.
const BELOW_KASLR: u64 = (2 << 20) - 1;
/// How perf and pprof call the kernel proper.
const KERNEL: &str = "[kernel.kallsyms]";
/// Least time between two readings of kallsyms: one takes about 0.1 s of processor time.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// The kernel's symbols.
pub(super) struct Kernel {
    proc_root: PathBuf,
    read: Option<(KernelSymbols, Instant)>,
    build_id: Option<String>,
}

impl Kernel {
    pub(super) fn new(proc_root: &Path) -> Kernel {
        Kernel { proc_root: proc_root.to_owned(), read: None, build_id: None }
    }

    /// Names the batch's kernel locations; `records` are the kernel code that came and went meanwhile.
    pub(super) fn name(&mut self, batch: &mut Batch, records: &[KernelSymbolRecord], functions: &mut Functions) {
        let of_kernel = |batch: &Batch, number: usize| batch.locations[number].kind == LocationKind::Kernel;
        let wanted: Vec<usize> = (0..batch.locations.len()).filter(|number| of_kernel(batch, *number)).collect();
        if let Some((symbols, _)) = &mut self.read {
            add(symbols, records);
        }
        if wanted.is_empty() {
            return;
        }
        let unnamed = |symbols: &KernelSymbols| {
            wanted.iter().any(|number| symbols.lookup(batch.locations[*number].address).is_none())
        };
        let read = match self.read.take() {
            Some((symbols, at)) if at.elapsed() < READ_AGAIN || !unnamed(&symbols) => (symbols, at),
            _ => {
                self.build_id = std::fs::read("/sys/kernel/notes").ok().and_then(|notes| build_id_of_notes(&notes));
                let mut symbols = self.parse();
                add(&mut symbols, records);
                (symbols, Instant::now())
            }
        };
        let (symbols, _) = self.read.insert(read);
        for number in wanted {
            let address = batch.locations[number].address;
            let (kind, mapping, relative, name) = match symbols.lookup(address) {
                Some(symbol) => {
                    let (kind, mapping) = match (symbol.kind, symbol.module) {
                        (KernelKind::Bpf, _) => (LocationKind::Bpf, "[bpf]".to_owned()),
                        (KernelKind::Module, Some(module)) => (LocationKind::KernelModule, format!("[{module}]")),
                        _ => (LocationKind::Kernel, KERNEL.to_owned()),
                    };
                    (kind, mapping, symbol.relative_address, Some(symbol.name))
                }
                None => (LocationKind::Kernel, KERNEL.to_owned(), address & BELOW_KASLR, None),
            };
            let id = if mapping == KERNEL { self.build_id.as_deref().unwrap_or("") } else { "" };
            let mapping = mapping_of(batch, &mapping, id);
            let lines = name.map(|name| functions.line(batch, name)).into_iter().collect();
            let location = &mut batch.locations[number];
            location.kind = kind;
            location.mapping = Some(mapping);
            location.address = relative;
            location.lines = lines;
        }
    }

    fn parse(&self) -> KernelSymbols {
        let kallsyms = std::fs::read(self.proc_root.join("kallsyms")).unwrap_or_default();
        let modules = std::fs::read(self.proc_root.join("modules")).ok();
        KernelSymbols::parse(&kallsyms, modules.as_deref())
    }
}

/// What went is still wanted for the samples before; a new program at the same place takes over.
fn add(symbols: &mut KernelSymbols, records: &[KernelSymbolRecord]) {
    for record in records.iter().filter(|record| !record.removed) {
        let name = String::from_utf8_lossy(&record.name);
        let kind = if record.kind == KernelSymbolRecord::BPF { KernelKind::Bpf } else { KernelKind::Kernel };
        symbols.add_ksym(record.address, u64::from(record.length), &name, kind);
    }
}

fn mapping_of(batch: &mut Batch, filename: &str, build_id: &str) -> MappingIndex {
    let wanted = Mapping { filename: batch.strings.intern(filename), build_id: batch.strings.intern(build_id) };
    let found = batch.mappings.iter().position(|mapping| *mapping == wanted);
    MappingIndex(found.unwrap_or_else(|| {
        batch.mappings.push(wanted);
        batch.mappings.len() - 1
    }) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_are_bpf() {
        let record =
            |address, kind| KernelSymbolRecord { address, length: 16, kind, removed: false, name: b"code".to_vec() };
        let mut symbols = KernelSymbols::parse(b"", None);
        add(&mut symbols, &[record(0x1000, 1), record(0x2000, 2), record(0x3000, 0)]);
        let kinds = [0x1000, 0x2000, 0x3000].map(|address| symbols.lookup(address).unwrap().kind);
        assert_eq!(kinds, [KernelKind::Bpf, KernelKind::Kernel, KernelKind::Kernel]);
    }
}
