//! Sinks out of their settings: the wire is found out, the encoder made, the spool given its folder.

use std::path::PathBuf;
use std::sync::Arc;

use super::undecided;
use crate::export::Encode;
use crate::export::address::{Address, Endpoint, Wire};
use crate::export::datadog::{DatadogConfig, DatadogEncoder, Grouping};
use crate::export::delivery::{Sink, SinkOptions};
use crate::export::file::FileEncoder;
use crate::export::otlp::{MAX_MESSAGE_BYTES, OtlpConfig, OtlpEncoder};
use crate::export::pyroscope::{PyroscopeConfig, PyroscopeEncoder};
use crate::export::queue::{MemoryLimits, SpoolOptions};
use crate::export::retry::RetryPolicy;
use crate::export::settings::SinkSettings;
use crate::export::text::TextCounters;
use crate::export::transport::{self, Transport, TransportError};
use crate::profile::pprof::ProfileInfo;

/// What all sinks share.
#[derive(Clone, Debug)]
pub struct Common {
    /// The host's name for back ends: the node's.
    pub host: String,
    /// The operator's tags.
    pub tags: Vec<(String, String)>,
    /// One profile for the whole host.
    pub whole_host: bool,
    /// For the profile's comments.
    pub info: ProfileInfo,
    /// Folder of all spools; `None`: memory only.
    pub spool: Option<PathBuf>,
    /// Most bytes of one sink's spool.
    pub spool_bytes: u64,
    /// What encoders had to change in texts.
    pub texts: Arc<TextCounters>,
}

/// Starts one sink; an address that does not say its wire is asked for it, and if nobody is there, asked again while the agent
/// samples. In a tokio runtime only.
///
/// # Errors
/// [`TransportError`]: certificates, headers, or a wire that nobody can tell.
pub async fn start(settings: &SinkSettings, common: &Common) -> Result<Sink, TransportError> {
    let parts = match &settings.address {
        Address::Folder(_) => parts(settings, None, common)?,
        Address::Server(server) => match transport::ask(settings, server).await {
            Ok(wire) => parts(settings, Some(wire), common)?,
            Err(error @ TransportError::NoAnswer { .. }) => {
                tracing::warn!("{error}. It is asked again; until it answers, what it should get is lost");
                undecided::parts(settings, server, common)
            }
            Err(error) => return Err(error),
        },
    };
    let name = parts.transport.address().to_owned();
    let spool = match (&common.spool, &settings.address) {
        // A folder needs none: what can't be written there is not likely to be writable beside it.
        (Some(folder), Address::Server(_)) => {
            Some(SpoolOptions { folder: folder.join(folder_name(&name)), max_bytes: common.spool_bytes })
        }
        _ => None,
    };
    let options = SinkOptions { name, memory: MemoryLimits::default(), spool, retry: RetryPolicy::default() };
    Ok(Sink::start(parts.encoder, parts.transport, options))
}

/// What a sink needs for its wire.
pub(super) struct Parts {
    pub(super) encoder: Box<dyn Encode>,
    pub(super) transport: Box<dyn Transport>,
}

/// The parts for a wire; `None`: a folder.
pub(super) fn parts(settings: &SinkSettings, wire: Option<Wire>, common: &Common) -> Result<Parts, TransportError> {
    let over_unix_socket =
        matches!(&settings.address, Address::Server(server) if matches!(server.endpoint, Endpoint::Unix(_)));
    Ok(Parts { transport: transport::open(settings, wire)?, encoder: encoder(wire, over_unix_socket, common) })
}

fn encoder(wire: Option<Wire>, over_unix_socket: bool, common: &Common) -> Box<dyn Encode> {
    let (host, texts) = (common.host.clone(), Arc::clone(&common.texts));
    match wire {
        None => Box::new(FileEncoder::new(common.info.clone())),
        Some(Wire::Datadog) => {
            let config = DatadogConfig {
                host,
                tags: common.tags.clone(),
                grouping: if common.whole_host { Grouping::WholeHost } else { Grouping::Series },
                remote_symbols: false,
                over_unix_socket,
                info: common.info.clone(),
            };
            Box::new(DatadogEncoder::new(config, texts))
        }
        Some(Wire::OtlpHttp | Wire::OtlpGrpc) => {
            let config = OtlpConfig {
                host,
                attributes: common.tags.clone(),
                resource_per_process: false,
                message_bytes: MAX_MESSAGE_BYTES,
            };
            Box::new(OtlpEncoder::new(config, texts))
        }
        Some(Wire::Pyroscope) => {
            let config =
                PyroscopeConfig { host, labels: common.tags.clone(), sample_labels: false, info: common.info.clone() };
            Box::new(PyroscopeEncoder::new(config, texts))
        }
    }
}

/// A folder's name for an address: readable, and apart from others that read the same.
fn folder_name(address: &str) -> String {
    let readable: String = address
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || ".-".contains(character) { character } else { '_' })
        .take(80)
        .collect();
    format!("{readable}-{:08x}", crc32fast::hash(address.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::folder_name;

    #[test]
    fn folders_of_two_sinks_are_never_the_same() {
        assert_eq!(folder_name("datadog+http://10.0.0.1:8126"), "datadog_http___10.0.0.1_8126-151ce465");
        assert_ne!(folder_name("a/b"), folder_name("a_b"));
        assert_eq!(folder_name(&"x".repeat(500)).len(), 89);
    }
}
