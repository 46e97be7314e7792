//! Names for a finished batch: every distinct location once, by executable, never by process.
//!
//! What can't be named keeps its mapping, build id and address. Missing kernel symbols or perf maps cost names, never samples.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use symbolizer::kernel::{KernelKind, KernelSymbols};
use symbolizer::perf_map::{PerfMap, PerfMapLimits, locate};
use symbolizer::{Content, Executable as SymbolSource, Frame, Request, Symbolizer};

use super::run::Recording;
use crate::process::{ExecutableIndex, Executables, build_id_of_notes};
use crate::profile::{Batch, Function, FunctionIndex, Line, LocationKind, Mapping, MappingIndex};
use crate::sampler::perf_record::KernelSymbol as KernelSymbolRecord;

/// Largest `/tmp/perf-PID.map` that is read: a JVM's has a few MiB.
const MAX_PERF_MAP_BYTES: u64 = 64 << 20;
/// KASLR moves the kernel by multiples of 2 MiB, so these bits of an address tell nothing that it hides.
const BELOW_KASLR: u64 = (2 << 20) - 1;
/// How perf and pprof call the kernel proper.
const KERNEL: &str = "[kernel.kallsyms]";

/// How a finished recording is symbolized: nobody samples meanwhile, so files may take their time on a busy machine.
pub fn unhurried() -> symbolizer::Options {
    symbolizer::Options {
        wait: Duration::from_secs(120),
        file_time_limit: Duration::from_secs(60),
        ..symbolizer::Options::default()
    }
}

/// Fills in the lines of every location that has a name.
pub fn name_locations(recording: &mut Recording, symbolizer: &Symbolizer, proc_root: &Path) {
    let mut functions = Functions::default();
    name_user_code(recording, symbolizer, &mut functions);
    name_run_time_code(recording, proc_root, &mut functions);
    let kernel = kernel_symbols(proc_root, &recording.kernel_symbols);
    name_kernel(&mut recording.batch, &kernel, &mut functions);
}

fn name_user_code(recording: &mut Recording, symbolizer: &Symbolizer, functions: &mut Functions) {
    let Recording { batch, executables, mapping_executables, .. } = recording;
    let mut by_executable: HashMap<ExecutableIndex, Vec<usize>> = HashMap::new();
    for (number, location) in batch.locations.iter_mut().enumerate() {
        let Some(mapping) = location.mapping else { continue };
        if let Some(Some(executable)) = mapping_executables.get(mapping.0 as usize) {
            by_executable.entry(*executable).or_default().push(number);
            if executables.get(*executable).is_some_and(|executable| executable.is_go) {
                location.kind = LocationKind::Go;
            }
        }
    }
    let mut wanted: Vec<(ExecutableIndex, Vec<usize>)> = by_executable.into_iter().collect();
    wanted.sort_unstable_by_key(|(executable, _)| *executable);
    for (executable, locations) in wanted {
        let Some(source) = source_of(executables, executable) else { continue };
        let addresses = locations.iter().map(|number| batch.locations[*number].address).collect();
        let found = symbolizer.symbolize(&[Request { executable: Arc::new(source), addresses }]);
        for (number, frames) in locations.into_iter().zip(found.into_iter().flatten()) {
            let lines = frames.iter().map(|frame| functions.line_of(batch, frame)).collect();
            batch.locations[number].lines = lines;
        }
    }
}

fn source_of(executables: &Executables, index: ExecutableIndex) -> Option<SymbolSource> {
    let executable = executables.get(index)?;
    let content = match &executable.file {
        Some(file) => Content::File(file.clone()),
        None => Content::Bytes(crate::process::vdso::image().into()),
    };
    Some(SymbolSource {
        key: u64::from(index.0),
        content,
        path: executable.path.as_ref().into(),
        root: executable.root.clone(),
    })
}

