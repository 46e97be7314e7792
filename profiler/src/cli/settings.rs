//! Where each setting comes from: flag, environment, file, the old agent's variables, default, in this order.
//!
//! The file has no table of its own: its keys are the flags' names, and what it says goes through the same parser. So a flag that
//! exists can be set everywhere, and nothing else can. Unknown keys are errors: a misspelt setting must not be lost in silence.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::old_names::{self, OldNameError};
use super::sink_secrets;

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
    /// A variable of the old agent.
    #[error(transparent)]
    OldName(#[from] OldNameError),
}

/// A command's settings with the source of each.
pub(super) struct Sourced {
    pub(super) matches: ArgMatches,
    /// Where what neither flags nor their variables say is from, by the argument's id.
    origins: HashMap<String, String>,
    /// Worth a warning.
    pub(super) notes: Vec<String>,
}

/// A variable of the environment.
type Variable<'get> = &'get dyn Fn(&str) -> Option<String>;

/// Parses `words` (program, subcommand, flags), taking what flags and environment don't say from the file that `config` names, and
/// what that does not say from the old agent's variables.
pub(super) fn resolve(command: &Command, words: &[OsString], variable: Variable) -> Result<Sourced, SettingsError> {
    let sourced = merged(command, words, variable)?;
    for [one, other] in PAIRS {
        for (given, missing) in [(one, other), (other, one)] {
            if sourced.has(given) && !sourced.has(missing) {
                return Err(SettingsError::Alone { given, missing });
            }
        }
    }
    Ok(sourced)
}

fn merged(command: &Command, words: &[OsString], variable: Variable) -> Result<Sourced, SettingsError> {
    let first = command.clone().try_get_matches_from(words)?;
    let mut more = More::default();
    let Some((name, given)) = first.subcommand() else {
        return Ok(Sourced { matches: first, origins: more.origins, notes: Vec::new() });
    };
    if let Some(path) = given.get_one::<PathBuf>("config") {
        let subcommand = command.find_subcommand(name).unwrap_or(command);
        more = words_of_file(subcommand, given, path, &read(path)?)?;
    }
    let is_said = |flag: &str| {
        let id = flag.replace('-', "_");
        more.origins.contains_key(&id) || is_given(given, &id)
    };
    let mut notes = Vec::new();
    for said in old_names::said(variable, is_said)? {
        more.words.push(format!("--{}={}", said.flag, said.value).into());
        more.origins.insert(said.flag.replace('-', "_"), format!("environment {}", said.variable));
        notes.extend(said.note);
    }
    let mut matches = given.clone();
    if !more.words.is_empty() {
        let (head, tail) = words.split_at(words.len().min(2));
        let all: Vec<OsString> = head.iter().cloned().chain(more.words).chain(tail.iter().cloned()).collect();
        let second = command.clone().try_get_matches_from(all)?;
        matches = second.subcommand().map(|(_, matches)| matches.clone()).unwrap_or_default();
    }
    Ok(Sourced { matches, origins: more.origins, notes })
}

/// Whether a flag or its variable says it.
fn is_given(given: &ArgMatches, id: &str) -> bool {
    matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

fn read(path: &Path) -> Result<String, SettingsError> {
    let fail = |why: String| SettingsError::Read { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(fail(format!("it has {size} bytes, more than {MAX_FILE_BYTES}")));
    }
    std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))
}

/// Words that are added to those of the command line, and where each is from, by its id.
#[derive(Default)]
struct More {
    words: Vec<OsString>,
    origins: HashMap<String, String>,
}

fn words_of_file(subcommand: &Command, given: &ArgMatches, path: &Path, text: &str) -> Result<More, SettingsError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| SettingsError::Syntax {
        path: path.to_owned(),
        why: error.to_string().trim().replace('\n', " "),
    })?;
    let More { mut words, mut origins } = More::default();
    for (key, value) in table {
        let flag = key.replace('_', "-");
        let argument = subcommand.get_arguments().find(|argument| argument.get_long() == Some(&flag));
        let Some(argument) = argument.filter(|_| flag != "config" && flag != "help") else {
            let names = subcommand.get_arguments().filter_map(clap::Arg::get_long);
            return Err(SettingsError::Unknown { path: path.to_owned(), hint: nearest(&flag, names), key });
        };
        let id = argument.get_id().as_str();
        if is_given(given, id) {
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
        origins.insert(id.to_owned(), "file".to_owned());
    }
    Ok(More { words, origins })
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

    /// Every setting as a line of TOML with its source, secrets masked. `unsaid` has the lines of flags whose value is found
    /// elsewhere.
    pub(super) fn render(&self, subcommand: &Command, unsaid: &HashMap<&str, String>) -> String {
        let mut text = String::new();
        for argument in subcommand.get_arguments() {
            let (Some(flag), id) = (argument.get_long(), argument.get_id().as_str()) else { continue };
            if flag == "help" || flag == "config" {
                continue;
            }
            if let Some(lines) = unsaid.get(flag) {
                text += lines;
                continue;
            }
            let source = match self.origins.get(id) {
                Some(origin) => origin.clone(),
                None => match self.matches.value_source(id) {
                    Some(ValueSource::CommandLine) => format!("flag --{flag}"),
                    Some(ValueSource::EnvVariable) => {
                        format!("environment {}", argument.get_env().unwrap_or_default().to_string_lossy())
                    }
                    _ => "default".to_owned(),
                },
            };
            text += &match self.value(argument, id, SECRETS.contains(&flag)) {
                Some(value) => format!("{flag} = {value}  # {source}\n"),
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
            let raw = raw.to_string_lossy();
            let text = match (secret, sink_secrets::split(&raw)) {
                (true, Some((address, _))) => format!("{} ********", masked(address)),
                (true, None) => "********".to_owned(),
                (false, _) => masked(&raw),
            };
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
#[path = "settings_tests.rs"]
mod tests;
