//! [`ExcludedCgroups`]: cgroups that are not wanted, with all below them, by their paths. Pure.
//!
//! By paths and not by ids: what is made below one of them later is excluded from its first sample on.

use std::path::{Component, Path, PathBuf};

/// See the module documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExcludedCgroups {
    /// From the hierarchy's root, without a slash at the end.
    paths: Vec<String>,
}

impl ExcludedCgroups {
    /// Paths as `/proc/PID/cgroup` shows them, or below one of the `roots` at which the hierarchy is mounted; with slashes and dots as
    /// people write them, but without `..`.
    pub fn new(paths: &[PathBuf], roots: &[&Path]) -> ExcludedCgroups {
        let inside = |path: &PathBuf| {
            let inside = roots.iter().find_map(|root| path.strip_prefix(root).ok()).unwrap_or(path);
            let names: Vec<_> = inside
                .components()
                .filter_map(|part| match part {
                    Component::Normal(name) => Some(name.to_string_lossy()),
                    _ => None,
                })
                .collect();
            format!("/{}", names.join("/"))
        };
        ExcludedCgroups { paths: paths.iter().map(inside).collect() }
    }

    /// Whether a cgroup is one of them, or below one.
    pub fn has(&self, cgroup: &str) -> bool {
        self.paths.iter().any(|path| {
            let rest = if path == "/" { Some("") } else { cgroup.strip_prefix(path.as_str()) };
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Whether none is excluded.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Those that are not there, below the hierarchy's mount.
    pub fn missing(&self, mount: &Path) -> Vec<&str> {
        let is_missing = |path: &&str| !mount.join(path.trim_start_matches('/')).is_dir();
        self.paths.iter().map(String::as_str).filter(is_missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_excluded_with_all_below_it_and_no_other() {
        let paths =
            ["/sys/fs/cgroup/system.slice/", "user.slice/a", "/host/cgroup/b", "/sys/fs/cgroup//c//d", "./e/./f/"];
        let paths = paths.map(PathBuf::from);
        let excluded = ExcludedCgroups::new(&paths, &[Path::new("/host/cgroup"), Path::new("/sys/fs/cgroup")]);
        for (cgroup, is_excluded) in [
            ("/system.slice", true),
            ("/system.slice/ssh.service", true),
            ("/system.slice-2", false),
            ("/user.slice", false),
            ("/user.slice/a/b/c", true),
            ("/b", true),
            ("/x/b", false),
            ("/c/d/x", true),
            ("/c", false),
            ("/e/f", true),
            ("/", false),
            ("", false),
        ] {
            assert_eq!(excluded.has(cgroup), is_excluded, "{cgroup}");
        }
        assert!(!excluded.is_empty() && ExcludedCgroups::default().is_empty());
        let all = ExcludedCgroups::new(&["/sys/fs/cgroup".into()], &[Path::new("/sys/fs/cgroup")]);
        assert!(all.has("/") && all.has("/x"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let mount = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(mount.path().join("a/b")).unwrap();
        let excluded = ExcludedCgroups::new(&["/a/b".into(), mount.path().join("c")], &[mount.path()]);
        assert_eq!(excluded.missing(mount.path()), ["/c"]);
    }
}
