//! Files opened as soon as a record tells of their mapping, because a short-lived program may be gone, and its file deleted,
//! before its first sample has its turn in the order of time.
//!
//! Bounded: so many opens a round, so many files for so long; what finds no room is opened later, if it is still there. A file
//! that is known already (device, inode and path) is not opened again.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::executable::ExecutableIndex;
use super::identity::FileKey;
use super::mappings::Mapping;
use super::opening::open_regular;

/// Most files that are held; each is a descriptor.
pub(super) const MAX_HELD: usize = 1024;
/// Most opens between two rounds, about 10 µs each.
const MAX_OPENS_A_ROUND: usize = 64;
/// How long a file is held, ns: samples are a round or two behind.
const KEEP_NS: u64 = 5_000_000_000;
/// Most known files; all are forgotten when there are more, which costs some opens.
const MAX_KNOWN: usize = 65536;

type MappingKey = (u32, u64, u64);
type KnownKey = ((u32, u32), u64, Arc<str>);

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct EarlyFiles {
    held: HashMap<MappingKey, (File, FileKey)>,
    ages: VecDeque<(u64, MappingKey)>,
    /// With their executables, where they are any.
    known: HashMap<KnownKey, Option<ExecutableIndex>>,
    opens_this_round: usize,
}

fn mapping_key(pid: u32, mapping: &Mapping) -> MappingKey {
    (pid, mapping.start, mapping.inode)
}

fn known_key(mapping: &Mapping) -> KnownKey {
    (mapping.device, mapping.inode, mapping.path.clone())
}

impl EarlyFiles {
    /// Whether a file should be opened in advance.
    pub(super) fn wants(&self, mapping: &Mapping) -> bool {
        self.opens_this_round < MAX_OPENS_A_ROUND && !self.known.contains_key(&known_key(mapping))
    }

    /// The same, and it counts as opened in this round.
    pub(super) fn takes_turn(&mut self, mapping: &Mapping) -> bool {
        let wants = self.wants(mapping);
        self.opens_this_round += usize::from(wants);
        wants
    }

    /// Opens what process `pid` has just mapped.
    pub(super) fn open(&mut self, proc_root: &Path, pid: u32, mapping: &Mapping, now_ns: u64) {
        if !self.takes_turn(mapping) {
            return;
        }
        let through = proc_root.join(format!("{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end));
        let Some(opened) = open_regular(&through, 0) else { return };
        if self.ages.len() >= MAX_HELD
            && let Some((_, oldest)) = self.ages.pop_front()
        {
            self.held.remove(&oldest);
        }
        let key = mapping_key(pid, mapping);
        if self.held.insert(key, opened).is_none() {
            self.ages.push_back((now_ns, key));
        }
    }

    /// The file behind a mapping that `pid`, or the forebear that it has the mapping from, made a short time ago.
    pub(super) fn find(&self, pid: u32, forebears: &[u32], mapping: &Mapping) -> Option<(&File, FileKey)> {
        let mut pids = std::iter::once(pid).chain(forebears.iter().copied());
        pids.find_map(|pid| self.held.get(&mapping_key(pid, mapping))).map(|(file, key)| (file, *key))
    }

    /// A mapping's file was found: the next process that maps it needs no opening in advance.
    pub(super) fn is_known(&mut self, mapping: &Mapping, executable: Option<ExecutableIndex>) {
        if mapping.inode == 0 {
            return;
        }
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(known_key(mapping), executable);
    }

    /// Files whose executables are gone are opened in advance again, and so is what was none.
    pub(super) fn forget(&mut self, is_kept: impl Fn(ExecutableIndex) -> bool) {
        self.known.retain(|_, executable| executable.is_some_and(&is_kept));
    }

    /// Estimate of the memory that it takes, bytes.
    pub(super) fn bytes(&self) -> usize {
        const EACH: usize = 128;
        (self.known.len() + self.held.len()) * EACH
    }

    /// A round is over: files held for too long are closed.
    pub(super) fn end_round(&mut self, now_ns: u64) {
        self.opens_this_round = 0;
        while let Some((opened_ns, key)) = self.ages.front().copied()
            && now_ns.saturating_sub(opened_ns) > KEEP_NS
        {
            self.ages.pop_front();
            self.held.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mappings::Backing;
    use super::*;

    fn mapping(start: u64, path: &str) -> Mapping {
        let end = start + 0x1000;
        Mapping { start, end, file_offset: 0, device: (8, 1), inode: 7, path: path.into(), backing: Backing::File }
    }

    /// A `/proc` in which process 5 has mapped one file at 0x1000 and 0x2000.
    fn proc_root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("5/map_files");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("1000-2000"), "one").unwrap();
        std::fs::write(folder.join("2000-3000"), "two").unwrap();
        root
    }

    #[test]
    fn a_file_is_found_after_its_process_by_it_and_its_children_until_it_is_too_old() {
        let root = proc_root();
        let mut files = EarlyFiles::default();
        files.open(root.path(), 5, &mapping(0x1000, "/a"), 100);
        drop(root);
        let wanted = mapping(0x1000, "/a");
        assert_eq!(files.find(5, &[], &wanted).unwrap().1.size(), 3);
        assert!(files.find(6, &[9, 5], &wanted).is_some());
        assert!(files.find(6, &[9], &wanted).is_none());
        assert!(files.find(5, &[], &mapping(0x2000, "/a")).is_none());
        files.end_round(100 + KEEP_NS);
        assert!(files.find(5, &[], &wanted).is_some());
        files.end_round(101 + KEEP_NS);
        assert!(files.find(5, &[], &wanted).is_none());
    }

    #[test]
    fn what_is_known_and_what_is_too_much_for_a_round_is_not_opened() {
        let root = proc_root();
        let mut files = EarlyFiles::default();
        files.is_known(&mapping(0x9000, "/known"), None);
        files.open(root.path(), 5, &mapping(0x1000, "/known"), 0);
        assert!(files.find(5, &[], &mapping(0x1000, "/known")).is_none());
        for _ in 0..MAX_OPENS_A_ROUND {
            files.open(root.path(), 5, &mapping(0x7000, "/gone"), 0);
        }
        files.open(root.path(), 5, &mapping(0x1000, "/a"), 0);
        assert!(files.find(5, &[], &mapping(0x1000, "/a")).is_none());
        files.end_round(0);
        files.open(root.path(), 5, &mapping(0x1000, "/a"), 0);
        assert!(files.find(5, &[], &mapping(0x1000, "/a")).is_some());
        files.forget(|_| true);
        assert!(files.wants(&mapping(0x9000, "/known")), "what was no executable may be one by now");
    }
}
