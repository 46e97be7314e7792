//! Where each setting comes from: flag, environment, file, default, in this order.
//!
//! The file has no table of its own: its keys are the flags' names, and what it says goes through the same parser. So a flag that
//! exists can be set everywhere, and nothing else can. Unknown keys are errors: a misspelt setting must not be lost in silence.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// Largest configuration file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Flags whose values are never printed.
const SECRETS: [&str; 1] = ["header"];

/// Flags that say nothing without each other. Looked at once all sources are known, where clap's `requires` sees the words alone.
const PAIRS: [[&str; 2]; 1] = [["client-certificate", "client-key"]];

/// Why settings could not be made out.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingsError {
    /// The words, or values from environment or file, are not understood: clap's own report.
    #[error(transparent)]
    Words(#[from] clap::Error),
    /// The file can't be read.
    #[error("cannot read the configuration {path}: {why}")]
    Read { path: PathBuf, why: String },
    /// The file is not TOML.
    #[error("{path} is not valid TOML: {why}")]
    Syntax { path: PathBuf, why: String },
    /// A key that is no setting.
    #[error("{path}: unknown setting `{key}`{hint}")]
    Unknown { path: PathBuf, key: String, hint: String },
    /// A value of the wrong sort.
    #[error("{path}: `{key}` must be {wanted}")]
    Value { path: PathBuf, key: String, wanted: &'static str },
    /// One of [`PAIRS`] without the other.
    #[error("--{given} needs --{missing} as well, from wherever: a flag, the environment or the file")]
    Alone { given: &'static str, missing: &'static str },
}

/// A command's settings with the source of each.
pub(super) struct Sourced {
    pub(super) matches: ArgMatches,
    from_file: HashSet<String>,
}

/// Parses `words` (program, subcommand, flags), taking what flags and environment don't say from the file that `config` names.
pub(super) fn resolve(command: &Command, words: &[OsString]) -> Result<Sourced, SettingsError> {
    let sourced = merged(command, words)?;
    for [one, other] in PAIRS {
        for (given, missing) in [(one, other), (other, one)] {
            if sourced.has(given) && !sourced.has(missing) {
                return Err(SettingsError::Alone { given, missing });
            }
        }
    }
    Ok(sourced)
}

fn merged(command: &Command, words: &[OsString]) -> Result<Sourced, SettingsError> {
    let first = command.clone().try_get_matches_from(words)?;
    let Some((name, given)) = first.subcommand() else {
        return Ok(Sourced { matches: first, from_file: HashSet::new() });
    };
    let Some(path) = given.get_one::<PathBuf>("config") else {
        return Ok(Sourced { matches: given.clone(), from_file: HashSet::new() });
    };
    let subcommand = command.find_subcommand(name).unwrap_or(command);
    let text = read(path)?;
    let (extra, from_file) = words_of_file(subcommand, given, path, &text)?;
    let (head, tail) = words.split_at(words.len().min(2));
    let all: Vec<OsString> = head.iter().cloned().chain(extra).chain(tail.iter().cloned()).collect();
    let second = command.clone().try_get_matches_from(all)?;
    let matches = second.subcommand().map(|(_, matches)| matches.clone()).unwrap_or_default();
    Ok(Sourced { matches, from_file })
}

fn read(path: &Path) -> Result<String, SettingsError> {
    let fail = |why: String| SettingsError::Read { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(fail(format!("it has {size} bytes, more than {MAX_FILE_BYTES}")));
    }
    std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))
}

type FileWords = (Vec<OsString>, HashSet<String>);

