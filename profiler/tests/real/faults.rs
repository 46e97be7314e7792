//! Every fault that a way to a server can have, once for each wire: what the try came to, what was counted, and how long it took
//! until all was delivered after the fault was gone. The table goes into docs/configuration.md.
//!
//! Nothing here is judged by how long it takes, save that nobody comes again before he is asked to.

mod authority;
mod bear;
mod front;
mod large;
mod names;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use profiler::export::counters::Answered::{Broken, Internal, Rejected, Throttled, Timeout, Unreachable};
use profiler::profile::Batch;
use tokio::runtime::Runtime;

use authority::Authority;
use bear::Expected::{Refused, Retried, Split};
use bear::{LONG_TIMEOUT, SHORT_TIMEOUT, bear, encoder, sink};
use front::{Front, Says};
use names::Names;
use table::Table;

use crate::proxy::{Mode, Proxy};
use crate::recorded;
use crate::servers::{Collector, Server};

/// All of them, in the order of the table's columns.
const WIRES: [&str; 4] = ["datadog+http", "pyroscope+http", "otlp+http", "otlp+grpc"];
const GRPC: &str = "otlp+grpc";

const TOO_MANY: &str =
    "HTTP/1.1 429 Too Many Requests\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 7\r\nconnection: close\r\n\r\nexpired";
const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 7\r\nconnection: close\r\n\r\nrevoked";
const TOO_LARGE: &str = "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const INTERNAL: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\nconnection: close\r\n\r\noops";
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
const PAGE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>";

/// Faults that HTTP and gRPC each have in their own words.
const THROTTLED: &str = "429 with `Retry-After: 2`, `RESOURCE_EXHAUSTED` with `RetryInfo`";
const EXPIRED: &str = "401, `UNAUTHENTICATED`";
const REVOKED: &str = "403, `PERMISSION_DENIED`";
const LARGE: &str = "413, `received message larger than max`";
const HALF_A_REPLY: &str = "half a reply";
/// What [`TOO_MANY`] and [`Says::throttled`] ask for.
const ASKED: Duration = Duration::from_secs(2);

/// What every fault is shown with.
struct Stage {
    runtime: Runtime,
    batch: Arc<Batch>,
    table: Table,
}

impl Stage {
    /// The way breaks before any answer.
    fn connections(&mut self, wire: &str, server: &str) {
        for (fault, mode, expected) in [
            ("connection refused", Mode::Refuse, Retried(Unreachable)),
            ("connection reset", Mode::Reset, Retried(Broken)),
            ("no answer (black hole)", Mode::BlackHole, Retried(Timeout)),
        ] {
            let proxy = Proxy::new(server, mode);
            let timeout = if expected == Retried(Timeout) { SHORT_TIMEOUT } else { LONG_TIMEOUT };
            let sink = sink(&format!("{wire}://{}", proxy.address()), None, timeout);
            let (_, recovery) = bear(&self.runtime, sink, &self.batch, expected, || proxy.set(Mode::Pass));
            self.table.add(wire, fault, expected, recovery);
        }
    }

    /// A server that reads less than the buffers on the way leave over.
    fn slow_reader(&mut self, wire: &str, server: &str) {
        let large = Arc::new(large::enlarged(&self.batch));
        let messages = encoder(wire).encode(&large).unwrap();
        let smallest = messages.iter().map(|message| message.body.len()).min().unwrap();
        let handed_over = Arc::<AtomicUsize>::default();
        let proxy = Proxy::new(server, Mode::SlowReader(Arc::clone(&handed_over)));
        let sink = sink(&format!("{wire}://{}", proxy.address()), None, SHORT_TIMEOUT);
        let expected = Retried(Timeout);
        let (_, recovery) = bear(&self.runtime, sink, &large, expected, || {
            let handed_over = handed_over.load(Ordering::Relaxed);
            println!("{wire}: of {smallest} bytes the client had got rid of {handed_over} when it gave up");
            assert!((1..smallest).contains(&handed_over), "{wire}: {handed_over} of {smallest} bytes");
            proxy.set(Mode::Pass);
        });
        self.table.add(wire, "slow reader", expected, recovery);
    }

    /// The server says something else than yes.
    fn answers(&mut self, wire: &str, server: &str) {
        for (fault, answer, expected) in [
            (THROTTLED, TOO_MANY, Retried(Throttled)),
            (EXPIRED, UNAUTHORIZED, Retried(Rejected)),
            (REVOKED, FORBIDDEN, Retried(Rejected)),
            (LARGE, TOO_LARGE, Split),
            ("500", INTERNAL, Retried(Internal)),
            (HALF_A_REPLY, HALF, Retried(Broken)),
            ("an HTML page", PAGE, Retried(Broken)),
        ] {
            let proxy = Proxy::new(server, Mode::answer(answer, 1));
            self.answered_once(wire, fault, &proxy.address(), expected);
        }
    }

