//! The guides' tables are what the program says of itself: settings from the agent's words, metrics from a real page.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::CommandFactory as _;
use profiler::agent::history::History;
use profiler::agent::history_metrics::HistoryCollector;
use profiler::agent::metrics::{StatusCollector, render};
use profiler::agent::sink_metrics::SinkCollector;
use profiler::agent::stages::StageCollector;
use profiler::agent::status::Status;
use profiler::cli::{Arguments, OLD_NAMES};
use profiler::export::counters::Counters;
use prometheus_client::registry::Registry;

/// Set to rewrite the guides instead of checking them.
const UPDATE: &str = "EVERFLAME_UPDATE_README";
const BEGIN: &str = "<!-- table: made by profiler/tests/guides.rs -->\n";
const BEGIN_OLD: &str = "<!-- old names: made by profiler/tests/guides.rs -->\n";
const END: &str = "<!-- end of table -->";

fn guide(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// The tables that begin so in the guide are these, in their order, or become them.
fn check_tables(name: &str, begin: &str, wanted: &[String]) {
    // Two tests write one guide.
    static WRITING: Mutex<()> = Mutex::new(());
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = guide(name);
    let mut text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("docs/{name}: {error}"));
    let mut from = 0;
    for wanted in wanted {
        let found = text[from..].find(begin).unwrap_or_else(|| panic!("docs/{name} has no place for its table"));
        let start = from + found + begin.len();
        let end = start + text[start..].find(END).unwrap_or_else(|| panic!("docs/{name}: its table has no end"));
        if std::env::var_os(UPDATE).is_some() {
            text.replace_range(start..end, wanted);
        } else {
            assert_eq!(&text[start..end], wanted, "run this test with {UPDATE}=1 and commit docs/{name}");
        }
        from = start + wanted.len();
    }
    assert!(!text[from..].contains(begin), "docs/{name} has more tables than are made");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("docs/{name}: {error}"));
    }
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
    check_tables("configuration.md", BEGIN, &[table]);
}

#[test]
fn every_variable_of_the_old_agent_is_in_configuration_md() {
    let mut table = String::from("| `OTEL_PROFILING_AGENT_…` | what becomes of it |\n|---|---|\n");
    for old in OLD_NAMES {
        let _ = writeln!(table, "| `{}` | {} |", old.name, old.becomes);
    }
    check_tables("configuration.md", BEGIN_OLD, &[table]);
}

/// What the agent shows with one sink.
fn page() -> String {
    let status = Arc::new(Status::default());
    let sinks = vec![("datadog+http://127.0.0.1:8126".to_owned(), Arc::new(Counters::default()))];
    let history = History::default();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(StatusCollector(Arc::clone(&status))));
    registry.register_collector(Box::new(HistoryCollector(history.clone())));
    registry.register_collector(Box::new(SinkCollector(sinks.clone())));
    registry.register_collector(Box::new(StageCollector { status, sinks, history: Some(history) }));
    render(&registry).unwrap()
}

/// A label and its values, in the order of the page.
type Label = (String, Vec<String>);

struct Family {
    /// As it is queried.
    name: String,
    kind: String,
    labels: Vec<Label>,
    help: String,
}

impl Family {
    fn has(&self, label: &str, value: &str) -> bool {
        self.labels.iter().any(|(known, values)| known == label && values.iter().any(|known| known == value))
    }
}

/// The labels of the samples called `name`.
fn labels(page: &str, name: &str) -> Vec<Label> {
    let mut labels: Vec<Label> = Vec::new();
    let start = format!("{name}{{");
    let labelled = page.lines().filter_map(|line| line.strip_prefix(&start)?.split_once('}'));
    for (label, value) in labelled.flat_map(|(all, _)| all.split(',')).filter_map(|pair| pair.split_once('=')) {
        let value = value.trim_matches('"').to_owned();
        match labels.iter_mut().find(|(known, _)| known == label) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => labels.push((label.to_owned(), vec![value])),
        }
    }
    labels
}

fn families(page: &str) -> Vec<Family> {
    let lines = |start: String| page.lines().filter_map(move |line| line.strip_prefix(&start));
    let mut found = Vec::new();
    for (name, kind) in lines("# TYPE ".to_owned()).filter_map(|line| line.split_once(' ')) {
        let help = lines(format!("# HELP {name} ")).next().unwrap_or("").trim_end_matches('.').to_owned();
        let (queried, sample) = match kind {
            "counter" => (format!("{name}_total"), format!("{name}_total")),
            "histogram" => (name.to_owned(), format!("{name}_count")),
            _ => (name.to_owned(), name.to_owned()),
        };
        found.push(Family { name: queried, kind: kind.to_owned(), labels: labels(page, &sample), help });
    }
    found
}

/// The family of all counters, whose labels have a table of their own.
const STATISTICS: &str = "everflame_statistics_total";

