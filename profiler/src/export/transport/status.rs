//! What a server's answer means. Sans-IO: status, headers and the beginning of the body in, [`Answer`] out.
//!
//! | answer | meaning |
//! |---|---|
//! | 2xx | delivered, unless OTLP says in `partial_success` that profiles were rejected |
//! | 401, 403 | to be tried again: a token or key is renewed some day, what was thrown away meanwhile does not come back |
//! | 413 | too large |
//! | 408, 425, 429, 5xx | to be tried again, after `Retry-After` |
//! | 3xx, and an HTML page with 2xx or 4xx | to be tried again: somebody else answers there |
//! | 500 with `InvalidArgument` or `proto: Profile` in its text | refused: Pyroscope says so of bytes that it will never take |
//! | 501, 505 and everything else | refused |

use std::time::Duration;

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceResponse;
use prost::Message as _;

use super::Answer;
use crate::export::Outcome;
use crate::export::address::Wire;
use crate::export::counters::Answered;

/// Most of an answer that is read.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Most characters of an answer that are quoted.
const MAX_QUOTED: usize = 300;
/// What a server lacks that knows OTLP and no profiles.
pub(super) const COLLECTOR_NEEDS: &str =
    "an OpenTelemetry Collector needs --feature-gates=service.profilesSupport and a profiles pipeline";

/// An HTTP answer.
#[derive(Clone, Copy, Debug)]
pub struct HttpAnswer<'a> {
    /// 100 to 999.
    pub status: u16,
    /// `Retry-After`, read.
    pub retry_after: Option<Duration>,
    /// `Location`, of a redirect.
    pub location: Option<&'a str>,
    /// `Content-Type`; empty if there is none.
    pub content_type: &'a str,
    /// The body, at most [`MAX_ANSWER_BYTES`].
    pub body: &'a [u8],
}

/// The meaning of an answer from `address`.
pub fn judge(wire: Wire, address: &str, answer: &HttpAnswer<'_>) -> Answer {
    let HttpAnswer { status, retry_after, .. } = *answer;
    let quoted = quoted(answer);
    let text = format!("{address} answered {status}{quoted}");
    let html = is_html(answer);
    let (outcome, answered) = match status {
        // Proxies say these with a page, and mean the same.
        401 | 403 => (Outcome::Retry(retry_after, format!("{text}; {}", renew(wire))), Answered::Rejected),
        413 => (Outcome::TooLarge(text), Answered::Rejected),
        408 | 425 | 429 => (Outcome::Retry(retry_after, text), Answered::Throttled),
        // None of these servers sends elsewhere or has pages: this is another one, which may go away (a proxy) or be corrected.
        300..=399 => {
            let to = answer.location.map_or_else(String::new, |location| format!(" to {}", printable(location)));
            let text = format!("{text}: a redirect{to}, which is not followed");
            (Outcome::Retry(retry_after, text), Answered::Broken)
        }
        200..=299 | 400..=499 | 501 | 505 if html => (Outcome::Retry(retry_after, text), Answered::Broken),
        200..=299 if wire == Wire::OtlpHttp => return partial_success(address, answer.body),
        200..=299 => (Outcome::Delivered, Answered::Ok),
        404 if wire == Wire::OtlpHttp => (Outcome::Refused(format!("{text}; {COLLECTOR_NEEDS}")), Answered::Rejected),
        502..=504 => (Outcome::Retry(retry_after, text), Answered::Unavailable),
        501 | 505 => (Outcome::Refused(text), Answered::Rejected),
        500..=599 if is_permanent(answer.body) => (Outcome::Refused(text), Answered::Rejected),
        500..=599 => (Outcome::Retry(retry_after, text), Answered::Internal),
        _ => (Outcome::Refused(text), Answered::Rejected),
    };
    Answer { outcome, answered }
}

/// Who has to do something about a token or key that is not taken.
pub(super) fn renew(wire: Wire) -> &'static str {
    match wire {
        // What it refuses itself is about paths; this is what its intake says.
        Wire::Datadog => "check the Datadog agent's API key, or what is sent to it by --token-file and --header",
        Wire::OtlpHttp | Wire::OtlpGrpc | Wire::Pyroscope => {
            "renew the token or key that is sent there (--token-file, --header)"
        }
    }
}

/// An answer of OTLP that is not read to its end. Only the words about rejected profiles can make it so long, so that it must not
/// count as delivered; and the server has the request, so that to send it again would double what it took.
pub(super) fn too_long(address: &str) -> Answer {
    let text = format!(
        "{address} took the request and answered with more than {MAX_ANSWER_BYTES} bytes, so that what it rejected of it is \
         not known"
    );
    Answer { outcome: Outcome::Refused(text), answered: Answered::Rejected }
}

