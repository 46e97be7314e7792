//! A program whose file system has died goes on running, and so must the engine: it may not be able to name that program, but
//! rounds go on in time, other programs are as whole as ever, and the samples that wait for the file come out without it.

mod live;
mod silent_fuse;

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use fixtures::{Flavour, build_or_skip, expected};
use live::{Recorded, Running, Shares};
use profiler::engine::Engine;
use profiler::naming::Namer;
use silent_fuse::SilentFuse;
use symbolizer::perf_map::locate::Place;
use symbolizer::{Content, Executable, Failure, Options, Request, Symbolizer};

/// No round may take longer, however busy the machine. A file that does not answer would hold it until the test ends.
const LONGEST_ROUND: Duration = Duration::from_secs(2);
/// How long names are waited for.
const NAMING_WAIT: Duration = Duration::from_secs(6);
/// Several times the deadline of a file.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_file_system_that_does_not_answer_holds_nobody_but_its_own_worker() {
    let _alone = live::alone();
    let Some(program) = build_or_skip("chain", Flavour::Static) else { return };
    let Some(fuse) = SilentFuse::mount(&program) else { return };
    let dead = Running::fixture(&fuse.program(), &[]);
    let alive = Running::fixture(&program, &[]);
    fuse.fall_silent();
    let Some(mut engine) = live::engine(live::options(&[dead.pid(), alive.pid()])) else { return };
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    live::record_while(&mut engine, PATIENCE, |engine| {
        longest = longest.max(last.elapsed().saturating_sub(engine.round()));
        last = Instant::now();
        engine.executable_counters().stuck == 0
    });
    let counters = *engine.executable_counters();
    let recorded = Recorded::new(engine);
    println!("longest round {longest:?}, {counters:?}");
    assert!(fuse.was_asked(), "nobody asked the dead file system");
    assert_eq!(counters.stuck, 1);
    assert!(longest < LONGEST_ROUND, "a round took {longest:?}");
    let verdict = recorded.judge(alive.pid(), &expected::chain());
    let shares = Shares::of(&recorded.samples(alive.pid()), verdict.right);
    println!("{}", shares.row("alive"));
    assert!(shares.right * 100 >= shares.samples * 95 && shares.samples > 50, "{}", verdict.text(5));
    let dead_samples = recorded.samples(dead.pid());
    println!("{}{}", Shares::of(&dead_samples, 0).row("dead"), live::ends(&dead_samples));
    assert!(dead_samples.len() > 50, "samples of the dead file system's program were lost");
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_file_that_can_t_be_closed_any_more_holds_nobody() {
    let _alone = live::alone();
    let Some(program) = build_or_skip("chain", Flavour::Static) else { return };
    let Some(fuse) = SilentFuse::mount(&program) else { return };
    let running = Running::fixture(&fuse.program(), &[]);
    let Some(mut engine) = live::engine(live::options(&[running.pid()])) else { return };
    live::record_while(&mut engine, PATIENCE, |engine| {
        // Its file is open, and its rows were built from it.
        engine.counters().finished_in_kernel < 50
    });
    fuse.fall_silent();
    let (done, ends) = channel();
    std::thread::spawn(move || {
        let recording = engine.finish().unwrap();
        let whole = recording.interval.batch.samples.len();
        drop(recording);
        let _ = done.send(whole);
    });
    let whole = ends.recv_timeout(PATIENCE).expect("the file was closed by whoever let go of it last");
    assert!(whole >= 50, "{whole} samples");
}

