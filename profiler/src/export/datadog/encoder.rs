//! [`DatadogEncoder`]: a batch into requests, one for each series or one for the whole host.

use std::sync::Arc;

use bytes::Bytes;
use pprof_proto::Profile;

use super::event::Event;
use super::multipart::Form;
use super::sequence::Sequences;
use super::tags::Tags;
use crate::export::digest::digest;
use crate::export::series::{MAX_SERIES, series};
use crate::export::text::TextCounters;
use crate::export::{Encode, EncodeError, Message};
use crate::profile::pprof::{
    MAX_OWNER_BYTES, OwnerKeys, ProfileInfo, Vocabulary, decode, encode_in, halves, label, to_gzip_quickly,
};
use crate::profile::{Batch, Identity};

const WIRE: &str = "datadog";
/// Longest container id that goes into a header, bytes; the runtimes' have 64.
const MAX_CONTAINER_ID_BYTES: usize = 128;
/// What stands for "no container" where saying nothing means the sender's own.
pub const NO_CONTAINER: &str = "none";
/// Service of a whole host if the operator names none.
const HOST_SERVICE: &str = "everflame";

/// The back end's words: `thread id` and `thread name` with a space, ids as texts.
const VOCABULARY: Vocabulary = Vocabulary {
    samples: "cpu-samples",
    cpu: "cpu-time",
    process_name: Some("process name"),
    named_by_executable: true,
    pid: Some("process_id"),
    thread_id: Some(label::THREAD_ID),
    thread_name: Some(label::THREAD_NAME),
    ids_are_texts: true,
    unwinding: true,
    owner: None,
};
const OWNER_KEYS: OwnerKeys =
    OwnerKeys { container_id: "container_id", container: "container_name", pod: "pod_name", namespace: None };
/// Labels that a whole host's profile offers to filter and group by.
const HOST_LABELS: [&str; 4] = ["container_id", "container_name", "thread name", "pod_name"];

/// What becomes one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Grouping {
    /// The samples of one service, environment, version and container.
    #[default]
    Series,
    /// All samples of the host; containers and pods are labels.
    WholeHost,
}

/// What the encoder can't know from a batch.
#[derive(Clone, Debug)]
pub struct DatadogConfig {
    /// The host's name, as the back end is to show it.
    pub host: String,
    /// The operator's tags, keys and values. `service` names a whole host; `env` and `version` count where a process says none.
    pub tags: Vec<(String, String)>,
    /// What becomes one request.
    pub grouping: Grouping,
    /// Whether the trace agent is reached over its Unix socket. There it takes an upload that names no container for one of the
    /// sender's own container, and tags it so; one that belongs to no container then names [`NO_CONTAINER`].
    pub over_unix_socket: bool,
    /// Whether to say that names of native code are to be looked up by build id.
    pub remote_symbols: bool,
    /// For the profile's comments.
    pub info: ProfileInfo,
}

/// Datadog's wire.
pub struct DatadogEncoder {
    config: DatadogConfig,
    counters: Arc<TextCounters>,
    sequences: Sequences,
}

impl DatadogEncoder {
    /// Sequence numbers begin at 0.
    pub fn new(config: DatadogConfig, counters: Arc<TextCounters>) -> DatadogEncoder {
        DatadogEncoder { config, counters, sequences: Sequences::default() }
    }

    fn by_series(&mut self, batch: &Batch) -> Result<Vec<Message>, EncodeError> {
        let series = series(batch, MAX_SERIES, &self.counters).map_err(broken)?;
        let mut messages = Vec::new();
        for (number, owner) in series.owners.iter().enumerate() {
            let part = series.parts.batch(number as u32).map_err(broken)?;
            if part.samples.is_empty() {
                continue;
            }
            let name = [&*owner.service, &*owner.environment, &*owner.version, &*owner.container_id];
            let sequence = self.sequences.number(digest(&name.map(str::as_bytes)), batch.wall_start_ns);
            let mut tags = Tags::new(&self.counters);
            tags.add("service", &owner.service);
            tags.add("env", &owner.environment);
            tags.add("version", &owner.version);
            tags.add_profiler(&self.config.host, sequence, self.config.remote_symbols);
            tags.add_owner(owner);
            tags.add_configured(&self.config.tags, &single_valued(owner));
            let profile = encode_in(&part, &self.config.info, &VOCABULARY).map_err(broken)?;
            let headers = self.container_headers(&owner.container_id);
            messages.push(self.message(&part, &name, &tags.finish(), headers, &profile)?);
        }
        Ok(messages)
    }

