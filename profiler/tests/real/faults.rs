//! Every fault that a way to a server can have, once for each wire: what the try came to, what was counted, and how long it took
//! until all was delivered after the fault was gone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profiler::export::address;
use profiler::export::counters::{Answered, DropReason, Snapshot};
use profiler::export::datadog::{DatadogConfig, DatadogEncoder, Grouping};
use profiler::export::delivery::{Sink, SinkOptions};
use profiler::export::otlp::{MAX_MESSAGE_BYTES, OtlpConfig, OtlpEncoder};
use profiler::export::pyroscope::{PyroscopeConfig, PyroscopeEncoder};
use profiler::export::queue::MemoryLimits;
use profiler::export::retry::RetryPolicy;
use profiler::export::settings::SinkSettings;
use profiler::export::{Encode, transport};
use profiler::profile::Batch;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::proxy::{Mode, Proxy};
use crate::recorded;
use crate::servers::{Collector, PATIENCE, Server, wait_for};

const TOO_MANY: &str =
    "HTTP/1.1 429 Too Many Requests\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const TOO_LARGE: &str = "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const INTERNAL: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\nconnection: close\r\n\r\noops";
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
const PAGE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>";

/// Fast enough for a test, slow enough that a fault is seen.
const RETRY: RetryPolicy = RetryPolicy {
    first: Duration::from_millis(50),
    longest: Duration::from_millis(200),
    longest_asked: Duration::from_secs(600),
    give_up_after: 1_000,
};
/// For servers that never answer: each such fault takes so long.
const SHORT_TIMEOUT: Duration = Duration::from_millis(700);
/// For all others: no answer is late because the machine is busy.
const LONG_TIMEOUT: Duration = Duration::from_secs(60);

fn encoder(wire: &str) -> Box<dyn Encode> {
    let host = "node-1".to_owned();
    if wire.starts_with("datadog") {
        let (tags, info) = (Vec::new(), recorded::info());
        let grouping = Grouping::WholeHost;
        let config = DatadogConfig { host, tags, grouping, over_unix_socket: false, remote_symbols: false, info };
        Box::new(DatadogEncoder::new(config, Arc::default()))
    } else if wire.starts_with("otlp") {
        let (attributes, message_bytes) = (Vec::new(), MAX_MESSAGE_BYTES);
        Box::new(OtlpEncoder::new(
            OtlpConfig { host, attributes, resource_per_process: false, message_bytes },
            Arc::default(),
        ))
    } else {
        let config = PyroscopeConfig { host, labels: Vec::new(), sample_labels: false, info: recorded::info() };
        Box::new(PyroscopeEncoder::new(config, Arc::default()))
    }
}

fn sink(to: &str, authority: Option<PathBuf>, timeout: Duration) -> Sink {
    let mut settings = SinkSettings::new(address::parse(to).unwrap());
    settings.tls.certificate_authority = authority;
    settings.request_timeout = timeout;
    settings.connect_timeout = timeout;
    let address::Address::Server(server) = &settings.address else { panic!("{to} is no server") };
    let transport = transport::open(&settings, server.wire).unwrap();
    let options = SinkOptions { name: to.to_owned(), memory: MemoryLimits::default(), spool: None, retry: RETRY };
    Sink::start(encoder(to), transport, options)
}

/// What the counters must show of a fault before it is taken away.
#[derive(Debug)]
enum Expected {
    /// A try that is repeated, so answered.
    Retried(Answered),
    /// The message came in pieces.
    Split,
}

fn has_happened(expected: &Expected, seen: &Snapshot) -> bool {
    match expected {
        Expected::Retried(answered) => seen.retried(*answered) > 0,
        Expected::Split => seen.split > 0,
    }
}

/// Sends a batch into the fault, waits until it was seen, takes it away, and waits until everything is delivered.
fn bear(
    runtime: &tokio::runtime::Runtime,
    sink: Sink,
    batch: &Arc<Batch>,
    expected: &Expected,
    mend: impl FnOnce(),
) -> (Snapshot, Duration) {
    sink.submit(Arc::clone(batch));
    let shows = format!("{expected:?} to show in the counters of {}", sink.name());
    wait_for(&shows, || has_happened(expected, &sink.snapshot()).then_some(()));
    mend();
    let mended = Instant::now();
    let samples = batch.samples.len() as u64;
    wait_for("everything to be delivered", || (sink.snapshot().delivered.samples == samples).then_some(()));
    let recovery = mended.elapsed();
    (runtime.block_on(sink.shutdown(PATIENCE)), recovery)
}

fn assert_nothing_is_lost(what: &str, seen: &Snapshot, batch: &Batch) {
    let samples = batch.samples.len() as u64;
    assert_eq!((seen.encoded.samples, seen.delivered.samples), (samples, samples), "{what}");
    assert_eq!((seen.refused.samples, seen.in_memory.samples), (0, 0), "{what}");
    for reason in DropReason::ALL {
        assert_eq!(seen.dropped(reason).samples, 0, "{what}: {}", reason.name());
    }
    assert_eq!(seen.failures_in_a_row, 0, "{what}");
}

