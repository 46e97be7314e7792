//! Which cgroup hierarchy the records' cgroup ids are of, and where it is mounted, so that ids become paths.
//!
//! With cgroup v2 there is one. With v1, and on hybrid machines, each controller has its own, containers are made in those of
//! the controllers that bound them, and ids of two hierarchies can't be compared: kernfs numbers each from 1. Takes the text of
//! `/proc/PID/mountinfo` (proc(5)); what the programs need to read a v1 id is found in BTF by `features`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::mountinfo::unescaped;

/// A controller of cgroup v1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Controller {
    /// Memory: what every container runtime bounds.
    Memory,
    /// Shares of processor time.
    Cpu,
    /// Processor time used.
    CpuAccounting,
    /// Number of processes.
    Pids,
    /// perf's own.
    PerfEvent,
    /// Access to devices.
    Devices,
    /// Block input and output.
    BlockIo,
    /// Freezing.
    Freezer,
    /// Placement on processors.
    CpuSet,
}

impl Controller {
    /// Every controller, best first: where containers surely are, before version 2 is taken, then the rest.
    pub const ALL: [Controller; 9] = [
        Controller::Memory,
        Controller::Cpu,
        Controller::CpuAccounting,
        Controller::Pids,
        Controller::PerfEvent,
        Controller::Devices,
        Controller::BlockIo,
        Controller::Freezer,
        Controller::CpuSet,
    ];
    /// How many of [`Controller::ALL`] come before version 2. The others may be mounted for some tool's own purposes on a machine
    /// that is v2 otherwise, and are taken only when a cgroup of theirs is asked for.
    const BEFORE_V2: usize = 5;

    /// Its name as a mount option.
    pub fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::CpuAccounting => "cpuacct",
            Controller::Pids => "pids",
            Controller::PerfEvent => "perf_event",
            Controller::Devices => "devices",
            Controller::BlockIo => "blkio",
            Controller::Freezer => "freezer",
            Controller::CpuSet => "cpuset",
        }
    }

    /// Its name in the kernel's `enum cgroup_subsys_id`.
    pub(super) fn enumerator(self) -> String {
        let name = if self == Controller::BlockIo { "io" } else { self.name() };
        format!("{name}_cgrp_id")
    }
}

/// A mounted cgroup hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CgroupHierarchy {
    /// The v1 controller by which it is known; `None` for version 2.
    pub controller: Option<Controller>,
    /// Where it is mounted, as seen from here. A cgroup's id is the inode number of its directory below.
    pub mount: PathBuf,
    /// Whether perf's records of new cgroups are of this hierarchy: they are of the one that has the controller `perf_event`.
    pub has_perf_records: bool,
}

impl CgroupHierarchy {
    /// The hierarchies that are mounted on the host, best first. The mounts are those of process 1, which a container of our own
    /// does not change, or else our own.
    pub fn mounted(proc_root: &Path) -> Vec<CgroupHierarchy> {
        for (process, root) in [("1", proc_root.join("1/root")), ("self", PathBuf::from("/"))] {
            let text = std::fs::read_to_string(proc_root.join(process).join("mountinfo")).unwrap_or_default();
            let mut found = from_mountinfo(&text, &root);
            found.retain(|hierarchy| hierarchy.mount.join("cgroup.procs").exists());
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// The id of the cgroup in which a process is; `None` once it has ended, or where its path is told from inside a container.
    pub fn id_of(&self, proc_root: &Path, pid: u32) -> Option<u64> {
        let text = std::fs::read_to_string(proc_root.join(pid.to_string()).join("cgroup")).ok()?;
        let path = path_in(&text, self.controller)?;
        self.mount.join(path.trim_start_matches('/')).metadata().map(|meta| meta.ino()).ok()
    }

    /// Whether a directory is a cgroup of this hierarchy.
    pub fn holds(&self, directory: &Path) -> bool {
        let device = |path: &Path| path.metadata().map(|meta| meta.dev()).ok();
        device(&self.mount).is_some_and(|mount| device(directory) == Some(mount))
    }
}

/// A process's path in one hierarchy, from its `/proc/PID/cgroup`: lines of number, controllers, path (cgroups(7)).
fn path_in(text: &str, controller: Option<Controller>) -> Option<&str> {
    text.lines().find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = match controller {
            None => number == "0" && controllers.is_empty(),
            Some(controller) => controllers.split(',').any(|name| name == controller.name()),
        };
        is_it.then_some(path)
    })
}

