//! HTTP/1.1 over TCP, TLS or a Unix socket.
//!
//! Redirects are not followed: they would turn the POST into a GET, or send a token elsewhere. Proxies of the environment
//! (`HTTPS_PROXY`, `NO_PROXY`) are used, save for this host's own loopback.

use std::io::Write;
use std::time::SystemTime;

use ::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use reqwest::{Client, Response, redirect};

use super::status::{HttpAnswer, MAX_ANSWER_BYTES, judge};
use super::tls::Material;
use super::token::TokenFile;
use super::{Answer, Sending, Transport, TransportError, chain};
use crate::export::address::{Endpoint, Server, Wire};
use crate::export::counters::Answered;
use crate::export::settings::SinkSettings;
use crate::export::{Message, Outcome};

/// How the agent calls itself.
pub const USER_AGENT: &str = concat!("everflame/", env!("CARGO_PKG_VERSION"));

/// See the module.
pub struct HttpTransport {
    client: Client,
    wire: Wire,
    url: String,
    shown: String,
    headers: HeaderMap,
    token: Option<TokenFile>,
    gzip: bool,
}

impl HttpTransport {
    /// A client for `server`, which speaks `wire`. Connects when something is sent.
    ///
    /// # Errors
    /// [`TransportError`]: files that can't be used, no certificate authorities.
    pub fn new(settings: &SinkSettings, server: &Server, wire: Wire) -> Result<HttpTransport, TransportError> {
        Ok(HttpTransport {
            client: client(settings, server)?,
            wire,
            url: server.request_url(wire),
            shown: server.to_string(),
            headers: headers(settings, server)?,
            token: settings.bearer_token_file.as_deref().map(TokenFile::new),
            gzip: settings.gzip,
        })
    }

    async fn try_send(&self, message: &Message) -> Result<Answer, Answer> {
        let mut headers = own_headers(message).map_err(|name| {
            let text = format!("{}: the header {name} can't be sent", self.shown);
            Answer { outcome: Outcome::Refused(text), answered: Answered::Rejected }
        })?;
        let mut body = message.body.clone();
        if self.gzip
            && !headers.contains_key(CONTENT_ENCODING)
            && let Some(smaller) = compressed(body.clone()).await
        {
            body = smaller;
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.extend(self.headers.clone());

        // A token that was not taken, and what was said to it.
        let mut refused: Option<(HeaderValue, Answer)> = None;
        loop {
            let mut sent = None;
            if let Some(token) = &self.token {
                let token =
                    token.header().await.map_err(|text| retry(Answered::Disk, format!("{}: {text}", self.shown)))?;
                // Nobody has renewed it meanwhile.
                if let Some((last, answer)) = refused.take()
                    && last == token
                {
                    return Ok(answer);
                }
                headers.insert(AUTHORIZATION, token.clone());
                sent = Some(token);
            }
            let request = self.client.post(&self.url).headers(headers.clone()).body(body.clone());
            let response = request.send().await.map_err(|error| self.failed(&error))?;
            let is_unauthorized = response.status() == 401;
            let answer = self.judged(response).await?;
            match sent {
                Some(token) if is_unauthorized => refused = Some((token, answer)),
                _ => return Ok(answer),
            }
        }
    }

    async fn judged(&self, response: Response) -> Result<Answer, Answer> {
        let status = response.status().as_u16();
        let text = |name: HeaderName| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (content_type, location) = (text(CONTENT_TYPE), text(LOCATION));
        let retry_after = crate::export::retry::retry_after(&text(RETRY_AFTER), SystemTime::now());
        let body = read(response, MAX_ANSWER_BYTES).await.map_err(|error| self.failed(&error))?;
        let location = (!location.is_empty()).then_some(location.as_str());
        let answer = HttpAnswer { status, retry_after, location, content_type: &content_type, body: &body };
        Ok(judge(self.wire, &self.shown, &answer))
    }

    fn failed(&self, error: &reqwest::Error) -> Answer {
        let answered = if error.is_connect() {
            Answered::Unreachable
        } else if error.is_timeout() {
            Answered::Timeout
        } else {
            Answered::Broken
        };
        // Its own text repeats the URL.
        let why = std::error::Error::source(error).map_or_else(|| error.to_string(), chain);
        let what = match answered {
            Answered::Timeout => "no answer in time",
            Answered::Unreachable => "no connection",
            _ => "the connection broke",
        };
        retry(answered, format!("{}: {what}: {why}", self.shown))
    }
}

fn retry(answered: Answered, text: String) -> Answer {
    Answer { outcome: Outcome::Retry(None, text), answered }
}

impl Transport for HttpTransport {
    fn send<'message>(&'message self, message: &'message Message) -> Sending<'message> {
        Box::pin(async { self.try_send(message).await.unwrap_or_else(|answer| answer) })
    }

