//! HTTP: faults, and what a request carries.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;

use super::faults::{answer, answering, closed_port, read_request, server};
use super::{Answer, Answered, Outcome, assert_retry, delivered, message, run, send, settings};
use crate::export::address::{self, Wire};
use crate::export::settings::Secret;
use crate::export::transport::{TransportError, ask};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn against(port: u16) -> Answer {
    send(&settings(&format!("datadog+http://127.0.0.1:{port}")), &message("body"))
}

#[test]
fn each_answer_comes_to_its_outcome() {
    let page = answer("200 OK", "content-type: text/html\r\n", "<html>Sign in</html>");
    let table = [
        (
            answer("429 Too Many Requests", "retry-after: 7\r\n", "slow down"),
            Answered::Throttled,
            Some(7),
            "429: slow down",
        ),
        (
            answer("503 Service Unavailable", "retry-after: Fri, 31 Dec 1999 23:59:59 GMT\r\n", ""),
            Answered::Unavailable,
            Some(0),
            "answered 503",
        ),
        (
            answer("500 Internal Server Error", "", "Profile forwarder is OFF"),
            Answered::Internal,
            None,
            "forwarder is OFF",
        ),
        (answer("502 Bad Gateway", "", "dial tcp: refused"), Answered::Unavailable, None, "502: dial tcp: refused"),
        (answer("408 Request Timeout", "", ""), Answered::Throttled, None, "answered 408"),
        (page, Answered::Broken, None, "with an HTML page"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".into(), Answered::Broken, None, "the connection broke"),
        ("HTTP/1.1 200 OK\r\ncontent-le".into(), Answered::Broken, None, "the connection broke"),
        ("SSH-2.0-OpenSSH_9.2\r\n".into(), Answered::Broken, None, "the connection broke"),
        (String::new(), Answered::Broken, None, "the connection broke"),
    ];
    for (bytes, answered, after, says) in table {
        let (port, _) = answering(bytes);
        let answer = against(port);
        assert_retry(&answer, answered, after, says);
        assert_retry(&answer, answered, after, &format!("datadog+http://127.0.0.1:{port}"));
    }

    let (port, _) = answering(answer("413 Payload Too Large", "", ""));
    assert!(matches!(against(port).outcome, Outcome::TooLarge(_)));
    let (port, _) = answering(answer("302 Found", "location: http://elsewhere/\r\n", ""));
    assert_retry(&against(port), Answered::Broken, None, "a redirect to http://elsewhere/");
    let (port, _) = answering(OK);
    assert_eq!(against(port), delivered());
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    assert_retry(&against(closed_port()), Answered::Unreachable, None, "no connection: ");
    let nowhere = send(&settings("datadog+http://no-such-host.invalid:8126"), &message("body"));
    assert_retry(&nowhere, Answered::Unreachable, None, "datadog+http://no-such-host.invalid:8126: no connection: ");
}

#[test]
fn a_connection_that_is_reset_in_the_middle_is_tried_again() {
    let port = server(|mut stream: TcpStream, _| {
        // Closing with bytes unread sends RST.
        let mut some = [0; 10];
        let _ = stream.read_exact(&mut some);
    });
    let answer = send(&settings(&format!("datadog+http://127.0.0.1:{port}")), &message(vec![0; 8 << 20]));
    assert_retry(&answer, Answered::Broken, None, "the connection broke");
}

#[test]
fn servers_that_do_not_answer_or_do_not_read_end_by_the_time_out() {
    let held = std::sync::Mutex::new(Vec::new());
    let port = server(move |stream, _| held.lock().unwrap().push(stream));
    assert_retry(&against(port), Answered::Timeout, None, "no answer in time");
    let large = send(&settings(&format!("datadog+http://127.0.0.1:{port}")), &message(vec![0; 64 << 20]));
    assert_retry(&large, Answered::Timeout, None, "no answer in time");
}

#[test]
fn an_endless_answer_is_read_to_a_bound() {
    let port = server(|mut stream: TcpStream, _| {
        read_request(&mut stream).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let Outcome::Refused(text) = against(port).outcome else { panic!("400") };
    assert!(text.len() < 500 && text.contains("answered 400: xxxx"), "{text}");
}

#[test]
fn a_request_carries_the_message_and_what_the_sink_adds() {
    let (port, seen) = answering(OK);
    let mut settings = settings(&format!("otlp+http://user:pass@127.0.0.1:{port}/base"));
    settings.headers = vec![("x-scope-orgid".into(), Secret("team".into()))];
    assert_eq!(send(&settings, &message("body")), delivered());
    settings.gzip = true;
    assert_eq!(send(&settings, &message("body")), delivered());
    let mut packed = message("packed");
    packed.headers.push(("content-encoding".into(), "gzip".into()));
    assert_eq!(send(&settings, &packed), delivered());

    let seen = seen.lock().unwrap().clone();
    let [plain, gzipped, already] = seen.as_slice() else { panic!("three requests") };
    assert!(plain.head.starts_with("POST /base/v1development/profiles HTTP/1.1\r\n"), "{}", plain.head);
    let table = [
        ("content-type", "application/x-protobuf"),
        ("x-scope-orgid", "team"),
        ("authorization", "Basic dXNlcjpwYXNz"),
        ("user-agent", concat!("everflame/", env!("CARGO_PKG_VERSION"))),
    ];
    for (name, value) in table {
        assert_eq!(plain.header(name).as_deref(), Some(value));
    }
    assert_eq!((plain.header("content-encoding"), plain.body.as_slice()), (None, b"body".as_slice()));
    assert_eq!(gzipped.header("content-encoding").as_deref(), Some("gzip"));
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(gzipped.body.as_slice()).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, "body");
    assert_eq!(already.body, b"packed");
}

#[test]
fn a_unix_socket_is_an_address_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("apm.socket");
    let address = format!("datadog+unix://{}", path.display());
    assert_retry(&send(&settings(&address), &message("body")), Answered::Unreachable, None, "no connection: ");
    let listener = UnixListener::bind(&path).unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_request(&mut stream).unwrap();
        stream.write_all(OK.as_bytes()).unwrap();
        request
    });
    assert_eq!(send(&settings(&address), &message("body")), delivered());
    let request = served.join().unwrap();
    assert!(request.head.starts_with("POST /profiling/v1/input HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.body, b"body");
}

#[test]
fn a_token_is_read_again_when_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "old\n").unwrap();
    let renewed = path.clone();
    let port = server(move |mut stream: TcpStream, _| {
        let request = read_request(&mut stream).unwrap();
        let status = if request.header("authorization").as_deref() == Some("Bearer new") {
            "200 OK"
        } else {
            "401 Unauthorized"
        };
        // Somebody renews it just then.
        fs::write(&renewed, "new\n").unwrap();
        let _ = stream.write_all(answer(status, "", "").as_bytes());
    });
    let mut settings = settings(&format!("otlp+http://127.0.0.1:{port}"));
    settings.bearer_token_file = Some(path.clone());
    assert_eq!(send(&settings, &message("body")), delivered());

    let (port, seen) = answering(answer("401 Unauthorized", "retry-after: 7\r\n", "token has expired"));
    let mut settings = settings_with_token(port, &path);
    let kept = send(&settings, &message("body"));
    assert_retry(&kept, Answered::Rejected, Some(7), "answered 401: token has expired; renew the token or key");
    assert_eq!(seen.lock().unwrap().len(), 1, "the same token is not tried twice");
    settings.bearer_token_file = Some(folder.path().join("none"));
    assert_retry(&send(&settings, &message("body")), Answered::Disk, None, "can't read the token ");
}

