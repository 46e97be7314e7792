//! A program that is run while perf has no room for records: nobody tells the engine, `/proc` does.

mod live;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use fixtures::{Flavour, build_or_skip, expected};
use live::{Recorded, Running, Shares, folded};

/// Records of 100 bytes and more; the ring of a CPU has 1 MiB.
const TOO_MANY: usize = 30_000;

/// The calling thread, and what it starts, run on the first CPU only.
fn stay_on_one_cpu() {
    // SAFETY: an all-zero set is valid; the calls get a set as long as they are told.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set), 0);
    }
}

/// Makes more records than the ring holds.
fn fill_the_ring() {
    for _ in 0..TOO_MANY {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh page, which nobody uses, and which goes at once.
        unsafe {
            let page = libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0);
            assert_ne!(page, libc::MAP_FAILED);
            libc::munmap(page, 4096);
        }
    }
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_program_whose_records_were_lost_is_found_by_a_look_at_proc() {
    let _alone = live::alone();
    let Some(program) = build_or_skip("chain", Flavour::OmitFp) else { return };
    stay_on_one_cpu();
    let mut command = Command::new("sh");
    command.args(["-c", r#"echo ready; read line; exec "$0""#]).arg(&program).stdin(Stdio::piped());
    let mut shell = command.stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (shell.stdin.take().unwrap(), BufReader::new(shell.stdout.take().unwrap()));
    let mut said = String::new();
    output.read_line(&mut said).unwrap();
    let running = Running::started(shell);
    let Some(mut engine) = live::engine(live::options(&[running.pid()])) else { return };

    fill_the_ring();
    input.write_all(b"go\n").unwrap();
    said.clear();
    output.read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n", "the program itself");
    live::record_while(&mut engine, live::seconds(3, 10), |_| true);

    let recorded = Recorded::new(engine);
    let (counters, processes) = (&recorded.recording.counters, recorded.recording.process_counters);
    println!("{} records lost, {processes:?}", counters.side_band_lost);
    assert!(counters.side_band_lost > 1000);
    assert!(processes.rescans >= 1 && processes.maps_read > 0);
    let mut samples = recorded.samples(running.pid());
    samples.sort_by_key(|seen| seen.time_ns);
    // Until the look at /proc, the program counts as the shell.
    let late = samples.split_off(samples.len() / 2);
    let verdict = expected::chain().judge(&folded(&late), "process");
    println!("{}{}", Shares::of(&late, verdict.right).row("lost and found"), live::ends(&late));
    assert!(late.len() > 50, "too few samples: {}", late.len());
    assert!(verdict.right * 100 >= late.len() as u64 * 99, "{}", verdict.text(5));
}
