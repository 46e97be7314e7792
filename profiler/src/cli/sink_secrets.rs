//! Headers, tokens and certificates of the sinks. A word of `--header` and its like is for every sink; with a sink's address and a
//! space before it, it is for that sink alone.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context as _;

use super::agent_args::Agent;
use crate::export::address::{self, Address, Endpoint};
use crate::export::settings::{Secret, SinkSettings};

/// A word, and whom it is for.
struct Aimed<'word> {
    /// The sink's address as it is shown; `None`: every sink.
    sink: Option<String>,
    value: &'word str,
}

/// Address and rest of a word that begins with an address. A header's name has no colon in it, so that none is taken for one.
pub(super) fn split(word: &str) -> Option<(&str, &str)> {
    let (address, value) = word.trim_start().split_once(char::is_whitespace)?;
    let (scheme, _) = address.split_once("://")?;
    (!scheme.contains(':')).then(|| (address, value.trim()))
}

impl<'word> Aimed<'word> {
    fn read(flag: &str, word: &'word str, sinks: &[SinkSettings]) -> anyhow::Result<Aimed<'word>> {
        let Some((address, value)) = split(word) else { return Ok(Aimed { sink: None, value: word }) };
        let sink = address::parse(address).with_context(|| format!("--{flag}"))?.to_string();
        let known: Vec<String> = sinks.iter().map(|sink| sink.address.to_string()).collect();
        anyhow::ensure!(known.contains(&sink), "--{flag} is for {sink}, and the sinks are: {}", known.join(", "));
        Ok(Aimed { sink: Some(sink), value })
    }
}

/// Where a flag's file goes.
type Place = fn(&mut SinkSettings) -> &mut Option<PathBuf>;

/// Gives each sink what is for it. What the environment said beside a sink's own variable stays, unless a word is for that sink.
pub(super) fn give(words: &Agent, sinks: &mut [SinkSettings]) -> anyhow::Result<()> {
    for word in &words.header {
        let aimed = Aimed::read("header", word, sinks)?;
        let (name, value) = aimed.value.split_once(':').context("--header must be NAME: VALUE")?;
        let header = (name.trim().to_ascii_lowercase(), Secret(value.trim().to_owned()));
        let is_for = |sink: &SinkSettings| aimed.sink.as_ref().is_none_or(|for_it| *for_it == sink.address.to_string());
        sinks.iter_mut().filter(|sink| is_for(sink)).for_each(|sink| sink.headers.push(header.clone()));
    }
    let files: [(&str, &[String], Place); 4] = [
        ("token-file", &words.token_file, |sink| &mut sink.bearer_token_file),
        ("ca-file", &words.ca_file, |sink| &mut sink.tls.certificate_authority),
        ("client-certificate", &words.client_certificate, |sink| &mut sink.tls.client_certificate),
        ("client-key", &words.client_key, |sink| &mut sink.tls.client_key),
    ];
    for (flag, list, place) in files {
        let aimed = list.iter().map(|word| Aimed::read(flag, word, sinks)).collect::<anyhow::Result<Vec<_>>>()?;
        for sink in sinks.iter_mut() {
            let address = sink.address.to_string();
            let own = only(flag, aimed.iter().filter(|aimed| aimed.sink.as_ref() == Some(&address)))?;
            let shared = only(flag, aimed.iter().filter(|aimed| aimed.sink.is_none()))?;
            let file = place(sink);
            *file = own.or(file.take()).or(shared);
        }
    }
    Ok(())
}

fn only<'word>(flag: &str, words: impl Iterator<Item = &'word Aimed<'word>>) -> anyhow::Result<Option<PathBuf>> {
    let files: Vec<PathBuf> = words.map(|word| word.value.into()).collect();
    anyhow::ensure!(
        files.len() < 2,
        "--{flag} is there twice for one sink: begin each with its sink's address and a space"
    );
    Ok(files.into_iter().next())
}

/// Where secrets of all sinks go to more than one host: a sentence for each.
pub(super) fn shared(words: &Agent, sinks: &[SinkSettings]) -> Vec<String> {
    let told = |what: String, sinks: Vec<&SinkSettings>| {
        let hosts: BTreeSet<String> = sinks.into_iter().filter_map(|sink| host(&sink.address)).collect();
        let list = hosts.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        (hosts.len() > 1).then(|| {
            format!(
                "{what} goes to several hosts ({list}); with a sink's address and a space before it, to that sink alone"
            )
        })
    };
    let mut sentences = Vec::new();
    for word in words.header.iter().filter(|word| split(word).is_none()) {
        let name = word.split(':').next().unwrap_or_default().trim();
        sentences.extend(told(format!("the header {name}"), sinks.iter().collect()));
    }
    for file in words.token_file.iter().filter(|word| split(word).is_none()) {
        let path = PathBuf::from(file);
        let with_it = sinks.iter().filter(|sink| sink.bearer_token_file.as_ref() == Some(&path));
        sentences.extend(told(format!("the token in {file}"), with_it.collect()));
    }
    sentences
}

