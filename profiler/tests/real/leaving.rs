//! What a node leaves on a machine is taken away by a process of its own: it does so after a test that was killed as well.
//!
//! It is this test program once more, started before the node's programs. Its input ends with the test, however that ends; the node's
//! own programs have ended by then.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node;

/// Tells the process that it is that one, and what to do.
const VARIABLE: &str = "EVERFLAME_LEFT_BY_A_NODE";
const ITSELF: &str = "leaving::kubernetes_nodes_leave_nothing";
/// How long killed processes may take to leave their cgroups.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);
/// What the node's programs make whatever they are told: those of these that were not there are removed.
const FOLDERS: [&str; 7] = [
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/log/pods",
    "/run/containerd",
    "/opt/containerd",
    "/usr/libexec/kubernetes",
];

/// The process.
pub(crate) struct Leaving {
    child: Child,
}

impl Leaving {
    /// For a node whose files are in `folder`.
    pub(crate) fn begin(folder: &Path, network: &str) -> Leaving {
        let new: Vec<&str> = FOLDERS.into_iter().filter(|path| !Path::new(path).exists()).collect();
        let task = json!({"folder": folder, "network": network, "new": new, "others": pods_networks()});
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", ITSELF]).env(VARIABLE, task.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        // Ctrl-C is for the test alone.
        command.process_group(0);
        Leaving { child: command.spawn().unwrap() }
    }

    /// Now, and waits for it.
    pub(crate) fn end(&mut self) {
        let _ = self.child.wait();
    }
}

/// Without the variable, as among all tests, it does nothing.
#[test]
#[ignore = "a node starts it"]
fn kubernetes_nodes_leave_nothing() {
    let Some(task) = std::env::var_os(VARIABLE) else { return };
    let task: Value = serde_json::from_str(task.to_str().unwrap()).unwrap();
    let texts = |key: &str| -> BTreeSet<String> { serde_json::from_value(task[key].clone()).unwrap() };
    let folder = PathBuf::from(task["folder"].as_str().unwrap());
    // Nobody writes: this waits for the test's end.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    end_processes(&folder);
    let is_free = unmount(&folder);
    remove_cgroups();
    let of_node = task["network"].as_str().unwrap().to_owned();
    for name in pods_networks().difference(&texts("others")).chain([&of_node]) {
        let _ = Command::new("ip").args(["netns", "delete", name]).output();
    }
    for path in texts("new") {
        let _ = std::fs::remove_dir_all(path);
    }
    // Never through a mount that is still there.
    if is_free {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Kills what is in containers, and whoever was told of the folder: containers' shims, and what of the node's programs still ends.
fn end_processes(folder: &Path) {
    let folder = folder.display().to_string();
    let began = Instant::now();
    loop {
        let mut pids: BTreeSet<i32> = told_of(&folder);
        pids.extend(node::containers().iter().flat_map(|(_, cgroup)| node::numbers(&cgroup.join("cgroup.procs"))));
        if pids.is_empty() || began.elapsed() > PATIENCE {
            return;
        }
        for pid in pids {
            // SAFETY: sends a signal to a process of this node's.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(LOOK);
    }
}

/// Processes that have the path on their command line.
fn told_of(path: &str) -> BTreeSet<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(path)
    })
    .collect()
}

/// What containerd and the kubelet mounted below the folder, the last first; whether nothing is left.
fn unmount(folder: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut all = true;
    for line in mounts.lines().rev() {
        let point = line.split(' ').nth(4).filter(|point| Path::new(point).starts_with(folder));
        let Some(point) = point.and_then(|point| std::ffi::CString::new(point).ok()) else { continue };
        // SAFETY: the path is a string that ends in a zero and lives on.
        all &= unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) } == 0;
    }
    all
}

/// Of version 1 each controller has its own hierarchy.
fn remove_cgroups() {
    let root = Path::new("/sys/fs/cgroup");
    let mut hierarchies = vec![root.to_owned()];
    if !root.join("cgroup.controllers").exists() {
        hierarchies.extend(std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    for hierarchy in hierarchies {
        let pods = hierarchy.join("kubepods");
        let began = Instant::now();
        // What was killed leaves a moment later.
        while pods.exists() && began.elapsed() < PATIENCE {
            remove_empty(&pods);
            std::thread::sleep(LOOK);
        }
    }
}

/// Those that are empty: the kernel keeps the others.
fn remove_empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}

/// Names of network namespaces that a containerd made for pods.
fn pods_networks() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("cni-")).collect()
}