fn words_of_file(
    subcommand: &Command,
    given: &ArgMatches,
    path: &Path,
    text: &str,
) -> Result<FileWords, SettingsError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| SettingsError::Syntax {
        path: path.to_owned(),
        why: error.to_string().trim().replace('\n', " "),
    })?;
    let (mut words, mut from_file) = (Vec::new(), HashSet::new());
    for (key, value) in table {
        let flag = key.replace('_', "-");
        let argument = subcommand.get_arguments().find(|argument| argument.get_long() == Some(&flag));
        let Some(argument) = argument.filter(|_| flag != "config" && flag != "help") else {
            let names = subcommand.get_arguments().filter_map(clap::Arg::get_long);
            return Err(SettingsError::Unknown { path: path.to_owned(), hint: nearest(&flag, names), key });
        };
        let id = argument.get_id().as_str();
        if matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        let wrong = |wanted| SettingsError::Value { path: path.to_owned(), key: key.clone(), wanted };
        let takes_values = argument.get_action().takes_values();
        match (&value, takes_values) {
            (toml::Value::Boolean(true), false) => words.push(format!("--{flag}").into()),
            (toml::Value::Boolean(false), false) => {}
            (_, false) => return Err(wrong("true or false")),
            (toml::Value::Array(values), true) if matches!(argument.get_action(), clap::ArgAction::Append) => {
                for value in values {
                    let text = scalar(value).ok_or_else(|| wrong("a list of texts or numbers"))?;
                    words.push(format!("--{flag}={text}").into());
                }
            }
            (value, true) => {
                let text = scalar(value).ok_or_else(|| wrong("a text or a number"))?;
                words.push(format!("--{flag}={text}").into());
            }
        }
        from_file.insert(id.to_owned());
    }
    Ok((words, from_file))
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Names that a misspelt one may have meant.
fn nearest<'name>(flag: &str, names: impl Iterator<Item = &'name str>) -> String {
    let shared = |name: &str| name.bytes().zip(flag.bytes()).take_while(|(left, right)| left == right).count();
    match names.map(|name| (shared(name), name)).max() {
        Some((common, name)) if common >= 3 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

impl Sourced {
    /// Whether a flag has a value, from wherever. Not every command has every flag.
    fn has(&self, flag: &str) -> bool {
        let id = flag.replace('-', "_");
        self.matches.try_contains_id(&id).unwrap_or(false)
    }

    /// Every setting as a line of TOML with its source, secrets masked.
    pub(super) fn render(&self, subcommand: &Command) -> String {
        let mut text = String::new();
        for argument in subcommand.get_arguments() {
            let (Some(flag), id) = (argument.get_long(), argument.get_id().as_str()) else { continue };
            if flag == "help" || flag == "config" {
                continue;
            }
            let source = self.matches.value_source(id);
            let source_name = match source {
                _ if self.from_file.contains(id) => "file".to_owned(),
                Some(ValueSource::CommandLine) => format!("flag --{flag}"),
                Some(ValueSource::EnvVariable) => {
                    format!("environment {}", argument.get_env().unwrap_or_default().to_string_lossy())
                }
                _ => "default".to_owned(),
            };
            let value = self.value(argument, id, SECRETS.contains(&flag));
            text += &match value {
                Some(value) => format!("{flag} = {value}  # {source_name}\n"),
                None => format!("# {flag} is not set\n"),
            };
        }
        text
    }

    fn value(&self, argument: &clap::Arg, id: &str, secret: bool) -> Option<String> {
        if !argument.get_action().takes_values() {
            return Some(self.matches.get_flag(id).to_string());
        }
        let quoted = |raw: &std::ffi::OsStr| {
            let text = if secret { "********".into() } else { masked(&raw.to_string_lossy()) };
            toml::Value::String(text).to_string()
        };
        let values: Vec<String> = self.matches.get_raw(id)?.map(quoted).collect();
        if matches!(argument.get_action(), clap::ArgAction::Append) {
            return Some(format!("[{}]", values.join(", ")));
        }
        values.into_iter().next()
    }
}

/// A password in an address (`http://user:password@host`) is nobody's business.
fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://********{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// `EVERFLAME_*` variables that are no setting. Only worth a warning: Kubernetes puts a service's address there
/// (`EVERFLAME_SERVICE_HOST`, `EVERFLAME_PORT_…`).
pub(super) fn unknown_environment(command: &Command, names: impl Iterator<Item = OsString>) -> Vec<String> {
    let known: HashSet<String> = command
        .get_subcommands()
        .flat_map(Command::get_arguments)
        .filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned()))
        .collect();
    let mut unknown: Vec<String> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("EVERFLAME_") && !known.contains(name))
        .filter(|name| !name.starts_with("EVERFLAME_SERVICE_") && !name.starts_with("EVERFLAME_PORT"))
        .collect();
    unknown.sort();
    unknown
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::args::Arguments;
    use super::*;

    fn resolve_with(file: &str, words: &[&str]) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("everflame.toml");
        std::fs::write(&path, file).unwrap();
        let config = format!("--config={}", path.display());
        let words: Vec<OsString> =
            ["everflame", "agent", &config].iter().chain(words).map(|word| OsString::from(*word)).collect();
        let command = Arguments::command();
        let sourced = resolve(&command, &words)
            .map_err(|error| error.to_string().replace(&format!("{}", path.display()), "FILE"))?;
        Ok(sourced.render(command.find_subcommand("agent").unwrap()))
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
    }

    #[test]
    fn secrets_are_never_printed() {
        let text = resolve_with("header = [\"dd-api-key: 0123\"]\n", &[]).unwrap();
        assert_eq!(line(&text, "header"), "header = [\"********\"]  # file");
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
        let names =
            ["EVERFLAME_TO", "EVERFLAME_SERVICE_HOST", "EVERFLAME_PORT_9464_TCP", "EVERFLAME_FREQUENZY", "HOME"];
        let unknown = unknown_environment(&Arguments::command(), names.iter().map(OsString::from));
        assert_eq!(unknown, ["EVERFLAME_FREQUENZY"]);
    }
}