fn host(address: &Address) -> Option<String> {
    match address {
        Address::Server(server) => Some(match &server.endpoint {
            Endpoint::Tcp { host, .. } => host.clone(),
            Endpoint::Unix(path) => path.display().to_string(),
        }),
        Address::Folder(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::sink_words::tests::agent;
    use super::*;

    const TO: [&str; 2] = ["--to", "datadog+http://dd:8126,otlp+grpcs://user:pw@c:4317"];

    fn given(words: &[&str]) -> anyhow::Result<Vec<SinkSettings>> {
        let words = agent(&[&TO[..], words].concat());
        super::super::sink_words::settings(&words, |_| None)
    }

    fn header_names(sink: &SinkSettings) -> Vec<&str> {
        sink.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn what_names_a_sink_goes_to_that_sink_alone() {
        let sinks = given(&[
            "--header=X-All: 1",
            "--header=otlp+grpcs://c:4317 X-Own: a: b",
            "--token-file=otlp+grpcs://c /run/token",
            "--ca-file=/ca.pem",
            "--ca-file=datadog+http://dd /dd.pem",
        ])
        .unwrap();
        let [datadog, otlp] = sinks.as_slice() else { panic!("two sinks") };
        assert_eq!(header_names(datadog), ["x-all"]);
        assert_eq!(header_names(otlp), ["x-all", "x-own"]);
        assert_eq!(otlp.headers[1].1.0, "a: b");
        assert_eq!(
            (&datadog.bearer_token_file, otlp.bearer_token_file.as_deref()),
            (&None, Some(Path::new("/run/token")))
        );
        assert_eq!(datadog.tls.certificate_authority.as_deref(), Some(Path::new("/dd.pem")));
        assert_eq!(otlp.tls.certificate_authority.as_deref(), Some(Path::new("/ca.pem")));
    }

    #[test]
    fn a_word_for_a_sink_goes_before_its_environment_and_one_for_all_does_not() {
        let variable = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("https://c:4318".to_owned()),
            "OTEL_EXPORTER_OTLP_CERTIFICATE" => Some("/environment.pem".to_owned()),
            _ => None,
        };
        for (word, file) in
            [("--ca-file=/all.pem", "/environment.pem"), ("--ca-file=otlp+https://c:4318 /own.pem", "/own.pem")]
        {
            let sinks = super::super::sink_words::settings(&agent(&[word]), variable).unwrap();
            assert_eq!(sinks[0].tls.certificate_authority.as_deref(), Some(Path::new(file)), "{word}");
        }
    }

    #[test]
    fn what_can_not_be_given_is_an_error_without_the_secret() {
        for (word, error) in [
            (
                "--header=otlp+grpc://other:4317 authorization: hidden",
                "--header is for otlp+grpc://other:4317, and the sinks",
            ),
            ("--header=gopher://c authorization: hidden", "--header"),
            ("--header=datadog+http://dd hidden", "--header must be NAME: VALUE"),
            ("--token-file=/a,/b", "--token-file is there twice for one sink"),
        ] {
            let found = format!("{:#}", given(&[word]).unwrap_err());
            assert!(found.starts_with(error), "{found}");
            assert!(!found.contains("hidden") && !found.contains("pw"), "{found}");
        }
        assert_eq!(split("referer:http://x y"), None);
    }

    #[test]
    fn a_secret_that_several_hosts_get_is_told() {
        let told = |words: &[&str]| {
            let words = agent(words);
            shared(&words, &super::super::sink_words::settings(&words, |_| None).unwrap())
        };
        let two = "--to=otlp+grpc://a:4317,datadog+http://b:8126,file:///x";
        let sentences = told(&[two, "--header=x-key: hidden", "--token-file=/t"]);
        assert_eq!(sentences.len(), 2);
        assert!(sentences[0].starts_with("the header x-key goes to several hosts (a, b);"), "{}", sentences[0]);
        assert!(sentences[1].starts_with("the token in /t goes to several hosts (a, b);"), "{}", sentences[1]);
        assert!(!sentences.concat().contains("hidden"));
        for words in [
            &["--to=otlp+grpc://a:4317,otlp+http://a:4318,file:///x", "--header=x-key: 1", "--token-file=/t"][..],
            &[two, "--header=otlp+grpc://a:4317 x-key: 1", "--token-file=otlp+grpc://a:4317 /t", "--ca-file=/ca.pem"],
            &[two, "--token-file=/t", "--token-file=otlp+grpc://a:4317 /other"],
        ] {
            assert_eq!(told(words), Vec::<String>::new(), "{words:?}");
        }
    }
}
