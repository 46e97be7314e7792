//! What became of everything that a sink was given, for `/metrics`.
//!
//! The books balance: in samples, `encoded + found` (on disk at start) = `delivered + refused + dropped + waiting`, at any moment
//! when nothing is being moved. Reading never waits for a disk or a server: all are atomics, gauges are stored by who owns the
//! thing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Message;
use super::spool::{Depth, Losses};
use crate::latency::Latency;

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: [$name; [$($text),*].len()] = [$($name::$variant),*];

            /// The label's value in metrics.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

labels! {
    /// Why something was dropped without a server's word.
    DropReason {
        /// A whole batch: the one before was not encoded and stored in time.
        InboxFull = "inbox_full",
        /// A whole batch that could not be encoded, or not before the end.
        NotEncoded = "not_encoded",
        /// Refused as too large, and it can't be split further.
        TooLarge = "too_large",
        /// The oldest, when the memory queue was full.
        MemoryFull = "memory_full",
        /// The oldest, when the spool was full.
        SpoolFull = "spool_full",
        /// Unreadable in the spool.
        Damaged = "damaged",
        /// Internal errors of the server, again and again on the same message.
        GaveUp = "gave_up",
        /// Still only in memory when the time to end was over.
        Ended = "ended",
    }
}

labels! {
    /// What sort of answer a try got.
    Answered {
        /// Success.
        Ok = "ok",
        /// No connection: refused, no route, no such name, no TLS.
        Unreachable = "unreachable",
        /// No answer in time.
        Timeout = "timeout",
        /// The connection broke, or the answer was no answer: a redirect, an HTML page.
        Broken = "broken",
        /// 408, 429, `RESOURCE_EXHAUSTED`: too much, or too slow.
        Throttled = "throttled",
        /// 502, 503, 504, `UNAVAILABLE`: the server's own servers are down.
        Unavailable = "unavailable",
        /// 500 and its like: perhaps the message's fault.
        Internal = "internal",
        /// 401, 403, `UNAUTHENTICATED`, `PERMISSION_DENIED`: a token or key that is not taken. Other 4xx: the request's fault.
        Rejected = "rejected",
        /// A file could not be written.
        Disk = "disk",
    }
}

/// Messages and what is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Messages.
    pub messages: u64,
    /// Samples.
    pub samples: u64,
    /// Bytes of the bodies.
    pub bytes: u64,
}

/// [`Amount`], shared.
#[derive(Debug, Default)]
pub(super) struct SharedAmount {
    messages: AtomicU64,
    samples: AtomicU64,
    bytes: AtomicU64,
}

impl SharedAmount {
    pub(super) fn add(&self, message: &Message) {
        self.add_many(1, message.samples, message.body.len() as u64);
    }

