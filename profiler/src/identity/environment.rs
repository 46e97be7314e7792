//! What a process says of itself in its environment (`/proc/PID/environ`): service, environment, version.
//!
//! An environment is full of secrets. Only the variables of [`NAMES`] are looked at; of `DD_TAGS` and `OTEL_RESOURCE_ATTRIBUTES`
//! only the keys named here. Nothing else is copied, kept, counted by name or logged. Takes bytes, checks every value.

use std::borrow::Cow;
use std::sync::Arc;

/// Most bytes of an environment that are read: what `execve` takes with the usual 8 MiB stack (a quarter of it, `execve(2)`).
pub const MAX_ENVIRONMENT: usize = 2 << 20;
/// Longest value that is taken, bytes. Datadog cuts tags at 200 characters; Kubernetes label values end at 63.
pub const MAX_VALUE: usize = 200;
/// The variables that are looked at, and no others.
pub const NAMES: [&str; 6] =
    ["DD_SERVICE", "DD_ENV", "DD_VERSION", "DD_TAGS", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"];

/// Service, environment and version as one source gives them; empty where it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Name of the service.
    pub service: Arc<str>,
    /// Deployment environment.
    pub environment: Arc<str>,
    /// Version of the service.
    pub version: Arc<str>,
}

/// What an environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessEnvironment {
    /// `DD_SERVICE`, `DD_ENV`, `DD_VERSION`; where one is unset, the same key of `DD_TAGS`.
    pub datadog: Declared,
    /// `OTEL_SERVICE_NAME`; where it is unset and for the rest, `OTEL_RESOURCE_ATTRIBUTES`.
    pub opentelemetry: Declared,
    /// Values of those variables that were refused: too long, not UTF-8, control characters, a broken percent-encoding.
    pub refused: u32,
}

/// Parses `NAME=value` entries that end in NUL. As for `getenv(3)` the first of equal names counts; an empty value is none.
pub fn parse(environ: &[u8]) -> ProcessEnvironment {
    let mut values: [Option<&[u8]>; NAMES.len()] = [None; NAMES.len()];
    for entry in environ[..environ.len().min(MAX_ENVIRONMENT)].split(|byte| *byte == 0) {
        for (name, value) in NAMES.iter().zip(&mut values) {
            if value.is_none()
                && let Some(found) = entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
            {
                *value = Some(found);
            }
        }
    }
    let [service, environment, version, tags, otel_service, attributes] = values;
    let mut refused = 0;
    let mut take = |value: Option<&[u8]>| -> Arc<str> {
        let Some(value) = value.filter(|value| !value.trim_ascii().is_empty()) else { return Arc::default() };
        std::str::from_utf8(value).ok().and_then(acceptable).unwrap_or_else(|| {
            refused += 1;
            "".into()
        })
    };
    let mut datadog = Declared { service: take(service), environment: take(environment), version: take(version) };
    let mut opentelemetry = Declared { service: take(otel_service), ..Declared::default() };
    datadog.fill_from(&parse_datadog_tags(tags.unwrap_or_default(), &mut refused));
    opentelemetry.fill_from(&parse_resource_attributes(attributes.unwrap_or_default(), &mut refused));
    ProcessEnvironment { datadog, opentelemetry, refused }
}

impl Declared {
    /// Takes from `other` what is not known yet.
    pub fn fill_from(&mut self, other: &Declared) {
        let fields = [
            (&mut self.service, &other.service),
            (&mut self.environment, &other.environment),
            (&mut self.version, &other.version),
        ];
        for (own, others) in fields {
            if own.is_empty() {
                *own = others.clone();
            }
        }
    }
}

/// A text that is fit to be a tag: trimmed, not empty, not too long, without control characters.
pub fn acceptable(text: &str) -> Option<Arc<str>> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= MAX_VALUE && !text.chars().any(char::is_control)).then(|| text.into())
}

/// `DD_TAGS`: `key:value`, separated by commas or spaces.
fn parse_datadog_tags(tags: &[u8], refused: &mut u32) -> Declared {
    let mut found = Declared::default();
    for tag in tags.split(|byte| matches!(byte, b',' | b' ')) {
        for (key, field) in
            [("service:", &mut found.service), ("env:", &mut found.environment), ("version:", &mut found.version)]
        {
            let Some(value) = tag.strip_prefix(key.as_bytes()) else { continue };
            match std::str::from_utf8(value).ok().and_then(acceptable) {
                Some(value) if field.is_empty() => *field = value,
                Some(_) => {}
                None => *refused += u32::from(!value.is_empty()),
            }
        }
    }
    found
}

/// `OTEL_RESOURCE_ATTRIBUTES`: `key=value,key=value` in W3C Baggage's form, values percent-encoded (OpenTelemetry specification,
/// "Resource SDK", "Specifying resource information via an environment variable"). The last of equal keys counts.
fn parse_resource_attributes(attributes: &[u8], refused: &mut u32) -> Declared {
    let (mut found, mut old_environment) = (Declared::default(), Arc::<str>::from(""));
    for pair in attributes.split(|byte| *byte == b',') {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
        let field = match pair[..equals].trim_ascii() {
            b"service.name" => &mut found.service,
            b"service.version" => &mut found.version,
            b"deployment.environment.name" => &mut found.environment,
            // Its name before semantic conventions 1.27.
            b"deployment.environment" => &mut old_environment,
            _ => continue,
        };
        let value = &pair[equals + 1..];
        match percent_decoded(value).and_then(|text| acceptable(&text)) {
            Some(text) => *field = text,
            None => *refused += u32::from(!value.trim_ascii().is_empty()),
        }
    }
    if found.environment.is_empty() {
        found.environment = old_environment;
    }
    found
}

