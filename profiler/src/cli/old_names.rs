//! The variables of the old agent, `OTEL_PROFILING_AGENT_…`, and what becomes of each: every flag that it had was one as well.
//!
//! They count where nobody else says anything: after flags, our own variables and the file.

use std::ffi::OsString;
use std::time::Duration;

use super::agent_args::INTERVALS;

const PREFIX: &str = "OTEL_PROFILING_AGENT_";

/// A variable of the old agent.
#[derive(Debug)]
pub struct OldName {
    /// What follows `OTEL_PROFILING_AGENT_`.
    pub name: &'static str,
    /// What becomes of it, for people.
    pub becomes: &'static str,
    meaning: Meaning,
}

#[derive(Debug)]
enum Meaning {
    /// It is read where sinks and tags are.
    ReadElsewhere,
    /// A value of this flag, or that there is none.
    Flag(&'static str, fn(&str) -> Result<Option<Value>, &'static str>),
    None,
}

/// A flag's value.
#[derive(Debug, Default, PartialEq, Eq)]
struct Value {
    text: String,
    /// If it is another than was asked for: why.
    note: &'static str,
}

const fn old(name: &'static str, meaning: Meaning, becomes: &'static str) -> OldName {
    OldName { name, becomes, meaning }
}

/// All that is known; of others nothing is.
pub const OLD_NAMES: &[OldName] = &[
    old(
        "COLLECTION_AGENT",
        Meaning::ReadElsewhere,
        "a sink, without `--to`: a URL is a Datadog agent, but for the ports 4317, 4318 and 4040, which mean what they mean for \
         `--to`; `host:port` is OTLP over gRPC",
    ),
    old("DISABLE_TLS", Meaning::ReadElsewhere, "whether gRPC to `host:port` goes without TLS"),
    old("TAGS", Meaning::ReadElsewhere, "`--tag`, with `;` between tags"),
    old("SAMPLES_PER_SECOND", Meaning::Flag("frequency", frequency), "`--frequency`"),
    old(
        "REPORTER_INTERVAL",
        Meaning::Flag("interval", interval),
        "`--interval`; what is below 10 s (its default was 5 s) is 10 s, with a warning",
    ),
    old("VERBOSE", Meaning::Flag("log-level", verbose), "`--log-level debug`"),
    old("V", Meaning::Flag("log-level", verbose), "`--log-level debug`"),
    old("CONFIG", Meaning::None, "nothing: its file is not read; the file of `--config` is TOML"),
    old("SECRET_TOKEN", Meaning::None, "nothing: tokens are given by `--token-file` and `--header`"),
    old("PROBABILISTIC_THRESHOLD", Meaning::None, "nothing: every node is profiled, within `--cpu-limit`"),
    old("PROBABILISTIC_INTERVAL", Meaning::None, "nothing: every node is profiled, within `--cpu-limit`"),
    old("TRACERS", Meaning::None, "nothing: no language has to be switched on"),
    old("T", Meaning::None, "nothing: no language has to be switched on"),
    old("MAP_SCALE_FACTOR", Meaning::None, "nothing: tables grow up to `--unwind-memory`"),
    old("PROJECT_ID", Meaning::None, "nothing: no back end asks for it"),
    old("CACHE_DIRECTORY", Meaning::None, "nothing: there is no cache on disk"),
    old(
        "NO_KERNEL_VERSION_CHECK",
        Meaning::None,
        "nothing: what the kernel can do is tried, not read from its version",
    ),
    old("BPF_LOG_LEVEL", Meaning::None, "nothing: the verifier's words are in the error"),
    old("BPF_LOG_SIZE", Meaning::None, "nothing: the verifier's words are in the error"),
    old("PPROF", Meaning::None, "nothing: what the agent costs is in `/metrics` (`--listen`)"),
    old("SAVE_CPUPROFILE", Meaning::None, "nothing: what the agent costs is in `/metrics` (`--listen`)"),
    old("TIMELINE", Meaning::None, "nothing: Datadog gets sums, OTLP the time of each sample"),
    old("COPYRIGHT", Meaning::None, "nothing"),
    old("VERSION", Meaning::None, "nothing"),
];

