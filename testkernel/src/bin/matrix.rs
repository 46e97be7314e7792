//! The matrix test: runs inside a test kernel, profiles the fixture programs with `everflame record`, and judges every stack.
//!
//! A case passes when at least [`RIGHT_PER_MILLE`] of its process's samples in the steady state have exactly the expected chain, and
//! the recording's ledger balances. Without words all cases run, else those named, by program or by case. It prints one line per
//! case, and ends with 1 if one failed. It asserts no times: the processor is emulated.

use fixtures::expected::{self, Expected};
use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

const EVERFLAME: &str = "/bin/everflame";
const FIXTURES: &str = "/fixtures";
/// How long each program runs: its last argument.
const SECONDS: &str = "4";
/// Of a thousand samples, how many have to be right. Not more: the machine that emulates two processors often has only two itself and
/// other work, so that everflame's turn comes late, and of a program's four seconds the first are without tables and copies. What is
/// wrong otherwise is never so little: a rule that is missing breaks every stack of its case.
const RIGHT_PER_MILLE: u64 = 950;

/// The processor that the case with a new one begins without.
const SECOND_CPU: usize = 1;
const SECOND_CPU_ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
/// This program's first word when everflame starts it to become another one on the second processor.
const ON_SECOND_CPU: &str = "--on-second-cpu";

/// The case of a kernel that lets nobody read its memory, which is so until it ends.
const LOCKED_DOWN: &str = "locked down";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

struct Case {
    name: &'static str,
    program: &'static str,
    words: &'static [&'static str],
    expected: Expected,
    /// Whether the samples that hit the kernel count; elsewhere an interrupt would add the kernel's frames to a stack.
    kernel: bool,
    /// Whether the program runs on a processor alone that comes online after sampling has begun.
    on_new_cpu: bool,
}

fn cases() -> Vec<Case> {
    let case =
        |name, program, words, expected| Case { name, program, words, expected, kernel: false, on_new_cpu: false };
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
        Case { on_new_cpu: true, ..case("processor that comes later", "chain-static", &[], expected::chain()) },
    ]
}

fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    if let [first, program, words @ ..] = &words[..]
        && first == ON_SECOND_CPU
    {
        println!("matrix: {}: {}", program.display(), become_on_second_cpu(program, words));
        return ExitCode::FAILURE;
    }
    let is_wanted =
        |case: &Case| words.is_empty() || words.iter().any(|word| word == case.program || word == case.name);
    let mut failed = 0;
    let mut ran = 0;
    for case in cases().iter().filter(|case| is_wanted(case)) {
        ran += 1;
        match run(case) {
            Ok(text) => println!("matrix: {}: ok: {text}", case.name),
            Err(text) => {
                failed += 1;
                println!("matrix: {}: FAILED: {text}", case.name);
            }
        }
    }
    // The last one: nothing is profiled on this kernel any more.
    if words.is_empty() || words.iter().any(|word| word == LOCKED_DOWN) {
        ran += 1;
        match lock_down() {
            Ok(text) => println!("matrix: {LOCKED_DOWN}: ok: {text}"),
            Err(text) => {
                failed += 1;
                println!("matrix: {LOCKED_DOWN}: FAILED: {text}");
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
    if case.on_new_cpu {
        switch_second_cpu(false)?;
        // A command is started once sampling has begun: this one then makes the processor come, and is on no other.
        record.arg(env::current_exe().map_err(|error| format!("/proc/self/exe: {error}"))?).arg(ON_SECOND_CPU);
    }
    record.arg(format!("{FIXTURES}/{}", case.program)).args(case.words).arg(SECONDS).stdin(Stdio::null());
    let done = record.output().map_err(|error| format!("{EVERFLAME}: {error}"));
    if case.on_new_cpu {
        switch_second_cpu(true)?;
    }
    let done = done?;
    let said = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    if !done.status.success() {
        return Err(format!("everflame record: {}\n{said}", done.status));
    }
    // The result line: how many samples, how complete, and that the books balance.
    let said = said.lines().find(|line| line.contains("ledger")).unwrap_or_default();
    let folded = fs::read_to_string(&output).map_err(|error| format!("{}: {error}", output.display()))?;
    let verdict = case.expected.judge(&folded, &process_name(case.program));
    let text = format!("{}\n    {said}", verdict.text(5));
    if verdict.holds(RIGHT_PER_MILLE) && balances(said) { Ok(text) } else { Err(text) }
}

/// Whether everflame says in a sentence what forbids it, and leaves nothing behind.
fn lock_down() -> Result<String, String> {
    fs::write(LOCKDOWN, "confidentiality").map_err(|error| format!("{LOCKDOWN}: {error}"))?;
    let output = Path::new("/tmp/locked.pb.gz");
    let mut record = Command::new(EVERFLAME);
    record.args(["record", "-d", "1s", "-o"]).arg(output).stdin(Stdio::null());
    let done = record.output().map_err(|error| format!("{EVERFLAME}: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr).trim_end().to_owned();
    let is_sentence = said.lines().count() == 1 && said.contains("lockdown");
    if done.status.code() == Some(1) && is_sentence && !output.exists() {
        Ok(said)
    } else {
        Err(format!("{}, a file: {}\n{said}", done.status, output.exists()))
    }
}

/// The kernel keeps 15 bytes of a program's name.
fn process_name(program: &str) -> String {
    program.chars().take(15).collect()
}

/// Whether both sides of `ledger: 1 980 due = 1 942 + 38 idle + 0 dropped + 0 undelivered` are the same. How much was never delivered
/// says nothing here: an emulated processor misses its timer's hits while the machine does other work.
fn balances(said: &str) -> bool {
    let number = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u64>().ok();
    let sum = |side: &str| side.split('+').map(number).sum::<Option<u64>>();
    let ledger = said.split_once("ledger: ").and_then(|(_, ledger)| ledger.split_once(" = "));
    let sums = ledger.and_then(|(due, became)| Some((sum(due)?, sum(became)?)));
    sums.is_some_and(|(due, became)| due > 0 && due == became)
}

fn switch_second_cpu(on: bool) -> Result<(), String> {
    fs::write(SECOND_CPU_ONLINE, if on { "1" } else { "0" }).map_err(|error| format!("{SECOND_CPU_ONLINE}: {error}"))
}

/// Makes the second processor come online and executes `program` on it; comes back with what went wrong.
fn become_on_second_cpu(program: &OsString, words: &[OsString]) -> String {
    if let Err(error) = switch_second_cpu(true) {
        return error;
    }
    // SAFETY: a set of processors is plain bits, and zero is an empty one; the number is within it, and the pointer valid.
    let result = unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(SECOND_CPU, &mut cpus);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cpus)
    };
    if result != 0 {
        return format!("sched_setaffinity: {}", io::Error::last_os_error());
    }
    Command::new(program).args(words).exec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_of_a_result_line_are_checked() {
        for (ledger, right) in [
            ("10.0 s, 2 CPUs (ledger: 1 980 due = 1 942 + 38 idle + 0 dropped + 0 undelivered)", true),
            ("ledger: 10 due + 3 surplus = 4 + 3 idle + 2 own + 1 filtered + 2 dropped + 1 undelivered", true),
            ("ledger: 1 980 due = 1 942 + 37 idle + 0 dropped + 0 undelivered", false),
            ("ledger: 1 980 due = 980 + 0 idle + 0 dropped + 1 000 undelivered", true),
            ("ledger: 0 due = 0 + 0 idle + 0 dropped + 0 undelivered", false),
            ("no such line", false),
        ] {
            assert_eq!(balances(ledger), right, "{ledger}");
        }
    }
}
