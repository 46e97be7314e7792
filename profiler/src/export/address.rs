//! Where profiles go: the words after `--to`, checked. Sans-IO; an address that names no wire is told apart by asking it.
//!
//! ```text
//! datadog+http://host:8126      datadog+unix:///path/to/socket     otlp+grpc://host:4317     otlp+http://host:4318
//! pyroscope+https://host:4040   file:///folder?keep=100&max-bytes=1GiB     http://host:8126
//! ```
//!
//! `https` and `grpcs` mean TLS. A path before the wire's own is kept: `otlp+http://proxy/profiles` posts to
//! `/profiles/v1development/profiles`. User name and password become basic authentication and are shown nowhere.

use std::fmt;
use std::path::PathBuf;

use url::{Host, ParseError, Url};

/// Files that `file:` keeps unless told: a day of minutes.
pub const DEFAULT_KEEP: usize = 1_440;
/// Bytes that `file:` keeps unless told.
pub const DEFAULT_MAX_BYTES: u64 = 1 << 30;

/// A protocol that a server takes profiles by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// Datadog agent's profile intake, multipart over HTTP.
    Datadog,
    /// OTLP profiles, protobuf over HTTP.
    OtlpHttp,
    /// OTLP profiles over gRPC.
    OtlpGrpc,
    /// Pyroscope's push API over HTTP.
    Pyroscope,
}

impl Wire {
    /// The port that is meant when none is given.
    pub fn default_port(self) -> u16 {
        match self {
            Wire::Datadog => 8126,
            Wire::OtlpGrpc => 4317,
            Wire::OtlpHttp => 4318,
            Wire::Pyroscope => 4040,
        }
    }

    /// Where requests go on the server, after the address's own path.
    pub fn request_path(self) -> &'static str {
        match self {
            Wire::Datadog => "/profiling/v1/input",
            Wire::OtlpHttp => "/v1development/profiles",
            Wire::OtlpGrpc => "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
            Wire::Pyroscope => "/push.v1.PusherService/Push",
        }
    }

    fn scheme(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Wire::Datadog, false) => "datadog+http",
            (Wire::Datadog, true) => "datadog+https",
            (Wire::OtlpHttp, false) => "otlp+http",
            (Wire::OtlpHttp, true) => "otlp+https",
            (Wire::OtlpGrpc, false) => "otlp+grpc",
            (Wire::OtlpGrpc, true) => "otlp+grpcs",
            (Wire::Pyroscope, false) => "pyroscope+http",
            (Wire::Pyroscope, true) => "pyroscope+https",
        }
    }
}

/// A place that takes profiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A server.
    Server(Server),
    /// A folder of `.pb.gz` files.
    Folder(Folder),
}

/// A server and what it speaks. Shown without credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// `None`: to be asked, see [`Server::wire_by_answer`].
    pub wire: Option<Wire>,
    /// How it is reached.
    pub endpoint: Endpoint,
    /// The address's own path, without a slash at its end.
    pub base_path: String,
    /// `base_path` is the whole path: nothing is added to it.
    pub exact_path: bool,
    /// For basic authentication.
    pub credentials: Option<Credentials>,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// By name or number.
    Tcp {
        /// With TLS.
        secure: bool,
        /// A name, IPv4, or IPv6 in brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// A user name and a password; printed by nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Before the colon.
    pub user: String,
    /// After it.
    pub password: String,
}

/// A folder of rotating files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Absolute.
    pub path: PathBuf,
    /// Most files, at least 1.
    pub keep: usize,
    /// Most bytes of all files together; the newest stays however large it is.
    pub max_bytes: u64,
}

/// An address that can't be used; each is one sentence that names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `:` after a scheme.
    #[error("{0} does not say what is spoken there: write it as {KNOWN}")]
    NoScheme(String),
    /// A scheme that is none of ours.
    #[error("{address}: {scheme} is no scheme for profiles; there are {KNOWN}")]
    UnknownScheme {
        /// The whole address.
        address: String,
        /// Its scheme.
        scheme: String,
    },
    /// Nothing between `//` and the port.
    #[error("{0} names no host")]
    NoHost(String),
    /// Port 0, over 65535, or not a number.
    #[error("{0}: the port must be a number from 1 to 65535")]
    BadPort(String),
    /// A path that must be absolute.
    #[error("{0}: the path must be absolute, with three slashes, as in scheme:///path")]
    NotAbsolute(String),
    /// An option after `?` that this kind of address does not have.
    #[error("{address}: there is no option {option} for such an address")]
    UnknownOption {
        /// The whole address.
        address: String,
        /// The option's name.
        option: String,
    },
    /// An option with a value that it can't have.
    #[error("{address}: {option} must be {expected}")]
    BadOption {
        /// The whole address.
        address: String,
        /// The option's name.
        option: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// Anything else that makes it no URL.
    #[error("{address} is not an address: {why}")]
    NotAnAddress {
        /// The whole address.
        address: String,
        /// The parser's reason.
        why: String,
    },
}