/// Samples one program until its stacks are walked in the kernel: its file is open by then, and its rows were built.
fn sampled(running: &Running) -> Option<Engine> {
    let mut engine = live::engine(live::options(&[running.pid()]))?;
    live::record_while(&mut engine, PATIENCE, |engine| engine.counters().finished_in_kernel < 50);
    Some(engine)
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_file_that_falls_silent_before_it_is_named_costs_no_names_but_its_own() {
    let _alone = live::alone();
    let Some(dead_program) = build_or_skip("chain", Flavour::Static) else { return };
    let Some(alive_program) = build_or_skip("chain", Flavour::StaticPie) else { return };
    let Some(fuse) = SilentFuse::mount(&dead_program) else { return };
    let alive = Running::fixture(&alive_program, &[]);
    // The last is dropped first: a program that waits for a page of its file ends only once that is unmounted.
    let (dead, fuse) = (Running::fixture(&fuse.program(), &[]), fuse);
    let Some(dead_engine) = sampled(&dead) else { return };
    let dead_recording = dead_engine.finish().unwrap();
    fuse.forget_pages();
    fuse.fall_silent();
    let Some(alive_engine) = sampled(&alive) else { return };
    let alive_recording = alive_engine.finish().unwrap();
    let (dead_pid, alive_pid) = (dead.pid(), alive.pid());
    let (done, ends) = channel();
    std::thread::spawn(move || {
        let mut namer = Namer::new(naming(), Path::new("/proc")).unwrap();
        let dead = Recorded::named_by(&mut namer, dead_recording);
        // The same once more, as in the next interval: it is not asked and not waited for.
        let began = Instant::now();
        let dead = Recorded::named_by(&mut namer, dead.recording);
        let again = began.elapsed();
        let alive = Recorded::named_by(&mut namer, alive_recording);
        let _ = done.send((dead, again, alive, namer.statistics()));
    });
    let (dead, again, alive, statistics) = ends.recv_timeout(PATIENCE).expect("the names came");
    println!("{:?}", statistics.named());
    assert!(fuse.was_asked(), "nobody asked the dead file system");
    assert_eq!(statistics.failure(Failure::Late), 1, "one wait");
    assert_eq!(statistics.failure(Failure::Silent), 1, "not asked again");
    assert!(again < NAMING_WAIT, "{again:?}");
    assert!(dead.samples(dead_pid).len() >= 50, "samples of the dead file system's program were lost");
    let verdict = alive.judge(alive_pid, &expected::chain());
    let shares = Shares::of(&alive.samples(alive_pid), verdict.right);
    println!("{}", shares.row("alive"));
    assert!(shares.right * 100 >= shares.samples * 95 && shares.samples >= 50, "{}", verdict.text(5));
}

/// With these a worker that is stuck is given up by the time that nobody waits for it any more.
fn naming() -> Options {
    Options { wait: NAMING_WAIT, file_time_limit: NAMING_WAIT / 3, ..Options::default() }
}

#[test]
#[ignore = "mounts a file system as root: cargo xtask test runs it"]
fn debug_files_that_fall_silent_cost_one_wait_and_no_other_names() {
    /// More than threads that may be given up.
    const PROGRAMS: u64 = 12;
    let Some(program) = build_or_skip("chain", Flavour::Static) else { return };
    let Some(fuse) = SilentFuse::mount_at(&program, "usr/lib/debug") else { return };
    // Without its own debug information, but with its symbols, and a link to a debug file.
    let stripped = fuse.folder().join("stripped");
    let link = format!("--add-gnu-debuglink={}", program.display());
    let objcopy = Command::new("objcopy").args(["--strip-debug", &link]).arg(&program).arg(&stripped).status();
    assert!(objcopy.unwrap().success());
    fuse.fall_silent();
    let entry = u64::from_le_bytes(std::fs::read(&stripped).unwrap()[24..32].try_into().unwrap());
    let root = Arc::new(File::open(fuse.folder()).unwrap());
    let (done, ends) = channel();
    std::thread::spawn(move || {
        let symbolizer = Symbolizer::new(naming()).unwrap();
        for key in (1..=PROGRAMS).chain([1]) {
            let content = Content::File(Arc::new(File::open(&stripped).unwrap().into()));
            let executable = Executable { key, content, path: "/stripped".into(), root: Some(root.clone()) };
            let request = Request { executable: Arc::new(executable), addresses: vec![entry] };
            let frames = symbolizer.symbolize(&[request]).remove(0).remove(0);
            let name = frames.first().map(|frame| frame.function.to_string());
            let _ = done.send((key, name, symbolizer.statistics()));
        }
    });
    let mut told = Vec::new();
    while told.len() <= PROGRAMS as usize {
        let (key, name, statistics) = ends.recv_timeout(PATIENCE).expect("names go on");
        assert_eq!(statistics.failure(Failure::Late), 1, "one wait");
        told.push((key, name));
    }
    assert!(fuse.was_asked(), "nobody asked the dead file system");
    let named = |key| (key, Some("_start".to_owned()));
    let expected: Vec<_> = [(1, None)].into_iter().chain((2..=PROGRAMS).map(named)).chain([named(1)]).collect();
    assert_eq!(told, expected);
}

#[test]
#[ignore = "mounts a file system as root: cargo xtask test runs it"]
fn a_perf_map_that_falls_silent_costs_one_wait_and_no_other_names() {
    let Some(program) = build_or_skip("chain", Flavour::Static) else { return };
    let Some(fuse) = SilentFuse::mount_at(&program, "tmp") else { return };
    let (proc_root, local) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(local.path().join("tmp")).unwrap();
    std::fs::write(local.path().join("tmp/perf-12.map"), "10 10 f\n").unwrap();
    let place = |pid: u32, root: &Path| {
        let process = proc_root.path().join(pid.to_string());
        std::fs::create_dir(&process).unwrap();
        std::fs::write(process.join("status"), "NStgid:\t700\t12\nUid:\t0\t0\t0\t0\n").unwrap();
        symlink(root, process.join("root")).unwrap();
        Arc::new(Place::of(proc_root.path(), pid).unwrap())
    };
    let (dead, alive) = (place(700, fuse.folder()), place(701, local.path()));
    fuse.fall_silent();
    let (done, ends) = channel();
    std::thread::spawn(move || {
        let symbolizer = Symbolizer::new(naming()).unwrap();
        let names = [&dead, &dead, &alive].map(|place| {
            let reading = symbolizer.perf_map(place, 100, None).in_time()?;
            reading.map.lookup(0x10).map(str::to_owned)
        });
        let _ = done.send((names, symbolizer.statistics()));
    });
    let (names, statistics) = ends.recv_timeout(PATIENCE).expect("names go on");
    assert!(fuse.was_asked(), "nobody asked the dead file system");
    assert_eq!(names, [None, None, Some("f".to_owned())]);
    assert_eq!([Failure::Late, Failure::Silent].map(|failure| statistics.failure(failure)), [1, 1]);
}
