//! Names for a finished batch: every distinct location once, by executable, never by process.

use std::collections::HashMap;
use std::sync::Arc;

use symbolizer::{Content, Executable as SymbolSource, Frames, Request, Symbolizer};

use super::run::Recording;
use crate::process::{ExecutableIndex, Executables};
use crate::profile::{Batch, Function, FunctionIndex, Line, LocationKind};

/// Fills in the lines of every location that has a name.
pub fn name_locations(recording: &mut Recording, symbolizer: &Symbolizer) {
    name_user_code(recording, symbolizer);
}

fn name_user_code(recording: &mut Recording, symbolizer: &Symbolizer) {
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
    let mut functions = Functions::default();
    for (executable, locations) in wanted {
        let Some(source) = source_of(executables, executable) else { continue };
        let addresses = locations.iter().map(|number| batch.locations[*number].address).collect();
        let found = symbolizer.symbolize(&[Request { executable: Arc::new(source), addresses }]);
        for (number, frames) in locations.into_iter().zip(found.into_iter().flatten()) {
            let lines = functions.lines(batch, &frames);
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

/// Each function once.
#[derive(Default)]
struct Functions {
    index: HashMap<Function, FunctionIndex>,
}

impl Functions {
    fn lines(&mut self, batch: &mut Batch, frames: &Frames) -> Vec<Line> {
        frames
            .iter()
            .map(|frame| {
                let function = Function {
                    name: batch.strings.intern(&frame.function),
                    system_name: batch.strings.intern(&frame.linkage_name),
                    filename: batch.strings.intern(frame.file.as_deref().unwrap_or("")),
                    start_line: frame.start_line,
                };
                Line { function: self.intern(batch, function), line: frame.line, column: frame.column }
            })
            .collect()
    }

    fn intern(&mut self, batch: &mut Batch, function: Function) -> FunctionIndex {
        let next = FunctionIndex(batch.functions.len() as u32);
        *self.index.entry(function.clone()).or_insert_with(|| {
            batch.functions.push(function);
            next
        })
    }
}