/// The hierarchies among these mounts, best first; mount points are below `root`. Mounts of a part of a hierarchy are no use:
/// cgroups outside would have no path.
fn from_mountinfo(text: &str, root: &Path) -> Vec<CgroupHierarchy> {
    let mut version_1: Vec<CgroupHierarchy> = Vec::new();
    let mut version_2 = None;
    for line in text.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut fields = before.split(' ').skip(3);
        let (Some("/"), Some(point)) = (fields.next(), fields.next()) else { continue };
        let mut fields = after.split(' ');
        let kind = fields.next();
        let options = fields.nth(1).unwrap_or("");
        let mount = root.join(unescaped(point).trim_start_matches('/'));
        if kind == Some("cgroup2") {
            version_2.get_or_insert(CgroupHierarchy { controller: None, mount, has_perf_records: true });
        } else if kind == Some("cgroup") {
            let named = |controller: &Controller| options.split(',').any(|option| option == controller.name());
            let has_perf_records = named(&Controller::PerfEvent);
            version_1.extend(Controller::ALL.into_iter().filter(named).map(|controller| CgroupHierarchy {
                controller: Some(controller),
                mount: mount.clone(),
                has_perf_records,
            }));
        }
    }
    if version_1.iter().any(|hierarchy| hierarchy.has_perf_records)
        && let Some(unified) = &mut version_2
    {
        unified.has_perf_records = false;
    }
    let mut found = Vec::new();
    for (place, controller) in Controller::ALL.into_iter().enumerate() {
        if place == Controller::BEFORE_V2 {
            found.extend(version_2.take());
        }
        found.extend(version_1.iter().find(|hierarchy| hierarchy.controller == Some(controller)).cloned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(lines: &[&str]) -> Vec<(Option<Controller>, String, bool)> {
        from_mountinfo(&lines.join("\n"), Path::new("/r"))
            .into_iter()
            .map(|found| (found.controller, found.mount.display().to_string(), found.has_perf_records))
            .collect()
    }

    #[test]
    fn the_best_hierarchy_comes_first_whatever_is_mounted() {
        const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        const UNIFIED: &str = "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        const MEMORY: &str = "32 30 0:28 / /sys/fs/cgroup/memory rw shared:9 master:2 - cgroup cgroup rw,memory";
        const CPU: &str = "33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct";
        const PERF: &str = "34 30 0:30 / /sys/fs/cgroup/perf_event rw - cgroup cgroup rw,perf_event";
        const FREEZER: &str = "35 30 0:31 / /sys/fs/cgroup/a\\040b rw - cgroup cgroup rw,freezer";
        const SYSTEMD: &str = "36 30 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd";
        const PART: &str = "37 30 0:28 /docker/1 /x rw - cgroup cgroup rw,memory";
        const OTHER: &str = "38 30 0:1 / / rw - ext4 /dev/sda rw,memory";
        let v2 = |path: &str, perf| (None, format!("/r/sys/fs/cgroup{path}"), perf);
        let v1 = |controller, path: &str| {
            (Some(controller), format!("/r/sys/fs/cgroup/{path}"), controller == Controller::PerfEvent)
        };
        let memory = || v1(Controller::Memory, "memory");
        for (mounts, wanted) in [
            (vec![V2, OTHER], vec![v2("", true)]),
            (vec![UNIFIED, SYSTEMD, MEMORY], vec![memory(), v2("/unified", true)]),
            (vec![PERF, MEMORY], vec![memory(), v1(Controller::PerfEvent, "perf_event")]),
            (vec![UNIFIED, PERF], vec![v1(Controller::PerfEvent, "perf_event"), v2("/unified", false)]),
            (
                vec![CPU, MEMORY],
                vec![memory(), v1(Controller::Cpu, "cpu,cpuacct"), v1(Controller::CpuAccounting, "cpu,cpuacct")],
            ),
            (vec![FREEZER, V2], vec![v2("", true), v1(Controller::Freezer, "a b")]),
            (vec![PART, SYSTEMD, OTHER, "", "1 2 3", " - "], vec![]),
        ] {
            assert_eq!(chosen(&mounts), wanted, "{mounts:?}");
        }
    }

    #[test]
    fn the_order_of_controllers_is_the_order_of_their_numbers() {
        assert!(Controller::ALL.iter().enumerate().all(|(place, controller)| *controller as usize == place));
        assert_eq!(Controller::BlockIo.enumerator(), "io_cgrp_id");
        assert_eq!(Controller::Memory.enumerator(), "memory_cgrp_id");
    }

    #[test]
    fn a_process_is_found_in_the_hierarchy_that_is_asked() {
        let both = "12:cpu,cpuacct:/a:b\n5:memory:/kubepods/pod1/x\n1:name=systemd:/init.scope\n0::/unified\n";
        let table = [
            (both, Some(Controller::CpuAccounting), Some("/a:b")),
            (both, Some(Controller::Memory), Some("/kubepods/pod1/x")),
            (both, None, Some("/unified")),
            (both, Some(Controller::Freezer), None),
            ("0::/\n", None, Some("/")),
            ("5:memory\n", Some(Controller::Memory), None),
            ("", None, None),
        ];
        for (text, controller, path) in table {
            assert_eq!(path_in(text, controller), path, "{controller:?} in {text:?}");
        }
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("7")).unwrap();
        std::fs::write(root.path().join("7/cgroup"), "0::/pods/one\n").unwrap();
        let mount = root.path().join("cgroup");
        std::fs::create_dir_all(mount.join("pods/one")).unwrap();
        let id = std::fs::metadata(mount.join("pods/one")).unwrap().ino();
        let hierarchy = CgroupHierarchy { controller: None, mount, has_perf_records: true };
        assert_eq!(hierarchy.id_of(root.path(), 7), Some(id));
        assert_eq!(hierarchy.id_of(root.path(), 8), None);
    }
}
