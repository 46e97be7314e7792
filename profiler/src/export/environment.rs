//! Sinks from the environment variables that the old agent, Datadog's tracers and OpenTelemetry's SDKs are told by. Sans-IO: the
//! environment is a function.
//!
//! - The first of `OTEL_PROFILING_AGENT_COLLECTION_AGENT`, `DD_HOST_PROFILING_TRACE_AGENT_URL`, `DD_TRACE_AGENT_URL` and
//!   `DD_AGENT_HOST`/`DD_TRACE_AGENT_PORT` is one sink. The old agent's own variable is a URL (Datadog's fork) or `host:port` for
//!   gRPC (OpenTelemetry's), with TLS unless `OTEL_PROFILING_AGENT_DISABLE_TLS`. Behind a URL that fork knew Datadog's wire alone.
//! - `OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT`, else `OTEL_EXPORTER_OTLP_ENDPOINT`, is another. For each `OTEL_EXPORTER_OTLP_…`, the
//!   name with `PROFILES_` goes first (OpenTelemetry specification, "OTLP Exporter Configuration").

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::address::{self, Address, AddressError, Wire, decoded};
use super::settings::{Secret, SinkSettings, TlsFiles};

/// A variable that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// It is no address.
    #[error("{variable}: {source}")]
    Address {
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        source: AddressError,
    },
    /// It has a value that it can't have. The value is not shown if it may be a secret.
    #[error("{variable} must be {expected}")]
    Value {
        /// The variable.
        variable: &'static str,
        /// What it takes.
        expected: &'static str,
    },
}

/// A sink, and the variable that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromEnvironment {
    /// The variable.
    pub variable: &'static str,
    /// The sink.
    pub settings: SinkSettings,
}

/// The sinks that the environment names; none if it names none. An empty variable is as good as none.
///
/// # Errors
/// The first variable that can't be used.
pub fn sinks(variable: impl Fn(&str) -> Option<String>) -> Result<Vec<FromEnvironment>, EnvironmentError> {
    let environment =
        Environment(&|name| variable(name).map(|value| value.trim().to_owned()).filter(|v| !v.is_empty()));
    Ok([environment.agent()?, environment.otlp()?].into_iter().flatten().collect())
}

/// A variable with its value, to say whose fault it is.
type Found = (&'static str, String);

struct Environment<'get>(&'get dyn Fn(&str) -> Option<String>);

/// The name with `PROFILES_` and the one without.
macro_rules! otlp {
    ($name:literal) => {
        [concat!("OTEL_EXPORTER_OTLP_PROFILES_", $name), concat!("OTEL_EXPORTER_OTLP_", $name)]
    };
}

