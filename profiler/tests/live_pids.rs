//! `everflame record --pid`: a process that is not there is an error before anything is recorded; one that ends meanwhile is none.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod live;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use fixtures::{Flavour, build_or_skip};
use live::{Running, until, until_worked};
use profiler::output;

/// `everflame record` of these, for longer than any test waits.
fn record(file: &Path, pids: &[u32]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everflame"));
    command.args(["record", "-F", "999", "-d", "10m", "-o"]).arg(file);
    for pid in pids {
        command.arg("--pid").arg(pid.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether there can be recordings here; says so if not.
fn can_record() -> bool {
    live::engine(live::options(&[])).is_some()
}

/// Whether a process has opened perf's events, which everflame does once it has looked for the pids that it was given.
fn has_events(pid: u32) -> bool {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    links.any(|link| link.to_string_lossy().contains("[perf_event]"))
}

/// The processes that a profile has samples of.
fn pids_in(file: &Path) -> BTreeSet<i64> {
    let profile = output::read(file).unwrap();
    let key = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
    let labels = profile.sample.iter().flat_map(|sample| &sample.label);
    labels.filter(|label| key(label.key) == "pid").map(|label| label.num).collect()
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_pid_that_does_not_exist_is_named_and_nothing_is_written() {
    let _alone = live::alone();
    if !can_record() {
        return;
    }
    // The first number that no process can have.
    let nobody: u32 = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = record(&folder.path().join("cpu.pb.gz"), &[std::process::id(), nobody]).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!(
            "everflame: no process has pid {nobody}, so nothing would be sampled: give one that `ps -e` shows on the host\n"
        )
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_recording_ends_with_the_last_of_its_processes_and_holds_the_samples_of_all() {
    let _alone = live::alone();
    let Some(program) = build_or_skip("chain", Flavour::OmitFp) else { return };
    if !can_record() {
        return;
    }
    let (first, last) = (Running::fixture(&program, &[]), Running::fixture(&program, &[]));
    let pids = [first.pid(), last.pid()];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cpu.pb.gz");
    let mut recording = Running::started(record(&file, &pids).spawn().unwrap());
    until("perf's events", || has_events(recording.pid()) || recording.has_ended());
    // Longer than a recording prepares itself.
    until_worked(&first, 300);
    drop(first);
    until_worked(&last, 50);
    assert!(!recording.has_ended(), "it ended before the last of its processes: {:?}", recording.end());
    drop(last);
    let (code, said) = recording.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("everflame: every process that was asked for has ended; so does the recording\n"), "{said}");
    assert_eq!(pids_in(&file), BTreeSet::from(pids.map(i64::from)));
}
