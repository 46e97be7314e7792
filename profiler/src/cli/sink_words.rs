//! The agent's words about sinks, and the environment of older agents, as validated settings.

use anyhow::Context as _;

use super::agent_args::Agent;
use crate::export::address;
use crate::export::environment;
use crate::export::settings::{Secret, SinkSettings};

/// The sinks that flags and environment name. `--to` goes before the environment of older agents: whoever names sinks means these.
pub(super) fn settings(words: &Agent, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Vec<SinkSettings>> {
    if words.to.is_empty() {
        let mut found = environment::sinks(variable)?;
        found.iter_mut().try_for_each(|sink| complete(sink, words))?;
        return Ok(found);
    }
    let mut sinks = Vec::new();
    for text in &words.to {
        let mut sink = SinkSettings::new(address::parse(text)?);
        complete(&mut sink, words)?;
        sinks.push(sink);
    }
    Ok(sinks)
}

/// Headers, token and certificates; what the environment said of them stays.
fn complete(sink: &mut SinkSettings, words: &Agent) -> anyhow::Result<()> {
    for header in &words.header {
        let (name, value) = header.split_once(':').context("--header must be NAME: VALUE")?;
        sink.headers.push((name.trim().to_ascii_lowercase(), Secret(value.trim().to_owned())));
    }
    if sink.bearer_token_file.is_none() {
        sink.bearer_token_file.clone_from(&words.token_file);
    }
    let tls = &mut sink.tls;
    let files = [
        (&mut tls.certificate_authority, &words.ca_file),
        (&mut tls.client_certificate, &words.client_certificate),
        (&mut tls.client_key, &words.client_key),
    ];
    for (file, word) in files {
        if file.is_none() {
            file.clone_from(word);
        }
    }
    Ok(())
}

/// The operator's tags: `--tag`, else `DD_TAGS` (comma or space between) or the old agent's `OTEL_PROFILING_AGENT_TAGS`
/// (semicolon between).
pub(super) fn tags(words: &Agent, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Vec<(String, String)>> {
    if !words.tag.is_empty() {
        return words
            .tag
            .iter()
            .map(|tag| pair(tag).with_context(|| format!("--tag {tag} must be KEY:VALUE")))
            .collect();
    }
    let of = |name: &str, separators: &[char]| {
        let text = variable(name)?;
        let tags: Vec<_> = text.split(separators).filter_map(pair).collect();
        (!tags.is_empty()).then_some(tags)
    };
    Ok(of("OTEL_PROFILING_AGENT_TAGS", &[';']).or_else(|| of("DD_TAGS", &[',', ' '])).unwrap_or_default())
}

fn pair(text: &str) -> Option<(String, String)> {
    let (key, value) = text.trim().split_once(':')?;
    let (key, value) = (key.trim(), value.trim());
    (!key.is_empty() && !value.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::args::{Arguments, Command};
    use super::*;

    fn agent(words: &[&str]) -> Agent {
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
        assert_eq!(tags(&agent(&["--tag", "a:b,c:d"]), old).unwrap(), [pair("a", "b"), pair("c", "d")]);
        assert_eq!(tags(&agent(&[]), old).unwrap(), [pair("service", "node-1"), pair("team", "a:b")]);
        let datadog = |name: &str| (name == "DD_TAGS").then(|| "env:prod,team:x".to_owned());
        assert_eq!(tags(&agent(&[]), datadog).unwrap(), [pair("env", "prod"), pair("team", "x")]);
        assert!(tags(&agent(&["--tag", "nothing"]), old).is_err());
    }
}