fn settings_with_token(port: u16, path: &std::path::Path) -> crate::export::settings::SinkSettings {
    let mut settings = settings(&format!("otlp+http://127.0.0.1:{port}"));
    settings.bearer_token_file = Some(path.to_owned());
    settings
}

#[test]
fn an_address_without_a_wire_is_asked_for_its_endpoints() {
    let info = answer("200 OK", "", r#"{"endpoints":["/profiling/v1/input"]}"#);
    let asked = |port: u16| {
        let settings = settings(&format!("http://127.0.0.1:{port}"));
        let address::Address::Server(server) = &settings.address else { panic!("a server") };
        run(ask(&settings, server))
    };
    let (port, seen) = answering(info);
    assert_eq!(asked(port).unwrap(), Wire::Datadog);
    assert!(seen.lock().unwrap()[0].head.starts_with("GET /info HTTP/1.1\r\n"));
    let mut away = vec![(closed_port(), "refused".to_owned())];
    for status in [408, 425, 429, 500, 501, 502, 503, 504, 529] {
        let port = answering(answer(&format!("{status} No"), "", "no healthy upstream")).0;
        away.push((port, format!("{status} is what it says")));
    }
    for (port, why) in away {
        let error = asked(port).unwrap_err();
        assert!(matches!(error, TransportError::NoAnswer { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("http://127.0.0.1:{port} ")) && text.contains(&why), "{text}");
        assert!(text.contains("otlp+http://"), "{text}");
    }
    let (port, _) = answering(answer("404 Not Found", "", "404 page not found"));
    let error = asked(port).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("http://127.0.0.1:{port} does not answer like a Datadog agent; say what it speaks, as in otlp+http://")
    );
}

#[test]
fn a_spooled_header_that_is_none_is_refused_not_sent() {
    let (port, seen) = answering(OK);
    let mut hostile = message("body");
    hostile.headers.push(("x\r\nevil".into(), "1".into()));
    let Outcome::Refused(text) = send(&settings(&format!("otlp+http://127.0.0.1:{port}")), &hostile).outcome else {
        panic!()
    };
    assert!(text.contains("the header x evil can't be sent"), "{text}");
    assert!(seen.lock().unwrap().is_empty());
}