/// OTLP's answer in both its forms; "present and empty" is full success.
pub fn partial_success(address: &str, body: &[u8]) -> Answer {
    let response = match ExportProfilesServiceResponse::decode(body) {
        Ok(response) => response,
        // Cut by whoever read it.
        Err(_) if body.len() >= MAX_ANSWER_BYTES => return too_long(address),
        Err(_) => ExportProfilesServiceResponse::default(),
    };
    match response.partial_success {
        Some(partial) if partial.rejected_profiles > 0 => {
            let why = printable(&partial.error_message);
            let count = partial.rejected_profiles;
            let text = format!("{address} took the request and rejected {count} of its profiles: {why}");
            Answer { outcome: Outcome::Refused(text), answered: Answered::Rejected }
        }
        _ => Answer { outcome: Outcome::Delivered, answered: Answered::Ok },
    }
}

/// A fault of the message that a server reports as its own.
fn is_permanent(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    ["InvalidArgument", "invalid_argument", "proto: Profile"].iter().any(|sign| text.contains(sign))
}

fn is_html(answer: &HttpAnswer<'_>) -> bool {
    let begins = |tag: &[u8]| {
        let body = answer.body.trim_ascii_start();
        body.len() >= tag.len() && body[..tag.len()].eq_ignore_ascii_case(tag)
    };
    answer.content_type.starts_with("text/html") || begins(b"<!doctype html") || begins(b"<html")
}

/// `: the beginning of the body`, if it has one.
fn quoted(answer: &HttpAnswer<'_>) -> String {
    if is_html(answer) {
        return " with an HTML page: something else than the server for profiles answers there".to_owned();
    }
    let text = printable(&String::from_utf8_lossy(answer.body));
    if text.is_empty() || answer.content_type.starts_with("application/x-protobuf") {
        String::new()
    } else {
        format!(": {text}")
    }
}

