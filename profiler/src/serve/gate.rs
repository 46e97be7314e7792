//! [`Gate`]: who is let in. Looks at a request's head alone, before anything is read or asked.
//!
//! Without a token this machine's users are trusted, but not the sites that their browsers show: a site may point its own name to
//! 127.0.0.1 (DNS rebinding: caught by `Host`), or send requests here whose answers it can't read (caught by `Origin` and
//! `Sec-Fetch-Site`, Fetch Metadata, W3C).

use std::net::{IpAddr, Ipv6Addr};

use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, ORIGIN, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};

use super::refusal::Refusal;
use super::token::Token;

/// The cookie that holds the token.
pub(super) const COOKIE_NAME: &str = "everflame";

/// See the module documentation.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// What has to be known; `None`: whoever is on this machine is let in.
    pub token: Option<Token>,
}

/// How somebody comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// To ask.
    Asks,
    /// With the token in the address: it becomes a cookie.
    BringsToken,
}

impl Gate {
    /// Whether a request is let in.
    ///
    /// # Errors
    /// [`Refusal`]: why not.
    pub fn judge(&self, request: &Parts) -> Result<Entry, Refusal> {
        if request.method != Method::GET && request.method != Method::HEAD {
            return Err(Refusal::Method);
        }
        let headers = &request.headers;
        let empty = |length: &hyper::header::HeaderValue| length.as_bytes() == b"0";
        if headers.contains_key(TRANSFER_ENCODING) || !headers.get_all(CONTENT_LENGTH).iter().all(empty) {
            return Err(Refusal::Body);
        }
        if request.uri.authority().is_some() || !request.uri.path().starts_with('/') {
            return Err(malformed("this is no proxy: the request's target must be a path"));
        }
        let host = one(headers, HOST)?.ok_or_else(|| malformed("the request has no Host"))?;
        let name = host_name(host).ok_or_else(|| malformed("the Host is not one"))?;
        if self.token.is_none() && !is_loopback(name) {
            return Err(Refusal::Forbidden("this page is called localhost, 127.0.0.1 or [::1], and nothing else"));
        }
        if let Some(origin) = one(headers, ORIGIN)?
            && !is_of(origin, host)
        {
            return Err(Refusal::Forbidden("requests of other sites are not answered (Origin)"));
        }
        self.judge_site(request)?;
        self.judge_token(request)
    }

    /// Browsers say which site a request comes from. A link that leads here is fine, anything else of other sites is not.
    fn judge_site(&self, request: &Parts) -> Result<(), Refusal> {
        let header = |name: &'static str| one(&request.headers, HeaderName::from_static(name));
        let followed = header("sec-fetch-mode")? == Some("navigate") && header("sec-fetch-dest")? == Some("document");
        match header("sec-fetch-site")? {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) if followed && request.uri.path() == "/" => Ok(()),
            Some(_) => Err(Refusal::Forbidden("requests of other sites are not answered (Sec-Fetch-Site)")),
        }
    }

    fn judge_token(&self, request: &Parts) -> Result<Entry, Refusal> {
        let Some(token) = &self.token else { return Ok(Entry::Asks) };
        let brought = request.uri.query().and_then(|query| query.strip_prefix("token="));
        if let Some(brought) = brought.filter(|_| request.uri.path() == "/") {
            return if token.is(brought.as_bytes()) { Ok(Entry::BringsToken) } else { Err(Refusal::NoToken) };
        }
        let bearer = one(&request.headers, AUTHORIZATION)?.and_then(bearer);
        let known = bearer.is_some_and(|offered| token.is(offered.as_bytes()))
            || cookies(&request.headers).any(|offered| token.is(offered.as_bytes()));
        if known { Ok(Entry::Asks) } else { Err(Refusal::NoToken) }
    }
}

fn malformed(what: &str) -> Refusal {
    Refusal::Malformed(what.to_owned())
}

/// The header that may be there once, as text.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    text.map(Some).ok_or_else(|| malformed(&format!("the header {name} must be there once, and be ASCII")))
}

/// A host without its port: a name or an address (RFC 9110 §7.2).
fn host_name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            rest[..end].parse::<Ipv6Addr>().ok()?;
            let (name, port) = host.split_at(end + 2);
            (name, port)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_is_one = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 5,
        None => port.is_empty(),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    (!name.is_empty() && name.len() <= 255 && name.bytes().all(plain) && port_is_one).then_some(name)
}

fn is_loopback(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an origin is this server, as the client calls it. Behind a proxy it may be https.
fn is_of(origin: &str, host: &str) -> bool {
    let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    name.is_some_and(|name| name.eq_ignore_ascii_case(host))
}

/// `Bearer TOKEN` (RFC 6750 §2.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_start_matches(' '))
}

/// Values of our cookie; another program on this host may have set one of the same name.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
