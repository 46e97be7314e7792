//! Variables → sinks, and the sentence for each that can't be used.

use super::*;

fn of(pairs: Pairs) -> Result<Vec<SinkSettings>, EnvironmentError> {
    Ok(found(pairs)?.into_iter().map(|found| found.settings).collect())
}

fn found(pairs: Pairs) -> Result<Vec<FromEnvironment>, EnvironmentError> {
    sinks(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

fn shown(pairs: Pairs) -> Vec<String> {
    of(pairs).unwrap().iter().map(|sink| sink.address.to_string()).collect()
}

type Pairs<'a> = &'a [(&'a str, &'a str)];

const OLD: &str = "OTEL_PROFILING_AGENT_COLLECTION_AGENT";

#[test]
fn an_agent_is_named_by_the_first_of_its_variables() {
    let table: [(Pairs, &[&str]); 12] = [
        (&[], &[]),
        (&[(OLD, ""), ("DD_TRACE_AGENT_URL", " ")], &[]),
        (&[(OLD, "http://localhost:8126/")], &["http://localhost:8126"]),
        (&[(OLD, "collector:11000")], &["otlp+grpcs://collector:11000"]),
        (&[(OLD, "collector:11000"), ("OTEL_PROFILING_AGENT_DISABLE_TLS", "true")], &["otlp+grpc://collector:11000"]),
        (&[(OLD, "http://a:1"), ("DD_TRACE_AGENT_URL", "http://b:2")], &["datadog+http://a:1"]),
        (&[("DD_TRACE_AGENT_URL", "https://agent:8443")], &["datadog+https://agent:8443"]),
        (&[("DD_TRACE_AGENT_URL", "unix:///var/run/a.sock")], &["datadog+unix:///var/run/a.sock"]),
        (&[("DD_HOST_PROFILING_TRACE_AGENT_URL", "http://x:1"), ("DD_AGENT_HOST", "y")], &["datadog+http://x:1"]),
        (&[("DD_AGENT_HOST", "10.0.0.7")], &["datadog+http://10.0.0.7:8126"]),
        (&[("DD_AGENT_HOST", "fd00::7"), ("DD_TRACE_AGENT_PORT", "9126")], &["datadog+http://[fd00::7]:9126"]),
        (&[("DD_TRACE_AGENT_PORT", "9126")], &["datadog+http://localhost:9126"]),
    ];
    for (pairs, addresses) in table {
        assert_eq!(shown(pairs), addresses, "{pairs:?}");
    }
}

#[test]
fn an_old_url_is_datadog_s_unless_its_port_says_otherwise() {
    let table = [
        ("http://dd:9126", "datadog+http://dd:9126", "http://dd:9126/profiling/v1/input"),
        ("https://dd/base/", "datadog+https://dd:443/base", "https://dd:443/base/profiling/v1/input"),
        ("HTTP://dd:1/profiling/v1/input", "datadog+http://dd:1/profiling/v1/input", "http://dd:1/profiling/v1/input"),
        ("datadog+unix:///a.sock", "datadog+unix:///a.sock", "http://localhost/profiling/v1/input"),
    ];
    for (text, address, url) in table {
        let sinks = of(&[(OLD, text)]).unwrap();
        let [SinkSettings { address: Address::Server(server), .. }] = sinks.as_slice() else { panic!("{text}") };
        assert_eq!(server.wire, Some(Wire::Datadog), "{text}: away or not");
        assert_eq!((server.to_string().as_str(), server.request_url(Wire::Datadog).as_str()), (address, url));
    }
    for port in [8126, 4317, 4318, 4040] {
        let text = format!("http://c:{port}");
        assert_eq!(shown(&[(OLD, &text)]), [text.as_str()], "asked, and else known by its port");
    }
}

#[test]
fn a_sink_knows_its_variable() {
    let table: [(Pairs, &[&str]); 4] = [
        (&[(OLD, "http://a:8126"), (ENDPOINT, "http://c:4318")], &[OLD, ENDPOINT]),
        (&[("DD_TRACE_AGENT_PORT", "9126")], &["DD_TRACE_AGENT_PORT"]),
        (&[("DD_TRACE_AGENT_PORT", "9126"), ("DD_AGENT_HOST", "h")], &["DD_AGENT_HOST"]),
        (&[(PROFILES_ENDPOINT, "http://p:2"), (ENDPOINT, "http://c:4318")], &[PROFILES_ENDPOINT]),
    ];
    for (pairs, variables) in table {
        let found = found(pairs).unwrap();
        assert_eq!(found.iter().map(|found| found.variable).collect::<Vec<_>>(), variables);
    }
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const PROFILES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

fn otlp_url(pairs: Pairs) -> String {
    let sinks = of(pairs).unwrap();
    let [SinkSettings { address: Address::Server(server), .. }] = sinks.as_slice() else {
        panic!("{pairs:?} name one server");
    };
    format!("{} {}", server.wire.unwrap().default_port(), server.request_url(server.wire.unwrap()))
}

#[test]
fn otlp_endpoints_follow_the_specification() {
    const EXPORT: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
    let table: [(Pairs, String); 9] = [
        (&[(ENDPOINT, "http://c:4318")], "4318 http://c:4318/v1development/profiles".into()),
        (&[(ENDPOINT, "https://c/base/")], "4318 https://c:4318/base/v1development/profiles".into()),
        (&[(ENDPOINT, "http://c:4317")], format!("4317 http://c:4317{EXPORT}")),
        (
            &[(ENDPOINT, "http://c:4317"), (PROTOCOL, "http/protobuf")],
            "4318 http://c:4317/v1development/profiles".into(),
        ),
        (&[(ENDPOINT, "https://c:443"), (PROTOCOL, "grpc")], format!("4317 https://c:443{EXPORT}")),
        (&[(ENDPOINT, "c:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "true")], format!("4317 http://c:4317{EXPORT}")),
        (&[(ENDPOINT, "c:4317")], format!("4317 https://c:4317{EXPORT}")),
        (&[(ENDPOINT, "http://c:1"), (PROFILES_ENDPOINT, "http://p:2/as/is")], "4318 http://p:2/as/is".into()),
        (&[(PROFILES_ENDPOINT, "http://p:2")], "4318 http://p:2/".into()),
    ];
    for (pairs, url) in table {
        assert_eq!(otlp_url(pairs), url, "{pairs:?}");
    }
}

#[test]
fn otlp_settings_are_taken_over_and_the_profiles_ones_go_first() {
    let sinks = of(&[
        (ENDPOINT, "https://c:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "ignored=1"),
        ("OTEL_EXPORTER_OTLP_PROFILES_HEADERS", "X-Scope-OrgID=team%20a, authorization=Basic%20aGlkZGVu"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/client.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/client.key"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_PROFILES_COMPRESSION", "gzip"),
        ("DD_AGENT_HOST", "agent"),
    ])
    .unwrap();
    let [agent, sink] = sinks.as_slice() else { panic!("two sinks") };
    assert_eq!(agent.address.to_string(), "datadog+http://agent:8126");
    let headers: Vec<_> = sink.headers.iter().map(|(name, value)| (name.as_str(), value.0.as_str())).collect();
    assert_eq!(headers, [("x-scope-orgid", "team a"), ("authorization", "Basic aGlkZGVu")]);
    assert!(!format!("{sink:?}").contains("aGlkZGVu"));
    assert_eq!(sink.tls.certificate_authority, Some("/ca.pem".into()));
    assert_eq!(sink.tls.client_certificate, Some("/client.pem".into()));
    assert_eq!(sink.tls.client_key, Some("/client.key".into()));
    assert_eq!((sink.request_timeout, sink.gzip), (Duration::from_millis(2500), true));
}

#[test]
fn a_variable_that_can_not_be_used_is_named() {
    let table: [(Pairs, &str); 10] = [
        (&[(OLD, "ftp://x")], "OTEL_PROFILING_AGENT_COLLECTION_AGENT: ftp://x: ftp is no scheme"),
        (&[(OLD, "host:port")], "OTEL_PROFILING_AGENT_COLLECTION_AGENT: otlp+grpcs://host:port: the port must be"),
        (
            &[(OLD, "c:1"), ("OTEL_PROFILING_AGENT_DISABLE_TLS", "maybe")],
            "OTEL_PROFILING_AGENT_DISABLE_TLS must be true",
        ),
        (&[("DD_TRACE_AGENT_URL", "unix://rel")], "DD_TRACE_AGENT_URL: datadog+unix://rel: the path must be absolute"),
        (&[("DD_AGENT_HOST", "h"), ("DD_TRACE_AGENT_PORT", "x")], "DD_TRACE_AGENT_PORT must be a port"),
        (&[(ENDPOINT, "grpc://c:1")], "OTEL_EXPORTER_OTLP_ENDPOINT: grpc://c:1: grpc is no scheme"),
        (
            &[(ENDPOINT, "http://c"), (PROTOCOL, "http/json")],
            "OTEL_EXPORTER_OTLP_PROTOCOL must be grpc or http/protobuf",
        ),
        (
            &[(ENDPOINT, "http://c"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")],
            "OTEL_EXPORTER_OTLP_TIMEOUT must be a number",
        ),
        (
            &[(ENDPOINT, "http://c"), ("OTEL_EXPORTER_OTLP_HEADERS", "secret")],
            "OTEL_EXPORTER_OTLP_HEADERS must be headers",
        ),
        (&[(ENDPOINT, "http://c"), ("OTEL_EXPORTER_OTLP_COMPRESSION", "br")], "OTEL_EXPORTER_OTLP_COMPRESSION must be"),
    ];
    for (pairs, message) in table {
        let error = of(pairs).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}