impl Environment<'_> {
    fn first<const N: usize>(&self, names: [&'static str; N]) -> Option<Found> {
        names.into_iter().find_map(|name| (self.0)(name).map(|value| (name, value)))
    }

    fn flag<const N: usize>(&self, names: [&'static str; N]) -> Result<bool, EnvironmentError> {
        match self.first(names) {
            None => Ok(false),
            Some((_, value)) if value.eq_ignore_ascii_case("true") || value == "1" => Ok(true),
            Some((_, value)) if value.eq_ignore_ascii_case("false") || value == "0" => Ok(false),
            Some((variable, _)) => Err(EnvironmentError::Value { variable, expected: "true or false" }),
        }
    }

    fn agent(&self) -> Result<Option<FromEnvironment>, EnvironmentError> {
        let sink = |variable, text: &str| -> Result<Option<FromEnvironment>, EnvironmentError> {
            let settings = SinkSettings::new(parsed(variable, text)?);
            Ok(Some(FromEnvironment { variable, settings }))
        };
        if let Some((name, value)) = self.first(["OTEL_PROFILING_AGENT_COLLECTION_AGENT"]) {
            if !value.contains("://") {
                let plain = self.flag(["OTEL_PROFILING_AGENT_DISABLE_TLS"])?;
                return sink(name, &format!("{}://{value}", if plain { "otlp+grpc" } else { "otlp+grpcs" }));
            }
            let mut found = sink(name, &value)?;
            if let Some(FromEnvironment { settings: SinkSettings { address: Address::Server(server), .. }, .. }) =
                &mut found
                && server.wire.is_none()
                && server.wire_by_answer(None).is_none()
            {
                // A server that is away can't be asked, and such a port says nothing either.
                server.wire = Some(Wire::Datadog);
                server.exact_path = server.base_path.ends_with(Wire::Datadog.request_path());
            }
            return Ok(found);
        }
        if let Some((name, value)) = self.first(["DD_HOST_PROFILING_TRACE_AGENT_URL", "DD_TRACE_AGENT_URL"]) {
            return sink(name, &format!("datadog+{value}"));
        }
        let (host, port) = (self.first(["DD_AGENT_HOST"]), self.first(["DD_TRACE_AGENT_PORT"]));
        let Some(name) = host.as_ref().or(port.as_ref()).map(|(name, _)| *name) else { return Ok(None) };
        if let Some((variable, port)) = &port
            && !port.parse::<u16>().is_ok_and(|port| port > 0)
        {
            return Err(EnvironmentError::Value { variable, expected: "a port, from 1 to 65535" });
        }
        let host = host.map_or_else(|| "localhost".to_owned(), |(_, host)| host);
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        let port = port.map_or_else(String::new, |(_, port)| format!(":{port}"));
        sink(name, &format!("datadog+http://{host}{port}"))
    }

    fn otlp(&self) -> Result<Option<FromEnvironment>, EnvironmentError> {
        let Some((name, endpoint)) = self.first(otlp!("ENDPOINT")) else { return Ok(None) };
        let (scheme, rest) = match endpoint.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None if self.flag(otlp!("INSECURE"))? => ("http".to_owned(), endpoint.as_str()),
            None => ("https".to_owned(), endpoint.as_str()),
        };
        let shown = address::without_credentials(&endpoint);
        let bad = |source| EnvironmentError::Address { variable: name, source };
        let secure = match scheme.as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(bad(AddressError::UnknownScheme { address: shown, scheme })),
        };
        let grpc = match self.first(otlp!("PROTOCOL")) {
            Some((_, protocol)) if protocol == "grpc" => true,
            Some((_, protocol)) if protocol == "http/protobuf" => false,
            Some((variable, _)) => {
                return Err(EnvironmentError::Value { variable, expected: "grpc or http/protobuf" });
            }
            // The specification's default is HTTP, which on gRPC's own port is never what was meant.
            None => authority(rest).ends_with(":4317"),
        };
        let our_scheme = match (grpc, secure) {
            (true, false) => "otlp+grpc",
            (true, true) => "otlp+grpcs",
            (false, false) => "otlp+http",
            (false, true) => "otlp+https",
        };
        let mut address = parsed(name, &format!("{our_scheme}://{rest}"))?;
        if let Address::Server(server) = &mut address
            && name == otlp!("ENDPOINT")[0]
            && server.wire == Some(Wire::OtlpHttp)
        {
            // "Used as-is"; a missing path is "/".
            server.exact_path = true;
            if server.base_path.is_empty() {
                server.base_path.push('/');
            }
        }
        let file = |names| self.first(names).map(|(_, path)| PathBuf::from(path));
        let settings = SinkSettings {
            headers: match self.first(otlp!("HEADERS")) {
                Some((variable, list)) => headers(variable, &list)?,
                None => Vec::new(),
            },
            tls: TlsFiles {
                certificate_authority: file(otlp!("CERTIFICATE")),
                client_certificate: file(otlp!("CLIENT_CERTIFICATE")),
                client_key: file(otlp!("CLIENT_KEY")),
            },
            request_timeout: match self.first(otlp!("TIMEOUT")) {
                Some((variable, text)) => match text.parse() {
                    Ok(milliseconds) if milliseconds > 0 => Duration::from_millis(milliseconds),
                    _ => return Err(EnvironmentError::Value { variable, expected: "a number of milliseconds" }),
                },
                None => super::settings::DEFAULT_REQUEST_TIMEOUT,
            },
            gzip: match self.first(otlp!("COMPRESSION")) {
                None => false,
                Some((_, value)) if value == "gzip" => true,
                Some((_, value)) if value == "none" => false,
                Some((variable, _)) => return Err(EnvironmentError::Value { variable, expected: "gzip or none" }),
            },
            ..SinkSettings::new(address)
        };
        Ok(Some(FromEnvironment { variable: name, settings }))
    }
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn parsed(variable: &'static str, text: &str) -> Result<Address, EnvironmentError> {
    address::parse(text).map_err(|source| EnvironmentError::Address { variable, source })
}

/// `name=value,name=value`; values are percent-encoded, as in W3C baggage.
fn headers(variable: &'static str, list: &str) -> Result<Vec<(String, Secret)>, EnvironmentError> {
    let mut headers = Vec::new();
    for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
        let header = pair.split_once('=').and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            let value = decoded(value.trim());
            HeaderValue::from_str(&value).ok()?;
            Some((name.as_str().to_owned(), Secret(value)))
        });
        let expected = "headers, as in name=value,name=value";
        headers.push(header.ok_or(EnvironmentError::Value { variable, expected })?);
    }
    Ok(headers)
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
