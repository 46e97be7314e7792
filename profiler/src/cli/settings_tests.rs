//! Sources of settings, one before another, and what is printed of them.

use clap::CommandFactory as _;

use super::super::args::Arguments;
use super::*;

fn resolve_with(file: &str, words: &[&str]) -> Result<String, String> {
    resolve_in(&[], file, words)
}

fn resolve_in(environment: &[(&str, &str)], file: &str, words: &[&str]) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("everflame.toml");
    std::fs::write(&path, file).unwrap();
    let config = format!("--config={}", path.display());
    let words: Vec<OsString> =
        ["everflame", "agent", &config].iter().chain(words).map(|word| OsString::from(*word)).collect();
    let command = Arguments::command();
    let variable =
        |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let sourced = resolve(&command, &words, &variable)
        .map_err(|error| error.to_string().replace(&format!("{}", path.display()), "FILE"))?;
    let unsaid = HashMap::from([("node-name", "node-name = \"n\"  # found\n".to_owned())]);
    let text = sourced.render(command.find_subcommand("agent").unwrap(), &unsaid);
    Ok(sourced.notes.iter().fold(text, |text, note| format!("{text}note: {note}\n")))
}

fn line<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(&format!("{key} ="))).unwrap_or("")
}

#[test]
fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
    let file = "frequency = 49\nto = [\"otlp+grpc://a:4317\", \"http://me:secret@b:8126/x\"]\nwhole_node = true\ninterval = \"30s\"\n";
    let text = resolve_with(file, &["-F", "19"]).unwrap();
    assert_eq!(line(&text, "frequency"), "frequency = \"19\"  # flag --frequency");
    assert_eq!(line(&text, "interval"), "interval = \"30s\"  # file");
    assert_eq!(line(&text, "to"), "to = [\"otlp+grpc://a:4317\", \"http://********@b:8126/x\"]  # file");
    assert_eq!(line(&text, "whole-node"), "whole-node = true  # file");
    assert_eq!(line(&text, "cri"), "cri = \"auto\"  # default");
    assert!(text.contains("# pod-selector is not set\n"));
    assert_eq!(line(&text, "node-name"), "node-name = \"n\"  # found");
}

#[test]
fn the_old_agent_s_variables_count_where_nobody_else_says_anything() {
    let old = [
        ("OTEL_PROFILING_AGENT_SAMPLES_PER_SECOND", "20"),
        ("OTEL_PROFILING_AGENT_REPORTER_INTERVAL", "5s"),
        ("OTEL_PROFILING_AGENT_VERBOSE", "true"),
    ];
    let text = resolve_in(&old, "", &[]).unwrap();
    assert_eq!(line(&text, "frequency"), "frequency = \"20\"  # environment OTEL_PROFILING_AGENT_SAMPLES_PER_SECOND");
    assert_eq!(line(&text, "interval"), "interval = \"10s\"  # environment OTEL_PROFILING_AGENT_REPORTER_INTERVAL");
    assert_eq!(line(&text, "log-level"), "log-level = \"debug\"  # environment OTEL_PROFILING_AGENT_VERBOSE");
    assert_eq!(text.matches("note: ").count(), 1);
    let text = resolve_in(&old, "interval = \"30s\"\nlog-level = \"warn\"\n", &["-F", "49"]).unwrap();
    assert_eq!(line(&text, "frequency"), "frequency = \"49\"  # flag --frequency");
    assert_eq!(line(&text, "interval"), "interval = \"30s\"  # file");
    assert_eq!(line(&text, "log-level"), "log-level = \"warn\"  # file");
    assert_eq!(text.matches("note: ").count(), 0);
    let error = resolve_in(&[("OTEL_PROFILING_AGENT_SAMPLES_PER_SECOND", "x")], "", &[]).unwrap_err();
    assert_eq!(error, "OTEL_PROFILING_AGENT_SAMPLES_PER_SECOND must be a number from 1 to 10000");
}