const KNOWN: &str = "datadog+http(s)://, datadog+unix:///, otlp+grpc(s)://, otlp+http(s)://, pyroscope+http(s)://, file:/// or http(s)://";

/// Reads one address.
///
/// # Errors
/// [`AddressError`]: one sentence with the address, without its password.
pub fn parse(text: &str) -> Result<Address, AddressError> {
    let shown = without_credentials(text);
    let Some((scheme, rest)) = text.split_once("://") else { return Err(AddressError::NoScheme(shown)) };
    let (wire, secure) = match scheme.to_ascii_lowercase().as_str() {
        "file" => return folder(rest, shown).map(Address::Folder),
        "datadog+unix" => return unix(Wire::Datadog, rest, shown).map(Address::Server),
        "http" => (None, false),
        "https" => (None, true),
        "datadog+http" => (Some(Wire::Datadog), false),
        "datadog+https" => (Some(Wire::Datadog), true),
        "otlp+http" => (Some(Wire::OtlpHttp), false),
        "otlp+https" => (Some(Wire::OtlpHttp), true),
        "otlp+grpc" => (Some(Wire::OtlpGrpc), false),
        "otlp+grpcs" => (Some(Wire::OtlpGrpc), true),
        "pyroscope+http" => (Some(Wire::Pyroscope), false),
        "pyroscope+https" => (Some(Wire::Pyroscope), true),
        other => return Err(AddressError::UnknownScheme { address: shown, scheme: other.to_owned() }),
    };
    server(wire, secure, rest, shown).map(Address::Server)
}

fn server(wire: Option<Wire>, secure: bool, rest: &str, shown: String) -> Result<Server, AddressError> {
    // The URL parser forgives slashes without a host (`http:///path`), and hides a port that is the scheme's default.
    if rest.starts_with('/') || rest.is_empty() {
        return Err(AddressError::NoHost(shown));
    }
    let url = match Url::parse(&format!("{}://{rest}", if secure { "https" } else { "http" })) {
        Ok(url) => url,
        Err(ParseError::EmptyHost) => return Err(AddressError::NoHost(shown)),
        Err(ParseError::InvalidPort) => return Err(AddressError::BadPort(shown)),
        Err(other) => return Err(AddressError::NotAnAddress { address: shown, why: other.to_string() }),
    };
    if let Some((option, _)) = url.query_pairs().next() {
        return Err(AddressError::UnknownOption { address: shown, option: option.into_owned() });
    }
    let host = match url.host() {
        Some(Host::Ipv6(number)) => format!("[{number}]"),
        Some(host) => host.to_string(),
        None => return Err(AddressError::NoHost(shown)),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port_written = authority.rsplit(['@', ']']).next().is_some_and(|end| end.contains(':'));
    let port = match (url.port(), wire) {
        (Some(0), _) => return Err(AddressError::BadPort(shown)),
        (Some(port), _) => port,
        (None, Some(wire)) if !port_written => wire.default_port(),
        (None, _) => url.port_or_known_default().unwrap_or(80),
    };
    let credentials = (!url.username().is_empty() || url.password().is_some())
        .then(|| Credentials { user: decoded(url.username()), password: decoded(url.password().unwrap_or_default()) });
    let base_path = url.path().trim_end_matches('/').to_owned();
    // People paste the whole URL as well as its beginning.
    let exact_path = wire.is_some_and(|wire| base_path.ends_with(wire.request_path()));
    Ok(Server { wire, endpoint: Endpoint::Tcp { secure, host, port }, base_path, exact_path, credentials })
}

/// The text of `%41` and the like; as it is if that is not UTF-8.
pub(super) fn decoded(text: &str) -> String {
    // A form's decoder is the one that `url` has; it reads a plus sign as a space.
    let form = format!("={}", text.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(form.as_bytes()).next().map_or_else(|| text.to_owned(), |(_, value)| value.into_owned())
}

/// `unix:///path`'s part after `://`.
pub(super) fn unix(wire: Wire, rest: &str, shown: String) -> Result<Server, AddressError> {
    if !rest.starts_with('/') || rest.len() < 2 {
        return Err(AddressError::NotAbsolute(shown));
    }
    let endpoint = Endpoint::Unix(PathBuf::from(decoded(rest)));
    Ok(Server { wire: Some(wire), endpoint, base_path: String::new(), exact_path: false, credentials: None })
}

fn folder(rest: &str, shown: String) -> Result<Folder, AddressError> {
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') {
        return Err(AddressError::NotAbsolute(shown));
    }
    let mut folder = Folder { path: decoded(path).into(), keep: DEFAULT_KEEP, max_bytes: DEFAULT_MAX_BYTES };
    for (option, value) in url::form_urlencoded::parse(options.as_bytes()) {
        match option.as_ref() {
            "keep" => match value.parse() {
                Ok(keep) if keep > 0 => folder.keep = keep,
                _ => {
                    let expected = "a number of files, at least 1";
                    return Err(AddressError::BadOption { address: shown, option: "keep", expected });
                }
            },
            "max-bytes" => match bytes(&value) {
                Some(max_bytes) if max_bytes > 0 => folder.max_bytes = max_bytes,
                _ => {
                    let expected = "a number of bytes, such as 500000000, 512MiB or 2GB";
                    return Err(AddressError::BadOption { address: shown, option: "max-bytes", expected });
                }
            },
            _ => return Err(AddressError::UnknownOption { address: shown, option: option.into_owned() }),
        }
    }
    Ok(folder)
}

/// `500`, `64KiB`, `512MiB`, `2GB` … in bytes.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The address for logs and errors.
pub(super) fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => text.to_owned(),
    }
}

