//! The agent's words about sinks, and the environment of older agents, as validated settings.

use anyhow::Context as _;

use super::agent_args::Agent;
use super::sink_secrets;
use crate::export::address;
use crate::export::environment;
use crate::export::settings::SinkSettings;

/// The sinks that flags and environment name. `--to` goes before the environment of older agents: whoever names sinks means these.
pub(super) fn settings(words: &Agent, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Vec<SinkSettings>> {
    Ok(named(words, variable)?.0)
}

/// The same with the variable that names each; none for those of `--to`.
pub(super) fn named(
    words: &Agent,
    variable: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<(Vec<SinkSettings>, Vec<&'static str>)> {
    let (mut sinks, mut variables) = (Vec::new(), Vec::new());
    if words.to.is_empty() {
        for found in environment::sinks(variable)? {
            sinks.push(found.settings);
            variables.push(found.variable);
        }
    }
    for text in &words.to {
        sinks.push(SinkSettings::new(address::parse(text)?));
    }
    sink_secrets::give(words, &mut sinks)?;
    Ok((sinks, variables))
}

/// Tags, and the variable that they are from; `None`: `--tag`, or nowhere.
pub(super) type SourcedTags = (Vec<(String, String)>, Option<&'static str>);

/// The operator's tags: `--tag`, else `DD_TAGS` (comma or space between) or the old agent's `OTEL_PROFILING_AGENT_TAGS`
/// (semicolon between).
pub(super) fn tags(words: &Agent, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<SourcedTags> {
    if !words.tag.is_empty() {
        let tags = words.tag.iter().map(|tag| pair(tag).with_context(|| format!("--tag {tag} must be KEY:VALUE")));
        return Ok((tags.collect::<anyhow::Result<_>>()?, None));
    }
    let of = |name: &'static str, separators: &[char]| {
        let text = variable(name)?;
        let tags: Vec<_> = text.split(separators).filter_map(pair).collect();
        (!tags.is_empty()).then_some((tags, Some(name)))
    };
    Ok(of("OTEL_PROFILING_AGENT_TAGS", &[';']).or_else(|| of("DD_TAGS", &[',', ' '])).unwrap_or_default())
}

fn pair(text: &str) -> Option<(String, String)> {
    let (key, value) = text.trim().split_once(':')?;
    let (key, value) = (key.trim(), value.trim());
    (!key.is_empty() && !value.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser as _;

    use super::super::args::{Arguments, Command};
    use super::*;

    pub(in crate::cli) fn agent(words: &[&str]) -> Agent {
        let words = ["everflame", "agent"].iter().chain(words);
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Agent(words) => words,
            _ => panic!("not the agent"),
        }
    }

    #[test]
    fn named_sinks_go_before_the_environment() {
        let old = |name: &str| (name == "DD_AGENT_HOST").then(|| "10.0.0.1".to_owned());
        let named = settings(&agent(&["--to", "otlp+grpc://c:4317,file:///tmp/x"]), old).unwrap();
        assert_eq!(named.len(), 2);
        let found = settings(&agent(&["--ca-file", "/ca.pem"]), old).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].tls.certificate_authority.as_deref(), Some(std::path::Path::new("/ca.pem")));
        assert_eq!(settings(&agent(&[]), |_| None).unwrap().len(), 0);
        assert!(settings(&agent(&["--to", "gopher://x"]), old).is_err());
        assert!(settings(&agent(&["--to", "file:///x", "--header", "none"]), old).is_err());
    }

    #[test]
    fn tags_are_pairs_and_the_old_names_serve() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let old = |name: &str| match name {
            "OTEL_PROFILING_AGENT_TAGS" => Some("service:node-1; team:a:b;;x".to_owned()),
            _ => Some("env:prod, other".to_owned()),
        };
        let said = tags(&agent(&["--tag", "a:b,c:d"]), old).unwrap();
        assert_eq!(said, (vec![pair("a", "b"), pair("c", "d")], None));
        let found = tags(&agent(&[]), old).unwrap();
        assert_eq!(found, (vec![pair("service", "node-1"), pair("team", "a:b")], Some("OTEL_PROFILING_AGENT_TAGS")));
        let datadog = |name: &str| (name == "DD_TAGS").then(|| "env:prod,team:x".to_owned());
        assert_eq!(
            tags(&agent(&[]), datadog).unwrap(),
            (vec![pair("env", "prod"), pair("team", "x")], Some("DD_TAGS"))
        );
        assert!(tags(&agent(&["--tag", "nothing"]), old).is_err());
    }
}
