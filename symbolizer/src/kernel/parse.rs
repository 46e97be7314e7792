//! The text formats of `/proc/kallsyms` (`address type name [module]`) and `/proc/modules`
//! (`name size references dependencies state address`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::{
    Function, KernelCounts, KernelKind, KernelState, KernelSymbols, MAX_KERNEL_SYMBOLS, MAX_LAST_FUNCTION, Module,
    ModuleNumbers,
};

/// Pseudo-module of BPF programs.
const BPF: &str = "bpf";
/// Pseudo-modules of code that the kernel itself makes (`__builtin__kprobes`, `__builtin__ftrace`).
const BUILTIN: &str = "__builtin__";
/// Modules numbered; the rest count as refused.
const MAX_MODULES: usize = u16::MAX as usize - 1;

struct Line<'a> {
    address: u64,
    kind: u8,
    name: &'a str,
    module: Option<&'a str>,
}

fn line(text: &[u8]) -> Option<Line<'_>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let [kind] = *words.next()?.as_bytes() else { return None };
    let name = words.next()?;
    let module = match words.next() {
        Some(word) => Some(word.strip_prefix('[')?.strip_suffix(']')?),
        None => None,
    };
    (name.len() <= usize::from(u16::MAX)).then_some(Line { address, kind, name, module })
}

/// Better aliases are greater: functions before marks of the text's parts, this machine's system calls before those of 32-bit
/// programs, strong before weak, global before local, fewer leading underscores, longer, first.
fn rank(line: &Line<'_>, order: usize) -> (bool, bool, bool, bool, Reverse<usize>, usize, Reverse<usize>) {
    let mark = ["_text", "_stext", "__pi__text", "_sinittext"].contains(&line.name)
        || ["_text_start", "_text_end"].iter().any(|end| line.name.ends_with(end));
    let compatibility = line.name.contains("__ia32_");
    let underscores = line.name.bytes().take_while(|byte| *byte == b'_').count();
    let weak = line.kind.eq_ignore_ascii_case(&b'w');
    (
        !mark,
        !compatibility,
        !weak,
        line.kind.is_ascii_uppercase(),
        Reverse(underscores),
        line.name.len(),
        Reverse(order),
    )
}

/// Names that are data by their type letter are kept only to say where the function before them ends.
fn is_code(kind: u8) -> bool {
    matches!(kind, b't' | b'T' | b'w' | b'W' | b'i')
}

/// Module name → (base, end).
fn module_ranges(modules: &[u8]) -> HashMap<&str, (u64, u64)> {
    let mut ranges = HashMap::new();
    for text in modules.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [name, size, _, _, _, address, ..] = words[..] else { continue };
        let base = address.strip_prefix("0x").and_then(|address| u64::from_str_radix(address, 16).ok());
        if let (Ok(size), Some(base)) = (size.parse::<u64>(), base)
            && base != 0
        {
            ranges.insert(name, (base, base.saturating_add(size)));
        }
    }
    ranges
}

pub(super) fn parse(kallsyms: &[u8], modules: Option<&[u8]>) -> KernelSymbols {
    let mut counts = KernelCounts::default();
    let ranges = modules.map(module_ranges).unwrap_or_default();
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut any = false;
    for text in kallsyms.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
        match line(text) {
            Some(line) if lines.len() < MAX_KERNEL_SYMBOLS => {
                any = true;
                if line.address != 0 && !line.kind.eq_ignore_ascii_case(&b'a') {
                    lines.push(line);
                }
            }
            Some(_) => counts.refused += 1,
            None => counts.malformed += 1,
        }
    }
    let state = match (lines.is_empty(), any) {
        (false, _) => KernelState::Available,
        (true, true) => KernelState::Restricted,
        (true, false) => KernelState::Empty,
    };
    let find = |wanted: &str| lines.iter().find(|line| line.module.is_none() && line.name == wanted).map(|l| l.address);
    let text = find("_text").or_else(|| find("_stext")).unwrap_or(0);
    // Several markers end text; the nearest one after an address counts.
    let ends: Vec<u64> = ["_etext", "_einittext", "__init_end"].iter().filter_map(|name| find(name)).collect();

    let mut symbols = KernelSymbols {
        state,
        functions: Vec::new(),
        names: String::new(),
        modules: Vec::new(),
        text,
        dynamic: BTreeMap::new(),
        counts,
    };
    let mut numbers = ModuleNumbers::new();
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_unstable_by_key(|position| (lines[*position].address, *position));
    let mut position = 0;
    while let Some(first) = order.get(position) {
        let address = lines[*first].address;
        let count = order[position..].iter().take_while(|other| lines[**other].address == address).count();
        let group = &order[position..position + count];
        position += count;
        let Some(best) = group.iter().filter(|p| is_code(lines[**p].kind)).max_by_key(|p| rank(&lines[**p], **p))
        else {
            continue;
        };
        let best = &lines[*best];
        let next = order.get(position).map(|next| lines[*next].address);
        let bound = match best.module {
            None => ends.iter().copied().filter(|end| *end > address).min(),
            Some(module) => ranges.get(module).map(|(_, end)| *end).filter(|end| *end > address),
        };
        let end = [next, bound].into_iter().flatten().min().unwrap_or(address.saturating_add(MAX_LAST_FUNCTION));
        // Between the kernel and its modules, or between modules, lies code that is nobody's.
        let same = order.get(position).is_some_and(|next| lines[*next].module == best.module);
        let end = if same || bound == Some(end) { end } else { end.min(address.saturating_add(MAX_LAST_FUNCTION)) };
        add(&mut symbols, &mut numbers, &ranges, best, end - address);
    }
    symbols.functions.shrink_to_fit();
    symbols.names.shrink_to_fit();
    symbols.counts.functions = symbols.functions.len() as u64;
    symbols
}

fn add(
    symbols: &mut KernelSymbols,
    numbers: &mut ModuleNumbers,
    ranges: &HashMap<&str, (u64, u64)>,
    line: &Line<'_>,
    length: u64,
) {
    let module = match line.module {
        None => 0,
        Some(BPF) => return symbols.add_ksym(line.address, length, line.name, KernelKind::Bpf),
        Some(name) if name.starts_with(BUILTIN) => {
            return symbols.add_ksym(line.address, length, line.name, KernelKind::Kernel);
        }
        Some(name) => match numbers.get(name) {
            Some(number) => *number,
            None if symbols.modules.len() >= MAX_MODULES => {
                symbols.counts.refused += 1;
                return;
            }
            None => {
                let base = ranges.get(name).map_or(line.address, |(base, _)| *base);
                symbols.modules.push(Module { name: name.to_owned(), base });
                let number = symbols.modules.len() as u16;
                numbers.insert(name.to_owned(), number);
                number
            }
        },
    };
    let (Ok(start), Ok(name_length)) = (u32::try_from(symbols.names.len()), u16::try_from(line.name.len())) else {
        symbols.counts.refused += 1;
        return;
    };
    symbols.names.push_str(line.name);
    symbols.functions.push(Function {
        start: line.address,
        length: u32::try_from(length).unwrap_or(u32::MAX),
        name: start,
        name_length,
        module,
    });
}
