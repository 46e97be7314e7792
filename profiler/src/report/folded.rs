//! Folded stacks: one line per stack, `process;root;…;leaf value`, sorted: what flame graph tools take.
//!
//! The format has no escapes: a `;` in a name becomes `:`, a line break a space, and the space before a number at a name's
//! end `_`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::stack_table::{Frame, StackTable};
use crate::profile::LocationKind;

/// How lines are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldedOptions {
    /// Start each line with the process's name, if the profile knows it.
    pub by_process: bool,
    /// Mark frames with flame graph tools' own suffixes: `_[k]` kernel, `_[i]` inlined, `_[j]` code made at run time.
    pub annotate: bool,
}

impl Default for FoldedOptions {
    fn default() -> Self {
        FoldedOptions { by_process: true, annotate: false }
    }
}

/// All stacks of one sample type with a value other than 0.
pub fn render(table: &StackTable, sample_type: usize, options: FoldedOptions) -> String {
    let names: Vec<String> = table.frames.iter().map(|frame| name(table, frame, options)).collect();
    let mut lines: BTreeMap<String, i128> = BTreeMap::new();
    for sample in &table.samples {
        let value = sample.values.get(sample_type).copied().unwrap_or(0);
        let owner = sample.owner.and_then(|owner| table.owners.get(owner.0 as usize));
        let process = owner.filter(|_| options.by_process).map_or("", |owner| table.text(owner.process));
        let mut line = String::new();
        if !process.is_empty() {
            push_escaped(&mut line, process);
        }
        for frame in table.frames_of(sample.stack) {
            if !line.is_empty() {
                line.push(';');
            }
            line.push_str(names.get(frame.0 as usize).map_or("", |name| name));
        }
        if line.is_empty() {
            line.push_str("[no stack]");
        }
        *lines.entry(line).or_default() += i128::from(value);
    }
    let mut text = String::new();
    for (line, value) in lines.into_iter().filter(|(_, value)| *value != 0) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{line} {value}");
    }
    text
}

fn name(table: &StackTable, frame: &Frame, options: FoldedOptions) -> String {
    let mut name = String::new();
    let Some(function) = table.functions.get(frame.function.0 as usize) else { return name };
    push_escaped(&mut name, table.text(function.name));
    if options.annotate {
        name.push_str(match function.kind {
            LocationKind::Kernel | LocationKind::KernelModule | LocationKind::Bpf => "_[k]",
            LocationKind::Jit | LocationKind::Interpreter => "_[j]",
            _ if frame.inlined => "_[i]",
            _ => "",
        });
    }
    name
}

fn push_escaped(line: &mut String, name: &str) {
    let start = line.len();
    line.extend(name.chars().map(|letter| match letter {
        ';' => ':',
        '\n' | '\r' | '\0' => ' ',
        other => other,
    }));
    // At a line's end `worker 12` would be read as a name and a number, at its start `# x` as a comment.
    let last = line.rfind(' ').filter(|space| *space >= start);
    let number =
        last.is_some_and(|space| line[space + 1..].chars().all(|letter| letter.is_ascii_digit() || letter == '.'));
    if let (Some(space), true) = (last, number) {
        line.replace_range(space..=space, "_");
    }
    if line[start..].starts_with("# ") {
        line.replace_range(start + 1..start + 2, "_");
    }
}
