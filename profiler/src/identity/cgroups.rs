//! cgroup ids to paths. A sample carries the id of its cgroup (the inode number of the cgroup's directory); the path behind it
//! names the container even when the process is long gone.
//!
//! Paths come from perf's records of new cgroups and from walks of the hierarchy for those that were there before. One hierarchy
//! only: kernfs numbers each one from 1, so ids of two hierarchies are not comparable.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cgroup_path::MAX_PATH;

/// Most cgroups that are kept, about 300 bytes each: 19 MiB when full. A full node has about a thousand, one with 10,000 pods of one
/// container and its sandbox 30,000.
pub const MAX_CGROUPS: usize = 64 << 10;
/// How long a cgroup stays known after it is gone: longer than any batch is held back and sent again.
pub const KEEP_REMOVED: Duration = Duration::from_secs(600);
/// The controllers whose hierarchy is taken where version 2 is not mounted, best first: perf's own records are of `perf_event`.
const VERSION_1: [&str; 5] = ["perf_event", "memory", "pids", "cpu,cpuacct", "cpu"];

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its root directory.
    pub directory: PathBuf,
    /// Whether perf's records of new cgroups are of this hierarchy (the one with the `perf_event` controller).
    pub has_perf_records: bool,
}

impl Hierarchy {
    /// The hierarchy that ids are of: version 2 alone, beside version 1 (hybrid), or the first of `VERSION_1`.
    pub fn find(cgroup_root: &Path) -> Option<Hierarchy> {
        let is_v2 = |directory: &Path| directory.join("cgroup.controllers").exists();
        let perf_event = cgroup_root.join("perf_event");
        let unified = cgroup_root.join("unified");
        if is_v2(cgroup_root) {
            return Some(Hierarchy { directory: cgroup_root.to_owned(), has_perf_records: true });
        }
        if is_v2(&unified) {
            // The controller is in version 2 until somebody mounts it in version 1.
            return Some(Hierarchy { directory: unified, has_perf_records: !perf_event.join("cgroup.procs").exists() });
        }
        let directory =
            VERSION_1.iter().map(|name| cgroup_root.join(name)).find(|path| path.join("cgroup.procs").exists())?;
        let has_perf_records = directory == perf_event;
        Some(Hierarchy { directory, has_perf_records })
    }

    /// Ids and paths of all cgroups, parents before children; `true` if there were more than [`MAX_CGROUPS`].
    pub fn walk(&self) -> (Vec<(u64, String)>, bool) {
        let mut found = Vec::new();
        let mut left = vec![(self.directory.clone(), String::new())];
        while let Some((directory, path)) = left.pop() {
            if found.len() >= MAX_CGROUPS {
                return (found, true);
            }
            let Ok(meta) = directory.metadata() else { continue };
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                if left.len() < MAX_CGROUPS {
                    left.push((entry.path(), format!("{path}/{}", entry.file_name().to_string_lossy())));
                }
            }
            found.push((meta.ino(), if path.is_empty() { "/".to_owned() } else { path }));
        }
        (found, false)
    }
}

#[derive(Debug)]
struct Known {
    path: Arc<str>,
    /// Since when no walk found it.
    gone: Option<Instant>,
}

/// The paths of all cgroups that are or lately were.
#[derive(Debug, Default)]
pub struct CgroupPaths {
    by_id: HashMap<u64, Known>,
    refused: u64,
}

impl CgroupPaths {
    /// A cgroup was made: perf's record. The path is from the hierarchy's root.
    pub fn made(&mut self, id: u64, path: &[u8]) {
        let path = String::from_utf8_lossy(&path[..path.len().min(MAX_PATH)]);
        self.insert(id, &path);
    }

    /// What a walk found; what it did not find is forgotten [`KEEP_REMOVED`] later. A walk that was cut short removes nothing.
    pub fn walked(&mut self, found: &[(u64, String)], cut_short: bool, now: Instant) {
        if !cut_short {
            for known in self.by_id.values_mut() {
                known.gone = known.gone.or(Some(now));
            }
        }
        for (id, path) in found {
            self.insert(*id, path);
        }
        self.by_id.retain(|_, known| known.gone.is_none_or(|gone| now.duration_since(gone) < KEEP_REMOVED));
    }