/// A flag's value that an old name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) flag: &'static str,
    pub(super) value: String,
    pub(super) variable: String,
    /// Worth a warning.
    pub(super) note: Option<String>,
}

/// A value that can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} must be {expected}")]
pub(super) struct OldNameError {
    variable: String,
    expected: &'static str,
}

/// What old names say of flags of which `is_said` knows nothing. An empty variable is as good as none.
pub(super) fn said(
    variable: &dyn Fn(&str) -> Option<String>,
    is_said: impl Fn(&str) -> bool,
) -> Result<Vec<Said>, OldNameError> {
    let mut all: Vec<Said> = Vec::new();
    for old in OLD_NAMES {
        let Meaning::Flag(flag, read) = old.meaning else { continue };
        let name = format!("{PREFIX}{}", old.name);
        let text = variable(&name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let Some(text) = text.filter(|_| !is_said(flag) && all.iter().all(|said| said.flag != flag)) else { continue };
        let value = read(&text).map_err(|expected| OldNameError { variable: name.clone(), expected })?;
        if let Some(Value { text: value, note }) = value {
            let note = (!note.is_empty()).then(|| format!("{name}={text}: {note}; --{flag} {value} is taken"));
            all.push(Said { flag, value, variable: name, note });
        }
    }
    Ok(all)
}

/// The old names among `names` that mean nothing here, a sentence each.
pub(super) fn without_meaning(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut sentences: Vec<String> = names.filter_map(|name| ignored(name.to_str()?)).collect();
    sentences.sort();
    sentences
}

fn ignored(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    // Kubernetes' own, of a Service with the old agent's name.
    if rest.starts_with("SERVICE_") || rest == "PORT" || rest.starts_with("PORT_") {
        return None;
    }
    let why = match OLD_NAMES.iter().find(|old| old.name == rest) {
        Some(OldName { meaning: Meaning::None, becomes, .. }) => becomes.strip_prefix("nothing").unwrap_or_default(),
        Some(_) => return None,
        None => "",
    };
    Some(format!("{name} is a name of the old agent that has no meaning here{}", why.replace('`', "")))
}

fn frequency(text: &str) -> Result<Option<Value>, &'static str> {
    match text.parse::<u32>() {
        Ok(1..=10_000) => Ok(Some(Value { text: text.to_owned(), note: "" })),
        _ => Err("a number from 1 to 10000"),
    }
}

fn interval(text: &str) -> Result<Option<Value>, &'static str> {
    let asked = go_duration(text).ok_or("a duration, such as 30s or 1m30s")?;
    let taken = asked.clamp(*INTERVALS.start(), *INTERVALS.end());
    let note = if taken == asked { "" } else { "one upload covers 10s to 10m here" };
    let text =
        if taken.subsec_millis() == 0 { format!("{}s", taken.as_secs()) } else { format!("{}ms", taken.as_millis()) };
    Ok(Some(Value { text, note }))
}

fn verbose(text: &str) -> Result<Option<Value>, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(Some(Value { text: "debug".to_owned(), note: "" })),
        "false" | "f" | "0" => Ok(None),
        _ => Err("true or false"),
    }
}

