//! The cgroup of a sample is the one that its task is in, in whichever hierarchy is asked for, v1 or v2.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod live;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fixtures::{Flavour, build_or_skip, skip};
use live::{Recorded, Running};
use profiler::engine::{Engine, Options};
use profiler::sampler::hierarchy::{CgroupHierarchy, Controller};
use profiler_common::filter;

/// A cgroup that is removed when this goes.
struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// `None` where none can be made or joined.
    fn with(hierarchy: &CgroupHierarchy, pid: u32) -> Option<Cgroup> {
        // Nothing runs in a group of this controller before its processors were chosen.
        if hierarchy.controller == Some(Controller::CpuSet) {
            return None;
        }
        let cgroup = Cgroup { folder: hierarchy.mount.join(format!("everflame-test-{}", std::process::id())) };
        std::fs::create_dir(&cgroup.folder).ok()?;
        std::fs::write(cgroup.folder.join("cgroup.procs"), pid.to_string()).ok()?;
        Some(cgroup)
    }

    fn id(&self) -> u64 {
        self.folder.metadata().unwrap().ino()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that has ended leaves a moment later.
        let started = std::time::Instant::now();
        while std::fs::remove_dir(&self.folder).is_err() && started.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
    }
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn samples_carry_the_cgroup_of_their_task_in_the_hierarchy_that_was_asked_for() {
    let _alone = live::alone();
    let Some(file) = build_or_skip("chain", Flavour::OmitFp) else { return };
    let mut tried = 0;
    for hierarchy in CgroupHierarchy::mounted(Path::new("/proc")) {
        let (inside, outside) = (Running::fixture(&file, &[]), Running::fixture(&file, &[]));
        // Dropped last of the three: the process must have left.
        let Some(cgroup) = Cgroup::with(&hierarchy, inside.pid()) else {
            println!("{hierarchy:?}: left out, since no program can be put into a cgroup of it");
            continue;
        };
        let inside = inside;
        let options = Options {
            frequency_hz: 999,
            filter: filter::CGROUPS,
            cgroups: vec![cgroup.id()],
            cgroup_hierarchy: Some(hierarchy.clone()),
            ..Options::default()
        };
        let Some(mut engine) = live::engine(options) else { return };
        assert_eq!(engine.cgroup_hierarchy(), Some(&hierarchy));
        let mut seen = 0;
        live::record_while(&mut engine, Duration::from_secs(20), |engine| {
            seen = engine.samples();
            seen < 200
        });
        let recorded = Recorded::new(engine);
        println!("{hierarchy:?}: {} samples in cgroup {}", recorded.samples(inside.pid()).len(), cgroup.id());
        assert!(seen >= 200, "{hierarchy:?}: {seen} samples");
        assert_eq!(recorded.pids().into_keys().collect::<Vec<_>>(), [inside.pid()], "{hierarchy:?}");
        let batch = &recorded.recording.interval.batch;
        assert!(batch.processes.iter().all(|process| process.cgroup_id == cgroup.id()), "{hierarchy:?}");
        drop((inside, outside));
        tried += 1;
    }
    if tried == 0 {
        skip("no cgroup could be made in any hierarchy");
    }
}

/// The cgroup that this test is in, and so what it starts: `4:memory:/path` or `0::/path`.
fn own_cgroup(hierarchy: &CgroupHierarchy) -> u64 {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = text.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let named = hierarchy.controller.map_or("", Controller::name);
        controllers.split(',').any(|name| name == named).then_some(path)
    });
    hierarchy.mount.join(path.unwrap().trim_start_matches('/')).metadata().unwrap().ino()
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn without_a_wish_the_hierarchy_is_the_best_that_is_mounted_and_ids_are_its_directories() {
    let _alone = live::alone();
    let Some(file) = build_or_skip("chain", Flavour::OmitFp) else { return };
    let running = Running::fixture(&file, &[]);
    let Some(mut engine) = live::engine(live::options(&[running.pid()])) else { return };
    let Some(hierarchy) = engine.cgroup_hierarchy().cloned() else {
        return skip("no cgroup hierarchy is mounted");
    };
    assert_eq!(CgroupHierarchy::mounted(Path::new("/proc")).first(), Some(&hierarchy));
    live::record_while(&mut engine, Duration::from_secs(20), |engine: &mut Engine| engine.samples() < 50);
    let recorded = Recorded::new(engine);
    let id = own_cgroup(&hierarchy);
    let batch = &recorded.recording.interval.batch;
    assert!(!batch.processes.is_empty() && batch.processes.iter().all(|process| process.cgroup_id == id));
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn allowed_and_denied_sets_can_be_changed_while_sampling() {
    let _alone = live::alone();
    let Some(file) = build_or_skip("chain", Flavour::OmitFp) else { return };
    for bits in [filter::PIDS, filter::PIDS_DENIED, filter::CGROUPS, filter::CGROUPS_DENIED] {
        let running = Running::fixture(&file, &[]);
        let pid = running.pid();
        let options = Options { frequency_hz: 999, filter: bits | filter::COUNT_PIDS, ..Options::default() };
        let Some(mut engine) = live::engine(options) else { return };
        let cgroup = engine.cgroup_hierarchy().map(own_cgroup);
        if cgroup.is_none() && bits & (filter::CGROUPS | filter::CGROUPS_DENIED) != 0 {
            skip("no cgroup hierarchy is mounted");
            continue;
        }
        let cgroup = cgroup.unwrap_or(0);
        let allow = |engine: &mut Engine, allowed: bool| match (bits, allowed) {
            (filter::PIDS, true) => engine.pid_filter().allow(pid),
            (filter::PIDS_DENIED, false) => engine.pid_filter().deny(pid),
            (filter::PIDS | filter::PIDS_DENIED, _) => engine.pid_filter().forget(pid),
            (filter::CGROUPS, true) => engine.cgroup_filter().allow(cgroup),
            (filter::CGROUPS_DENIED, false) => engine.cgroup_filter().deny(cgroup),
            _ => engine.cgroup_filter().forget(cgroup),
        };
        let hits = |engine: &mut Engine| {
            engine.hits_by_pid().unwrap().into_iter().find(|(known, _)| *known == pid).map_or(0, |(_, hits)| hits)
        };
        engine.start().unwrap();
        for allowed in [false, true, false, true] {
            allow(&mut engine, allowed).unwrap();
            let (before, time_before) = (hits(&mut engine), processor_time_ns(pid));
            let started = std::time::Instant::now();
            while processor_time_ns(pid) - time_before < 300_000_000 && started.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(engine.round());
                engine.tick().unwrap();
            }
            let more = hits(&mut engine) - before;
            assert_eq!(more > 100, allowed, "bits {bits}, allowed {allowed}: {more} hits");
            // One may have been judged a moment before.
            assert!(allowed || more <= 1, "bits {bits}: {more} hits of a process that is left out");
        }
    }
}

/// Processor time of a process, ns.
fn processor_time_ns(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10_000_000
}
