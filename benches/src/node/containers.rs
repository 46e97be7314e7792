//! Containers as a kubelet makes them: a cgroup each, with a pod's uid and a container's id in its path, and one program in it.

use anyhow::{Context as _, Result};
use profiler::sampler::hierarchy::CgroupHierarchy;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Ended processes leave their cgroup a moment later.
const PATIENCE: Duration = Duration::from_secs(5);

/// Cgroups of containers; removed when this goes, which must be after their processes.
pub(crate) struct Containers {
    /// In the hierarchy that the profiler asks, and in version 2, which tells processor time; often they are one.
    roots: Vec<PathBuf>,
    /// Whether the last root is of version 2.
    has_account: bool,
}

impl Containers {
    /// # Errors
    /// Where no cgroup can be made.
    pub(crate) fn make() -> Result<Containers> {
        let mounted = CgroupHierarchy::mounted(Path::new("/proc"));
        let first = mounted.first().context("no cgroup hierarchy is mounted")?;
        let second_version = mounted.iter().find(|each| each.controller.is_none());
        let mut places = vec![&first.mount];
        places.extend(second_version.map(|each| &each.mount).filter(|mount| **mount != first.mount));
        let name = format!("everflame-bench-{}/kubepods", std::process::id());
        let roots: Vec<PathBuf> = places.into_iter().map(|place| place.join(&name)).collect();
        let containers = Containers { roots, has_account: second_version.is_some() };
        for root in &containers.roots {
            fs::create_dir_all(root).with_context(|| root.display().to_string())?;
        }
        Ok(containers)
    }

    /// Puts a process into the container of this number.
    ///
    /// # Errors
    /// When the kernel refuses, or the process has ended.
    pub(crate) fn put(&self, number: usize, pid: u32) -> Result<()> {
        for root in &self.roots {
            let folder = root.join(format!("pod{}/{}", uid(number), id(number)));
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            let file = folder.join("cgroup.procs");
            fs::write(&file, pid.to_string()).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }

    /// Processor time that all of them were charged, by the kernel's account; `None` without version 2.
    pub(crate) fn charged(&self) -> Option<Duration> {
        let root = self.roots.last().filter(|_| self.has_account)?;
        let text = fs::read_to_string(root.join("cpu.stat")).ok()?;
        let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        Some(Duration::from_micros(usage.parse().ok()?))
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let began = Instant::now();
        for top in self.roots.iter().filter_map(|root| root.parent()) {
            while top.exists() && began.elapsed() < PATIENCE {
                remove(top);
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Cgroups are removed one by one, the lowest first; their files can't be.
fn remove(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path());
    }
    // Not yet, if a process is in it still.
    let _ = fs::remove_dir(folder);
}

fn uid(number: usize) -> String {
    format!("0e5ef1a3-0000-4000-8000-{:08x}{number:04x}", std::process::id())
}

/// 64 digits, as containerd gives them; no two benches' are alike.
pub(crate) fn id(number: usize) -> String {
    format!("{:032x}{number:032x}", std::process::id())
}
