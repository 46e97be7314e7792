//! `everflame doctor` on this machine: the same checks in both forms, and an exit code that says whether one of them failed.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod live;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// All of them, in the order in which they are shown.
const CHECKS: [&str; 25] = [
    "system",
    "kernel",
    "btf",
    "lockdown",
    "capabilities",
    "seccomp",
    "bpf",
    "perf-event",
    "memory-lock",
    "open-files",
    "tracefs",
    "kernel-symbols",
    "host-pid",
    "processes",
    "map-files",
    "cgroups",
    "start",
    "node-name",
    "api-server",
    "container-runtime",
    "sink",
    "spool",
    "listen",
    "page",
    "history",
];

/// The command with a sink and places in `folder`; its exit code and what it printed.
fn doctor(folder: &Path, to: &str, form: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everflame"));
    // The settings and the cluster of whoever runs the tests are not meant.
    command.env_clear().args(["doctor", "--kubernetes", "off", "--cri", "off", "--to", to]);
    command.args(["--listen", "127.0.0.1:0", "--page", "127.0.0.1:0"]);
    command.arg("--spool").arg(folder.join("spool")).arg("--store").arg(folder.join("history")).args(form);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{to}");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// Checks as (name, verdict, what was found, where).
fn of_json(said: &str) -> (String, Vec<[String; 4]>) {
    let report: Value = serde_json::from_str(said).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap();
    let read = |check: &Value| ["name", "verdict", "found", "source"].map(|key| text(&check[key]));
    (text(&report["verdict"]), checks.iter().map(read).collect())
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_machine_that_can_be_profiled_passes_each_check_in_both_forms() {
    let _alone = live::alone();
    if live::engine(live::options(&[])).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let to = format!("file://{}", folder.path().join("profiles").display());

    let (code, said) = doctor(folder.path(), &to, &["--json"]);
    let (verdict, checks) = of_json(&said);
    assert_eq!(checks.iter().map(|[name, ..]| name.as_str()).collect::<Vec<_>>(), CHECKS, "{said}");
    assert!(["ok", "warn"].contains(&&*verdict) && checks.iter().all(|[_, one, ..]| one != "fail"), "{said}");
    assert!(checks.iter().all(|[.., found, source]| !found.is_empty() && !source.is_empty()), "{said}");
    assert_eq!(code, Some(0), "{said}");
    let sink = checks.iter().find(|[name, ..]| name == "sink").unwrap();
    assert_eq!(sink[1..], ["ok", "the folder can be written", to.as_str()]);

    let (code, said) = doctor(folder.path(), &to, &[]);
    assert_eq!(code, Some(0), "{said}");
    // How much is free may be another number by now.
    let beginning = |[name, verdict, ..]: &[String; 4]| format!("{verdict:<4} {name}: ");
    let beginnings: Vec<String> = checks.iter().map(beginning).collect();
    assert_eq!(said.lines().count(), beginnings.len(), "{said}");
    for (line, beginning) in said.lines().zip(beginnings) {
        assert!(line.starts_with(&beginning) && (line.ends_with(')') || line.contains(") — ")), "{line}");
    }
    // It only looks.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_sink_that_takes_nothing_fails_alone_and_is_the_exit_code() {
    let _alone = live::alone();
    if live::engine(live::options(&[])).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let below_a_file = format!("file://{}/profiles", file.path().display());
    // Nobody listens on the first port.
    for (to, source) in [
        ("nonsense", "--to and the environment"),
        ("gopher://127.0.0.1", "--to and the environment"),
        (below_a_file.as_str(), below_a_file.as_str()),
        ("otlp+grpc://127.0.0.1:1", "otlp+grpc://127.0.0.1:1, a request without profiles"),
        ("datadog+http://127.0.0.1:1", "datadog+http://127.0.0.1:1, GET /info"),
    ] {
        let (code, said) = doctor(folder.path(), to, &["--json"]);
        let (verdict, checks) = of_json(&said);
        assert_eq!((code, verdict.as_str()), (Some(1), "fail"), "{to}: {said}");
        let failed: Vec<&[String; 4]> = checks.iter().filter(|[_, verdict, ..]| verdict == "fail").collect();
        let [[name, _, found, at]] = &failed[..] else { panic!("{to}: {said}") };
        println!("{to}: {found} ({at})");
        assert!(name == "sink" && at.starts_with(source) && !found.is_empty(), "{to}: {said}");
    }
    let (code, said) = doctor(folder.path(), "nonsense", &[]);
    assert_eq!(code, Some(1));
    assert_eq!(said.lines().filter(|line| line.starts_with("fail sink: ")).count(), 1, "{said}");
}