/// Code made at run time: by the map that the run time wrote, if it wrote one.
fn name_run_time_code(recording: &mut Recording, proc_root: &Path, functions: &mut Functions) {
    let batch = &mut recording.batch;
    let mut by_mapping: HashMap<MappingIndex, Vec<usize>> = HashMap::new();
    for (number, location) in batch.locations.iter().enumerate() {
        if let Some(mapping) = location.mapping.filter(|mapping| recording.jit_pids.contains_key(&mapping.0)) {
            by_mapping.entry(mapping).or_default().push(number);
        }
    }
    let mut wanted: Vec<(MappingIndex, Vec<usize>)> = by_mapping.into_iter().collect();
    wanted.sort_unstable_by_key(|(mapping, _)| *mapping);
    for (mapping, locations) in wanted {
        let Some(map) = recording.jit_pids.get(&mapping.0).and_then(|pid| perf_map(proc_root, *pid)) else { continue };
        for number in locations {
            if let Some(name) = map.lookup(batch.locations[number].address) {
                let line = functions.line(batch, name);
                batch.locations[number].lines = vec![line];
            }
        }
    }
}

fn perf_map(proc_root: &Path, pid: u32) -> Option<PerfMap> {
    let bytes = locate::open(proc_root, pid, MAX_PERF_MAP_BYTES).and_then(|mut file| file.read()).ok()?;
    Some(PerfMap::parse(&bytes, PerfMapLimits::default()))
}

/// The kernel's symbols as they are now, and what came and went while recording.
fn kernel_symbols(proc_root: &Path, records: &[KernelSymbolRecord]) -> KernelSymbols {
    let kallsyms = std::fs::read(proc_root.join("kallsyms")).unwrap_or_default();
    let modules = std::fs::read(proc_root.join("modules")).ok();
    let mut symbols = KernelSymbols::parse(&kallsyms, modules.as_deref());
    for record in records {
        // What went is still wanted for the samples before; a new program at the same place takes over.
        if !record.removed {
            let name = String::from_utf8_lossy(&record.name);
            symbols.add_ksym(record.address, u64::from(record.length), &name, KernelKind::Bpf);
        }
    }
    symbols
}

fn name_kernel(batch: &mut Batch, kernel: &KernelSymbols, functions: &mut Functions) {
    let build_id = std::fs::read("/sys/kernel/notes").ok().and_then(|notes| build_id_of_notes(&notes));
    for number in 0..batch.locations.len() {
        if batch.locations[number].kind != LocationKind::Kernel {
            continue;
        }
        let address = batch.locations[number].address;
        let (kind, mapping, relative, name) = match kernel.lookup(address) {
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
        let id = if mapping == KERNEL { build_id.as_deref().unwrap_or("") } else { "" };
        let mapping = mapping_of(batch, &mapping, id);
        let lines = name.map(|name| functions.line(batch, name)).into_iter().collect();
        let location = &mut batch.locations[number];
        location.kind = kind;
        location.mapping = Some(mapping);
        location.address = relative;
        location.lines = lines;
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

/// Each function once.
#[derive(Default)]
struct Functions {
    index: HashMap<Function, FunctionIndex>,
}

impl Functions {
    fn line_of(&mut self, batch: &mut Batch, frame: &Frame) -> Line {
        let function = Function {
            name: batch.strings.intern(&frame.function),
            system_name: batch.strings.intern(&frame.linkage_name),
            filename: batch.strings.intern(frame.file.as_deref().unwrap_or("")),
            start_line: frame.start_line,
        };
        Line { function: self.intern(batch, function), line: frame.line, column: frame.column }
    }

    /// A name and nothing else.
    fn line(&mut self, batch: &mut Batch, name: &str) -> Line {
        let name = batch.strings.intern(name);
        let function = Function { name, system_name: name, filename: batch.strings.intern(""), start_line: 0 };
        Line { function: self.intern(batch, function), line: 0, column: 0 }
    }

    fn intern(&mut self, batch: &mut Batch, function: Function) -> FunctionIndex {
        let next = FunctionIndex(batch.functions.len() as u32);
        *self.index.entry(function.clone()).or_insert_with(|| {
            batch.functions.push(function);
            next
        })
    }
}
