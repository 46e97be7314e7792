//! What waits for one sink: on disk, and in memory where there is no disk or it is full.
//!
//! What is in memory is newer than all on disk, so that the order holds: with something in memory, a new message goes to disk only
//! after that did. One that is larger than the whole spool therefore keeps those behind it in memory until it is sent. Blocking (files); shared under a lock that nobody holds while sending.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Message;
use super::counters::{Counters, DropReason};
use super::spool::{Depth, Position, Spool, SpoolError};

/// Bounds of the memory queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Most messages.
    pub messages: usize,
    /// Most bytes of bodies.
    pub bytes: usize,
}

impl Default for MemoryLimits {
    /// A minute's profile of a busy node is below 1 MiB, in a request for each of some hundred series: a quarter of an hour and
    /// more. A message without its body is about 1 KiB.
    fn default() -> Self {
        MemoryLimits { messages: 4_096, bytes: 16 << 20 }
    }
}

/// Where a spool lies and how large it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// The sink's own folder.
    pub folder: PathBuf,
    /// Most bytes on disk.
    pub max_bytes: u64,
}

/// A message in somebody's hands.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) message: Message,
    /// `None`: from memory, where it no longer is.
    position: Option<Position>,
}

/// See the module.
pub(super) struct Queue {
    sink: String,
    limits: MemoryLimits,
    memory: VecDeque<Message>,
    memory_bytes: usize,
    /// What was taken from memory and is not finished.
    in_hand: Depth,
    spool: Option<Spool>,
    /// The last write failed: said once, until one succeeds.
    spool_failing: bool,
    /// Messages that made room in memory.
    made_room: u64,
    /// How many had made room when the one in hand was taken.
    had_made_room: u64,
    counters: Arc<Counters>,
}

impl Queue {
    /// Opens the spool; without one, and with one that can't be used, everything stays in memory, and that is said once.
    pub(super) fn open(
        sink: String,
        limits: MemoryLimits,
        spool: Option<&SpoolOptions>,
        counters: Arc<Counters>,
    ) -> Queue {
        let opened = spool.and_then(|options| match Spool::open(&options.folder, options.max_bytes) {
            Ok(spool) => Some(spool),
            Err(error) => {
                counters.spool_errors.fetch_add(1, Relaxed);
                tracing::warn!(sink, "{error}; undelivered profiles are kept in memory only");
                None
            }
        });
        let queue = Queue {
            sink,
            limits,
            memory: VecDeque::new(),
            memory_bytes: 0,
            in_hand: Depth::default(),
            spool: opened,
            spool_failing: false,
            made_room: 0,
            had_made_room: 0,
            counters,
        };
        if let Some(spool) = &queue.spool {
            // What opening dropped was found as well.
            let (mut found, lost) = (spool.depth(), spool.losses().full);
            found += lost;
            queue.counters.found.store(found);
            if found.messages > 0 {
                tracing::info!(
                    sink = queue.sink,
                    messages = found.messages,
                    "profiles of an earlier run wait to be sent"
                );
            }
        }
        queue.publish();
        queue
    }

    /// Adds a message; never fails, but may drop the oldest.
    pub(super) fn push(&mut self, message: Message) {
        self.memory_bytes += message.body.len();
        self.memory.push_back(message);
        self.move_to_disk();
        while self.memory.len() > self.limits.messages || self.memory_bytes > self.limits.bytes {
            let Some(oldest) = self.memory.pop_front() else { break };
            self.memory_bytes -= oldest.body.len();
            self.made_room += 1;
            self.counters.count_drop(DropReason::MemoryFull, &oldest);
        }
        self.publish();
    }

    /// Moves what is in memory to disk, the oldest first, as far as there is room.
    fn move_to_disk(&mut self) {
        while let (Some(spool), Some(message)) = (&mut self.spool, self.memory.front()) {
            match spool.append(message) {
                Ok(()) => {
                    self.memory_bytes -= message.body.len();
                    self.memory.pop_front();
                    if std::mem::take(&mut self.spool_failing) {
                        tracing::info!(sink = self.sink, "the spool takes profiles again");
                    }
                }
                Err(error) => return self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &SpoolError) {
        self.counters.spool_errors.fetch_add(1, Relaxed);
        if !std::mem::replace(&mut self.spool_failing, true) {
            tracing::warn!(sink = self.sink, "{error}; undelivered profiles are kept in memory until it can");
        }
    }

    /// The oldest message, to be finished or given back. One at a time.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let taken = self.take_from_disk().or_else(|| {
            let message = self.memory.pop_front()?;
            self.memory_bytes -= message.body.len();
            self.in_hand = Depth { messages: 1, samples: message.samples, bytes: message.body.len() as u64 };
            Some(Taken { message, position: None })
        });
        self.had_made_room = self.all_that_made_room();
        self.publish();
        taken
    }

    fn all_that_made_room(&self) -> u64 {
        self.made_room + self.spool.as_ref().map_or(0, |spool| spool.losses().full.messages)
    }

    /// Whether younger messages had to go since the one in hand was taken, which makes room for none.
    pub(super) fn goes_before_others(&self) -> bool {
        self.all_that_made_room() > self.had_made_room
    }

    fn take_from_disk(&mut self) -> Option<Taken> {
        loop {
            match self.spool.as_mut()?.take() {
                Ok(taken) => return taken.map(|(position, message)| Taken { message, position: Some(position) }),
                // Each time one segment fewer is left.
                Err(error) => self.failed(&error),
            }
        }
    }

    /// Delivered, refused or dropped: it does not come again.
    pub(super) fn finish(&mut self, taken: &Taken) {
        match (taken.position, &mut self.spool) {
            (Some(position), Some(spool)) => {
                if let Err(error) = spool.done(position) {
                    self.failed(&error);
                }
            }
            _ => self.in_hand = Depth::default(),
        }
        self.publish();
    }

    /// Whether everything that waits, and `taken`, would survive the agent's end.
    pub(super) fn is_durable(&self, taken: &Taken) -> bool {
        self.memory.is_empty()
            && matches!((taken.position, &self.spool), (Some(position), Some(spool)) if spool.holds(position))
    }

    /// After a failed try: makes what is on disk survive a power cut.
    pub(super) fn sync(&mut self) {
        if let Some(Err(error)) = self.spool.as_mut().map(Spool::sync) {
            self.failed(&error);
        }
    }

    /// The end. `unfinished` goes back; what can't be brought to disk is lost and counted.
    pub(super) fn close(&mut self, unfinished: Option<Taken>) {
        if let Some(taken) = unfinished {
            let on_disk =
                matches!((taken.position, &self.spool), (Some(position), Some(spool)) if spool.holds(position));
            if !on_disk {
                self.memory_bytes += taken.message.body.len();
                self.memory.push_front(taken.message);
            }
            self.in_hand = Depth::default();
        }
        self.move_to_disk();
        for message in self.memory.drain(..) {
            self.counters.count_drop(DropReason::Ended, &message);
        }
        self.memory_bytes = 0;
        self.sync();
        self.publish();
    }

    fn publish(&self) {
        let mut depth = self.in_hand;
        for message in &self.memory {
            depth += Depth { messages: 1, samples: message.samples, bytes: message.body.len() as u64 };
        }
        self.counters.in_memory.store(depth);
        if let Some(spool) = &self.spool {
            self.counters.in_spool.store(spool.depth());
            self.counters.spool_disk_bytes.store(spool.disk_bytes(), Relaxed);
            self.counters.spool_lost(spool.losses());
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "queue_kill_tests.rs"]
mod kill_tests;