fn row(wire: &str, fault: &str, expected: &Expected, seen: &Snapshot, recovery: Duration) {
    let (outcome, count) = match expected {
        Expected::Retried(answered) => (format!("again, counted as {}", answered.name()), seen.retried(*answered)),
        Expected::Split => ("in pieces".to_owned(), seen.split),
    };
    println!(
        "{wire:<16} {fault:<22} {outcome:<30} {count:>3} times, all delivered {:>5} ms after",
        recovery.as_millis()
    );
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, folder }
    }

    fn file(&self) -> Option<PathBuf> {
        Some(self.folder.path().join("ca.pem"))
    }

    /// A server's certificate for a name; `expired` long ago.
    fn server(&self, name: &str, expired: bool) -> Mode {
        transport::tls::install_provider();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        Mode::Tls(Arc::new(config))
    }
}

#[test]
#[ignore = "needs the servers of testservers/ and root: cargo xtask test --real"]
fn every_fault_is_counted_and_nothing_is_lost_when_it_is_over() {
    let (Some(datadog), Some(pyroscope), Some(collector)) =
        (Server::start("datadog"), Server::start("pyroscope"), Collector::start())
    else {
        return;
    };
    let Some(batch) = recorded::batch() else { return };
    let batch = Arc::new(batch);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    use Answered::{Broken, Internal, Throttled, Timeout, Unreachable};
    use Expected::{Retried, Split};
    let of_connections = [
        ("connection refused", Mode::Refuse, Retried(Unreachable)),
        ("reset", Mode::Reset, Retried(Broken)),
        ("black hole", Mode::BlackHole, Retried(Timeout)),
        ("slow reader", Mode::SlowReader, Retried(Timeout)),
    ];
    let of_answers = [
        ("429, Retry-After: 2", TOO_MANY, Retried(Throttled)),
        ("413", TOO_LARGE, Split),
        ("500", INTERNAL, Retried(Internal)),
        ("half a reply", HALF, Retried(Broken)),
        ("an HTML page", PAGE, Retried(Broken)),
    ];
    for (wire, server) in [
        ("datadog+http", datadog.address.as_str()),
        ("pyroscope+http", &pyroscope.address),
        ("otlp+http", &collector.http),
        ("otlp+grpc", collector.grpc()),
    ] {
        for (fault, mode, expected) in &of_connections {
            let proxy = Proxy::new(server, mode.clone());
            let never_answers = matches!(expected, Retried(Timeout));
            let timeout = if never_answers { SHORT_TIMEOUT } else { LONG_TIMEOUT };
            let sink = sink(&format!("{wire}://{}", proxy.address()), None, timeout);
            let (seen, recovery) = bear(&runtime, sink, &batch, expected, || proxy.set(Mode::Pass));
            assert_nothing_is_lost(&format!("{wire}, {fault}"), &seen, &batch);
            row(wire, fault, expected, &seen, recovery);
        }
        if wire == "otlp+grpc" {
            // HTTP/1.1's answers are no answers there.
            let proxy = Proxy::new(server, Mode::answer(HALF, 1));
            let sink = sink(&format!("{wire}://{}", proxy.address()), None, LONG_TIMEOUT);
            let expected = Retried(Broken);
            let (seen, recovery) = bear(&runtime, sink, &batch, &expected, || proxy.set(Mode::Pass));
            assert_nothing_is_lost("otlp+grpc, HTTP/1.1", &seen, &batch);
            row(wire, "HTTP/1.1", &expected, &seen, recovery);
            continue;
        }
        for (fault, answer, expected) in &of_answers {
            let proxy = Proxy::new(server, Mode::answer(answer, 1));
            let began = Instant::now();
            let sink = sink(&format!("{wire}://{}", proxy.address()), None, LONG_TIMEOUT);
            let (seen, recovery) = bear(&runtime, sink, &batch, expected, || {});
            assert_nothing_is_lost(&format!("{wire}, {fault}"), &seen, &batch);
            if *answer == TOO_MANY {
                assert!(began.elapsed() >= Duration::from_secs(2), "it asked for two seconds");
                assert_eq!(seen.retried(Throttled), 1, "and one try was enough");
            }
            row(wire, fault, expected, &seen, recovery);
        }
        let (ours, other) = (Authority::new(), Authority::new());
        for (fault, mode) in [
            ("unknown authority", other.server("localhost", false)),
            ("wrong name", ours.server("elsewhere.example", false)),
            ("expired", ours.server("localhost", true)),
        ] {
            let proxy = Proxy::new(server, mode);
            let secure = wire.replace("http", "https");
            let sink = sink(&format!("{secure}://localhost:{}", proxy.port()), ours.file(), LONG_TIMEOUT);
            let expected = Retried(Unreachable);
            let mend = || proxy.set(ours.server("localhost", false));
            let (seen, recovery) = bear(&runtime, sink, &batch, &expected, mend);
            assert_nothing_is_lost(&format!("{secure}, {fault}"), &seen, &batch);
            row(&secure, fault, &expected, &seen, recovery);
        }
    }
    // RFC 6761: never a name. It stays one that is looked up again and again.
    for wire in ["datadog+http", "otlp+grpc"] {
        let sink = sink(&format!("{wire}://profiles.invalid:8126"), None, LONG_TIMEOUT);
        sink.submit(Arc::clone(&batch));
        wait_for("the lookup to fail twice", || (sink.snapshot().retried(Unreachable) > 1).then_some(()));
        let seen = runtime.block_on(sink.shutdown(Duration::ZERO));
        let samples = batch.samples.len() as u64;
        assert_eq!(seen.dropped(DropReason::Ended).samples, samples, "{wire}: without a spool, and it says so");
        println!("{wire:<16} {:<22} again, counted as {}", "no such name", Unreachable.name());
    }
}
