//! What of a gRPC answer came over the wire.
//!
//! tonic makes up a status where none came, and it then looks like the server's own word: "internal" for half a message, "unknown"
//! for an answer that a proxy cut off. A profile must not be lost for that. So the answer is watched on its way to tonic.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use ::http::header::{CONTENT_TYPE, RETRY_AFTER};
use ::http::{HeaderMap, HeaderName, Response};
use http_body_util::BodyExt as _;
use tonic::body::Body;

use super::Answer;
use super::status::{self, HttpAnswer};
use crate::export::Outcome;
use crate::export::address::Wire;
use crate::export::counters::Answered;
use crate::export::retry;

const STATUS: &str = "grpc-status";

/// The answer to one request; empty until it comes.
#[derive(Debug, Default)]
pub(super) struct Reply {
    head: OnceLock<Head>,
    /// A status of gRPC came, in the head or behind the body.
    has_status: AtomicBool,
}

#[derive(Debug)]
struct Head {
    status: u16,
    content_type: String,
    retry_after: Option<Duration>,
}

impl Reply {
    /// Passes an answer on, and notes what it says.
    pub(super) fn watch(self: Arc<Self>, response: Response<Body>) -> Response<Body> {
        let headers = response.headers();
        self.note(headers);
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let _ = self.head.set(Head {
            status: response.status().as_u16(),
            content_type: text(CONTENT_TYPE).to_owned(),
            retry_after: retry::retry_after(text(RETRY_AFTER), SystemTime::now()),
        });
        response.map(|body| {
            Body::new(body.inspect_frame(move |frame| {
                if let Some(trailers) = frame.trailers_ref() {
                    self.note(trailers);
                }
            }))
        })
    }

    fn note(&self, headers: &HeaderMap) {
        if headers.contains_key(STATUS) {
            self.has_status.store(true, Relaxed);
        }
    }

    /// What an answer without a status of gRPC means; `None` if one came, or no answer at all. `too_long`: its message is longer than
    /// is read, which is why no status was seen.
    pub(super) fn without_status(&self, address: &str, too_long: bool) -> Option<Answer> {
        if self.has_status.load(Relaxed) {
            return None;
        }
        let Head { status, ref content_type, retry_after } = *self.head.get()?;
        match status {
            // gRPC's own reading of it names what a collector lacks.
            404 => None,
            // A proxy's word, in HTTP.
            300.. => {
                let answer = HttpAnswer { status, retry_after, location: None, content_type, body: b"" };
                Some(status::judge(Wire::OtlpGrpc, address, &answer))
            }
            _ if too_long => Some(status::too_long(address)),
            _ => {
                let text = format!("{address}: the answer ended before its status");
                Some(Answer { outcome: Outcome::Retry(None, text), answered: Answered::Broken })
            }
        }
    }
}
