//! [`News`]: what is told of a one-shot's course, and to whom ([`Host`]); what comes of it in the end ([`HandedOver`]).

use std::time::Duration;

/// What happens on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It is not sampled yet.
    Starting(String),
    /// It is sampled.
    Sampling {
        /// Since the first sample.
        elapsed: Duration,
        /// How long it shall be.
        of: Duration,
        /// Taken so far.
        samples: u64,
    },
    /// The profile comes: parts that are there.
    Fetching(usize),
    /// The server does not answer as it should, in these words; it is asked again.
    Away(String),
    /// The user has ended it; the rest of the way is short.
    Ending,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// The profile: gzipped pprof.
    pub bytes: Vec<u8>,
    /// The profiler's result line.
    pub summary: String,
    /// What else it said.
    pub notes: Vec<String>,
}

/// Who started it, and hears of it.
pub trait Host: Sync {
    /// Whether the user wants an end.
    fn is_stopped(&self) -> bool;
    /// Something happened.
    fn hears(&self, news: News);
}