    pub(super) fn add_many(&self, messages: u64, samples: u64, bytes: u64) {
        self.messages.fetch_add(messages, Relaxed);
        self.samples.fetch_add(samples, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn store(&self, depth: Depth) {
        self.messages.store(depth.messages, Relaxed);
        self.samples.store(depth.samples, Relaxed);
        self.bytes.store(depth.bytes, Relaxed);
    }

    fn get(&self) -> Amount {
        let load = |value: &AtomicU64| value.load(Relaxed);
        Amount { messages: load(&self.messages), samples: load(&self.samples), bytes: load(&self.bytes) }
    }
}

/// One sink's counters.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) encoded: SharedAmount,
    pub(super) found: SharedAmount,
    pub(super) delivered: SharedAmount,
    pub(super) refused: SharedAmount,
    dropped: [SharedAmount; DropReason::ALL.len()],
    retried: [AtomicU64; Answered::ALL.len()],
    pub(super) split: AtomicU64,
    pub(super) in_memory: SharedAmount,
    pub(super) in_spool: SharedAmount,
    pub(super) spool_disk_bytes: AtomicU64,
    pub(super) spool_errors: AtomicU64,
    spool_torn: AtomicU64,
    spool_damaged_segments: AtomicU64,
    spool_damaged_bytes: AtomicU64,
    spool_set_aside: AtomicU64,
    pub(super) failures_in_a_row: AtomicU64,
    last_success_ms: AtomicU64,
    /// How long a batch takes to become messages.
    pub encoding: Latency,
    /// How long those take to be queued: in the spool, if there is one.
    pub storing: Latency,
    /// How long the server takes to answer a try, whatever it says.
    pub delivery: Latency,
}

/// [`Counters`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Made by the encoder.
    pub encoded: Amount,
    /// On disk when the sink was started: an earlier run's.
    pub found: Amount,
    /// Taken by the server.
    pub delivered: Amount,
    /// Refused by the server for good.
    pub refused: Amount,
    /// Dropped, by [`DropReason`] in its order. Bytes are those known: none for batches that were never encoded.
    pub dropped: [Amount; DropReason::ALL.len()],
    /// Tries that are repeated, by [`Answered`] in its order.
    pub retried: [u64; Answered::ALL.len()],
    /// Messages that splitting added.
    pub split: u64,
    /// Waiting in memory.
    pub in_memory: Amount,
    /// Waiting on disk, the one that is being sent included.
    pub in_spool: Amount,
    /// Bytes of the spool's files.
    pub spool_disk_bytes: u64,
    /// Failed reads and writes of the spool.
    pub spool_errors: u64,
    /// Appends to the spool that a crash cut.
    pub spool_torn: u64,
    /// Spool segments with a damaged head.
    pub spool_damaged_segments: u64,
    /// Bytes lost in them; how many messages is unknown.
    pub spool_damaged_bytes: u64,
    /// Spool files of another version, set aside.
    pub spool_set_aside: u64,
    /// 0: the last try was answered.
    pub failures_in_a_row: u64,
    /// When the server last took something.
    pub last_success: Option<SystemTime>,
}

impl Snapshot {
    /// What was dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> Amount {
        self.dropped[reason as usize]
    }

    /// How many tries are repeated after one sort of answer.
    pub fn retried(&self, answered: Answered) -> u64 {
        self.retried[answered as usize]
    }
}

impl Counters {
    pub(super) fn count_drop(&self, reason: DropReason, message: &Message) {
        self.dropped[reason as usize].add(message);
    }

    /// A batch that never became messages.
    pub(super) fn count_dropped_batch(&self, reason: DropReason, samples: u64) {
        self.dropped[reason as usize].add_many(0, samples, 0);
    }

    pub(super) fn retry(&self, answered: Answered) {
        self.retried[answered as usize].fetch_add(1, Relaxed);
    }

    /// The spool's own totals.
    pub(super) fn spool_lost(&self, losses: Losses) {
        self.dropped[DropReason::SpoolFull as usize].store(losses.full);
        self.dropped[DropReason::Damaged as usize].store(losses.damaged);
        self.spool_torn.store(losses.torn, Relaxed);
        self.spool_damaged_segments.store(losses.damaged_segments, Relaxed);
        self.spool_damaged_bytes.store(losses.damaged_bytes, Relaxed);
        self.spool_set_aside.store(losses.set_aside, Relaxed);
    }

    pub(super) fn succeeded(&self, now: SystemTime) {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success_ms.store(since_epoch.as_millis() as u64, Relaxed);
    }

    /// Whether the last try failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failures_in_a_row.load(Relaxed) > 0
    }

    /// All of them now.
    pub fn snapshot(&self) -> Snapshot {
        let load = |value: &AtomicU64| value.load(Relaxed);
        Snapshot {
            encoded: self.encoded.get(),
            found: self.found.get(),
            delivered: self.delivered.get(),
            refused: self.refused.get(),
            dropped: std::array::from_fn(|index| self.dropped[index].get()),
            retried: std::array::from_fn(|index| load(&self.retried[index])),
            split: load(&self.split),
            in_memory: self.in_memory.get(),
            in_spool: self.in_spool.get(),
            spool_disk_bytes: load(&self.spool_disk_bytes),
            spool_errors: load(&self.spool_errors),
            spool_torn: load(&self.spool_torn),
            spool_damaged_segments: load(&self.spool_damaged_segments),
            spool_damaged_bytes: load(&self.spool_damaged_bytes),
            spool_set_aside: load(&self.spool_set_aside),
            failures_in_a_row: load(&self.failures_in_a_row),
            last_success: match load(&self.last_success_ms) {
                0 => None,
                milliseconds => Some(UNIX_EPOCH + Duration::from_millis(milliseconds)),
            },
        }
    }
}
