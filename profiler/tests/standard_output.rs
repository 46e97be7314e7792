//! What can't be written to standard output is an error: a script must not take half of a report for a whole one. What can't be
//! written to standard error is lost, and changes nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use profiler::ledger::Ledger;
use profiler::profile::BatchBuilder;
use profiler::profile::pprof::{ProfileInfo, encode, to_raw};

/// A command, its exit code and its words on standard error.
fn run(words: &[&str], stdout: Stdio) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_everflame")).args(words).stdout(stdout).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.pb");
    let info = ProfileInfo { frequency_hz: 99, cpus: 1, kernel_release: String::new() };
    std::fs::write(&file, to_raw(&encode(&BatchBuilder::new().finish(10, Ledger::default()), &info).unwrap())).unwrap();
    let file = file.to_str().unwrap();
    for words in [
        &["report", file][..],
        &["report", "--json", file],
        &["diff", file, file],
        &["diff", "--json", file, file],
        &["top", file],
        &["config"],
        &["man"],
        &["completions", "fish"],
        &["--help"],
        &["record", "--help"],
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, said) = run(words, full.into());
        assert_eq!(code, Some(1), "{words:?}: {said}");
        assert!(said.contains("cannot write to standard output: No space left on device"), "{words:?}: {said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(run(words, writer.into()), (Some(0), String::new()), "{words:?}");
    }
}

#[test]
fn a_standard_error_that_nobody_reads_changes_no_exit_code() {
    for (words, expected) in [(&["report", "/no/such/file.pb"][..], 1), (&["report", "--no-such-word"], 2)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_everflame"));
        let status = command.args(words).stdout(Stdio::null()).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(expected), "{words:?}");
    }
}