impl Server {
    /// What an address without a wire speaks, by its answer to `GET /info`: the Datadog agent lists its endpoints there. Anything
    /// else goes by the port, and `None` is neither.
    pub fn wire_by_answer(&self, answer: Option<&[u8]>) -> Option<Wire> {
        if let Some(answer) = answer
            && let Ok(info) = serde_json::from_slice::<Info>(answer)
            && info.endpoints.iter().any(|endpoint| endpoint == Wire::Datadog.request_path())
        {
            return Some(Wire::Datadog);
        }
        let Endpoint::Tcp { port, .. } = &self.endpoint else { return Some(Wire::Datadog) };
        let wires = [Wire::OtlpHttp, Wire::OtlpGrpc, Wire::Pyroscope, Wire::Datadog];
        wires.into_iter().find(|wire| wire.default_port() == *port)
    }

    /// The URL that `wire` posts to. A Unix socket's host is `localhost`.
    pub fn request_url(&self, wire: Wire) -> String {
        let own = if self.exact_path { "" } else { wire.request_path() };
        self.url(&format!("{}{own}", self.base_path))
    }

    /// The URL of `path` on this server, whatever path the address has.
    pub fn url(&self, path: &str) -> String {
        match &self.endpoint {
            Endpoint::Tcp { secure, host, port } => {
                format!("{}://{host}:{port}{path}", if *secure { "https" } else { "http" })
            }
            Endpoint::Unix(_) => format!("http://localhost{path}"),
        }
    }

    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { secure: true, .. })
    }
}

/// What of the Datadog agent's `/info` is read.
#[derive(serde::Deserialize)]
struct Info {
    endpoints: Vec<String>,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Server(server) => server.fmt(formatter),
            Address::Folder(folder) => write!(formatter, "file://{}", folder.path.display()),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { secure, host, port } => {
                let scheme = match self.wire {
                    Some(wire) => wire.scheme(*secure),
                    None if *secure => "https",
                    None => "http",
                };
                write!(formatter, "{scheme}://{host}:{port}{}", self.base_path)
            }
            Endpoint::Unix(path) => write!(formatter, "datadog+unix://{}", path.display()),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Server({self}{})", if self.credentials.is_some() { ", with credentials" } else { "" })
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
