//! The functions of one batch, each once.

use hashbrown::HashMap;

use symbolizer::Frame;

use profiles::profile::{Batch, Function, FunctionIndex, Line};

/// Which functions the batch has already.
#[derive(Default)]
pub(super) struct Functions {
    index: HashMap<Function, FunctionIndex>,
}

impl Functions {
    /// A frame of the symbolizer.
    pub(super) fn line_of(&mut self, batch: &mut Batch, frame: &Frame) -> Line {
        let function = Function {
            name: batch.strings.intern(&frame.function),
            system_name: batch.strings.intern(&frame.linkage_name),
            filename: batch.strings.intern(frame.file.as_deref().unwrap_or("")),
            start_line: frame.start_line,
        };
        Line { function: self.intern(batch, function), line: frame.line, column: frame.column }
    }

    /// A name and nothing else.
    pub(super) fn line(&mut self, batch: &mut Batch, name: &str) -> Line {
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