    fn answers_of_grpc(&mut self, server: &str) {
        for (fault, says, expected) in [
            (THROTTLED, Says::throttled(), Retried(Throttled)),
            (EXPIRED, Says::unauthenticated(), Retried(Rejected)),
            (REVOKED, Says::permission_denied(), Retried(Rejected)),
            (LARGE, Says::too_large(), Split),
            ("`INTERNAL`", Says::internal(), Refused),
            (HALF_A_REPLY, Says::half(), Retried(Broken)),
            ("a reply without trailers", Says::without_status(), Retried(Broken)),
        ] {
            let front = Front::start(&self.runtime, server, says);
            self.answered_once(GRPC, fault, &front.address(), expected);
        }
        let proxy = Proxy::new(server, Mode::answer(HALF, 1));
        self.answered_once(GRPC, "an answer in HTTP/1.1", &proxy.address(), Retried(Broken));
    }

    /// By a server that does so with the first request and with no other.
    fn answered_once(&mut self, wire: &str, fault: &str, address: &str, expected: bear::Expected) {
        let began = Instant::now();
        let sink = sink(&format!("{wire}://{address}"), None, LONG_TIMEOUT);
        let (seen, recovery) = bear(&self.runtime, sink, &self.batch, expected, || {});
        if expected == Retried(Throttled) {
            assert!(began.elapsed() >= ASKED, "{wire}: it asked for {ASKED:?}");
            assert_eq!(seen.retried(Throttled), 1, "{wire}: and one try was enough");
        }
        self.table.add(wire, fault, expected, recovery);
    }

    /// The server is not who it should be.
    fn certificates(&mut self, wire: &str, server: &str) {
        let (ours, other) = (Authority::new(), Authority::new());
        for (fault, mode) in [
            ("certificate of an unknown authority", other.server("localhost", false, wire)),
            ("certificate of another name", ours.server("elsewhere.example", false, wire)),
            ("expired certificate", ours.server("localhost", true, wire)),
        ] {
            let proxy = Proxy::new(server, mode);
            let sink = sink(&format!("{wire}s://localhost:{}", proxy.port()), ours.file(), LONG_TIMEOUT);
            let expected = Retried(Unreachable);
            let mend = || proxy.set(ours.server("localhost", false, wire));
            let (_, recovery) = bear(&self.runtime, sink, &self.batch, expected, mend);
            self.table.add(wire, fault, expected, recovery);
        }
    }
}

/// Nobody knows the server's name; for each wire, how long all took once somebody did. On a thread whose names are its own.
fn unknown_names(batch: &Arc<Batch>, servers: &[(&str, &str)]) -> Vec<Duration> {
    let names = Names::of_this_thread();
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut recoveries = Vec::new();
    for (wire, server) in servers {
        // RFC 6761: nobody else's.
        let name = format!("{}.test", wire.replace('+', "-"));
        let port = server.rsplit_once(':').unwrap().1;
        let sink = sink(&format!("{wire}://{name}:{port}"), None, LONG_TIMEOUT);
        let (_, recovery) = bear(&runtime, sink, batch, Retried(Unreachable), || names.add(&name));
        recoveries.push(recovery);
    }
    recoveries
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
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
    let servers = [&*datadog.address, &pyroscope.address, &collector.http, collector.grpc()];
    let servers: Vec<(&str, &str)> = WIRES.into_iter().zip(servers).collect();
    let mut stage = Stage { runtime: runtime(), batch: Arc::new(batch), table: Table::default() };
    let handle = stage.runtime.handle().clone();
    let _inside = handle.enter();
    for (wire, server) in &servers {
        stage.connections(wire, server);
        stage.slow_reader(wire, server);
        if *wire == GRPC {
            stage.answers_of_grpc(server);
        } else {
            stage.answers(wire, server);
        }
        stage.certificates(wire, server);
    }
    let batch = &stage.batch;
    let recoveries = std::thread::scope(|scope| scope.spawn(|| unknown_names(batch, &servers)).join().unwrap());
    for ((wire, _), recovery) in servers.iter().zip(recoveries) {
        stage.table.add(wire, "unknown name", Retried(Unreachable), recovery);
    }
    stage.table.finish();
}
