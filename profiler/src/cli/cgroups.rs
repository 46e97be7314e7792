//! cgroup paths to ids: a cgroup v2 directory's inode number is the id that `bpf_get_current_cgroup_id` gives.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Where cgroup v2 is mounted: alone, or beside v1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Most cgroups below one path; the size of the kernel's filter set.
const MAX_CGROUPS: usize = 4096;

/// Why there are no ids.
#[derive(Debug, thiserror::Error)]
pub(super) enum CgroupError {
    /// No such directory.
    #[error("no cgroup {0}: give a path as /proc/PID/cgroup shows it, or under /sys/fs/cgroup")]
    Missing(String),
    /// A cgroup of version 1.
    #[error("{0} is not on a cgroup v2 file system: choose by --pid or --comm here, or boot with cgroup v2")]
    Version1(String),
    /// Too many.
    #[error("more than {MAX_CGROUPS} cgroups below {0}: name one further down")]
    TooMany(String),
}

/// Ids of the cgroup at `path` (under the cgroup file system, or absolute) and of all below it.
pub(super) fn ids_below(path: &Path) -> Result<Vec<u64>, CgroupError> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let under_roots = ROOTS.iter().map(|root| Path::new(root).join(relative));
    // A whole path may lead to a hierarchy that is mounted elsewhere.
    let directory = std::iter::once(path.to_owned())
        .filter(|path| path.is_absolute())
        .chain(under_roots)
        .find(|candidate| candidate.join("cgroup.procs").exists())
        .ok_or_else(|| CgroupError::Missing(path.display().to_string()))?;
    if !is_version_2(&directory) {
        return Err(CgroupError::Version1(directory.display().to_string()));
    }
    let mut ids = Vec::new();
    let mut left = vec![directory];
    while let Some(directory) = left.pop() {
        if let Ok(meta) = directory.metadata() {
            ids.push(meta.ino());
        }
        if ids.len() > MAX_CGROUPS {
            return Err(CgroupError::TooMany(path.display().to_string()));
        }
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        left.extend(
            entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()),
        );
    }
    Ok(ids)
}

/// The file system's magic number (statfs(2), CGROUP2_SUPER_MAGIC): version 1 has other ids than the programs see.
fn is_version_2(directory: &Path) -> bool {
    let Ok(path) = CString::new(directory.as_os_str().as_bytes()) else { return false };
    // SAFETY: a zeroed statfs is valid, and the path ends with a NUL.
    unsafe {
        let mut statistics: libc::statfs = std::mem::zeroed();
        // Its type differs among C libraries; the number does not.
        libc::statfs(path.as_ptr(), &mut statistics) == 0 && u64::try_from(statistics.f_type) == Ok(0x6367_7270)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_cgroup_is_an_error_that_names_it() {
        let error = ids_below(Path::new("/no/such/group")).unwrap_err();
        assert!(error.to_string().contains("/no/such/group"));
    }

    #[test]
    fn a_directory_that_only_looks_like_a_cgroup_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cgroup.procs"), "").unwrap();
        assert!(matches!(ids_below(directory.path()), Err(CgroupError::Version1(_))));
    }
}