#[test]
fn an_interval_that_no_upload_can_have_is_refused() {
    assert!(resolve_with("interval = \"10s\"\n", &[]).is_ok() && resolve_with("", &["--interval=10m"]).is_ok());
    for interval in ["9s", "601s"] {
        let error = resolve_with("", &["--interval", interval]).unwrap_err();
        assert!(error.contains("must be between 10s and 10m"), "{error}");
    }
}

#[test]
fn secrets_are_never_printed() {
    let text = resolve_with("header = [\"dd-api-key: 0123\"]\n", &[]).unwrap();
    assert_eq!(line(&text, "header"), "header = [\"********\"]  # file");
    let word = "otlp+grpc://me:secret@c:4317 authorization: Bearer 0123";
    let text = resolve_with("", &["--header", word]).unwrap();
    assert_eq!(line(&text, "header"), "header = [\"otlp+grpc://********@c:4317 ********\"]  # flag --header");
    let text = resolve_with("", &["--token-file=otlp+grpc://me:secret@c:4317 /token"]).unwrap();
    assert_eq!(line(&text, "token-file"), "token-file = [\"otlp+grpc://********@c:4317 /token\"]  # flag --token-file");
}

#[test]
fn what_the_file_may_not_say_is_an_error_that_names_it() {
    for (file, error) in [
        ("frequenzy = 3\n", "FILE: unknown setting `frequenzy`; did you mean `frequency`?"),
        ("zzz = 3\n", "FILE: unknown setting `zzz`"),
        ("config = \"x\"\n", "FILE: unknown setting `config`; did you mean `config`?"),
        ("whole-node = 1\n", "FILE: `whole-node` must be true or false"),
        ("cri = [\"a\"]\n", "FILE: `cri` must be a text or a number"),
        ("to = [[1]]\n", "FILE: `to` must be a list of texts or numbers"),
    ] {
        let found = resolve_with(file, &[]).unwrap_err();
        if file.starts_with("config") {
            assert!(found.starts_with("FILE: unknown setting `config`"), "{found}");
        } else {
            assert_eq!(found, error, "{file}");
        }
    }
    assert!(resolve_with("frequency = ", &[]).unwrap_err().starts_with("FILE is not valid TOML"));
    assert!(resolve_with("frequency = 20000\n", &[]).unwrap_err().contains("20000"));
}

#[test]
fn certificate_and_key_may_come_from_anywhere_but_not_alone() {
    let (certificate, key) = ("client-certificate = \"c.pem\"\n", "client-key = \"k.pem\"\n");
    let alone = |given: &str, missing: &str| {
        Err(format!("--{given} needs --{missing} as well, from wherever: a flag, the environment or the file"))
    };
    for (file, words, expected) in [
        (key, &["--client-certificate=c.pem"][..], Ok(())),
        (certificate, &["--client-key=k.pem"], Ok(())),
        (&[certificate, key].concat(), &[], Ok(())),
        ("", &["--client-certificate=c.pem", "--client-key=k.pem"], Ok(())),
        ("", &["--client-certificate=c.pem"], alone("client-certificate", "client-key")),
        (key, &[], alone("client-key", "client-certificate")),
    ] {
        // As the program does, before it knows of the file.
        let all = [&["everflame", "agent"][..], words].concat();
        assert!(<Arguments as clap::Parser>::try_parse_from(all).is_ok(), "{words:?}");
        assert_eq!(resolve_with(file, words).map(|_| ()), expected, "{file} {words:?}");
    }
}

#[test]
fn kubernetes_own_variables_are_no_misspelt_settings() {
    let names = ["EVERFLAME_TO", "EVERFLAME_SERVICE_HOST", "EVERFLAME_PORT_9464_TCP", "EVERFLAME_FREQUENZY", "HOME"];
    let unknown = unknown_environment(&Arguments::command(), names.iter().map(OsString::from));
    assert_eq!(unknown, ["EVERFLAME_FREQUENZY"]);
}
