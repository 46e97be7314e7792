//! Pods' cgroups, read from one hierarchy: all of them now and then, those of chosen pods often.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::identity::{Hierarchy, cgroup_path};

/// Most cgroups below one pod that are looked at: a container may make its own.
const MAX_BELOW: usize = profiler_common::filter::MAX_LISTED;

/// A cgroup that belongs to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCgroup {
    /// Its id.
    pub id: u64,
    /// From the hierarchy's root.
    pub path: Arc<str>,
    /// Uid of the pod, of a static one its hash.
    pub pod_uid: Arc<str>,
    /// Empty for the pod's own cgroup.
    pub container_id: Arc<str>,
}

impl PodCgroup {
    /// `None` for a cgroup that is no pod's.
    pub fn of(id: u64, path: &str) -> Option<PodCgroup> {
        let parsed = cgroup_path::parse(path);
        let container_id = parsed.container_id.as_deref().unwrap_or_default().into();
        Some(PodCgroup { id, path: path.into(), pod_uid: parsed.pod_uid.as_deref()?.into(), container_id })
    }
}

/// A hierarchy with pods in it.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Which.
    pub hierarchy: Hierarchy,
}

impl Tree {
    /// Every pod's cgroups: reads each directory of the hierarchy.
    pub fn all(&self) -> Vec<PodCgroup> {
        let (found, _) = self.hierarchy.walk();
        found.iter().filter_map(|(id, path)| PodCgroup::of(*id, path)).collect()
    }

    /// What is at and below these paths, whose directories alone are read; nothing of one that is gone.
    pub fn below<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Vec<PodCgroup> {
        let mut found = Vec::new();
        let mut left: Vec<(PathBuf, String)> =
            paths.into_iter().map(|path| (self.directory(path), path.to_owned())).collect();
        while let Some((directory, path)) = left.pop() {
            let Ok(meta) = directory.metadata() else { continue };
            found.extend(PodCgroup::of(meta.ino(), &path));
            if found.len() >= MAX_BELOW {
                break;
            }
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                left.push((entry.path(), format!("{path}/{}", entry.file_name().to_string_lossy())));
            }
        }
        found
    }

    fn directory(&self, path: &str) -> PathBuf {
        self.hierarchy.directory.join(path.trim_start_matches('/'))
    }
}

/// Uids of the pods that have cgroups, sorted.
pub fn uids(cgroups: &[PodCgroup]) -> Vec<String> {
    let unique: HashMap<&str, ()> = cgroups.iter().map(|cgroup| (&*cgroup.pod_uid, ())).collect();
    let mut uids: Vec<String> = unique.into_keys().map(str::to_owned).collect();
    uids.sort_unstable();
    uids
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "f2e1d3c4-1234-4abc-8def-0123456789ab";
    const ID: &str = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";

    #[test]
    fn the_cgroups_of_a_pod_are_found_by_a_walk_and_below_its_own() {
        let root = tempfile::tempdir().unwrap();
        let pod = format!("kubepods/burstable/pod{UID}");
        for path in [format!("{pod}/{ID}/init.scope"), "system.slice/x.service".into()] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let tree = Tree { hierarchy: Hierarchy { directory: root.path().to_owned(), has_perf_records: false } };
        let mut all = tree.all();
        all.sort_by(|left, right| left.path.cmp(&right.path));
        let facts: Vec<_> =
            all.iter().map(|found| (found.path.to_string(), &*found.pod_uid, &*found.container_id)).collect();
        let expected = [
            (format!("/{pod}"), UID, ""),
            (format!("/{pod}/{ID}"), UID, ID),
            (format!("/{pod}/{ID}/init.scope"), UID, ID),
        ];
        assert_eq!(facts, expected);
        let inode = root.path().join(&pod).metadata().unwrap().ino();
        assert_eq!(all[0].id, inode);
        let mut below = tree.below([&*format!("/{pod}"), "/kubepods/gone"]);
        below.sort_by(|left, right| left.path.cmp(&right.path));
        assert_eq!(below, all);
        assert_eq!(uids(&all), [UID]);
    }
}