/// One line of at most [`MAX_QUOTED`] characters; what would move a terminal's cursor becomes a space.
pub(super) fn printable(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_QUOTED + 1).collect();
    let clean = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    match clean.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTLP: Wire = Wire::OtlpHttp;
    const DATADOG: Wire = Wire::Datadog;
    const AFTER: Option<Duration> = Some(Duration::from_secs(3));

    fn answer<'a>(status: u16, content_type: &'a str, body: &'a [u8]) -> HttpAnswer<'a> {
        HttpAnswer { status, retry_after: AFTER, location: None, content_type, body }
    }

    #[test]
    fn each_status_has_one_meaning() {
        let retry = |answered| (Some("retry"), answered);
        let refused = (Some("refused"), Answered::Rejected);
        let table = [
            (200, (None, Answered::Ok)),
            (202, (None, Answered::Ok)),
            (204, (None, Answered::Ok)),
            (301, retry(Answered::Broken)),
            (400, refused),
            (401, retry(Answered::Rejected)),
            (403, retry(Answered::Rejected)),
            (404, refused),
            (408, retry(Answered::Throttled)),
            (413, (Some("too large"), Answered::Rejected)),
            (425, retry(Answered::Throttled)),
            (422, refused),
            (429, retry(Answered::Throttled)),
            (500, retry(Answered::Internal)),
            (501, refused),
            (502, retry(Answered::Unavailable)),
            (503, retry(Answered::Unavailable)),
            (504, retry(Answered::Unavailable)),
            (505, refused),
            (507, retry(Answered::Internal)),
            (599, retry(Answered::Internal)),
            (600, refused),
        ];
        for (status, (expected, answered)) in table {
            for wire in [DATADOG, OTLP, Wire::Pyroscope] {
                let judged = judge(wire, "http://h:1", &answer(status, "text/plain", b""));
                let text = format!("http://h:1 answered {status}");
                let said = match judged.outcome {
                    Outcome::Delivered => None,
                    Outcome::Retry(after, said) => {
                        assert_eq!(after, AFTER);
                        Some(("retry", said))
                    }
                    Outcome::TooLarge(said) => Some(("too large", said)),
                    Outcome::Refused(said) => Some(("refused", said)),
                };
                assert_eq!(said.as_ref().map(|(kind, _)| *kind), expected, "{status}");
                assert!(said.is_none_or(|(_, said)| said.starts_with(&text)), "{status}");
                assert_eq!(judged.answered, answered, "{status}");
            }
        }
    }

    #[test]
    fn a_server_s_internal_error_about_the_bytes_is_never_retried() {
        let table: [(&[u8], bool); 4] = [
            (b"{\"code\":\"unknown\",\"message\":\"proto: Profile: illegal tag 0\"}", true),
            (b"rpc error: code = InvalidArgument desc = no dictionary", true),
            (b"{\"code\":\"invalid_argument\"}", true),
            (b"Profile forwarder is OFF: invalid configuration", false),
        ];
        for (body, permanent) in table {
            let outcome = judge(Wire::Pyroscope, "a", &answer(500, "", body)).outcome;
            assert_eq!(matches!(outcome, Outcome::Refused(_)), permanent, "{outcome:?}");
        }
    }

    #[test]
    fn a_partial_success_that_is_present_and_empty_is_success() {
        let rejected = b"\x0a\x0c\x08\x02\x12\x08no\x1b[2Jrm";
        let table: [(&[u8], Outcome); 4] = [
            (b"", Outcome::Delivered),
            (b"\x0a\x00", Outcome::Delivered),
            (b"not protobuf", Outcome::Delivered),
            (rejected, Outcome::Refused("a took the request and rejected 2 of its profiles: no [2Jrm".into())),
        ];
        for (body, expected) in table {
            assert_eq!(judge(OTLP, "a", &answer(200, "application/x-protobuf", body)).outcome, expected);
            assert_eq!(judge(DATADOG, "a", &answer(200, "", body)).outcome, Outcome::Delivered);
        }
    }

    #[test]
    fn a_token_or_key_that_is_not_taken_says_who_is_to_renew_it() {
        let renew = "renew the token or key that is sent there (--token-file, --header)";
        let table = [
            (DATADOG, "check the Datadog agent's API key, or what is sent to it by --token-file and --header"),
            (OTLP, renew),
            (Wire::Pyroscope, renew),
        ];
        for (wire, hint) in table {
            let judged = judge(wire, "a", &answer(403, "text/plain", b"key expired"));
            let said = format!("a answered 403: key expired; {hint}");
            assert_eq!(judged, Answer { outcome: Outcome::Retry(AFTER, said), answered: Answered::Rejected });
        }
    }

    #[test]
    fn a_collector_without_profiles_is_named_as_such() {
        let said = "a answered 404: 404 page not found; an OpenTelemetry Collector needs \
                    --feature-gates=service.profilesSupport and a profiles pipeline";
        let not_found = answer(404, "text/plain", b"404 page not found");
        assert_eq!(judge(OTLP, "a", &not_found).outcome, Outcome::Refused(said.into()));
        let said = "a answered 404: 404 page not found";
        assert_eq!(judge(Wire::Pyroscope, "a", &not_found).outcome, Outcome::Refused(said.into()));
    }

    #[test]
    fn words_about_rejected_profiles_that_are_too_long_to_be_read_are_no_success() {
        let mut long = b"\x0a\x85\x80\x08\x08\x02\x12\xff\xff\x07".to_vec();
        long.resize(MAX_ANSWER_BYTES, b'x');
        let Outcome::Refused(text) = judge(OTLP, "a", &answer(200, "application/x-protobuf", &long)).outcome else {
            panic!("an answer that was cut")
        };
        assert!(text.starts_with("a took the request and answered with more than 65536 bytes"), "{text}");
        assert_eq!(judge(DATADOG, "a", &answer(200, "", &long)).outcome, Outcome::Delivered);
    }

    #[test]
    fn a_page_is_named_as_such_and_neither_a_success_nor_a_loss() {
        let pages: [(&str, &[u8]); 3] =
            [("text/html; charset=utf-8", b"Sign in"), ("", b"\n <!DOCTYPE HTML><title>x"), ("text/plain", b"<HTML>")];
        for (content_type, body) in pages {
            for status in [200, 400, 404, 405, 501, 505] {
                for wire in [DATADOG, OTLP, Wire::Pyroscope] {
                    let judged = judge(wire, "a", &answer(status, content_type, body));
                    let said = format!(
                        "a answered {status} with an HTML page: something else than the server for profiles answers there"
                    );
                    assert_eq!(judged, Answer { outcome: Outcome::Retry(AFTER, said), answered: Answered::Broken });
                }
            }
            for (status, answered) in [
                (401, Answered::Rejected),
                (403, Answered::Rejected),
                (429, Answered::Throttled),
                (500, Answered::Internal),
                (502, Answered::Unavailable),
            ] {
                let judged = judge(DATADOG, "a", &answer(status, content_type, body));
                assert!(matches!(&judged.outcome, Outcome::Retry(..)), "{judged:?}");
                assert_eq!(judged.answered, answered, "{status}: a page changes nothing");
            }
            let large = judge(DATADOG, "a", &answer(413, content_type, body)).outcome;
            assert!(matches!(large, Outcome::TooLarge(_)), "{large:?}");
        }
    }

    #[test]
    fn what_is_quoted_is_one_short_line() {
        let long = "x ".repeat(10_000);
        let table = [("a\r\nb\x1b[31m\0c", "a b [31m c"), ("", ""), (" \n ", ""), (long.as_str(), &long[..300])];
        for (text, expected) in table {
            assert_eq!(printable(text).trim_end_matches('…').trim_end(), expected.trim_end());
        }
        let redirect = HttpAnswer { location: Some("https://else\r\nwhere"), ..answer(302, "", b"") };
        assert_eq!(
            judge(DATADOG, "a", &redirect).outcome,
            Outcome::Retry(AFTER, "a answered 302: a redirect to https://else where, which is not followed".into())
        );
    }
}
