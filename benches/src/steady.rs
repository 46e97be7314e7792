//! The share of user stacks that the kernel finishes by itself, over the whole node in steady state.

use anyhow::Result;
use profiler::engine::{Precedence, monotonic_ns};
use std::collections::BTreeMap;
use std::time::Duration;
use unwind::end::{End, provenance};

use crate::load::Load;
use crate::{machine, recording};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Samples per CPU and second
    #[arg(long, value_delimiter = ',', default_values_t = [99])]
    hz: Vec<u32>,
    /// Seconds before anything counts
    #[arg(long, default_value_t = 15.0)]
    warm_up: f64,
    /// Seconds that are looked at
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
}

impl Options {
    /// What shows whether it works, in half a minute.
    pub(crate) fn quick(self) -> Options {
        Options { warm_up: 4.0, seconds: 8.0, ..self }
    }
}

const EXPLANATION: &str = "\
`in kernel`: of all samples with a user part, those whose walk ended in the eBPF programs, whatever its end; aim: 99 % or more.
`complete`: those that reached the entry point by tables alone, in the kernel or from a copy. The second row's load has a spawner:
every 10 ms of CPU time are a process from an executable never seen before, which has no steady state, and whose first stacks
take copies. `of the load`: the share in the kernel of the load's own processes alone, whoever else uses the machine.";

pub(crate) fn run(options: &Options) -> Result<()> {
    machine::begin("steady: user stacks finished in the kernel", EXPLANATION);
    println!("Whole node, {} s after {} s of warm-up.\n", options.seconds, options.warm_up);
    machine::head(&[
        "Hz",
        "load programs",
        "user stacks",
        "in kernel",
        "of the load",
        "from a copy",
        "without a copy",
        "complete",
        "other ends",
        "load",
    ]);
    let folder = tempfile::tempdir()?;
    for spawner in [false, true] {
        let load = Load::start(folder.path(), spawner)?;
        for hz in &options.hz {
            measure(*hz, &load, options)?;
        }
    }
    Ok(())
}

fn measure(hz: u32, load: &Load, options: &Options) -> Result<()> {
    let mut engine = recording::start(hz)?;
    let precedence = Precedence::take();
    recording::go_on(&mut engine, Duration::from_secs_f64(options.warm_up))?;
    let (begin, before) = (monotonic_ns(), engine.counters().clone());
    recording::go_on(&mut engine, Duration::from_secs_f64(options.seconds))?;
    let after = engine.counters();
    drop(precedence);
    let kernel = after.finished_in_kernel - before.finished_in_kernel;
    let copied = after.finished_from_copy - before.finished_from_copy;
    let missing = after.copy_missing - before.copy_missing;
    let batch = engine.finish()?.interval.batch;
    let pids = load.pids();
    let (mut of_load, mut of_load_in_kernel) = (0u64, 0u64);
    let (mut user, mut complete, mut ends) = (0u64, 0u64, BTreeMap::<&str, u64>::new());
    for sample in batch.samples.iter().filter(|sample| sample.time_ns >= begin && sample.end.has_user_part()) {
        user += 1;
        if batch.processes.get(sample.process.0 as usize).is_some_and(|process| pids.contains(&process.pid)) {
            of_load += 1;
            let in_kernel = sample.provenance & provenance::COPIED == 0 && !sample.end.worth_a_copy();
            of_load_in_kernel += u64::from(in_kernel);
        }
        let proven = sample.provenance & (provenance::FRAME_POINTER | provenance::STALE) == 0;
        if sample.end == End::Complete && proven {
            complete += 1;
        } else {
            let way = if sample.provenance & provenance::STALE != 0 { "stale" } else { sample.end.name() };
            *ends.entry(way).or_default() += 1;
        }
    }
    let all = (kernel + copied + missing) as f64;
    let share = |count: u64, of: f64| format!("{:.3} %", count as f64 * 100.0 / of);
    let ends: Vec<String> = ends.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!(
        "| {hz} | {} | {} | **{}** | {} | {copied} | {missing} | {} | {} | {} |",
        load.text(),
        kernel + copied + missing,
        share(kernel, all),
        share(of_load_in_kernel, of_load as f64),
        share(complete, user as f64),
        if ends.is_empty() { "none".to_owned() } else { ends.join(", ") },
        machine::load(),
    );
    Ok(())
}
