//! The guides' tables are what the program says of itself: settings from the agent's words, metrics from a real page.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::CommandFactory as _;
use profiler::agent::history::History;
use profiler::agent::history_metrics::HistoryCollector;
use profiler::agent::metrics::{StatusCollector, render};
use profiler::agent::sink_metrics::SinkCollector;
use profiler::agent::status::Status;
use profiler::cli::Arguments;
use profiler::export::counters::Counters;
use prometheus_client::registry::Registry;

/// Set to rewrite the guides instead of checking them.
const UPDATE: &str = "EVERFLAME_UPDATE_README";
const BEGIN: &str = "<!-- table: made by profiler/tests/guides.rs -->\n";
const END: &str = "<!-- end of table -->";

fn guide(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// The table in the guide is `wanted`, or becomes it.
fn check_table(name: &str, wanted: &str) {
    let path = guide(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("docs/{name}: {error}"));
    let start = text.find(BEGIN).unwrap_or_else(|| panic!("docs/{name} has no place for its table")) + BEGIN.len();
    let end = start + text[start..].find(END).unwrap_or_else(|| panic!("docs/{name}: its table has no end"));
    if std::env::var_os(UPDATE).is_some() {
        let updated = format!("{}{wanted}{}", &text[..start], &text[end..]);
        std::fs::write(&path, updated).unwrap_or_else(|error| panic!("docs/{name}: {error}"));
        return;
    }
    assert_eq!(&text[start..end], wanted, "run this test with {UPDATE}=1 and commit docs/{name}");
}

#[test]
fn every_setting_is_in_configuration_md() {
    let command = Arguments::command();
    let agent = command.find_subcommand("agent").unwrap();
    let mut table = String::from("| flag and key | environment | default | what it does |\n|---|---|---|---|\n");
    for argument in agent.get_arguments().filter(|argument| argument.get_long() != Some("help")) {
        let flag = argument.get_long().unwrap();
        let environment = argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap();
        let takes_values = argument.get_action().takes_values();
        let default = match argument.get_default_values() {
            [] if takes_values => "–".to_owned(),
            [] => "off".to_owned(),
            values => values.iter().map(|value| format!("`{}`", value.to_string_lossy())).collect::<Vec<_>>().join(" "),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default().replace('\n', " ");
        let _ = writeln!(table, "| `--{flag}` | `{environment}` | {default} | {} |", help.replace('|', "\\|"));
    }
    check_table("configuration.md", &table);
}

/// The page's families: name as it is queried, type, label and its values, help.
fn families(page: &str) -> Vec<[String; 4]> {
    let lines = |start: String| page.lines().filter_map(move |line| line.strip_prefix(&start));
    let mut found = Vec::new();
    for (name, kind) in lines("# TYPE ".to_owned()).filter_map(|line| line.split_once(' ')) {
        let help = lines(format!("# HELP {name} ")).next().unwrap_or("").trim_end_matches('.').to_owned();
        let queried = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let mut labels: Vec<(&str, Vec<String>)> = Vec::new();
        for labelled in lines(format!("{queried}{{")).filter_map(|line| Some(line.split_once('}')?.0)) {
            for (label, value) in labelled.split(',').filter_map(|pair| pair.split_once('=')) {
                let value = format!("`{}`", value.trim_matches('"'));
                match labels.iter_mut().find(|(known, _)| *known == label) {
                    Some((_, values)) if values.contains(&value) => {}
                    Some((_, values)) => values.push(value),
                    None => labels.push((label, vec![value])),
                }
            }
        }
        let labels = labels.iter().map(|(label, values)| match *label {
            "sink" => "`sink`: its address".to_owned(),
            _ => format!("`{label}`: {}", values.join(" ")),
        });
        found.push([queried, kind.to_owned(), labels.collect::<Vec<_>>().join("; "), help]);
    }
    found
}

#[test]
fn every_metric_is_in_metrics_md() {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(StatusCollector(Arc::new(Status::default()))));
    let sink = ("datadog+http://127.0.0.1:8126".to_owned(), Arc::new(Counters::default()));
    registry.register_collector(Box::new(SinkCollector(vec![sink])));
    registry.register_collector(Box::new(HistoryCollector(History::default())));
    let page = render(&registry).unwrap();
    let mut table = String::from("| metric | type | labels | what it counts |\n|---|---|---|---|\n");
    let families = families(&page);
    assert!(families.len() > 30, "{page}");
    for [name, kind, labels, help] in families {
        let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {help} |");
    }
    check_table("metrics.md", &table);
}

/// Every `--flag`, `EVERFLAME_…` and `everflame_…` that a guide names exists.
#[test]
fn guides_name_only_what_exists() {
    let command = Arguments::command();
    let settings: Vec<_> = command.get_subcommands().flat_map(clap::Command::get_arguments).collect();
    // Of setpriv and of the collector.
    let foreign = ["--bounding-set", "--feature-gates"];
    let metrics = std::fs::read_to_string(guide("metrics.md")).unwrap();
    let names = [
        "quick-start.md",
        "datadog.md",
        "opentelemetry.md",
        "nodes.md",
        "configuration.md",
        "metrics.md",
        "http.md",
        "pods.md",
        "kubectl.md",
        "store.md",
        "top.md",
    ];
    for name in names {
        let text = std::fs::read_to_string(guide(name)).unwrap_or_else(|error| panic!("docs/{name}: {error}"));
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_=".contains(c)));
        for word in words {
            if word.starts_with("--") && word.len() > 2 && word.chars().nth(2) != Some('-') {
                let flag = word.trim_start_matches('-').split('=').next().unwrap();
                let known = settings.iter().any(|argument| argument.get_long() == Some(flag));
                assert!(known || foreign.iter().any(|other| word.starts_with(other)), "docs/{name}: {word}");
            }
            if let Some(rest) = word.strip_prefix("EVERFLAME_") {
                let variable = word.split('=').next().unwrap();
                let known = settings.iter().any(|argument| argument.get_env().is_some_and(|env| env == variable));
                assert!(known || rest.is_empty() || word == UPDATE, "docs/{name}: {word}");
            }
            if word.starts_with("everflame_") {
                assert!(metrics.contains(&format!("| `{word}` |")), "docs/{name}: {word}");
            }
        }
    }
}

/// The tables of `words.md` are written by people; none of the words is missing.
#[test]
fn every_end_and_every_reason_of_a_drop_is_in_words_md() {
    let text = std::fs::read_to_string(guide("words.md")).unwrap();
    for end in unwind::end::End::ALL {
        assert!(text.contains(&format!("\n| `{}` | ", end.name())), "{}", end.name());
    }
    for drop in profiler::ledger::Drop::ALL {
        assert!(text.contains(&format!("`{}`", drop.name())), "{}", drop.name());
    }
}
