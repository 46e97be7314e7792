//! A program whose file system has died goes on running, and so must the engine: it may not be able to name that program, but
//! rounds go on in time, other programs are as whole as ever, and the samples that wait for the file come out without it.

mod live;
mod silent_fuse;

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use fixtures::{Flavour, build_or_skip, expected};
use live::{Recorded, Running, Shares};
use silent_fuse::SilentFuse;

/// No round may take longer, however busy the machine. A file that does not answer would hold it until the test ends.
const LONGEST_ROUND: Duration = Duration::from_secs(2);
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
