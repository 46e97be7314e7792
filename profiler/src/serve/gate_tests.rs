use super::*;
use hyper::Request;

type Headers<'header> = &'header [(&'header str, &'header str)];

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn head(target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn with_token() -> Gate {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, TOKEN).unwrap();
    Gate { token: Some(Token::read(&path).unwrap()) }
}

fn status(gate: &Gate, request: &Parts) -> u16 {
    gate.judge(request).map_or_else(|refusal| refusal.status().as_u16(), |_| 200)
}

#[test]
fn without_a_token_only_names_of_the_loopback_are_answered() {
    for (host, expected) in [
        ("localhost:7654", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:7654", 200),
        ("127.0.0.1:80", 200),
        ("127.8.9.1", 200),
        ("[::1]:7654", 200),
        // A name that its owner let point to 127.0.0.1.
        ("evil.example:7654", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.", 403),
        ("0.0.0.0:7654", 403),
        ("10.0.0.1", 403),
        ("[::2]", 403),
        ("", 400),
        (":7654", 400),
        ("[::1", 400),
        ("[localhost]", 400),
        ("[::1]x", 400),
        ("localhost:x", 400),
        ("localhost:123456", 400),
        ("localhost:1:2", 400),
        ("user@localhost", 400),
        ("localhost/x", 400),
        ("local host", 400),
    ] {
        assert_eq!(status(&Gate::default(), &head("/", &[("host", host)])), expected, "{host:?}");
    }
    assert_eq!(status(&Gate::default(), &head("/", &[])), 400);
    assert_eq!(status(&Gate::default(), &head("/", &[("host", "localhost"), ("host", "localhost")])), 400);
}

#[test]
fn requests_of_other_sites_are_refused() {
    let cross = [("sec-fetch-site", "cross-site")];
    let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let frame = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
    let cases: &[(&str, Headers<'_>, u16)] = &[
        ("/", &[("origin", "http://127.0.0.1:7654")], 200),
        ("/", &[("origin", "https://127.0.0.1:7654")], 200),
        ("/", &[("origin", "http://127.0.0.1:7655")], 403),
        ("/", &[("origin", "http://localhost:7654")], 403),
        ("/", &[("origin", "http://evil.example")], 403),
        ("/", &[("origin", "null")], 403),
        ("/", &[("origin", "")], 403),
        ("/api/v1/status", &[("sec-fetch-site", "same-origin")], 200),
        ("/api/v1/status", &[("sec-fetch-site", "none")], 200),
        // Another port of this host is another program.
        ("/api/v1/status", &[("sec-fetch-site", "same-site")], 403),
        ("/api/v1/status", &cross, 403),
        ("/", &cross, 403),
        ("/", &link, 200),
        ("/api/v1/download", &link, 403),
        ("/", &frame, 403),
    ];
    for (target, headers, expected) in cases {
        let all: Vec<_> = [("host", "127.0.0.1:7654")].into_iter().chain(headers.iter().copied()).collect();
        assert_eq!(status(&Gate::default(), &head(target, &all)), *expected, "{target} {headers:?}");
    }
}

#[test]
fn without_the_token_nothing_is_answered() {
    let gate = with_token();
    let bearer = format!("Bearer {TOKEN}");
    let lower = format!("bearer  {TOKEN}");
    let cookie = format!("everflame={TOKEN}");
    let among = format!("a=b; everflame=old; everflame={TOKEN}");
    let wrong = format!("Bearer {TOKEN}0");
    let cases: &[(&str, Headers<'_>, u16)] = &[
        ("/", &[], 401),
        ("/api/v1/status", &[], 401),
        ("/nothing", &[], 401),
        ("/", &[("authorization", &bearer)], 200),
        ("/", &[("authorization", &lower)], 200),
        ("/", &[("authorization", &wrong)], 401),
        ("/", &[("authorization", TOKEN)], 401),
        ("/", &[("authorization", "Bearer")], 401),
        ("/", &[("authorization", "Basic Og==")], 401),
        ("/", &[("cookie", &cookie)], 200),
        ("/", &[("cookie", &among)], 200),
        ("/", &[("cookie", "everflame=")], 401),
        ("/", &[("cookie", "other=x")], 401),
        ("/?token=", &[], 401),
        ("/?token=wrong", &[("cookie", &cookie)], 401),
        // Only there: elsewhere it would stay in logs and histories.
        ("/api/v1/status?token=0123456789abcdef0123456789abcdef", &[], 401),
        ("/", &[("authorization", &bearer), ("origin", "http://evil.example")], 403),
    ];
    for (target, headers, expected) in cases {
        let all: Vec<_> = [("host", "node-7.example:7654")].into_iter().chain(headers.iter().copied()).collect();
        assert_eq!(status(&gate, &head(target, &all)), *expected, "{target} {headers:?}");
    }
    let brought = head(&format!("/?token={TOKEN}"), &[("host", "node-7.example:7654")]);
    assert_eq!(gate.judge(&brought).unwrap(), Entry::BringsToken);
}

#[test]
fn only_questions_are_answered() {
    let host = ("host", "localhost");
    for (method, expected) in [
        ("GET", 200),
        ("HEAD", 200),
        ("POST", 405),
        ("PUT", 405),
        ("DELETE", 405),
        ("OPTIONS", 405),
        ("TRACE", 405),
        ("CONNECT", 405),
        ("PROPFIND", 405),
    ] {
        let mut request = head("/", &[host]);
        request.method = method.parse().unwrap();
        assert_eq!(status(&Gate::default(), &request), expected, "{method}");
    }
    assert_eq!(status(&Gate::default(), &head("/", &[host, ("content-length", "0")])), 200);
    assert_eq!(status(&Gate::default(), &head("/", &[host, ("content-length", "1")])), 413);
    assert_eq!(status(&Gate::default(), &head("/", &[host, ("transfer-encoding", "chunked")])), 413);
    assert_eq!(status(&Gate::default(), &head("http://evil.example/", &[host])), 400);
    assert_eq!(status(&Gate::default(), &head("*", &[host])), 400);
}
