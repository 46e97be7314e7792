//! Folded stacks: one line per stack, `process;root;…;leaf value`, sorted: what flame graph tools take.
//!
//! The format has no escapes: a `;` in a name becomes `:`, a line break a space, and the space before a number at a name's
//! end `_`. Other control characters, and the two that XML has no place for, become `?`: the picture is made of these lines.

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

/// Most text that is made: a small hostile profile can name a long text very often.
pub const MAX_BYTES: usize = 1 << 30;

/// A profile whose lines would be too much text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the profile's stacks are more than {MAX_BYTES} bytes of text")]
pub struct TooMuchText;

/// All stacks of one sample type with a value other than 0.
///
/// # Errors
/// The lines are more than [`MAX_BYTES`].
pub fn render(table: &StackTable, sample_type: usize, options: FoldedOptions) -> Result<String, TooMuchText> {
    render_within(table, sample_type, options, MAX_BYTES)
}

fn render_within(
    table: &StackTable,
    sample_type: usize,
    options: FoldedOptions,
    limit: usize,
) -> Result<String, TooMuchText> {
    let mut lines: BTreeMap<String, i128> = BTreeMap::new();
    let mut bytes = 0_usize;
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
            if let Some(frame) = table.frames.get(frame.0 as usize) {
                push_frame(&mut line, table, frame, options);
            }
            if line.len() > limit {
                return Err(TooMuchText);
            }
        }
        if line.is_empty() {
            line.push_str("[no stack]");
        }
        let length = line.len();
        *lines.entry(line).or_insert_with(|| {
            bytes = bytes.saturating_add(length);
            0
        }) += i128::from(value);
        if bytes > limit {
            return Err(TooMuchText);
        }
    }
    let mut text = String::new();
    for (line, value) in lines.into_iter().filter(|(_, value)| *value != 0) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{line} {value}");
    }
    Ok(text)
}

fn push_frame(line: &mut String, table: &StackTable, frame: &Frame, options: FoldedOptions) {
    let Some(function) = table.functions.get(frame.function.0 as usize) else { return };
    push_escaped(line, table.text(function.name));
    if options.annotate {
        line.push_str(match function.kind {
            LocationKind::Kernel | LocationKind::KernelModule | LocationKind::Bpf => "_[k]",
            LocationKind::Jit | LocationKind::Interpreter => "_[j]",
            _ if frame.inlined => "_[i]",
            _ => "",
        });
    }
}

fn push_escaped(line: &mut String, name: &str) {
    let start = line.len();
    line.extend(name.chars().map(|letter| match letter {
        ';' => ':',
        '\n' | '\r' | '\0' => ' ',
        '\u{fffe}' | '\u{ffff}' => '?',
        other if other.is_control() => '?',
        other => other,
    }));
    // Looked for in what was written: an escape may be shorter than what it stands for, and be a space itself.
    let written = &line[start..];
    let is_comment = written.starts_with("# ");
    // At a line's end `worker 12` would be read as a name and a number, at its start `# x` as a comment.
    if let Some((before, last)) = written.rsplit_once(' ')
        && last.chars().all(|letter| letter.is_ascii_digit() || letter == '.')
    {
        let space = start + before.len();
        line.replace_range(space..=space, "_");
    }
    if is_comment {
        line.replace_range(start + 1..start + 2, "_");
    }
}

#[cfg(test)]
mod tests {
    use super::{FoldedOptions, TooMuchText, push_escaped, render_within};
    use crate::report::StackTable;
    use crate::report::stack_table::{
        Frame, FrameId, FunctionId, SampleType, StackId, StackSample, TableFunction, TextId,
    };

    #[test]
    fn names_lose_what_the_format_can_not_hold() {
        let cases = [
            ("plain name", "plain name"),
            ("[u8; 8]", "[u8: 8]"),
            ("a\nb\0c", "a b c"),
            ("worker 12", "worker_12"),
            ("worker; 1.5", "worker:_1.5"),
            ("# x", "#_x"),
            ("ends in a space ", "ends in a space_"),
            ("worker\n12", "worker_12"),
            ("#\nx", "#_x"),
            // Each of two or three bytes, before the space that is replaced.
            ("\x1b[2J\u{9b}\u{fffe}\u{ffff} 12", "?[2J???_12"),
            ("tab\tdelete\u{7f}", "tab?delete?"),
            ("", ""),
        ];
        for (name, expected) in cases {
            let mut line = "é;".to_owned();
            push_escaped(&mut line, name);
            assert_eq!(line, format!("é;{expected}"));
        }
    }

    #[test]
    fn more_text_than_allowed_is_an_error() {
        let function = TableFunction {
            name: TextId(1),
            file: TextId(0),
            start_line: 0,
            mapping: TextId(0),
            kind: crate::profile::LocationKind::Native,
            named: true,
        };
        let table = StackTable {
            strings: vec![String::new(), "12345".to_owned()],
            functions: vec![function],
            frames: vec![Frame { function: FunctionId(0), line: 0, inlined: false }],
            stacks: vec![vec![FrameId(0); 2]],
            samples: vec![StackSample { stack: StackId(0), owner: None, unwind: TextId(0), values: vec![1] }; 3],
            sample_types: vec![SampleType { name: "n".to_owned(), unit: "count".to_owned() }],
            ..StackTable::default()
        };
        assert_eq!(render_within(&table, 0, FoldedOptions::default(), 11), Ok("12345;12345 3\n".to_owned()));
        assert_eq!(render_within(&table, 0, FoldedOptions::default(), 10), Err(TooMuchText));
    }
}
