//! Compares our frames with `llvm-symbolizer`'s on real files.
//!
//! `cargo run --release -p symbolizer --example compare -- [--addresses N] [--show N] [--symbolizer PATH] [--truth FILE] FILE…`
//!
//! Draws random addresses from the sized function symbols of each file (from its executable sections if it has none), asks
//! both, and prints one row per file: how many chains of linkage names, files, lines and columns differ, and what it cost.
//! With `--truth`, the tool is asked about that file instead: the same program before it was stripped.
//!
//! Ends with 1 if a file misses an aim: names at half of the addresses, the same linkage names and inlined callers at 99.9 % of all,
//! the same files and lines as well at 99 %. The aims are meant for 10,000 addresses in each of five large files; the last line says
//! what was asked.
//! A Go program without debug information misses them: its own table, which we read, says more than its symbols.

#![expect(clippy::expect_used, reason = "a tool for developers: it stops at the first surprise")]

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use object::{Object, ObjectSection, ObjectSymbol};
use symbolizer::{Content, Demangle, Executable, Failure, Options, Request, Symbolizer};

/// Of a thousand addresses, at how many names and inlined callers are the same at least, and files and lines.
const NAMES_PER_MILLE: usize = 999;
const LINES_PER_MILLE: usize = 990;

/// Of a thousand addresses, so many have names at least: where nobody names anything, all is the same.
const NAMED_PER_MILLE: usize = 500;

/// At how many of a file's addresses both say the same.
struct Same {
    addresses: usize,
    named: usize,
    names: usize,
    lines: usize,
}

impl Same {
    /// What is missed, one sentence each.
    fn misses(&self) -> Vec<String> {
        let aims = [
            ("there are names", self.named, NAMED_PER_MILLE),
            ("names are the same", self.names, NAMES_PER_MILLE),
            ("files and lines are the same", self.lines, LINES_PER_MILLE),
        ];
        let missed = aims.into_iter().filter(|(_, those, aim)| *those * 1000 < self.addresses * aim);
        missed.map(|(what, those, aim)| format!("{what} at {those}, less than {aim} ‰")).collect()
    }
}

