//! cgroup paths to ids: a cgroup's id is the inode number of its directory, in one hierarchy.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::sampler::hierarchy::CgroupHierarchy;

/// Most cgroups below one path; the size of the kernel's filter set.
const MAX_CGROUPS: usize = profiler_common::filter::MAX_LISTED;

/// Why there are no ids.
#[derive(Debug, thiserror::Error)]
pub(super) enum CgroupError {
    /// No such directory in any hierarchy.
    #[error("no cgroup {0}: give a path as /proc/PID/cgroup shows it, or under /sys/fs/cgroup")]
    Missing(String),
    /// A directory that is in none of the hierarchies that are mounted.
    #[error("{0} is not in a cgroup hierarchy of version 2 or of a controller that is mounted as a whole")]
    OutsideHierarchies(String),
    /// Too many.
    #[error("more than {MAX_CGROUPS} cgroups below {0}: name one further down")]
    TooMany(String),
}

/// What a path names.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Its hierarchy.
    pub(super) hierarchy: CgroupHierarchy,
    /// Ids of the cgroup and of all below it.
    pub(super) ids: Vec<u64>,
}

/// The cgroup at `path`, and all below it: a directory, a path inside the first of the hierarchies that has it, or one that begins with
/// a hierarchy's own name (`unified/a`), as people see it below `/sys/fs/cgroup`.
pub(super) fn find(path: &Path, hierarchies: &[CgroupHierarchy]) -> Result<Chosen, CgroupError> {
    let is_cgroup = |directory: &Path| directory.join("cgroup.procs").exists();
    if path.is_absolute() && is_cgroup(path) {
        let holder = hierarchies.iter().find(|hierarchy| hierarchy.holds(path));
        let hierarchy = holder.ok_or_else(|| CgroupError::OutsideHierarchies(path.display().to_string()))?;
        return Ok(Chosen { hierarchy: hierarchy.clone(), ids: ids_below(path)? });
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    for hierarchy in hierarchies {
        let inside = hierarchy.mount.join(relative);
        // `cpu` may be a link to `cpu,cpuacct`.
        let beside = hierarchy.mount.parent().and_then(|parent| parent.join(relative).canonicalize().ok());
        let beside = beside.filter(|directory| directory.starts_with(&hierarchy.mount));
        if let Some(directory) = std::iter::once(inside).chain(beside).find(|directory| is_cgroup(directory)) {
            return Ok(Chosen { hierarchy: hierarchy.clone(), ids: ids_below(&directory)? });
        }
    }
    Err(CgroupError::Missing(path.display().to_string()))
}

fn ids_below(directory: &Path) -> Result<Vec<u64>, CgroupError> {
    let mut ids = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        if let Ok(meta) = directory.metadata() {
            ids.push(meta.ino());
        }
        if ids.len() > MAX_CGROUPS {
            return Err(CgroupError::TooMany(directory.display().to_string()));
        }
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        left.extend(
            entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()),
        );
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::hierarchy::Controller;

    fn hierarchy(mount: &Path, controller: Option<Controller>) -> CgroupHierarchy {
        CgroupHierarchy { controller, mount: mount.to_owned(), has_perf_records: false }
    }

    fn cgroup(directory: &Path) -> u64 {
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join("cgroup.procs"), "").unwrap();
        directory.metadata().unwrap().ino()
    }

    #[test]
    fn a_path_is_looked_for_in_each_hierarchy_and_a_directory_in_its_own() {
        let root = tempfile::tempdir().unwrap();
        let (memory, unified) = (root.path().join("memory"), root.path().join("unified"));
        let all = [hierarchy(&memory, Some(Controller::Memory)), hierarchy(&unified, None)];
        let both = [cgroup(&memory.join("a")), cgroup(&memory.join("a/b"))];
        let second = cgroup(&unified.join("c"));
        for path in ["a", "/a"] {
            let mut found = find(Path::new(path), &all).unwrap();
            found.ids.sort_unstable_by_key(|id| both.iter().position(|known| known == id));
            assert_eq!((found.hierarchy.controller, found.ids), (Some(Controller::Memory), both.to_vec()), "{path}");
        }
        let found = find(Path::new("/c"), &all).unwrap();
        assert_eq!((found.hierarchy.controller, found.ids), (None, vec![second]));
        let found = find(Path::new("unified/c"), &all).unwrap();
        assert_eq!((found.hierarchy.controller, found.ids), (None, vec![second]));
        assert!(matches!(find(Path::new("unified/a"), &all), Err(CgroupError::Missing(_))));
        let found = find(&memory.join("a/b"), &all).unwrap();
        assert_eq!((found.hierarchy.controller, found.ids), (Some(Controller::Memory), vec![both[1]]));
    }

    #[test]
    fn a_path_that_is_no_cgroup_is_an_error_that_names_it() {
        let error = find(Path::new("/no/such/group"), &[]).unwrap_err();
        assert!(matches!(&error, CgroupError::Missing(_)) && error.to_string().contains("/no/such/group"));
    }

    #[test]
    fn a_directory_that_only_looks_like_a_cgroup_is_refused() {
        let root = tempfile::tempdir().unwrap();
        cgroup(root.path());
        let error = find(root.path(), &[hierarchy(Path::new("/proc"), None)]).unwrap_err();
        assert!(matches!(error, CgroupError::OutsideHierarchies(_)));
    }
}
