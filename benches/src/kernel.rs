//! Cost in the kernel: our walk without frame pointers beside a frame-pointer walk of the same stacks, in turns.

use anyhow::Result;
use profiler::engine::{Engine, Options as EngineOptions};
use profiler_common::filter;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::machine;
use crate::plain::Plain;
use crate::programs::{FramePointer, Running, deep};
use crate::recording;

/// Frames above the recursion that only our walk sees: `_start` and two of libc's. A frame-pointer walk ends at `main` or
/// sees one of them; its program gets as many more of its own.
const ABOVE_OURS: u32 = 5;
const ABOVE_PLAIN: u32 = 3;
/// Let pass before anything counts.
const WARM_UP: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Samples per CPU and second
    #[arg(long, value_delimiter = ',', default_values_t = [99, 997, 4999])]
    hz: Vec<u32>,
    /// User frames
    #[arg(long, value_delimiter = ',', default_values_t = [15, 55, 125, 500, 1000])]
    frames: Vec<u32>,
    /// Turns of each
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Seconds of a turn; at 997 Hz and above half of it
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// KiB over which the program walks at random between samples; 0: none
    #[arg(long, value_delimiter = ',', default_values_t = [8192, 0])]
    touch: Vec<u32>,
    /// Distinct functions on the stack
    #[arg(long, default_value_t = 16)]
    distinct: u32,
    /// Measure ours alone
    #[arg(long)]
    only_ours: bool,
    /// Without the rule cache
    #[arg(long)]
    no_rule_cache: bool,
}

#[derive(Default)]
struct Turns {
    /// µs of every sample.
    costs: Vec<f64>,
    /// Mean of each turn.
    means: Vec<f64>,
    frames: f64,
    cache_share: f64,
    kernel_share: f64,
}

impl Turns {
    fn add(&mut self, costs: &[u32]) {
        let mut costs: Vec<f64> = costs.iter().map(|cost| f64::from(*cost) / 1000.0).collect();
        self.means.push(costs.iter().sum::<f64>() / costs.len() as f64);
        self.costs.append(&mut costs);
    }
}

impl Options {
    /// What shows whether it works, in half a minute.
    pub(crate) fn quick(self) -> Options {
        Options { hz: vec![99, 997], frames: vec![15, 125, 1000], touch: vec![8192], rounds: 1, seconds: 2.0, ..self }
    }
}

const EXPLANATION: &str = "\
`ours` walks a program without frame pointers, `plain` the same program with them, in turns on one CPU. Times are the programs' own,
from their first instruction until the record is ready for the ring; `best turn` is the least of the turns' means, the figure
that a busy machine spoils least. `cache`: frames whose rule came from the rule cache.";

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    machine::begin("kernel: the programs' time per sample, µs, beside bpf_get_stack on frame pointers", EXPLANATION);
    let omitted = deep(folder.path(), FramePointer::Omitted)?;
    let kept = deep(folder.path(), FramePointer::Kept)?;
    // bpf_get_stack takes no more frames than this says; it can be changed while nobody takes call chains.
    let _limit = StackLimit::raise();
    let cpu = machine::cpus() - 1;
    machine::pin(0, 0);
    // SAFETY: a plain system call; the measuring side must not starve on a shared machine.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    println!("{} distinct functions, {} turns of {} s each.\n", options.distinct, options.rounds, options.seconds);
    machine::head(&[
        "Hz",
        "touched KiB",
        "frames (ours/plain)",
        "ours mean",
        "p50",
        "p99",
        "best turn",
        "plain mean",
        "p50",
        "p99",
        "best turn",
        "ratio of means",
        "of medians",
        "of best turns",
        "cache",
        "in kernel",
        "load",
    ]);
    for touch in &options.touch {
        for hz in &options.hz {
            for frames in &options.frames {
                let (mut ours, mut plain) = (Turns::default(), Turns::default());
                for _ in 0..options.rounds {
                    turn_of_ours(&omitted, *frames, *hz, *touch, cpu, options, &mut ours)?;
                    if !options.only_ours {
                        turn_of_plain(&kept, *frames, *hz, *touch, cpu, options, &mut plain)?;
                    }
                }
                row(*hz, *touch, ours, plain);
            }
        }
    }
    Ok(())
}

