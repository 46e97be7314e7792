//! The live page and its interface: HTTP on the agent's own listener. See `docs/http.md`.
//!
//! What comes in passes [`Gate`] (who asks) and [`Question`] (what is asked), both of which only look at bytes. Questions then run on
//! blocking threads, a bounded number at once, on a [`Reader`] of the history: nothing here holds sampling up. A client
//! that goes away stops its question.
//!
//! It knows neither TLS nor users: beyond loopback there is one token.

mod answering;
mod answers;
mod ask;
mod document;
mod gate;
mod listen;
mod question;
mod refusal;
mod respond;
mod stacks;
mod token;

use std::sync::Arc;

use store::Reader;

pub use answering::{Answering, Tray};
pub use ask::{Desk, LONGEST_SILENCE, MAX_AT_ONCE, MAX_WAITING};
pub use gate::{Entry, Gate};
pub use listen::{Connections, LONGEST_LIFE, serve, serve_one};
pub use question::{Form, MAX_FILTERS, MAX_STEPS, MAX_VALUES, Question, RangeQuestion};
pub use refusal::Refusal;
pub use respond::Page;
pub use token::{Token, TokenError};

use crate::profile::pprof::ProfileInfo;

/// What the page tells of the agent at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Rate in force, Hz.
    pub frequency_hz: u32,
    /// CPUs that are sampled.
    pub cpus: u32,
    /// Samples that were lost since the start.
    pub lost: u64,
    /// What makes the history incomplete, a sentence each.
    pub notes: Vec<String>,
}

/// Where the page looks; the agent behind it.
pub trait Source: Send + Sync {
    /// The history; `None` while there is none.
    fn reader(&self) -> Option<Reader>;
    /// See [`Moment`].
    fn moment(&self) -> Moment;
    /// Where it is written down what answers take; the same at each call.
    fn answering(&self) -> Arc<Answering>;
}

/// What the page is told at its start.
#[derive(Clone)]
pub struct Settings {
    /// Name of the node.
    pub node: String,
    /// For the profiles that are made.
    pub info: ProfileInfo,
    /// Who is let in.
    pub gate: Gate,
    /// Where to look.
    pub source: Arc<dyn Source>,
}