/// A duration as Go writes it, such as `1m30s`; none that is negative.
fn go_duration(text: &str) -> Option<Duration> {
    const MOST_SECONDS: f64 = 1e9;
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let number = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let unit = rest[number..].find(|letter: char| letter.is_ascii_digit() || letter == '.');
        let end = unit.map_or(rest.len(), |length| number + length);
        let factor = match &rest[number..end] {
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += rest[..number].parse::<f64>().ok()? * factor;
        rest = &rest[end..];
    }
    (!text.is_empty() && seconds <= MOST_SECONDS).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Vec<Said>, OldNameError> {
        let find = |name: &str| {
            let name = name.strip_prefix(PREFIX)?;
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        said(&find, |flag| flag == "spool")
    }

    /// `FLAG=VALUE` of each.
    fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
        of(pairs).unwrap().iter().map(|said| format!("{}={}", said.flag, said.value)).collect()
    }

    #[test]
    fn rate_interval_and_verbosity_become_flags() {
        assert_eq!(flags(&[("SAMPLES_PER_SECOND", "20"), ("TRACERS", "all")]), ["frequency=20"]);
        assert_eq!(flags(&[("REPORTER_INTERVAL", "1m30s")]), ["interval=90s"]);
        for (text, expected) in [("true", &["log-level=debug"][..]), ("1", &["log-level=debug"]), ("false", &[])] {
            assert_eq!(flags(&[("VERBOSE", text)]), expected, "{text}");
        }
        assert_eq!(flags(&[("VERBOSE", "true"), ("V", "true")]), ["log-level=debug"]);
        assert_eq!(flags(&[("SAMPLES_PER_SECOND", " "), ("V", "")]), Vec::<String>::new());
    }

    #[test]
    fn an_interval_that_is_too_short_is_the_shortest_and_says_so() {
        let said = of(&[("REPORTER_INTERVAL", "5s")]).unwrap();
        assert_eq!(said[0].value, "10s");
        let note = said[0].note.as_deref().unwrap();
        assert!(
            note.starts_with("OTEL_PROFILING_AGENT_REPORTER_INTERVAL=5s: one upload covers 10s to 10m here"),
            "{note}"
        );
        assert_eq!(of(&[("REPORTER_INTERVAL", "1h")]).unwrap()[0].value, "600s");
        assert_eq!(of(&[("REPORTER_INTERVAL", "10s")]).unwrap()[0].note, None);
    }

    #[test]
    fn a_value_that_can_not_be_used_names_its_variable() {
        for (name, value, expected) in [
            ("SAMPLES_PER_SECOND", "0", "a number from 1 to 10000"),
            ("SAMPLES_PER_SECOND", "20001", "a number from 1 to 10000"),
            ("REPORTER_INTERVAL", "60", "a duration"),
            ("VERBOSE", "yes", "true or false"),
        ] {
            let error = of(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{PREFIX}{name} must be {expected}")), "{error}");
        }
    }

    #[test]
    fn what_somebody_says_already_is_not_looked_at() {
        let find = |name: &str| (name == "OTEL_PROFILING_AGENT_SAMPLES_PER_SECOND").then(|| "none".to_owned());
        assert_eq!(said(&find, |flag| flag == "frequency"), Ok(Vec::new()));
    }

    #[test]
    fn names_without_a_meaning_are_told_and_no_others() {
        let names = ["TRACERS", "FOO", "TAGS", "V", "COLLECTION_AGENT", "SERVICE_HOST", "PORT", "PORT_80_TCP"];
        let names = names.iter().map(|name| OsString::from(format!("{PREFIX}{name}"))).chain(["HOME".into()]);
        assert_eq!(
            without_meaning(names),
            [
                "OTEL_PROFILING_AGENT_FOO is a name of the old agent that has no meaning here",
                "OTEL_PROFILING_AGENT_TRACERS is a name of the old agent that has no meaning here: no language has to be switched on",
            ]
        );
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("5s", Some(5_000)),
            ("1m0s", Some(60_000)),
            ("1h2m3.5s", Some(3_723_500)),
            ("250ms", Some(250)),
            ("1500\u{b5}s", Some(1)),
            ("0", Some(0)),
            ("", None),
            ("s", None),
            ("5", None),
            ("-5s", None),
            ("5s6", None),
            ("5d", None),
            ("1..5s", None),
            ("9999999999999999h", None),
        ] {
            assert_eq!(go_duration(text).map(|time| time.as_millis()), milliseconds, "{text:?}");
        }
    }
}
