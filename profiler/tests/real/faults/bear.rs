//! A sink that goes through a fault: what it counts meanwhile, and how long all takes to be delivered once the fault is gone.

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

use crate::recorded;
use crate::servers::{PATIENCE, wait_for};

/// Fast enough for a test, slow enough that a fault is seen.
const RETRY: RetryPolicy = RetryPolicy {
    first: Duration::from_millis(50),
    longest: Duration::from_millis(200),
    longest_asked: Duration::from_secs(600),
    give_up_after: 1_000,
};
/// For servers that never answer: each such fault takes so long.
pub(super) const SHORT_TIMEOUT: Duration = Duration::from_millis(700);
/// For all others: no answer is late because the machine is busy.
pub(super) const LONG_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn encoder(wire: &str) -> Box<dyn Encode> {
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

/// A sink to an address, in the runtime that was entered.
pub(super) fn sink(to: &str, authority: Option<PathBuf>, timeout: Duration) -> Sink {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A try that is repeated, so answered.
    Retried(Answered),
    /// The message came in pieces.
    Split,
    /// The message is lost by the server's own word; the next one is not.
    Refused,
}

impl Expected {
    fn has_happened(self, seen: &Snapshot) -> bool {
        match self {
            Expected::Retried(answered) => seen.retried(answered) > 0,
            Expected::Split => seen.split > 0,
            Expected::Refused => seen.refused.messages > 0,
        }
    }

    /// For operators.
    pub(super) fn outcome(self) -> &'static str {
        match self {
            Expected::Retried(Answered::Throttled) => "sends it again, not before it is asked to",
            Expected::Retried(Answered::Rejected) => "sends it again, with the token that is then in its file",
            Expected::Retried(_) => "sends it again",
            Expected::Split => "sends it in halves",
            Expected::Refused => "drops it, since the collector will never take it; sends the next",
        }
    }

    /// The counter that shows it.
    pub(super) fn counter(self) -> String {
        match self {
            Expected::Retried(answered) => format!("`everflame_sink_retries_total{{answer=\"{}\"}}`", answered.name()),
            Expected::Split => "`everflame_sink_splits_total`".to_owned(),
            Expected::Refused => "`everflame_sink_messages_total{fate=\"refused\"}`".to_owned(),
        }
    }
}

/// Sends a batch into the fault, waits until it was seen, takes it away, and waits until everything is delivered; how long that took.
/// Nothing may be lost but what a server refused.
pub(super) fn bear(
    runtime: &tokio::runtime::Runtime,
    sink: Sink,
    batch: &Arc<Batch>,
    expected: Expected,
    mend: impl FnOnce(),
) -> (Snapshot, Duration) {
    let what = sink.name().to_owned();
    sink.submit(Arc::clone(batch));
    wait_for(&format!("{expected:?} to show in the counters of {what}"), || {
        expected.has_happened(&sink.snapshot()).then_some(())
    });
    mend();
    let mended = Instant::now();
    let samples = batch.samples.len() as u64;
    let refused = if expected == Expected::Refused { samples } else { 0 };
    if refused > 0 {
        sink.submit(Arc::clone(batch));
    }
    wait_for("everything to be delivered", || (sink.snapshot().delivered.samples == samples).then_some(()));
    let recovery = mended.elapsed();

    let seen = runtime.block_on(sink.shutdown(PATIENCE));
    assert_eq!((seen.encoded.samples, seen.delivered.samples), (samples + refused, samples), "{what}: {expected:?}");
    assert_eq!((seen.refused.samples, seen.in_memory.samples), (refused, 0), "{what}: {expected:?}");
    for reason in DropReason::ALL {
        assert_eq!(seen.dropped(reason).samples, 0, "{what}: {expected:?}, {}", reason.name());
    }
    assert_eq!(seen.failures_in_a_row, 0, "{what}: {expected:?}");
    (seen, recovery)
}