    fn whole_host(&mut self, batch: &Batch) -> Result<Vec<Message>, EncodeError> {
        for identity in &batch.identities {
            let texts = [&identity.container_id, &identity.container, &identity.pod];
            for text in texts {
                // The labels cut at the same length.
                self.counters.cut(text, MAX_OWNER_BYTES);
            }
        }
        let sequence = self.sequences.number(digest(&[]), batch.wall_start_ns);
        let named = self.config.tags.iter().any(|(key, _)| key == "service");
        let mut tags = Tags::new(&self.counters);
        if !named {
            tags.add("service", HOST_SERVICE);
        }
        tags.add_profiler(&self.config.host, sequence, self.config.remote_symbols);
        for label in HOST_LABELS {
            tags.add("ddprof.custom_ctx", label);
        }
        tags.add_configured(&self.config.tags, &["host"]);
        let vocabulary = Vocabulary { owner: Some(OWNER_KEYS), ..VOCABULARY };
        let profile = encode_in(batch, &self.config.info, &vocabulary).map_err(broken)?;
        Ok(vec![self.message(batch, &[], &tags.finish(), self.container_headers(""), &profile)?])
    }

    fn message(
        &self,
        part: &Batch,
        series: &[&str],
        tags: &str,
        headers: Vec<(String, String)>,
        profile: &Profile,
    ) -> Result<Message, EncodeError> {
        let start_ns = part.wall_start_ns;
        let end_ns = start_ns.saturating_add(part.duration_ns);
        let event = Event::json(start_ns, end_ns, tags).map_err(|error| broken(format!("event.json: {error}")))?;
        let start = start_ns.to_le_bytes();
        let mut id = vec![WIRE.as_bytes(), self.config.host.as_bytes(), &start];
        id.extend(series.iter().map(|text| text.as_bytes()));
        let message = Message {
            id: digest(&id),
            start_ns,
            samples: 0,
            headers: [origin_headers(), headers].concat(),
            body: Bytes::new(),
        };
        Ok(filled(message, &event, profile))
    }

    /// Names the container to the trace agent, which adds its tags.
    fn container_headers(&self, id: &str) -> Vec<(String, String)> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_legal = id.len() <= MAX_CONTAINER_ID_BYTES && id.bytes().all(legal);
        if !is_legal {
            TextCounters::count(&self.counters.left_out);
        }
        if id.is_empty() || !is_legal {
            let none = ("datadog-container-id".to_owned(), NO_CONTAINER.to_owned());
            return Vec::from_iter(self.config.over_unix_socket.then_some(none));
        }
        vec![("datadog-container-id".to_owned(), id.to_owned()), ("datadog-entity-id".to_owned(), format!("ci-{id}"))]
    }
}

impl Encode for DatadogEncoder {
    fn encode(&mut self, batch: &Batch) -> Result<Vec<Message>, EncodeError> {
        if batch.samples.is_empty() {
            return Ok(Vec::new());
        }
        match self.config.grouping {
            Grouping::Series => self.by_series(batch),
            Grouping::WholeHost => self.whole_host(batch),
        }
    }

    /// Two requests with half of the distinct samples each and the same event.
    fn split(&self, message: &Message) -> Option<Vec<Message>> {
        let content_type = message.headers.iter().find(|(name, _)| name == "content-type")?;
        let form = Form::read(&content_type.1, &message.body)?;
        let halves = halves(&decode(form.attachment).ok()?)?;
        let half = |(number, profile): (u8, &Profile)| {
            let id = digest(&[&message.id, &[number]]);
            filled(Message { id, ..message.clone() }, form.event, profile)
        };
        Some((0..).zip(&halves).map(half).collect())
    }
}

/// The message with this body, and the headers and count that follow from it.
fn filled(mut message: Message, event: &[u8], profile: &Profile) -> Message {
    let (content_type, body) = Form { event, attachment: &to_gzip_quickly(profile) }.write();
    message.headers.retain(|(name, _)| name != "content-type");
    message.headers.insert(0, ("content-type".to_owned(), content_type));
    message.body = body.into();
    let count = |sample: &pprof_proto::Sample| sample.value.first().copied().unwrap_or(0);
    message.samples = profile.sample.iter().map(count).sum::<i64>().unsigned_abs();
    message
}

fn origin_headers() -> Vec<(String, String)> {
    let pairs = [("dd-evp-origin", env!("CARGO_PKG_NAME")), ("dd-evp-origin-version", env!("CARGO_PKG_VERSION"))];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// Keys of tags that this owner's processes say themselves, or that have one value by their nature.
fn single_valued(owner: &Identity) -> Vec<&'static str> {
    let said = [("env", &owner.environment), ("version", &owner.version)];
    let said = said.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, _)| key);
    ["service", "host"].into_iter().chain(said).collect()
}

fn broken(why: impl ToString) -> EncodeError {
    EncodeError { wire: WIRE, why: why.to_string() }
}
