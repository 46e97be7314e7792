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

    /// Tells readers that a segment is gone. An index that can't take it is closed, and learns it when it is opened again.
    fn forget(&mut self, number: u32) {
        if let Ok(index) = self.shared.index()
            && index.replace(number, &[]).is_err()
        {
            drop(index);
            self.close_index();
        }
    }

    /// Makes good what failed before: an index that is closed, segments that a reader found damaged.
    pub(super) fn repair(&mut self) {
        if self.shared.index().is_err()
            && let Ok((index, remade)) = Index::open(&self.shared.folder.join(INDEX_FILE))
        {
            // The segment in hand is read like one that a killed process left.
            self.end_segment();
            // Doubts first: an index that was closed has rows on the disk that prove nothing.
            if self.unconfirmed.iter().all(|number| index.doubt(*number).is_ok())
                && let Ok(recovered) = recover(&self.shared.folder, &index)
            {
                self.counters.indexes_remade += u64::from(remade);
                self.counters.bytes_cut = self.counters.bytes_cut.saturating_add(recovered.cut_bytes);
                self.unconfirmed = recovered.unconfirmed;
                self.counters.syncs_failed += recovered.syncs_failed;
                self.next_number = self.next_number.max(recovered.next_number);
                self.segments = recovered.segments;
                self.note_set_aside(recovered.set_aside);
                recovered.stuck.iter().for_each(|path| self.note_stuck(path));
                self.folder_unsynced = true;
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
            self.forget(number);
            let path = self.shared.segment_path(number);
            match set_aside(&path, why) {
                Ok(file) => {
                    self.segments.remove(&number);
                    self.note_set_aside(vec![file]);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.segments.remove(&number);
                }
                // Nobody is told of it any more, but it takes its bytes until it can be removed.
                Err(_) => self.note_stuck(&path),
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

    fn is_stuck(&self, number: u32) -> bool {
        !self.stuck.is_empty() && self.stuck.contains(&self.shared.segment_path(number))
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
        // Of a file that is stuck nobody knows how old its samples are.
        let readable = self.segments.iter().filter(|(number, _)| !self.is_stuck(**number));
        let newest_ns = readable.map(|(_, segment)| segment.last_ns).max().unwrap_or(0);
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
            // Readers first: the index must not point to a file that is gone. Without an index nobody reads, and what is too much goes
            // all the same: a full disk may be why there is none.
            self.forget(number);
            if self.remove(&self.shared.segment_path(number)) {
                self.segments.remove(&number);
                self.counters.segments_removed += 1;
                bytes = bytes.saturating_sub(facts.bytes);
            }
        }
        self.unconfirmed.retain(|number| self.segments.contains_key(number));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Limits, Skipped};
    use profiles::ledger::Ledger;
    use profiles::profile::{Batch, BatchBuilder, Process, Sample};
    use unwind::end::End;

    /// Some 64 KiB that can't be packed.
    fn batch(number: u64) -> Batch {
        let mut builder = BatchBuilder::new();
        let text = builder.text("");
        let process = Process {
            pid: 1,
            start_time_ns: 0,
            comm: text,
            executable: text,
            cgroup_id: 0,
            cgroup: text,
            identity: None,
        };
        let process = builder.process(process);
        let stack = builder.stack(Vec::new()).unwrap();
        let mut weight_ns = number + 1;
        for time_ns in 0..6000 {
            // xorshift.
            weight_ns ^= weight_ns << 13;
            weight_ns ^= weight_ns >> 7;
            weight_ns ^= weight_ns << 17;
            builder.push(Sample {
                time_ns,
                weight_ns,
                process,
                tid: 1,
                thread_name: text,
                cpu: 0,
                stack,
                end: End::NoUser,
                provenance: 0,
            });
        }
        let mut batch = builder.finish(10, Ledger::default());
        batch.wall_start_ns = number << 20;
        batch
    }

    #[test]
    fn while_the_index_can_t_be_opened_bytes_stay_within_the_limit_and_it_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { age: Duration::MAX, bytes: u64::MAX };
        let mut store = Store::open(folder.path(), limits).unwrap();
        store.append(&batch(0)).unwrap();
        store.limits.bytes = store.bytes() + (1 << 20);
        // As long as somebody has it, it can't be opened again.
        let held = store.shared.index().unwrap();
        store.close_index();
        for number in 1..=60 {
            store.append(&batch(number)).unwrap();
            assert!(store.bytes() <= store.limits.bytes + (128 << 10), "{} bytes after {number}", store.bytes());
            assert_eq!(store.counters().index_failures, 1 + number, "once for each batch");
        }
        let removed = store.counters().segments_removed;
        assert!(removed > 0);
        drop(held);
        // The index grows when it is opened again, and nothing is to go for that here.
        store.limits.bytes = u64::MAX;
        store.append(&batch(61)).unwrap();
        assert_eq!(store.counters().index_failures, 61);
        let mut found = Vec::new();
        let skipped = store.reader().batches(0, u64::MAX, |batch| found.push(batch.wall_start_ns >> 20)).unwrap();
        // The newest ones, without a hole.
        assert_eq!(skipped, Skipped::default());
        assert!(
            found.len() > 5 && (62 - found.len() as u64..62).eq(found.iter().copied()),
            "{found:?}, {removed} segments removed"
        );
    }
}