    /// The path of a cgroup.
    pub fn path(&self, id: u64) -> Option<Arc<str>> {
        self.by_id.get(&id).map(|known| known.path.clone())
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Cgroups that found no room since the last call.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    fn insert(&mut self, id: u64, path: &str) {
        if self.by_id.len() >= MAX_CGROUPS && !self.by_id.contains_key(&id) {
            self.refused += 1;
            return;
        }
        let known = self.by_id.entry(id).or_insert_with(|| Known { path: path.into(), gone: None });
        known.gone = None;
        if &*known.path != path {
            known.path = path.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, paths: &[&str]) {
        for path in paths {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
    }

    #[test]
    fn the_hierarchy_is_that_of_the_mounted_versions() {
        // Directories with a file that only a mounted cgroup directory has; the chosen one; whether perf's records fit.
        let cases: [(&[&str], Option<&str>, bool); 6] = [
            (&["cgroup.controllers"], Some("."), true),
            (&["unified/cgroup.controllers", "memory/cgroup.procs"], Some("unified"), true),
            (&["unified/cgroup.controllers", "perf_event/cgroup.procs"], Some("unified"), false),
            (&["memory/cgroup.procs", "perf_event/cgroup.procs"], Some("perf_event"), true),
            (&["cpu/cgroup.procs", "memory/cgroup.procs"], Some("memory"), false),
            (&["elsewhere/cgroup.procs"], None, false),
        ];
        for (files, directory, has_perf_records) in cases {
            let root = tempfile::tempdir().unwrap();
            for file in files {
                let file = root.path().join(file);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, "").unwrap();
            }
            let found = Hierarchy::find(root.path());
            // Paths are compared by component, so "." is the root.
            let wanted = directory.map(|name| Hierarchy { directory: root.path().join(name), has_perf_records });
            assert_eq!(found, wanted, "{files:?}");
        }
    }

    #[test]
    fn a_walk_finds_each_directory_by_its_inode() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), &["kubepods/burstable/pod1", "system.slice"]);
        std::fs::write(root.path().join("cgroup.procs"), "").unwrap();
        let hierarchy = Hierarchy { directory: root.path().to_owned(), has_perf_records: true };
        let (mut found, cut) = hierarchy.walk();
        found.sort_by(|left, right| left.1.cmp(&right.1));
        let id = |path: &str| root.path().join(path).metadata().unwrap().ino();
        let wanted = [
            (id(""), "/"),
            (id("kubepods"), "/kubepods"),
            (id("kubepods/burstable"), "/kubepods/burstable"),
            (id("kubepods/burstable/pod1"), "/kubepods/burstable/pod1"),
            (id("system.slice"), "/system.slice"),
        ];
        assert_eq!(found, wanted.map(|(id, path)| (id, path.to_owned())));
        assert!(!cut);
    }

    #[test]
    fn a_cgroup_that_is_gone_stays_known_for_a_while_and_one_that_comes_back_for_good() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut paths = CgroupPaths::default();
        paths.walked(&[(1, "/".into()), (7, "/a".into())], false, at(0));
        paths.made(9, b"/b");
        paths.walked(&[(1, "/".into())], false, at(60));
        assert_eq!((paths.path(7).as_deref(), paths.path(9).as_deref()), (Some("/a"), Some("/b")));
        paths.walked(&[(1, "/".into()), (9, "/b".into())], false, at(120));
        paths.walked(&[(1, "/".into()), (9, "/b".into())], false, at(60) + KEEP_REMOVED);
        assert_eq!((paths.path(7), paths.path(9).as_deref()), (None, Some("/b")));
        paths.walked(&[], true, at(60) + 3 * KEEP_REMOVED);
        assert_eq!(paths.len(), 2, "a walk that was cut short says nothing about what it did not see");
    }

    #[test]
    fn a_node_full_of_cgroups_is_bounded_and_counted() {
        let mut paths = CgroupPaths::default();
        for id in 0..MAX_CGROUPS as u64 + 5 {
            paths.made(id, b"/x");
        }
        paths.made(3, b"/renamed");
        assert_eq!((paths.len(), paths.take_refused(), paths.take_refused()), (MAX_CGROUPS, 5, 0));
        assert_eq!(paths.path(3).as_deref(), Some("/renamed"));
    }
}