    fn address(&self) -> &str {
        &self.shown
    }
}

fn client(settings: &SinkSettings, server: &Server) -> Result<Client, TransportError> {
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.request_timeout)
        // One at a time is sent; a server that closes idle connections after a minute shall not do so under a request.
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(std::time::Duration::from_secs(30));
    match &server.endpoint {
        Endpoint::Unix(path) => builder = builder.unix_socket(path.as_path()),
        Endpoint::Tcp { host, .. } if is_loopback(host) => builder = builder.no_proxy(),
        Endpoint::Tcp { .. } => {}
    }
    let failed = |error: reqwest::Error| TransportError::Client { address: server.to_string(), why: chain(&error) };
    let material = Material::read(&settings.tls)?;
    material.apply(server.is_secure(), builder).map_err(failed)?.build().map_err(failed)
}

fn is_loopback(host: &str) -> bool {
    let number = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || number.is_ok_and(|number| number.is_loopback())
}

/// What each request carries besides the message's own headers.
pub(super) fn headers(settings: &SinkSettings, server: &Server) -> Result<HeaderMap, TransportError> {
    let mut headers = HeaderMap::new();
    if let Some(credentials) = &server.credentials {
        let both = format!("{}:{}", credentials.user, credentials.password);
        let value = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(both));
        headers.insert(AUTHORIZATION, secret(&value).ok_or_else(|| TransportError::Header("authorization".into()))?);
    }
    for (name, value) in &settings.headers {
        let invalid = || TransportError::Header(name.clone());
        let known: HeaderName = name.parse().map_err(|_| invalid())?;
        headers.insert(known, secret(&value.0).ok_or_else(invalid)?);
    }
    Ok(headers)
}

fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The message's headers, or the name of one that is none: a spool's content is not trusted.
pub(super) fn own_headers(message: &Message) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &message.headers {
        let known = name.parse::<HeaderName>().ok().zip(HeaderValue::from_str(value).ok());
        let (known, value) = known.ok_or_else(|| super::status::printable(name))?;
        headers.append(known, value);
    }
    Ok(headers)
}

/// The body in gzip. On a blocking thread: 16 MiB take half a second.
async fn compressed(body: Bytes) -> Option<Bytes> {
    let work = tokio::task::spawn_blocking(move || {
        let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
        encoder.write_all(&body).and_then(|()| encoder.finish()).map(Bytes::from)
    });
    // Neither can fail, except in a runtime that ends: then it goes as it is.
    work.await.ok().and_then(Result::ok)
}

/// The beginning of a body.
async fn read(mut response: Response, most: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < most
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk[..chunk.len().min(most - body.len())]);
    }
    Ok(body)
}

/// The status and the beginning of the body that `GET path` answers; why nothing does, in the system's words.
///
/// # Errors
/// [`TransportError`]: no client for it.
pub async fn get(
    settings: &SinkSettings,
    server: &Server,
    path: &str,
) -> Result<Result<(u16, Vec<u8>), String>, TransportError> {
    let mut sent = headers(settings, server)?;
    if let Some(file) = &settings.bearer_token_file {
        match TokenFile::new(file).header().await {
            Ok(token) => drop(sent.insert(AUTHORIZATION, token)),
            Err(why) => return Ok(Err(why)),
        }
    }
    let request = client(settings, server)?.get(server.url(path)).headers(sent);
    let answer = async {
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, read(response, MAX_ANSWER_BYTES).await?))
    };
    let why = |error: reqwest::Error| std::error::Error::source(&error).map_or_else(|| error.to_string(), chain);
    Ok(answer.await.map_err(why))
}
