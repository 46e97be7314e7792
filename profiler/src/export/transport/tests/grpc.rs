//! gRPC against an HTTP/2 server that answers as told.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::faults::closed_port;
use super::{Answer, Answered, Outcome, assert_retry, delivered, message, run, settings};
use crate::export::settings::{Secret, SinkSettings};
use crate::export::transport::open;

type Seen = Arc<Mutex<Vec<(http::request::Parts, Bytes)>>>;

/// What a server says: an HTTP status, a message, and behind it the gRPC status with its headers, or nothing.
#[derive(Clone, Default)]
struct Says {
    http: u16,
    body: Option<&'static [u8]>,
    trailers: Vec<(&'static str, String)>,
}

fn status(code: u32, text: &str) -> Says {
    Says { http: 200, body: None, trailers: vec![("grpc-status", code.to_string()), ("grpc-message", text.into())] }
}

/// Sends one message to a server that says `says`, and what it saw.
fn sent(says: Says, change: impl Fn(&mut SinkSettings)) -> (Answer, Seen) {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = settings(&format!("otlp+grpc://{}", listener.local_addr().unwrap()));
        change(&mut settings);
        let seen = Seen::default();
        let requests = seen.clone();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request: http::Request<Incoming>| {
                let (requests, says) = (requests.clone(), says.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    requests.lock().unwrap().push((parts, body));
                    let mut trailers = http::HeaderMap::new();
                    for (name, value) in &says.trailers {
                        trailers.insert(*name, value.parse().unwrap());
                    }
                    let body = Full::new(Bytes::from_static(says.body.unwrap_or_default()));
                    let trailers = (!trailers.is_empty()).then_some(Ok::<_, Infallible>(trailers));
                    let body = body.with_trailers(async move { trailers });
                    let body = body.map_frame(|frame: Frame<Bytes>| frame);
                    let response = http::Response::builder().status(says.http);
                    Ok::<_, Infallible>(response.header("content-type", "application/grpc").body(body).unwrap())
                }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = serving.serve_connection(TokioIo::new(stream), service).await;
        });
        let transport = open(&settings, Some(crate::export::address::Wire::OtlpGrpc)).unwrap();
        (transport.send(&message("body")).await, seen)
    })
}

#[test]
fn the_encoder_s_bytes_are_sent_as_they_are_with_the_sink_s_metadata() {
    let says = Says { body: Some(b"\0\0\0\0\x02\x0a\0"), ..status(0, "") };
    let (answer, seen) = sent(says.clone(), |settings| settings.headers = vec![("x-team".into(), Secret("a".into()))]);
    assert_eq!(answer, delivered());
    let (parts, body) = seen.lock().unwrap()[0].clone();
    assert_eq!(parts.uri.path(), "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export");
    assert_eq!(
        (parts.headers["x-team"].as_bytes(), parts.headers["content-type"].as_bytes()),
        (&b"a"[..], &b"application/grpc"[..])
    );
    assert_eq!(body, &b"\0\0\0\0\x04body"[..]);

    let (answer, seen) = sent(says, |settings| settings.gzip = true);
    assert_eq!(answer, delivered());
    let (parts, body) = seen.lock().unwrap()[0].clone();
    assert_eq!(
        (parts.headers["grpc-encoding"].as_bytes(), &body[..1], &body[5..7]),
        (&b"gzip"[..], &[1][..], &[0x1f, 0x8b][..])
    );
}

#[test]
fn each_answer_comes_to_its_outcome() {
    // google.rpc.Status{details: [RetryInfo{3 s}]}
    let any = b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x03";
    let details = [&[0x1a, any.len() as u8], any.as_slice()].concat();
    let mut throttled = status(8, "queue is full");
    throttled
        .trailers
        .push(("grpc-status-details-bin", base64::engine::general_purpose::STANDARD_NO_PAD.encode(details)));
    let table = [
        (throttled, Answered::Throttled, Some(3), "ResourceExhausted: queue is full"),
        (status(14, "no backend"), Answered::Unavailable, None, "Unavailable: no backend"),
        (status(16, "expired"), Answered::Rejected, None, "Unauthenticated: expired; renew the token or key"),
        (status(7, "not yours"), Answered::Rejected, None, "PermissionDenied: not yours; renew the token or key"),
    ];
    for (says, answered, after, text) in table {
        assert_retry(&sent(says, |_| {}).0, answered, after, text);
    }
    let refused = [
        (status(12, "unknown service"), "--feature-gates=service.profilesSupport"),
        (status(3, "bad dictionary"), "InvalidArgument: bad dictionary"),
        // A collector's word for what its pipeline will never take.
        (status(13, "Permanent error: no exporter"), "Internal: Permanent error: no exporter"),
    ];
    for (says, text) in refused {
        let Outcome::Refused(said) = sent(says, |_| {}).0.outcome else { panic!("{text}") };
        assert!(said.contains(text), "{said}");
    }
    let too_large = status(8, "grpc: received message larger than max (5 vs. 4)");
    assert!(matches!(sent(too_large, |_| {}).0.outcome, Outcome::TooLarge(_)));
}

