//! What the writer does beside writing: it removes what is too old or too much, sets damaged segments aside, and makes an index that
//! failed again.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::{fs, io};

use super::index::Index;
use super::recover::{SetAside, recover, set_aside};
use super::writer::{INDEX_FILE, Store};

/// Files of segments, of which each start of the agent makes one.
const MAX_SEGMENTS: usize = 10_000;

impl Store {
    pub(super) fn close_index(&mut self) {
        self.counters.index_failures += 1;
        *self.shared.index.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Makes good what failed before: an index that is closed, segments that a reader found damaged.
    pub(super) fn repair(&mut self) {
        if self.shared.index().is_err()
            && let Ok((index, remade)) = Index::open(&self.shared.folder.join(INDEX_FILE))
        {
            // The segment in hand is read like one that a killed process left.
            self.end_segment();
            if let Ok(recovered) = recover(&self.shared.folder, &index) {
                self.counters.indexes_remade += u64::from(remade);
                self.counters.bytes_cut += recovered.cut_bytes;
                self.counters.syncs_failed += recovered.syncs_failed;
                self.next_number = self.next_number.max(recovered.next_number);
                self.segments = recovered.segments;
                self.note_set_aside(recovered.set_aside);
                *self.shared.index.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(index));
            }
        }
        let damaged = std::mem::take(&mut *self.shared.damaged.lock().unwrap_or_else(PoisonError::into_inner));
        for (number, why) in damaged {
            if self.current.as_ref().is_some_and(|current| current.number == number) {
                self.end_segment();
            }
            if !self.segments.contains_key(&number) {
                continue;
            }
            if self.shared.index().and_then(|index| index.replace(number, &[])).is_err() {
                self.close_index();
            }
            let path = self.shared.segment_path(number);
            match set_aside(&path, why) {
                Ok(file) => {
                    self.segments.remove(&number);
                    self.note_set_aside(vec![file]);
                }
                // Nobody is told of it any more, but it takes its bytes until it can be removed.
                Err(_) if path.exists() => self.note_stuck(&path),
                Err(_) => {
                    self.segments.remove(&number);
                }
            }
        }
    }

    fn note_set_aside(&mut self, files: Vec<SetAside>) {
        for file in files {
            if !self.set_aside.iter().any(|known| known.path == file.path) {
                self.counters.set_aside += 1;
                self.set_aside.push(file);
            }
        }
    }

    fn note_stuck(&mut self, path: &Path) {
        if self.stuck.insert(path.to_owned()) {
            self.counters.removals_failed += 1;
        }
    }

    /// Removes a file; whether it is gone.
    fn remove(&mut self, path: &Path) -> bool {
        let gone = match fs::remove_file(path) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if gone {
            self.stuck.remove(path);
        } else {
            self.note_stuck(path);
        }
        gone
    }

    /// Removes what is too old, or too much.
    pub(super) fn retain(&mut self) {
        let newest_ns = self.segments.values().map(|segment| segment.last_ns).max().unwrap_or(0);
        let age_ns = u64::try_from(self.limits.age.as_nanos()).unwrap_or(u64::MAX);
        let oldest_ns = self.clock.believed(newest_ns, self.limits.age).saturating_sub(age_ns);
        let limit = self.limits.bytes;
        // What was set aside goes first: nobody can ask for it.
        let mut bytes = self.bytes();
        for file in std::mem::take(&mut self.set_aside) {
            if (file.modified_ns < oldest_ns || bytes > limit) && self.remove(&file.path) {
                bytes = bytes.saturating_sub(file.bytes);
            } else {
                self.set_aside.push(file);
            }
        }
        let current = self.current.as_ref().map(|current| current.number);
        let older: Vec<u32> = self.segments.keys().copied().filter(|number| Some(*number) != current).collect();
        for number in older {
            let Some(facts) = self.segments.get(&number).copied() else { continue };
            let too_much = bytes > limit || self.segments.len() > MAX_SEGMENTS;
            if facts.last_ns >= oldest_ns && !too_much {
                continue;
            }
            // Readers first: the index must not point to a file that is gone.
            if self.shared.index().and_then(|index| index.replace(number, &[])).is_err() {
                self.close_index();
                break;
            }
            if self.remove(&self.shared.segment_path(number)) {
                self.segments.remove(&number);
                self.counters.segments_removed += 1;
                bytes = bytes.saturating_sub(facts.bytes);
            }
        }
    }
}
