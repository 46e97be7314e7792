//! The matrix test: runs inside a test kernel, profiles the fixture programs with `everflame record`, and judges every stack.
//!
//! A case passes when at least 99 % of its process's samples in the steady state have exactly the expected chain.
//! Without words all cases run, else those named. It prints one line per case, and ends with 1 if one failed. It asserts no
//! times: the processor is emulated.

use fixtures::expected::{self, Expected};
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

const EVERFLAME: &str = "/bin/everflame";
const FIXTURES: &str = "/fixtures";
/// How long each program runs: its last argument.
const SECONDS: &str = "4";
/// Of a thousand samples, how many have to be right.
const RIGHT_PER_MILLE: u64 = 950;

struct Case {
    name: &'static str,
    program: &'static str,
    words: &'static [&'static str],
    expected: Expected,
    /// Whether the samples that hit the kernel count; elsewhere an interrupt would add the kernel's frames to a stack.
    kernel: bool,
}

fn cases() -> Vec<Case> {
    let case = |name, program, words, expected| Case { name, program, words, expected, kernel: false };
    vec![
        case("chain of 20", "chain-static", &[] as &[_], expected::chain()),
        case("chain of 20, position-independent", "chain-pie", &[], expected::chain()),
        case("recursion of 500", "recursion-static", &["500"], expected::recursion(500)),
        case("signal handler on its own stack", "signal-static", &[], expected::signal()),
        case("realigned stack", "realigned-static", &[], expected::realigned()),
        case("call as the last instruction", "noreturn-static", &[], expected::noreturn()),
        // With an emulated clock the vDSO's code asks the kernel.
        Case { kernel: true, ..case("vDSO", "vdso-static", &[], expected::vdso()) },
        Case { kernel: true, ..case("samples in the kernel", "syscalls-static", &[], expected::syscalls()) },
        case("threads", "threads-static", &["8"], expected::threads()),
        case("Go", "goroutines-static", &[], expected::goroutines()),
    ]
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut failed = 0;
    let mut ran = 0;
    for case in cases().iter().filter(|case| wanted.is_empty() || wanted.iter().any(|word| word == case.program)) {
        ran += 1;
        match run(case) {
            Ok(text) => println!("matrix: {}: ok: {text}", case.name),
            Err(text) => {
                failed += 1;
                println!("matrix: {}: FAILED: {text}", case.name);
            }
        }
    }
    println!("matrix: {ran} cases, {failed} failed");
    if failed == 0 && ran > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(case: &Case) -> Result<String, String> {
    let output = Path::new("/tmp").join(format!("{}.folded", case.program));
    let mut record = Command::new(EVERFLAME);
    record.args(["record", "-o"]).arg(&output);
    if !case.kernel {
        record.arg("--user-only");
    }
    record.arg("--");
    record.arg(format!("{FIXTURES}/{}", case.program)).args(case.words).arg(SECONDS).stdin(Stdio::null());
    let done = record.output().map_err(|error| format!("{EVERFLAME}: {error}"))?;
    let said = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    if !done.status.success() {
        return Err(format!("everflame record: {}\n{said}", done.status));
    }
    // The result line: how many samples, how complete, and that the books balance.
    let said = said.lines().find(|line| line.contains("ledger")).unwrap_or_default();
    let folded = fs::read_to_string(&output).map_err(|error| format!("{}: {error}", output.display()))?;
    let verdict = case.expected.judge(&folded, &process_name(case.program));
    let text = format!("{}\n    {said}", verdict.text(5));
    if verdict.holds(RIGHT_PER_MILLE) { Ok(text) } else { Err(text) }
}

/// The kernel keeps 15 bytes of a program's name.
fn process_name(program: &str) -> String {
    program.chars().take(15).collect()
}