#[test]
fn an_answer_that_ends_before_its_status_is_tried_again() {
    let (nothing, half, whole) = (b"", b"\0\0\0\0\x02\x0a", b"\0\0\0\0\x02\x0a\0");
    for body in [&nothing[..], &half[..], &whole[..]] {
        let says = Says { http: 200, body: Some(body), trailers: Vec::new() };
        assert_retry(&sent(says, |_| {}).0, Answered::Broken, None, "the answer ended before its status");
    }
}

#[test]
fn a_proxy_that_answers_in_http_means_what_it_means_there() {
    let answered = |http: u16| sent(Says { http, ..Says::default() }, |_| {}).0;
    let table = [
        (429, Answered::Throttled, "answered 429"),
        (500, Answered::Internal, "answered 500"),
        (502, Answered::Unavailable, "answered 502"),
        (503, Answered::Unavailable, "answered 503"),
        (401, Answered::Rejected, "answered 401"),
        (403, Answered::Rejected, "answered 403"),
    ];
    for (http, kind, says) in table {
        assert_retry(&answered(http), kind, None, says);
    }
    assert!(matches!(answered(413).outcome, Outcome::TooLarge(_)));
    let Outcome::Refused(said) = answered(404).outcome else { panic!("404") };
    assert!(said.contains("--feature-gates=service.profilesSupport"), "{said}");
}

#[test]
fn a_token_that_is_not_taken_is_read_again_and_the_same_one_is_not_tried_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "old\n").unwrap();
    let (answer, seen) = sent(status(16, "expired"), |settings| settings.bearer_token_file = Some(path.clone()));
    assert_retry(&answer, Answered::Rejected, None, "Unauthenticated: expired; renew the token or key");
    let tokens: Vec<_> = seen.lock().unwrap().iter().map(|(parts, _)| parts.headers["authorization"].clone()).collect();
    assert_eq!(tokens, ["Bearer old"]);
}

#[test]
fn an_answer_that_is_too_long_to_be_read_is_not_waited_for_again() {
    // A message of 128 KiB, as its head says.
    for says in [
        Says { body: Some(b"\0\0\x02\0\0"), ..status(0, "") },
        Says { http: 200, body: Some(b"\0\0\x02\0\0\x0a"), trailers: Vec::new() },
    ] {
        let (answer, seen) = sent(says, |_| {});
        let Outcome::Refused(text) = &answer.outcome else { panic!("{answer:?}") };
        assert!(text.contains("took the request and answered with more than 65536 bytes"), "{text}");
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

#[test]
fn servers_that_are_not_there_hang_or_break_are_tried_again() {
    let against = |port: u16| super::send(&settings(&format!("otlp+grpc://127.0.0.1:{port}")), &message("body"));
    assert_retry(&against(closed_port()), Answered::Unreachable, None, "refused");
    let held = Mutex::new(Vec::new());
    let hole = super::faults::server(move |stream, _| held.lock().unwrap().push(stream));
    assert_retry(&against(hole), Answered::Timeout, None, "no answer in time");
    let breaking = super::faults::server(|stream, _| drop(stream));
    let Outcome::Retry(None, _) = against(breaking).outcome else { panic!("a broken connection") };
    let nowhere = super::send(&settings("otlp+grpc://no-such-host.invalid:4317"), &message("body"));
    assert!(matches!(nowhere.outcome, Outcome::Retry(None, _)), "{nowhere:?}");
}