fn row(hz: u32, touch: u32, ours: Turns, plain: Turns) {
    let best = |turns: &Turns| turns.means.iter().copied().fold(f64::NAN, f64::min);
    let (our_best, plain_best) = (best(&ours), best(&plain));
    let shares = format!("{:.1} % | {:.1} %", ours.cache_share * 100.0, ours.kernel_share * 100.0);
    let frames = format!("{:.0} / {:.0}", ours.frames, plain.frames);
    let (ours, plain) = (Figures::new(ours.costs), Figures::new(plain.costs));
    println!(
        "| {hz} | {touch} | {frames} | {:.2} | {:.2} | {:.2} | {our_best:.2} | {:.2} | {:.2} | {:.2} | {plain_best:.2} | {:.2} | {:.2} | {:.2} | {shares} | {} |",
        ours.mean(),
        ours.at(0.5),
        ours.at(0.99),
        plain.mean(),
        plain.at(0.5),
        plain.at(0.99),
        ours.mean() / plain.mean(),
        ours.at(0.5) / plain.at(0.5),
        our_best / plain_best,
        machine::load(),
    );
}

fn burner(program: &Path, depth: u32, touch: u32, cpu: u32, options: &Options) -> Result<Running> {
    Running::start(program, &[depth.to_string(), options.distinct.to_string(), touch.to_string()], cpu)
}

fn seconds(hz: u32, options: &Options) -> Duration {
    Duration::from_secs_f64(if hz < 500 { options.seconds } else { options.seconds / 2.0 })
}

fn turn_of_ours(
    program: &Path,
    frames: u32,
    hz: u32,
    touch: u32,
    cpu: u32,
    options: &Options,
    turns: &mut Turns,
) -> Result<()> {
    let burner = burner(program, frames - ABOVE_OURS, touch, cpu, options)?;
    let mut engine = Engine::new(EngineOptions {
        frequency_hz: hz,
        filter: filter::PIDS,
        pids: vec![burner.pid()],
        rule_cache: !options.no_rule_cache,
        ..EngineOptions::default()
    })?;
    engine.start()?;
    recording::go_on_until(&mut engine, "a first stack finished in the kernel", |engine| {
        engine.counters().finished_in_kernel > 0
    })?;
    recording::go_on(&mut engine, WARM_UP)?;
    let before = engine.counters().clone();
    recording::go_on(&mut engine, seconds(hz, options))?;
    let after = engine.counters();
    let costs = &after.costs_ns[before.costs_ns.len()..];
    turns.add(costs);
    let walked = (after.kernel_walked_frames - before.kernel_walked_frames) as f64;
    turns.frames = walked / costs.len() as f64;
    turns.cache_share = (after.cache_hits - before.cache_hits) as f64 / walked;
    turns.kernel_share = (after.finished_in_kernel - before.finished_in_kernel) as f64 / costs.len() as f64;
    Ok(())
}

fn turn_of_plain(
    program: &Path,
    frames: u32,
    hz: u32,
    touch: u32,
    cpu: u32,
    options: &Options,
    turns: &mut Turns,
) -> Result<()> {
    let burner = burner(program, frames - ABOVE_PLAIN, touch, cpu, options)?;
    let mut plain = Plain::load(burner.pid(), cpu, hz)?;
    let mut samples = Vec::new();
    plain.start()?;
    std::thread::sleep(WARM_UP);
    plain.drain(&mut Vec::new());
    let until = Instant::now() + seconds(hz, options);
    while Instant::now() < until {
        std::thread::sleep(TICK);
        plain.drain(&mut samples);
    }
    plain.stop()?;
    turns.frames = samples.iter().map(|(_, frames)| f64::from(*frames)).sum::<f64>() / samples.len() as f64;
    turns.add(&samples.iter().map(|(cost, _)| *cost).collect::<Vec<_>>());
    Ok(())
}

/// `kernel.perf_event_max_stack`, raised for deep stacks and put back.
struct StackLimit(Option<String>);
const STACK_LIMIT: &str = "/proc/sys/kernel/perf_event_max_stack";

impl StackLimit {
    fn raise() -> StackLimit {
        let before = std::fs::read_to_string(STACK_LIMIT).ok();
        if std::fs::write(STACK_LIMIT, "1024").is_err() {
            println!("kernel.perf_event_max_stack could not be raised: plain ends at {before:?} frames");
            return StackLimit(None);
        }
        StackLimit(before)
    }
}

impl Drop for StackLimit {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Somebody may take call chains now; the limit is then higher than it was, and harmless.
            let _ = std::fs::write(STACK_LIMIT, before);
        }
    }
}