/// `part` and the names that go with it.
fn statistics(page: &str) -> Vec<Label> {
    let parts = labels(page, STATISTICS).into_iter().find(|(label, _)| label == "part").unwrap().1;
    let names = |part: &str| {
        let of_part = page.lines().filter(|line| line.contains(&format!("{{part=\"{part}\"")));
        labels(&of_part.map(|line| format!("{line}\n")).collect::<String>(), STATISTICS).pop().unwrap().1
    };
    parts.into_iter().map(|part| (part.clone(), names(&part))).collect()
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_metric_is_in_metrics_md() {
    let page = page();
    let mut table = String::from("| metric | type | labels | what it counts |\n|---|---|---|---|\n");
    let families = families(&page);
    assert!(families.len() > 30, "{page}");
    for Family { name, kind, labels, help } in families {
        let labels = labels.iter().map(|(label, values)| match label.as_str() {
            "sink" => "`sink`: its address".to_owned(),
            "part" | "name" => format!("`{label}`: see below"),
            _ => format!("`{label}`: {}", quoted(values)),
        });
        let labels = labels.collect::<Vec<_>>().join("; ");
        let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {help} |");
    }
    let mut counters = String::from("| `part` | `name` |\n|---|---|\n");
    let statistics = statistics(&page);
    assert!(statistics.len() > 6, "{page}");
    for (part, names) in statistics {
        let _ = writeln!(counters, "| `{part}` | {} |", quoted(&names));
    }
    check_tables("metrics.md", BEGIN, &[table, counters]);
}

/// Documents whose flags are cargo's, of the chores and of the benches, but in commands of `everflame` itself.
const FOR_DEVELOPERS: [&str; 3] = ["architecture.md", "benchmarks.md", "development.md"];
/// Of the collector.
const FOREIGN_FLAGS: [&str; 1] = ["--feature-gates"];
/// Variables that only tests read.
const FOREIGN_VARIABLES: [&str; 2] = [UPDATE, "EVERFLAME_LONG"];

/// All documents with their texts.
fn documents() -> Vec<(String, String)> {
    let mut documents: Vec<(String, String)> = std::fs::read_dir(guide("."))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    documents.sort();
    documents
}

/// Every `--flag` and `EVERFLAME_…` that a document names exists.
#[test]
fn documents_name_only_settings_that_exist() {
    let command = Arguments::command();
    let settings: Vec<_> = command.get_subcommands().flat_map(clap::Command::get_arguments).collect();
    let documents = documents();
    assert!(documents.len() > 15, "{documents:?}");
    for (name, text) in documents {
        let words = |text: &str| -> Vec<String> {
            let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_=".contains(c)));
            words.map(|word| word.split('=').next().unwrap_or_default().to_owned()).collect()
        };
        let with_flags: Vec<&str> = match FOR_DEVELOPERS.contains(&name.as_str()) {
            true => text.split('`').filter(|span| span.starts_with("everflame ")).collect(),
            false => vec![text.as_str()],
        };
        for word in with_flags.into_iter().flat_map(words) {
            let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty() && !flag.starts_with('-')) else {
                continue;
            };
            let known = settings.iter().any(|argument| argument.get_long() == Some(flag));
            assert!(known || FOREIGN_FLAGS.contains(&word.as_str()), "docs/{name}: {word}");
        }
        for variable in words(&text) {
            let Some(rest) = variable.strip_prefix("EVERFLAME_") else { continue };
            let known = settings.iter().any(|argument| argument.get_env().is_some_and(|env| env == variable.as_str()));
            let foreign = FOREIGN_VARIABLES.contains(&variable.as_str());
            assert!(known || foreign || rest.is_empty(), "docs/{name}: {variable}");
        }
    }
}

/// Metrics in a text, each with the labels and values that are selected: `everflame_x_total{reason=~"a\|b"}`.
fn metrics_in(text: &str) -> Vec<(String, Vec<Label>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("everflame_") {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let selected = rest[end..].strip_prefix('{').and_then(|selected| selected.split_once('}'));
        let mut labels = Vec::new();
        for (label, values) in
            selected.iter().flat_map(|(all, _)| all.split(',')).filter_map(|pair| pair.split_once('='))
        {
            let values = values.trim_start_matches('~').trim_matches('"').split('|');
            labels.push((label.to_owned(), values.map(|value| value.trim_end_matches('\\').to_owned()).collect()));
        }
        found.push((rest[..end].to_owned(), labels));
    }
    found
}

/// Every `everflame_…` that a document names is a metric, and has the labels that are selected.
#[test]
fn documents_name_only_metrics_that_exist() {
    let families = families(&page());
    let mut seen = 0;
    for (name, text) in documents() {
        for (metric, labels) in metrics_in(&text) {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| metric.strip_suffix(suffix));
            let family = families.iter().find(|family| {
                family.name == metric || (family.kind == "histogram" && Some(family.name.as_str()) == of_histogram)
            });
            let family = family.unwrap_or_else(|| panic!("docs/{name}: {metric}"));
            for (label, value) in
                labels.iter().flat_map(|(label, values)| values.iter().map(move |value| (label, value)))
            {
                assert!(family.has(label, value), "docs/{name}: {metric} with {label} {value}");
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "only {seen} labels were found in all documents");
}

#[test]
fn a_metric_in_a_text_is_found_with_what_is_selected() {
    let text = "`rate(everflame_a_total{fate=~\"x\\|y\",sink=\"z\"}[1h])` and everflame_b";
    let label = |name: &str, values: &[&str]| -> Label {
        (name.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
    };
    let first = vec![label("fate", &["x", "y"]), label("sink", &["z"])];
    assert_eq!(metrics_in(text), [("everflame_a_total".to_owned(), first), ("everflame_b".to_owned(), Vec::new())]);
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
