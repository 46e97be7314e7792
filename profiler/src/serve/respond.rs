//! [`Page`]: a request's head in, a response out.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde::Serialize;
use store::Reader;

use super::answers::{Extent, Failure, Labels, Status, Steps, ValueList};
use super::ask::Desk;
use super::document::{Document, LIVE, NEEDS_TOKEN};
use super::gate::{COOKIE_NAME, Entry};
use super::question::{Form, Question, RangeQuestion};
use super::refusal::Refusal;
use super::{Answering, Settings, Tray, stacks};
use crate::export::datadog::rfc3339;

/// Below this a compressed answer is hardly shorter.
const MIN_COMPRESSED: usize = 1024;
const NS_PER_MS: u64 = 1_000_000;

/// See the module documentation.
pub struct Page {
    settings: Settings,
    desk: Desk,
    live: Document,
    needs_token: Document,
}

/// A body with what has to be said about it.
struct Content {
    kind: &'static str,
    bytes: Bytes,
    gzipped: bool,
}

impl Content {
    fn new(kind: &'static str, bytes: Vec<u8>, gzip: bool) -> Content {
        let packed = if gzip && bytes.len() >= MIN_COMPRESSED { compress(&bytes, Compression::fast()) } else { None };
        let gzipped = packed.is_some();
        let mut bytes = packed.unwrap_or(bytes);
        // It may lie here for minutes.
        bytes.shrink_to_fit();
        Content { kind, bytes: bytes.into(), gzipped }
    }

    /// The same, counted until it is read.
    fn held(self, answering: &Arc<Answering>, tray: Tray) -> Content {
        Content { bytes: answering.hold(tray, self.bytes), ..self }
    }

    fn json(value: &impl Serialize, gzip: bool) -> Result<Content, Refusal> {
        let bytes = serde_json::to_vec(value).map_err(|error| Refusal::Inside(error.to_string()))?;
        Ok(Content::new("application/json", bytes, gzip))
    }
}

impl Page {
    /// What is served, for as long as it is served.
    pub fn new(settings: Settings) -> Page {
        let desk = Desk::new(settings.source.clone());
        Page { settings, desk, live: Document::new(LIVE), needs_token: Document::new(NEEDS_TOKEN) }
    }

    /// Answers a request; never fails.
    pub async fn answer(&self, request: &Parts) -> Response<Full<Bytes>> {
        let answered = match self.settings.gate.judge(request) {
            Ok(Entry::BringsToken) => Ok(self.welcome()),
            Ok(Entry::Asks) => self.respond(request).await,
            Err(refusal) => Err(refusal),
        };
        let mut response = answered.unwrap_or_else(|refusal| self.refuse(request, &refusal));
        protect(response.headers_mut());
        response
    }

    async fn respond(&self, request: &Parts) -> Result<Response<Full<Bytes>>, Refusal> {
        let now_ms = now_ms();
        let question = Question::parse(request.uri.path(), request.uri.query(), now_ms)?;
        let gzip = accepts_gzip(&request.headers);
        let content = match question {
            Question::Document => return Ok(document(&self.live, StatusCode::OK, gzip)),
            Question::Status => self.status(now_ms, gzip).await?,
            Question::Labels(range) => {
                let work = move |reader: &Reader| Content::json(&Labels::from(reader.labels(&range.query)?), gzip);
                self.ask(Tray::Sums, work).await?
            }
            Question::Values { range, label, limit } => {
                self.ask(Tray::Sums, move |reader| {
                    Content::json(&ValueList::from(reader.values(&range.query, label, limit)?), gzip)
                })
                .await?
            }
            Question::Series { range, by, step_ms, limit } => {
                self.ask(Tray::Sums, move |reader| {
                    let series = reader.series(&range.query, by, step_ms * NS_PER_MS, limit)?;
                    Content::json(&Steps::from(series), gzip)
                })
                .await?
            }
            Question::Profile(range) => {
                let (node, info) = (self.settings.node.clone(), self.settings.info.clone());
                self.ask(Tray::Stacks, move |reader| {
                    let bytes = stacks::container(reader, &range, &node, &info)?;
                    Ok(Content::new("application/vnd.everflame.page", bytes, gzip))
                })
                .await?
            }
            Question::Download { range, form } => return self.download(range, form).await,
        };
        Ok(full(StatusCode::OK, content))
    }

    /// Asks for what lies on a tray until it is read.
    async fn ask(
        &self,
        tray: Tray,
        work: impl FnOnce(&Reader) -> Result<Content, Refusal> + Send + 'static,
    ) -> Result<Content, Refusal> {
        let answering = Arc::clone(self.desk.answering());
        self.desk.ask(tray, move |reader| Ok(work(reader)?.held(&answering, tray))).await
    }

