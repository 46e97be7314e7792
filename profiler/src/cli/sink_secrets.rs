//! Headers, tokens and certificates of the sinks. A word of `--header` and its like is for every sink; with a sink's address and a
//! space before it, it is for that sink alone.
//!
//! What is for one sink goes before what the environment says beside that sink's variable, and this before what is for every sink,
//! in whatever order the words come: otherwise one server would be shown the secret that is meant for another.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context as _;

use super::agent_args::Agent;
use crate::export::address::{self, Address, Endpoint};
use crate::export::settings::{Secret, SinkSettings};

/// The header that a token goes into; in lower case, as all names here.
const AUTHORIZATION: &str = "authorization";

/// A word, and whom it is for.
struct Aimed<'word> {
    /// The sink's [`key`]; `None`: every sink.
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
        let address = address::parse(address).with_context(|| format!("--{flag}"))?;
        anyhow::ensure!(
            !sinks.is_empty(),
            "--{flag} is for {address}, and there is no sink: name it with --to as well"
        );
        let sink = key(&address);
        let known: Vec<String> = sinks.iter().map(|sink| sink.address.to_string()).collect();
        anyhow::ensure!(
            sinks.iter().any(|known| key(&known.address) == sink),
            "--{flag} is for {address}, and the sinks are: {}",
            known.join(", ")
        );
        Ok(Aimed { sink: Some(sink), value })
    }

    fn is_for(&self, sink: &str) -> bool {
        self.sink.as_deref() == Some(sink)
    }

    fn is_for_all(&self) -> bool {
        self.sink.is_none()
    }
}

/// The address as it is shown, without the slash that an environment's has at its end and a word's has not.
fn key(address: &Address) -> String {
    address.to_string().trim_end_matches('/').to_owned()
}

/// `NAME: VALUE`.
fn header(text: &str) -> anyhow::Result<(String, Secret)> {
    let (name, value) = text.split_once(':').context("--header must be NAME: VALUE")?;
    Ok((name.trim().to_ascii_lowercase(), Secret(value.trim().to_owned())))
}

/// Where a flag's file goes.
type Place = fn(&mut SinkSettings) -> &mut Option<PathBuf>;

/// Gives each sink what is for it.
pub(super) fn give(words: &Agent, sinks: &mut [SinkSettings]) -> anyhow::Result<()> {
    let mut headers = Vec::new();
    for word in &words.header {
        let aimed = Aimed::read("header", word, sinks)?;
        headers.push((header(aimed.value)?, aimed));
    }
    let tokens = words.token_file.iter().map(|word| Aimed::read("token-file", word, sinks));
    let tokens = tokens.collect::<anyhow::Result<Vec<_>>>()?;
    let authorized: Vec<bool> = sinks.iter_mut().map(|sink| give_headers(&headers, &tokens, sink)).collect();
    let files: [(&str, &[String], Place); 4] = [
        ("token-file", &words.token_file, |sink| &mut sink.bearer_token_file),
        ("ca-file", &words.ca_file, |sink| &mut sink.tls.certificate_authority),
        ("client-certificate", &words.client_certificate, |sink| &mut sink.tls.client_certificate),
        ("client-key", &words.client_key, |sink| &mut sink.tls.client_key),
    ];
    for (flag, list, place) in files {
        let aimed = list.iter().map(|word| Aimed::read(flag, word, sinks)).collect::<anyhow::Result<Vec<_>>>()?;
        for (sink, &authorized) in sinks.iter_mut().zip(&authorized) {
            let address = key(&sink.address);
            let own = only(flag, aimed.iter().filter(|aimed| aimed.is_for(&address)))?;
            let shared = only(flag, aimed.iter().filter(|aimed| aimed.is_for_all()))?;
            // A token takes the place of whatever is in that header.
            let shared = shared.filter(|_| flag != "token-file" || !authorized);
            let file = place(sink);
            *file = own.or(file.take()).or(shared);
        }
    }
    Ok(())
}

