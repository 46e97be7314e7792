//! What a sink is besides its address: headers, certificates, time-outs. Plain data, filled from `--to`, a configuration file or
//! [`super::environment`].

use std::path::PathBuf;
use std::time::Duration;

use super::address::Address;

/// Time to connect, name lookup and TLS included.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one request in all, as OTLP has it (`OTEL_EXPORTER_OTLP_TIMEOUT`); the Datadog agent ends a request after 5 s itself.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// One sink's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSettings {
    /// Where to.
    pub address: Address,
    /// Sent with each request, after the message's own; names in lower case. May hold secrets.
    pub headers: Vec<(String, Secret)>,
    /// A file with a bearer token, read again when it changes and when it is refused.
    pub bearer_token_file: Option<PathBuf>,
    /// Certificates of the server, of its authority, of this client.
    pub tls: TlsFiles,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for one request in all.
    pub request_timeout: Duration,
    /// Compress bodies that are not compressed yet. Only OTLP servers are known to take it.
    pub gzip: bool,
}

/// PEM files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities to believe, instead of the system's.
    pub certificate_authority: Option<PathBuf>,
    /// This client's certificate; goes with `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// Its key.
    pub client_key: Option<PathBuf>,
}

/// A text that logs and debug output do not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("…")
    }
}

impl SinkSettings {
    /// An address with nothing special.
    pub fn new(address: Address) -> SinkSettings {
        SinkSettings {
            address,
            headers: Vec::new(),
            bearer_token_file: None,
            tls: TlsFiles::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            gzip: false,
        }
    }
}
