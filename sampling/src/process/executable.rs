//! One executable, how far its rows are, and what could not be had.

use std::fs::File;
use std::sync::{Arc, Weak};

use symbolizer::OpenFile;

use super::identity::Header;
use super::workers::Lane;
use crate::tables::LoadedExecutable;

/// Into the executable table; of an executable that was forgotten it finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ExecutableIndex {
    pub(super) slot: u32,
    /// How often the slot was used before.
    pub(super) generation: u32,
}

impl ExecutableIndex {
    /// A number that no other executable ever has.
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }
}

/// How far an executable's unwind rows are.
#[derive(Debug)]
pub enum RowState {
    /// Not asked for yet.
    Unbuilt,
    /// With a worker.
    Building,
    /// In the slab.
    Loaded(LoadedExecutable),
    /// The file has none, or none that could be read; why is in the text.
    None(String),
    /// The slab has no room for it, others need theirs more, or its device does not answer; tried again after a while if it is
    /// still sampled.
    Refused(Retry),
}

/// When a refused executable may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// CLOCK_MONOTONIC, ns; `u64::MAX` for never.
    pub at_ns: u64,
    /// How long it waited, ns.
    pub waited_ns: u64,
}

/// How often something was sampled lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RecentSamples {
    minute: u64,
    now: u32,
    before: u32,
}

impl RecentSamples {
    const MINUTE_NS: u64 = 60_000_000_000;

    /// One more frame.
    pub(super) fn add(&mut self, now_ns: u64) {
        let minute = now_ns / Self::MINUTE_NS;
        if minute != self.minute {
            self.before = if minute == self.minute + 1 { self.now } else { 0 };
            (self.minute, self.now) = (minute, 0);
        }
        self.now = self.now.saturating_add(1);
    }

    /// Frames in this minute and the one before.
    pub(super) fn count(&self, now_ns: u64) -> u32 {
        match (now_ns / Self::MINUTE_NS).saturating_sub(self.minute) {
            0 => self.now.saturating_add(self.before),
            1 => self.now,
            _ => 0,
        }
    }
}

/// One executable.
pub struct Executable {
    /// Path as the first process that mapped it saw it.
    pub path: Arc<str>,
    /// Root of a process that maps it, as long as one is known: debug files are looked for there first.
    pub root: Weak<File>,
    /// What its head tells; `None` for the vDSO.
    pub header: Option<Header>,
    /// GNU build id, hex; empty if there is none.
    pub build_id: String,
    /// The open file; `None` for the vDSO.
    pub file: Option<Arc<OpenFile>>,
    /// Its rows.
    pub rows: RowState,
    /// Whether it is a Go program (known once its rows are built).
    pub is_go: bool,
    /// Its descriptor's word address, once a process that maps it was published.
    pub descriptor: Option<u32>,
    /// CLOCK_MONOTONIC when it was last sampled, ns, to a round: the least recently sampled one is evicted first.
    pub last_sampled_ns: u64,
    /// Whether the kernel reads its descriptor as one without rows, and so caches what is no rule.
    pub(super) reads_as_gaps: bool,
    pub(super) recent: RecentSamples,
    /// How long it waited when it was last refused, ns.
    pub(super) waited_ns: u64,
    /// When it was last known to be in use.
    pub(super) last_used_ns: u64,
    pub(super) size: u64,
    /// The device, if its file system may not answer: reading waits in that lane.
    pub(super) lane: Lane,
}

impl Executable {
    /// Whether its rows are still to come. Without a descriptor, for which there was no room, nobody is asked for them.
    pub fn awaits_rows(&self) -> bool {
        match self.rows {
            RowState::Building => true,
            RowState::Unbuilt => self.descriptor.is_some(),
            RowState::Loaded(_) | RowState::None(_) | RowState::Refused(_) => false,
        }
    }
}

/// What could not be had, for the user to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecutableCounters {
    /// Mapped files that could not be opened (gone with their process, or no permission).
    pub not_opened: u64,
    /// Files found at the path, but not the ones that were mapped.
    pub replaced: u64,
    /// Mapped files that are not ELF.
    pub not_elf: u64,
    /// Executables left out because [`MAX_EXECUTABLES`](super::MAX_EXECUTABLES), or as many files as may be open, were known.
    pub too_many: u64,
    /// Executables that nobody used any more.
    pub forgotten: u64,
    /// Executables without usable rows.
    pub without_rows: u64,
    /// Executables whose rows did not fit the slab's budget, whatever was evicted.
    pub refused: u64,
    /// Executables whose rows alone would take more of the slab than one may have.
    pub refused_too_large: u64,
    /// Executables whose rows would have taken the place of others that are sampled more often.
    pub refused_for_others: u64,
    /// Executables whose rows were dropped to make room.
    pub evicted: u64,
    /// Rows in the slab, ever.
    pub rows: u64,
    /// Rows with rules that can't be expressed.
    pub unsupported_rows: u64,
    /// Time spent building rows, ns.
    pub build_ns: u64,
    /// Files that a worker was asked for, because their file system may not answer or their process was gone.
    pub opened_aside: u64,
    /// Openings and row builds that were given up after their deadline.
    pub stuck: u64,
    /// Files that stayed open because their file system did not answer when they, or others of it, were to be closed.
    pub left_open: u64,
    /// Files not asked for, and row builds not begun, because one of the same device got stuck a short time ago or still is.
    pub avoided: u64,
    /// Openings that found no room among those that wait.
    pub not_asked: u64,
    /// Roots of processes that found no room among those held open.
    pub roots_refused: u64,
    /// Times that a root was left alone, because its file system may not answer or the process was gone.
    pub roots_avoided: u64,
}

#[cfg(test)]
mod tests {
    use super::RecentSamples;

    #[test]
    fn samples_count_for_one_to_two_minutes() {
        const MINUTE: u64 = RecentSamples::MINUTE_NS;
        let mut recent = RecentSamples::default();
        for at in [10 * MINUTE, 10 * MINUTE + 1, 11 * MINUTE] {
            recent.add(at);
        }
        for (at, count) in [(11 * MINUTE, 3), (12 * MINUTE - 1, 3), (12 * MINUTE, 1), (13 * MINUTE, 0)] {
            assert_eq!(recent.count(at), count, "{at}");
        }
        recent.add(20 * MINUTE);
        assert_eq!(recent.count(20 * MINUTE), 1);
    }
}
