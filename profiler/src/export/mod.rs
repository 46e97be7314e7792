//! From batches to back ends: an encoder turns a batch into [`Message`]s, a transport carries one, and what lies between (queue,
//! spool, retry) knows neither the wire nor the profile.
//!
//! `datadog`, `otlp`, `pyroscope` and `file` are the wires; each encoder is sans-IO. A sink that is dead or slow never slows
//! sampling or another sink.

pub mod address;
mod architecture;
mod complaints;
pub mod counters;
pub mod datadog;
pub mod delivery;
mod digest;
pub mod environment;
pub mod file;
pub mod otlp;
pub mod pyroscope;
pub mod queue;
pub mod retry;
mod sender;
pub mod series;
pub mod settings;
pub mod spool;
pub mod text;
pub mod timing;
pub mod transport;

use std::time::Duration;

use bytes::Bytes;

use crate::profile::Batch;

/// One request, ready to be sent, stored and sent again: the same bytes each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The same for every try and after every restart, so that a receiver can tell a repetition.
    pub id: [u8; 16],
    /// Wall clock at the start of the interval, ns since the Unix epoch: spools replay in this order.
    pub start_ns: u64,
    /// Samples inside, for the counters of what was delivered and lost.
    pub samples: u64,
    /// Header names (lower case) and values, `content-type` among them; secrets are added by the transport, never stored.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// What became of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken.
    Delivered,
    /// Worth another try, not before this long if the server said so; the text says what happened, on which address.
    Retry(Option<Duration>, String),
    /// Too large (413): the encoder may split it.
    TooLarge(String),
    /// Never to be sent again.
    Refused(String),
}

/// A batch that could not be put on this wire.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode for {wire}: {why}")]
pub struct EncodeError {
    /// `datadog`, `otlp`, `pyroscope`, `file`.
    pub wire: &'static str,
    /// What did not hold together.
    pub why: String,
}

/// A wire format. Sans-IO and deterministic: the same batch gives the same messages.
pub trait Encode: Send {
    /// The messages of one interval; none if nothing was sampled.
    fn encode(&mut self, batch: &Batch) -> Result<Vec<Message>, EncodeError>;

    /// A message that was too large, in two or more; `None` if it can't be made smaller.
    fn split(&self, message: &Message) -> Option<Vec<Message>>;
}