#[derive(Debug, PartialEq, Eq, Clone)]
struct Place {
    name: String,
    file: String,
    line: u64,
    column: u64,
    start_line: u64,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (mut count, mut show, mut tool) = (10_000, 3, String::from("llvm-symbolizer"));
    let mut files = Vec::new();
    let mut truth = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--addresses" => count = value()?.parse()?,
            "--show" => show = value()?.parse()?,
            "--symbolizer" => tool = value()?,
            "--truth" => truth = Some(PathBuf::from(value()?)),
            _ => files.push(PathBuf::from(argument)),
        }
    }
    println!(
        "{:40} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9} {:>8}",
        "file", "n", "named", "outer", "chain", "file", "line", "column", "first ms", "us/addr", "memo ns"
    );
    let mut missed = files.is_empty();
    for (number, path) in files.iter().enumerate() {
        let same = compare(number as u64, path, truth.as_ref().unwrap_or(path), count, show, &tool)?;
        for miss in same.misses() {
            missed = true;
            println!("  MISSED: {miss}");
        }
    }
    println!("{}: {count} addresses in each of {} files", if missed { "missed" } else { "reached" }, files.len());
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn compare(
    key: u64,
    path: &PathBuf,
    truth: &PathBuf,
    count: usize,
    show: usize,
    tool: &str,
) -> Result<Same, Box<dyn Error>> {
    let addresses = draw(truth, count)?;
    let theirs = ask_tool(tool, truth, &addresses)?;
    let executable = Arc::new(Executable {
        key,
        content: Content::File(Arc::new(File::open(path)?.into())),
        path: path.canonicalize()?,
        root: None,
    });
    let limit = Duration::from_secs(600);
    let options =
        Options { wait: limit, file_time_limit: limit, demangle: Demangle::NoParameters, ..Options::default() };
    let symbolizer = Symbolizer::new(options)?;
    let ask = |addresses: &[u64]| {
        let begin = Instant::now();
        let request = Request { executable: executable.clone(), addresses: addresses.to_vec() };
        (symbolizer.symbolize(&[request]).pop().expect("one answer for one request"), begin.elapsed())
    };
    let (_, first) = ask(&addresses[..1]);
    let (ours, rest) = ask(&addresses);
    let before = symbolizer.statistics();
    let (_, memo) = ask(&addresses);
    let after = symbolizer.statistics();
    let all_hits = after.memo_hits - before.memo_hits == addresses.len() as u64;

    let (mut differences, mut same_lines) = ([0; 6], 0);
    let mut shown = [0; 6];
    let mut named = 0;
    for ((address, ours), theirs) in addresses.iter().zip(&ours).zip(&theirs) {
        let ours: Vec<Place> = ours
            .iter()
            .map(|frame| Place {
                name: frame.linkage_name.to_string(),
                file: frame.file.as_deref().unwrap_or_default().to_owned(),
                line: frame.line.into(),
                column: frame.column.into(),
                start_line: frame.start_line.into(),
            })
            .collect();
        named += usize::from(!ours.is_empty());
        let names = |places: &[Place]| places.iter().map(|place| place.name.clone()).collect::<Vec<_>>();
        let same_length = ours.len() == theirs.len();
        let all = |same: fn(&Place, &Place) -> bool| same_length && ours.iter().zip(theirs).all(|(a, b)| same(a, b));
        let equal = [
            ours.last().map(|place| &place.name) == theirs.last().map(|place| &place.name),
            names(&ours) == names(theirs),
            all(|a, b| a.file == b.file),
            all(|a, b| a.line == b.line),
            all(|a, b| a.column == b.column),
            all(|a, b| a.start_line == b.start_line),
        ];
        same_lines += usize::from(equal[2] && equal[3]);
        for (class, equal) in equal.into_iter().enumerate() {
            differences[class] += usize::from(!equal);
            if !equal && shown[class] < show && equal_before(class, &equal_so_far(&ours, theirs)) {
                shown[class] += 1;
                println!(
                    "  {address:#x} class {class}\n    ours   {:.900}\n    theirs {:.900}",
                    format!("{ours:?}"),
                    format!("{theirs:?}")
                );
            }
        }
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    println!(
        "{:40} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9.2} {:>9.2} {:>8}",
        &name[name.len().saturating_sub(40)..],
        addresses.len(),
        named,
        differences[0],
        differences[1],
        differences[2],
        differences[3],
        differences[4],
        first.as_secs_f64() * 1e3,
        rest.as_secs_f64() * 1e6 / addresses.len() as f64,
        if all_hits { (memo.as_nanos() as usize / addresses.len()).to_string() } else { "evicted".into() },
    );
    let failures: Vec<_> =
        Failure::ALL.iter().filter(|f| after.failure(**f) > 0).map(|f| (f.name(), after.failure(*f))).collect();
    println!("  start line differs {}; memo {} KiB; {failures:?}", differences[5], after.memo_bytes >> 10);
    println!("  {}", memory());
    Ok(Same { addresses: addresses.len(), named, names: addresses.len() - differences[1], lines: same_lines })
}

/// One example per address is enough: the first class that differs.
fn equal_so_far(ours: &[Place], theirs: &[Place]) -> usize {
    let names = |places: &[Place]| places.iter().map(|place| place.name.clone()).collect::<Vec<_>>();
    let of = |get: fn(&Place) -> String, places: &[Place]| places.iter().map(get).collect::<Vec<_>>();
    if ours.last().map(|p| &p.name) != theirs.last().map(|p| &p.name) {
        0
    } else if names(ours) != names(theirs) {
        1
    } else if of(|p| p.file.clone(), ours) != of(|p| p.file.clone(), theirs) {
        2
    } else if of(|p| p.line.to_string(), ours) != of(|p| p.line.to_string(), theirs) {
        3
    } else if of(|p| p.column.to_string(), ours) != of(|p| p.column.to_string(), theirs) {
        4
    } else {
        5
    }
}

fn equal_before(class: usize, first_difference: &usize) -> bool {
    class == *first_difference
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .filter(|line| line.starts_with("Rss") || line.starts_with("VmHWM"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Random addresses: a function by its number, then a byte in it.
fn draw(path: &PathBuf, count: usize) -> Result<Vec<u64>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let file = object::File::parse(&*bytes)?;
    let mut places: Vec<(u64, u64)> = file
        .symbols()
        .chain(file.dynamic_symbols())
        .filter(|symbol| symbol.kind() == object::SymbolKind::Text && symbol.is_definition() && symbol.size() > 0)
        .map(|symbol| (symbol.address(), symbol.size()))
        .collect();
    if places.is_empty() {
        let text = file.section_by_name(".text").ok_or("no .text")?;
        places.push((text.address(), text.size()));
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    Ok((0..count)
        .map(|_| {
            let (start, size) = places[(random() % places.len() as u64) as usize];
            start + random() % size
        })
        .collect())
}

fn ask_tool(tool: &str, path: &PathBuf, addresses: &[u64]) -> Result<Vec<Vec<Place>>, Box<dyn Error>> {
    let mut child = Command::new(tool)
        .args(["--output-style=JSON", "--no-demangle", "--no-debuginfod", "--obj"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().ok_or("no stdin")?;
    let questions: String = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(questions.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().expect("the writer does not panic")?;
    let mut answers = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()) {
        let value: serde_json::Value = serde_json::from_str(line)?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let places = value["Symbol"].as_array().map_or(Vec::new(), |symbols| {
            symbols
                .iter()
                .map(|symbol| Place {
                    name: text(&symbol["FunctionName"]),
                    file: text(&symbol["FileName"]),
                    line: symbol["Line"].as_u64().unwrap_or(0),
                    column: symbol["Column"].as_u64().unwrap_or(0),
                    start_line: symbol["StartLine"].as_u64().unwrap_or(0),
                })
                .collect()
        });
        answers.push(places);
    }
    // An address without any name is no frame for us and one empty frame for them.
    for places in &mut answers {
        if places.iter().all(|place| place.name.is_empty()) {
            places.clear();
        }
    }
    assert_eq!(answers.len(), addresses.len(), "one answer per address");
    Ok(answers)
}
