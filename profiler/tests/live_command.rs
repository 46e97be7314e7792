//! `everflame record -- COMMAND`: what the command prints, how it is told to end, and that it is not left behind.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod live;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use profiler::profile::pprof::decode;

/// Of a command that says its pid and runs until a signal comes.
const WAITS: &str = "echo pid $$; exec sleep 1000";

/// Whether there can be recordings here; says so if not.
fn can_record() -> bool {
    live::engine(live::options(&[])).is_some()
}

fn record(words: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everflame"));
    command.args(["record", "-d", "50ms"]).args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: no pointers; the child has not been waited for.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

/// Whether its main thread sleeps: once the profile is written, it does so between two looks at the command, and at nothing else.
fn sleeps(child: &Child) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap();
    let number = call.split(' ').next().and_then(|number| number.parse().ok());
    matches!(number, Some(libc::SYS_nanosleep | libc::SYS_clock_nanosleep))
}

/// Reads lines until one begins so, and gives its rest.
fn wait_for(lines: &mut impl Iterator<Item = std::io::Result<String>>, beginning: &str) -> String {
    let mut said = Vec::new();
    loop {
        let line = lines.next().unwrap_or_else(|| panic!("never said: {beginning}\n{}", said.join("\n"))).unwrap();
        if let Some(rest) = line.strip_prefix(beginning) {
            return rest.to_owned();
        }
        said.push(line);
    }
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_profile_on_standard_output_is_whole_whatever_the_command_prints() {
    let _alone = live::alone();
    if !can_record() {
        return;
    }
    let mut child = record(&["-o", "-", "--", "sh", "-c", "echo words of the command; exit 7"]);
    let mut profile = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut profile).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(!decode(&profile).unwrap().sample_type.is_empty());
    assert!(said.contains("words of the command\n"), "{said}");
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_command_that_is_waited_for_gets_sigterm_and_a_second_signal_ends_one_that_does_not_heed_it() {
    let _alone = live::alone();
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.folded");
    for (script, signals, code) in [
        (WAITS.to_owned(), &[libc::SIGTERM][..], 143),
        (format!("trap '' TERM INT; {WAITS}"), &[libc::SIGINT, libc::SIGTERM], 143),
    ] {
        let mut child = record(&["-o", file.to_str().unwrap(), "--", "sh", "-c", &script]);
        let pid: u32 = {
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            wait_for(&mut lines, "pid ").parse().unwrap()
        };
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        wait_for(&mut errors, "everflame: waiting for the command to end");
        for number in signals {
            signal(child.id(), *number);
        }
        assert_eq!(child.wait().unwrap().code(), Some(code), "{script}");
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{script}");
        assert!(file.exists());
    }
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_command_is_waited_for_and_its_exit_code_passed_on_where_nobody_hears_what_is_said() {
    let _alone = live::alone();
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.folded");
    let mut command = Command::new(env!("CARGO_BIN_EXE_everflame"));
    command.args(["record", "-d", "50ms", "-o", file.to_str().unwrap(), "--", "sh", "-c", "read line; exit 7"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    // The profile is written, and the line that says whom it waits for was tried.
    while child.try_wait().unwrap().is_none() && !(file.exists() && sleeps(&child)) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // The end of what the command reads is its end.
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert!(file.exists());
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_command_s_standard_output_is_its_own_and_one_without_samples_has_a_picture() {
    let _alone = live::alone();
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.svg");
    let mut command = Command::new(env!("CARGO_BIN_EXE_everflame"));
    command.args([
        "record",
        "-o",
        file.to_str().unwrap(),
        "--user-only",
        "--",
        "sh",
        "-c",
        "echo its words; exec sleep 0.3",
    ]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"its words\n"[..]), "{said}");
    assert!(
        said.starts_with(&format!("wrote {} (flame graph)\n", file.display())) && said.contains("ledger: "),
        "{said}"
    );
    let picture = std::fs::read_to_string(&file).unwrap();
    // Starting a shell may be worth a sample.
    let is_empty = said.contains("no sample matched the command and --user-only: ");
    assert_eq!(picture.contains(">no samples</text>"), is_empty, "{said}");
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_command_that_is_not_there_or_can_t_be_executed_ends_as_in_a_shell() {
    let _alone = live::alone();
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.folded");
    for (program, code) in [("everflame-no-such-program", 127), ("/etc/passwd", 126)] {
        let output = record(&["-o", file.to_str().unwrap(), "--", program]).wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{said}");
        assert!(said.starts_with(&format!("everflame: cannot run {program}: ")) && said.lines().count() == 1, "{said}");
        assert!(!file.exists());
    }
}
