//! Addresses: what each becomes, and the sentence for each that can't be used.

use super::*;

#[test]
fn each_scheme_becomes_a_server_with_its_url() {
    let table = [
        ("datadog+http://agent", "http://agent:8126/profiling/v1/input"),
        ("datadog+http://agent:80", "http://agent:80/profiling/v1/input"),
        ("datadog+https://agent:8126/", "https://agent:8126/profiling/v1/input"),
        ("datadog+unix:///var/run/datadog/apm.socket", "http://localhost/profiling/v1/input"),
        ("otlp+http://[::1]", "http://[::1]:4318/v1development/profiles"),
        ("otlp+http://10.0.0.1:9999/prefix/", "http://10.0.0.1:9999/prefix/v1development/profiles"),
        ("otlp+https://proxy:443/v1development/profiles", "https://proxy:443/v1development/profiles"),
        (
            "otlp+grpc://collector",
            "http://collector:4317/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        ),
        (
            "OTLP+GRPCS://Collector:443",
            "https://collector:443/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        ),
        ("pyroscope+http://p", "http://p:4040/push.v1.PusherService/Push"),
        ("pyroscope+https://u:secret@p:443/base", "https://p:443/base/push.v1.PusherService/Push"),
    ];
    for (text, url) in table {
        let Address::Server(server) = parse(text).unwrap() else { panic!("{text} is a server") };
        assert_eq!(server.request_url(server.wire.unwrap()), url, "{text}");
    }
}

#[test]
fn what_is_shown_is_read_again_and_has_no_password() {
    let table = [
        ("datadog+http://agent", "datadog+http://agent:8126"),
        ("datadog+unix:///a/b", "datadog+unix:///a/b"),
        ("otlp+grpcs://c:1/x", "otlp+grpcs://c:1/x"),
        ("https://user:hidden@h:8126", "https://h:8126"),
        ("file:///var/profiles?keep=3", "file:///var/profiles"),
    ];
    for (text, shown) in table {
        let address = parse(text).unwrap();
        assert_eq!(address.to_string(), shown);
        assert!(!format!("{address:?}").contains("hidden"), "{address:?}");
        assert_eq!(parse(shown).unwrap().to_string(), shown);
    }
    let Address::Server(server) = parse("pyroscope+https://12%4034:glc_a%2Bb+c@h").unwrap() else { panic!() };
    let credentials = server.credentials.unwrap();
    assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("12@34", "glc_a+b+c"));
}

#[test]
fn a_folder_has_a_path_and_limits() {
    let table = [
        ("file:///p", "/p", DEFAULT_KEEP, DEFAULT_MAX_BYTES),
        ("file:///p%20q?keep=7", "/p q", 7, DEFAULT_MAX_BYTES),
        ("file:///p?max-bytes=512MiB&keep=1", "/p", 1, 512 << 20),
        ("file:///p?max-bytes=2GB", "/p", DEFAULT_KEEP, 2_000_000_000),
        ("file:///p?max-bytes=77", "/p", DEFAULT_KEEP, 77),
    ];
    for (text, path, keep, max_bytes) in table {
        assert_eq!(parse(text), Ok(Address::Folder(Folder { path: path.into(), keep, max_bytes })), "{text}");
    }
}

#[test]
fn what_can_not_be_used_says_why_in_one_sentence() {
    let table = [
        ("agent:8126", "agent:8126 does not say what is spoken there: write it as "),
        ("", " does not say what is spoken there"),
        ("ftp://host", "ftp://host: ftp is no scheme for profiles; there are datadog+http(s)://"),
        ("datadog+http://", "datadog+http:// names no host"),
        ("datadog+http://:8126", "datadog+http://:8126 names no host"),
        ("otlp+http:///path", "otlp+http:///path names no host"),
        ("otlp+grpc://h:0", "otlp+grpc://h:0: the port must be a number from 1 to 65535"),
        ("otlp+grpc://h:65536", "otlp+grpc://h:65536: the port must be"),
        ("http://h:http", "http://h:http: the port must be"),
        ("http://user:hidden@h:http", "http://h:http: the port must be"),
        ("datadog+unix://relative", "datadog+unix://relative: the path must be absolute"),
        ("datadog+unix:///", "datadog+unix:///: the path must be absolute"),
        ("file://relative", "file://relative: the path must be absolute"),
        ("file:///p?keep=0", "file:///p?keep=0: keep must be a number of files, at least 1"),
        ("file:///p?keep=many", "file:///p?keep=many: keep must be"),
        ("file:///p?max-bytes=1TB", "file:///p?max-bytes=1TB: max-bytes must be a number of bytes"),
        ("file:///p?max-bytes=99999999999GiB", "file:///p?max-bytes=99999999999GiB: max-bytes must be"),
        ("file:///p?rotate=1", "file:///p?rotate=1: there is no option rotate"),
        ("http://h?a=b", "http://h?a=b: there is no option a"),
        ("http://a b", "http://a b is not an address: "),
        ("http://[::1", "http://[::1 is not an address: "),
    ];
    for (text, message) in table {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{text:?}: {error}");
        assert!(!error.contains('\n') && !error.contains("hidden"), "{error}");
    }
}

#[test]
fn a_bare_address_is_what_it_answers_else_what_its_port_means() {
    let info = br#"{"version":"7.85.1","endpoints":["/v0.4/traces","/profiling/v1/input"],"config":{}}"#;
    let old = br#"{"version":"7.10.0","endpoints":["/v0.4/traces"]}"#;
    type Row<'a> = (&'a str, Option<&'a [u8]>, Option<Wire>);
    let table: [Row; 8] = [
        ("http://h:9000", Some(info), Some(Wire::Datadog)),
        ("http://h:4318", Some(info), Some(Wire::Datadog)),
        ("http://h:4318", Some(b"404 page not found"), Some(Wire::OtlpHttp)),
        ("http://h:4317", None, Some(Wire::OtlpGrpc)),
        ("http://h:4040", Some(b"<html>"), Some(Wire::Pyroscope)),
        ("http://h:8126", None, Some(Wire::Datadog)),
        ("http://h:8126", Some(old), Some(Wire::Datadog)),
        ("http://h:9000", Some(old), None),
    ];
    for (text, answer, wire) in table {
        let Address::Server(server) = parse(text).unwrap() else { panic!("{text} is a server") };
        assert_eq!(server.wire, None);
        assert_eq!(server.wire_by_answer(answer), wire, "{text}");
    }
}