    async fn status(&self, now_ms: u64, gzip: bool) -> Result<Content, Refusal> {
        let asked = self.desk.ask(None, |reader| Ok(reader.extent()?)).await;
        let history = match asked {
            Ok(extent) => extent,
            Err(Refusal::NoHistory) => None,
            Err(refusal) => return Err(refusal),
        };
        let moment = self.settings.source.moment();
        let status = Status {
            node: &self.settings.node,
            version: env!("CARGO_PKG_VERSION"),
            frequency_hz: moment.frequency_hz,
            cpus: moment.cpus,
            now: now_ms,
            history: history.map(Extent::new),
            lost: moment.lost,
            refused: self.desk.answering().refused(),
            notes: moment.notes,
        };
        Content::json(&status, gzip)
    }

    async fn download(&self, range: RangeQuestion, form: Form) -> Result<Response<Full<Bytes>>, Refusal> {
        let (node, info) = (self.settings.node.clone(), self.settings.info.clone());
        let name = file_name(&node, range.from_ms, form);
        let kind = match form {
            Form::Pprof => "application/octet-stream",
            Form::Svg => "image/svg+xml",
            Form::Folded => "text/plain; charset=utf-8",
            Form::Html => "text/html; charset=utf-8",
        };
        let content = self.ask(Tray::Stacks, move |reader| {
            Ok(Content::new(kind, stacks::file(reader, &range, form, &node, &info)?, false))
        });
        let mut response = full(StatusCode::OK, content.await?);
        if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
        }
        Ok(response)
    }

    /// The token becomes a cookie and leaves the address.
    fn welcome(&self) -> Response<Full<Bytes>> {
        let mut response = full(StatusCode::SEE_OTHER, Content::new("text/plain", Vec::new(), false));
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, HeaderValue::from_static("/"));
        let token = self.settings.gate.token.as_ref().map_or("", |token| token.reveal());
        let cookie = format!("{COOKIE_NAME}={token}; HttpOnly; SameSite=Strict; Path=/");
        if let Ok(value) = HeaderValue::from_str(&cookie) {
            headers.insert(header::SET_COOKIE, value);
        }
        response
    }

    fn refuse(&self, request: &Parts, refusal: &Refusal) -> Response<Full<Bytes>> {
        let status = refusal.status();
        if matches!(refusal, Refusal::NoToken) && request.uri.path() == "/" {
            return document(&self.needs_token, status, false);
        }
        let body = serde_json::to_vec(&Failure { error: refusal.to_string() }).unwrap_or_default();
        let mut response = full(status, Content::new("application/json", body, false));
        let extra = match refusal {
            Refusal::Method => Some((header::ALLOW, "GET, HEAD")),
            Refusal::NoToken => Some((header::WWW_AUTHENTICATE, "Bearer")),
            Refusal::Busy | Refusal::Unread | Refusal::NoHistory => Some((header::RETRY_AFTER, "5")),
            // What comes after it on this connection may be its body.
            Refusal::Body => Some((header::CONNECTION, "close")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// By gzip. Writing to memory does not fail; should it, the plain bytes are there.
pub(super) fn compress(bytes: &[u8], level: Compression) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

fn full(status: StatusCode, content: Content) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content.bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content.kind));
    if content.gzipped {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn document(document: &Document, status: StatusCode, gzip: bool) -> Response<Full<Bytes>> {
    let (bytes, gzipped) = document.bytes(gzip);
    let mut response = full(status, Content { kind: "text/html; charset=utf-8", bytes, gzipped });
    if let Ok(policy) = HeaderValue::from_str(&document.policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// What every answer says to browsers: no guessing of types, no telling where one came from, no keeping, no frames, no reading by
/// other sites.
fn protect(headers: &mut HeaderMap) {
    let fixed = [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("vary", "accept-encoding, cookie, authorization"),
    ];
    for (name, value) in fixed {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // A downloaded page or picture is shown by nobody here; should a browser do so, it runs nothing.
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(nothing);
}

/// RFC 9110 §12.5.3, as far as gzip goes.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let all = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let wanted = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = |weight: &str| weight.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        wanted && !parts.any(refused)
    })
}

fn file_name(node: &str, from_ms: u64, form: Form) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-.".contains(letter) { letter } else { '_' };
    let node: String = node.chars().map(plain).take(64).collect();
    let start = rfc3339(from_ms * NS_PER_MS).replace(['-', ':'], "");
    let start = start.split('.').next().unwrap_or_default();
    format!("everflame-{node}-{start}Z.{}", form.suffix())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_not_refused() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("br", false),
            ("", false),
            ("x-gzip", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepts_gzip(&headers), expected, "{value:?}");
        }
    }

    #[test]
    fn files_have_names_that_every_system_takes() {
        assert_eq!(file_name("node/1\"é", 1_700_000_000_000, Form::Pprof), "everflame-node_1__-20231114T221320Z.pb.gz");
    }
}