/// Of equal names the last one is sent. Whether the sink has an authorization of its own: by a word for it alone, its environment, or
/// a user in its address.
fn give_headers(headers: &[((String, Secret), Aimed<'_>)], tokens: &[Aimed<'_>], sink: &mut SinkSettings) -> bool {
    let address = key(&sink.address);
    let own = headers.iter().filter(|(_, aimed)| aimed.is_for(&address)).map(|(header, _)| header.clone());
    sink.headers.extend(own);
    let has_user = matches!(&sink.address, Address::Server(server) if server.credentials.is_some());
    let authorized = has_user || in_force(sink, AUTHORIZATION).is_some();
    let shared = headers.iter().filter(|(_, aimed)| aimed.is_for_all()).map(|(header, _)| header.clone());
    let has_token = tokens.iter().any(|aimed| aimed.is_for(&address));
    let shared = shared.filter(|(name, _)| name != AUTHORIZATION || !(authorized || has_token));
    sink.headers.splice(0..0, shared);
    authorized
}

/// The value that is sent under a name.
fn in_force<'sink>(sink: &'sink SinkSettings, name: &str) -> Option<&'sink Secret> {
    sink.headers.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn only<'word>(flag: &str, words: impl Iterator<Item = &'word Aimed<'word>>) -> anyhow::Result<Option<PathBuf>> {
    let files: Vec<PathBuf> = words.map(|word| word.value.into()).collect();
    // A variable that is empty, in a manifest or a shell.
    anyhow::ensure!(
        files.iter().all(|file| !file.as_os_str().is_empty()),
        "--{flag} names no file: give a path, or leave the flag and its variable away"
    );
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
        let Ok((name, value)) = header(word) else { continue };
        let with_it = sinks.iter().filter(|sink| in_force(sink, &name) == Some(&value));
        sentences.extend(told(format!("the header {name}"), with_it.collect()));
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

    /// What the only OTLP sink of the environment is sent: the value of a header, and the token's file.
    fn sent(words: &[&str], headers: &str, name: &str) -> (Option<String>, Option<PathBuf>) {
        let variable = |known: &str| match known {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("https://c:4318".to_owned()),
            "OTEL_EXPORTER_OTLP_HEADERS" => Some(headers.to_owned()),
            _ => None,
        };
        let sinks = super::super::sink_words::settings(&agent(words), variable).unwrap();
        let [sink] = sinks.as_slice() else { panic!("one sink") };
        (in_force(sink, name).map(|value| value.0.clone()), sink.bearer_token_file.clone())
    }

    #[test]
    fn of_headers_of_one_name_the_sink_s_own_is_sent_before_its_environment_s_and_that_before_everybody_s() {
        const OWN: &str = "--header=otlp+https://c:4318 X-Key: own";
        const SHARED: &str = "--header=x-key: shared";
        let table: [(&[&str], &str, &str); 7] = [
            (&[OWN, SHARED], "x-key=environment", "own"),
            (&[SHARED, OWN], "x-key=environment", "own"),
            (&[SHARED, OWN], "", "own"),
            (&[OWN, SHARED], "", "own"),
            (&[SHARED], "x-key=environment", "environment"),
            (&[SHARED], "x-other=environment", "shared"),
            (&[], "x-key=environment", "environment"),
        ];
        for (words, environment, value) in table {
            let (sent, _) = sent(words, environment, "x-key");
            assert_eq!(sent.as_deref(), Some(value), "{words:?} {environment}");
        }
    }

    #[test]
    fn a_token_for_all_does_not_take_the_place_of_a_sink_s_own_authorization() {
        const OWN: &str = "--header=otlp+https://c:4318 Authorization: own";
        const OWN_TOKEN: &str = "--token-file=otlp+https://c:4318 /own";
        const TOKEN: &str = "--token-file=/shared";
        const SHARED: &str = "--header=authorization: shared";
        /// Words, the environment's headers, and what is sent: header and token.
        type Row = (&'static [&'static str], &'static str, Option<&'static str>, Option<&'static str>);
        let table: [Row; 8] = [
            (&[OWN, TOKEN], "", Some("own"), None),
            (&[TOKEN, OWN], "", Some("own"), None),
            (&[TOKEN], "authorization=environment", Some("environment"), None),
            (&[TOKEN, OWN_TOKEN], "authorization=environment", Some("environment"), Some("/own")),
            (&[OWN_TOKEN, TOKEN], "", None, Some("/own")),
            (&[SHARED, OWN_TOKEN], "", None, Some("/own")),
            (&[TOKEN], "x-key=environment", None, Some("/shared")),
            // Both are for all: nobody's own is lost.
            (&[SHARED, TOKEN], "", Some("shared"), Some("/shared")),
        ];
        for (words, environment, header, token) in table {
            let (sent, file) = sent(words, environment, AUTHORIZATION);
            assert_eq!((sent.as_deref(), file.as_deref()), (header, token.map(Path::new)), "{words:?} {environment}");
        }

        // A user in the address is an authorization as well; the other sink has none.
        let sinks = given(&[TOKEN, SHARED]).unwrap();
        let [datadog, otlp] = sinks.as_slice() else { panic!("two sinks") };
        assert_eq!((in_force(otlp, AUTHORIZATION), &otlp.bearer_token_file), (None, &None));
        assert_eq!(in_force(datadog, AUTHORIZATION), Some(&Secret("shared".into())));
        assert_eq!(datadog.bearer_token_file.as_deref(), Some(Path::new("/shared")));
    }

    #[test]
    fn a_sink_of_the_environment_is_named_with_and_without_the_slash_at_its_end() {
        let variable =
            |name: &str| (name == "OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT").then(|| "https://c:4318".to_owned());
        for address in ["otlp+https://c:4318/", "otlp+https://c:4318", "otlp+https://c"] {
            let (header, file) = (format!("--header={address} x-key: own"), format!("--ca-file={address} /own.pem"));
            let sinks = super::super::sink_words::settings(&agent(&[&header, &file]), variable).unwrap();
            assert_eq!(sinks[0].address.to_string(), "otlp+https://c:4318/", "as it is shown");
            assert_eq!(in_force(&sinks[0], "x-key"), Some(&Secret("own".into())), "{address}");
            assert_eq!(sinks[0].tls.certificate_authority.as_deref(), Some(Path::new("/own.pem")), "{address}");
        }
        let none = super::super::sink_words::settings(&agent(&["--ca-file=otlp+https://c /own.pem"]), |_| None);
        let error = "--ca-file is for otlp+https://c:4318, and there is no sink: name it with --to as well";
        assert_eq!(none.unwrap_err().to_string(), error);
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
            ("--token-file=", "--token-file names no file: give a path, or leave the flag and its variable away"),
            ("--client-key=datadog+http://dd ", "--client-key names no file"),
            ("--ca-file=/a,", "--ca-file names no file"),
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
            &[two, "--header=x-key: 1", "--header=otlp+grpc://a:4317 x-key: 2"],
            &[two, "--token-file=/t", "--header=otlp+grpc://a:4317 authorization: 2"],
        ] {
            assert_eq!(told(words), Vec::<String>::new(), "{words:?}");
        }
    }
}
