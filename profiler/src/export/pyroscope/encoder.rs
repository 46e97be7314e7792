//! [`PyroscopeEncoder`]: a batch into push requests, one for each series.

use std::sync::Arc;

use bytes::Bytes;
use pprof_proto::Profile;
use pprof_proto::push::{LabelPair, PushRequest, RawProfileSeries, RawSample};
use prost::Message as _;

use super::labels::labels;
use crate::export::digest::{digest, hex};
use crate::export::series::{MAX_SERIES, series};
use crate::export::text::TextCounters;
use crate::export::{Encode, EncodeError, Message};
use crate::profile::Batch;
use crate::profile::pprof::{ProfileInfo, Vocabulary, decode, encode_in, halves, to_gzip_quickly};

const WIRE: &str = "pyroscope";

/// No labels: each set of them would become a series.
const VOCABULARY: Vocabulary = Vocabulary {
    process_name: None,
    pid: None,
    thread_id: None,
    thread_name: None,
    unwinding: false,
    ..Vocabulary::EVERFLAME
};

/// What the encoder can't know from a batch.
#[derive(Clone, Debug)]
pub struct PyroscopeConfig {
    /// The host's name: label `node` where no node is known.
    pub host: String,
    /// The operator's labels, names and values; they count where the owner of a series says nothing.
    pub labels: Vec<(String, String)>,
    /// Whether samples keep their labels (process, thread). Each set of them is a series in the server.
    pub sample_labels: bool,
    /// For the profile's comments.
    pub info: ProfileInfo,
}

/// Pyroscope's wire.
pub struct PyroscopeEncoder {
    config: PyroscopeConfig,
    counters: Arc<TextCounters>,
}

impl PyroscopeEncoder {
    /// An encoder without state.
    pub fn new(config: PyroscopeConfig, counters: Arc<TextCounters>) -> PyroscopeEncoder {
        PyroscopeEncoder { config, counters }
    }
}

impl Encode for PyroscopeEncoder {
    fn encode(&mut self, batch: &Batch) -> Result<Vec<Message>, EncodeError> {
        let broken = |why: crate::profile::pprof::EncodeError| EncodeError { wire: WIRE, why: why.to_string() };
        let vocabulary = if self.config.sample_labels { Vocabulary::EVERFLAME } else { VOCABULARY };
        let series = series(batch, MAX_SERIES, &self.counters).map_err(broken)?;
        let mut messages = Vec::new();
        for (number, owner) in series.owners.iter().enumerate() {
            let part = series.parts.batch(number as u32).map_err(broken)?;
            if part.samples.is_empty() {
                continue;
            }
            let profile = encode_in(&part, &self.config.info, &vocabulary).map_err(broken)?;
            let labels = labels(owner, &self.config.host, &self.config.labels, &self.counters);
            let start_ns = batch.wall_start_ns;
            let id = digest(&[
                WIRE.as_bytes(),
                self.config.host.as_bytes(),
                &start_ns.to_le_bytes(),
                owner.service.as_bytes(),
                owner.environment.as_bytes(),
                owner.version.as_bytes(),
                owner.container_id.as_bytes(),
            ]);
            messages.push(message(id, start_ns, labels, &profile));
        }
        Ok(messages)
    }

    /// Two requests with half of the distinct stacks each and the same labels.
    fn split(&self, message: &Message) -> Option<Vec<Message>> {
        let mut request = PushRequest::decode(&*message.body).ok()?;
        let series = request.series.pop().filter(|_| request.series.is_empty())?;
        let [sample] = &series.samples[..] else { return None };
        let halves = halves(&decode(&sample.raw_profile).ok()?)?;
        let half = |(number, profile): (u8, &Profile)| {
            let id = digest(&[&message.id, &[number]]);
            self::message(id, message.start_ns, series.labels.clone(), profile)
        };
        Some((0..).zip(&halves).map(half).collect())
    }
}

fn message(id: [u8; 16], start_ns: u64, labels: Vec<LabelPair>, profile: &Profile) -> Message {
    let sample = RawSample { raw_profile: to_gzip_quickly(profile), id: uuid(id) };
    let request = PushRequest { series: vec![RawProfileSeries { labels, samples: vec![sample] }] };
    let count = |sample: &pprof_proto::Sample| sample.value.first().copied().unwrap_or(0);
    Message {
        id,
        start_ns,
        samples: profile.sample.iter().map(count).sum::<i64>().unsigned_abs(),
        headers: [("content-type", "application/proto"), ("connect-protocol-version", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        body: Bytes::from(request.encode_to_vec()),
    }
}

/// A UUID of version 8 (RFC 9562: bits of one's own choice) from these bits.
fn uuid(mut bits: [u8; 16]) -> String {
    bits[6] = 0x80 | bits[6] & 0x0f;
    bits[8] = 0x80 | bits[8] & 0x3f;
    let digits = hex(&bits);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}