/// RFC 3986's percent-decoding; `None` for a `%` without two hex digits, for bytes that are no UTF-8 and for more than
/// three times [`MAX_VALUE`] bytes, which can't become an acceptable value.
fn percent_decoded(value: &[u8]) -> Option<Cow<'_, str>> {
    let value = value.trim_ascii();
    if value.len() > 3 * MAX_VALUE {
        return None;
    }
    if !value.contains(&b'%') {
        return std::str::from_utf8(value).ok().map(Cow::Borrowed);
    }
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8,
            plain => *plain,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environ(entries: &[&str]) -> Vec<u8> {
        entries.iter().flat_map(|entry| entry.bytes().chain([0])).collect()
    }

    fn declared(service: &str, environment: &str, version: &str) -> Declared {
        Declared { service: service.into(), environment: environment.into(), version: version.into() }
    }

    #[test]
    fn each_variable_gives_its_field() {
        let none = Declared::default();
        let long = format!("DD_SERVICE={}", "x".repeat(MAX_VALUE + 1));
        let longest = format!("DD_SERVICE={}", "x".repeat(MAX_VALUE));
        let (long, longest) = ([long.as_str()], [longest.as_str()]);
        // Entries, Datadog's, OpenTelemetry's, refused.
        let cases: Vec<(&[&str], Declared, Declared, u32)> = vec![
            (&[], none.clone(), none.clone(), 0),
            (&["PATH=/bin", "DD_SERVICE=shop", "HOME=/"], declared("shop", "", ""), none.clone(), 0),
            (&["DD_SERVICE=a", "DD_ENV=prod", "DD_VERSION=1.2"], declared("a", "prod", "1.2"), none.clone(), 0),
            (&["DD_SERVICE=first", "DD_SERVICE=second"], declared("first", "", ""), none.clone(), 0),
            (&["DD_SERVICE=", "DD_ENV=  "], none.clone(), none.clone(), 0),
            (&["XDD_SERVICE=a", "DD_SERVICES=b", "dd_service=c", "DD_SERVICE"], none.clone(), none.clone(), 0),
            (&long, none.clone(), none.clone(), 1),
            (&longest, declared(&"x".repeat(MAX_VALUE), "", ""), none.clone(), 0),
            (&["DD_SERVICE=a\nb", "DD_ENV=\x1b[31m"], none.clone(), none.clone(), 2),
            (
                &["DD_TAGS=team:x,service:shop env:prod,version:3,secret:hidden,service:later"],
                declared("shop", "prod", "3"),
                none.clone(),
                0,
            ),
            (&["DD_TAGS=service:tag,env:tag", "DD_ENV=own"], declared("tag", "own", ""), none.clone(), 0),
            (&["OTEL_SERVICE_NAME=cart"], none.clone(), declared("cart", "", ""), 0),
            (
                &["OTEL_RESOURCE_ATTRIBUTES=service.name=cart,service.version=9,deployment.environment.name=qa"],
                none.clone(),
                declared("cart", "qa", "9"),
                0,
            ),
            (
                &["OTEL_RESOURCE_ATTRIBUTES=service.name=other,k8s.pod.uid=x", "OTEL_SERVICE_NAME=cart"],
                none.clone(),
                declared("cart", "", ""),
                0,
            ),
            (
                &["OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=new,deployment.environment=old"],
                none.clone(),
                declared("", "new", ""),
                0,
            ),
            (&["OTEL_RESOURCE_ATTRIBUTES=deployment.environment=old"], none.clone(), declared("", "old", ""), 0),
            (
                &["OTEL_RESOURCE_ATTRIBUTES= service.name = my%20cart%2C%C3%A9 ,x=1"],
                none.clone(),
                declared("my cart,é", "", ""),
                0,
            ),
            (
                &["OTEL_RESOURCE_ATTRIBUTES=service.name=a%2,service.version=%zz,deployment.environment=%ff"],
                none.clone(),
                none.clone(),
                3,
            ),
            (&["OTEL_RESOURCE_ATTRIBUTES=,,=,service.name,service.name="], none.clone(), none.clone(), 0),
        ];
        for (entries, datadog, opentelemetry, refused) in cases {
            let found = parse(&environ(entries));
            assert_eq!(found, ProcessEnvironment { datadog, opentelemetry, refused }, "{entries:?}");
        }
    }

    #[test]
    fn what_is_not_text_is_refused_and_what_was_cut_off_is_taken_as_it_is() {
        assert_eq!(parse(b"DD_SERVICE=\xff\xfe\0").refused, 1);
        assert_eq!(&*parse(b"A=b\0DD_SERVICE=shop").datadog.service, "shop");
        assert_eq!(parse(&[0; 4096]), ProcessEnvironment::default());
    }

    #[test]
    fn no_secret_leaves_the_parser() {
        let found = parse(&environ(&[
            "AWS_SECRET_ACCESS_KEY=hunter2",
            "DD_API_KEY=hunter2",
            "OTEL_EXPORTER_OTLP_HEADERS=hunter2",
            "OTEL_RESOURCE_ATTRIBUTES=password=hunter2,service.name=cart",
            "DD_TAGS=token:hunter2,env:prod",
        ]));
        assert!(!format!("{found:?}").contains("hunter2"));
        assert_eq!((&*found.opentelemetry.service, &*found.datadog.environment), ("cart", "prod"));
    }

    #[test]
    fn only_the_bounded_part_of_an_environment_is_looked_at() {
        let mut environ = vec![b'x'; MAX_ENVIRONMENT];
        environ.extend(b"\0DD_SERVICE=late\0");
        assert_eq!(parse(&environ), ProcessEnvironment::default());
    }
}
