//! CPU time accounted: samples times period is the processor time that the cgroup was charged for, and the ledger adds up.
//!
//! Needs a cgroup v2 hierarchy that can be written to. `EVERFLAME_LONG=1` records a minute each.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod live;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

use fixtures::{Flavour, build_or_skip, skip};
use live::{Recorded, Running};
use profiler::engine::Options;
use profiler::sampler::hierarchy::CgroupHierarchy;
use profiler_common::filter;

/// A cgroup that is removed when this goes, with the mount of the hierarchy where there was none.
struct Cgroup {
    folder: PathBuf,
    mounted: Option<tempfile::TempDir>,
}

/// Where the cgroup v2 hierarchy is mounted.
fn hierarchy() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then(|| PathBuf::from(before.split(' ').nth(4).unwrap_or("")))
    })
}

fn mount_hierarchy() -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().ok()?;
    let done = Command::new("mount").args(["-t", "cgroup2", "none"]).arg(folder.path()).status().ok()?;
    done.success().then_some(folder)
}

impl Cgroup {
    fn new(name: &str) -> Option<Cgroup> {
        let mounted = if hierarchy().is_none() { mount_hierarchy() } else { None };
        let Some(root) = hierarchy() else {
            skip("no cgroup v2 hierarchy, and none can be mounted");
            return None;
        };
        let cgroup = Cgroup { folder: root.join(format!("everflame-test-{name}-{}", std::process::id())), mounted };
        if let Err(error) = std::fs::create_dir(&cgroup.folder) {
            skip(format_args!("{}: {error}", cgroup.folder.display()));
            return None;
        }
        Some(cgroup)
    }

    fn id(&self) -> u64 {
        std::fs::metadata(&self.folder).unwrap().ino()
    }

    fn add(&self, pid: u32) {
        std::fs::write(self.folder.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// Processor time charged so far, ns.
    fn usage_ns(&self) -> u64 {
        let stat = std::fs::read_to_string(self.folder.join("cpu.stat")).unwrap();
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap();
        usage.parse::<u64>().unwrap() * 1000
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Ended processes leave a moment later.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.folder).is_ok() || !self.folder.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        if let Some(mounted) = &self.mounted {
            let _ = Command::new("umount").arg(mounted.path()).status();
        }
    }
}

fn check(name: &str, arguments: &[&str]) {
    let _alone = live::alone();
    let Some(file) = build_or_skip(name, Flavour::OmitFp) else { return };
    let Some(cgroup) = Cgroup::new(name) else { return };
    let running = Running::start(Command::new(&file).args(arguments));
    cgroup.add(running.pid());
    // What it was charged stands in version 2, whichever hierarchy containers are in.
    let version_2 = CgroupHierarchy { controller: None, mount: cgroup.folder.clone(), has_perf_records: false };
    let options = Options {
        frequency_hz: 999,
        filter: filter::CGROUPS,
        cgroups: vec![cgroup.id()],
        cgroup_hierarchy: Some(version_2),
        ..Options::default()
    };
    let Some(mut engine) = live::engine(options) else { return };
    let before = cgroup.usage_ns();
    live::record_while(&mut engine, live::seconds(5, 60), |_| true);
    let after = cgroup.usage_ns();
    let recorded = Recorded::new(engine);
    drop(running);
    let batch = &recorded.recording.interval.batch;
    let samples = batch.samples.len() as u64;
    let charged = after - before;
    let sampled: u64 = batch.samples.iter().map(|sample| sample.weight_ns).sum();
    // One sample more or less at either end, chance, and one in a hundred.
    let allowed = charged / 100 + (3.0 * (samples as f64).sqrt() * batch.period_ns as f64) as u64;
    println!(
        "{name}: {samples} samples are {:.3} s, the cgroup was charged {:.3} s ({:+.2} %, allowed {:.2} %)",
        sampled as f64 / 1e9,
        charged as f64 / 1e9,
        100.0 * (sampled as f64 - charged as f64) / charged as f64,
        100.0 * allowed as f64 / charged as f64,
    );
    println!("    {:?}", batch.ledger);
    assert!(samples > 500, "too few samples to say anything: {samples}");
    assert!(sampled.abs_diff(charged) <= allowed);
    let ledger = &batch.ledger;
    assert_eq!(ledger.due + ledger.surplus, ledger.accounted() + ledger.undelivered, "{ledger:?}");
    assert_eq!(ledger.recorded, samples);
    assert_eq!(ledger.dropped_total(), 0, "{ledger:?}");
    assert!(ledger.undelivered * 20 <= ledger.due, "more than one hit in twenty never came: {ledger:?}");
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn samples_of_one_thread_are_the_time_that_its_cgroup_was_charged() {
    check("chain", &[]);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn samples_of_many_threads_are_the_time_that_their_cgroup_was_charged() {
    check("threads", &["8", "600"]);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn samples_in_the_kernel_are_charged_too() {
    check("syscalls", &[]);
}
