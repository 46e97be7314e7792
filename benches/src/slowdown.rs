//! What a program loses while the node is profiled: fixed work with and without the profiler, in pairs, in random order.
//!
//! The same processes do the same work in both halves of a pair, one process on each CPU, so that whatever the agent takes from
//! the programs is in their time on the clock. Starting the profiler is outside the measured part.

use anyhow::{Context as _, Result, bail};
use profiler::engine::Precedence;
use profiler::sampler::perf_event::{PerfEvent, PerfRing};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::interval::Interval;
use crate::programs::{FramePointer, Unit, Worker, compile, deep};
use crate::{machine, recording};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Samples per CPU and second
    #[arg(long, default_value_t = 99)]
    hz: u32,
    /// Pairs of each program
    #[arg(long, default_value_t = 40)]
    pairs: u32,
    /// Seconds of a unit of work, about
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Seconds of work, about, that do not count before each unit: the profiler opens files, builds rows and fills caches
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// No profiler in either half: what the method itself makes of nothing
    #[arg(long)]
    null: bool,
    /// Instead of the profiler only perf's side-band events, read and thrown away: the floor below which no profiler gets that is to
    /// know who maps what
    #[arg(long, conflicts_with = "null")]
    side_band: bool,
    /// Only programs with this text in their name, such as `fork`
    #[arg(long, default_value = "")]
    only: String,
}

impl Options {
    /// What shows whether it works, in a minute.
    pub(crate) fn quick(self) -> Options {
        Options { pairs: 4, seconds: 0.5, warm_up: 1.0, ..self }
    }
}

/// As large as the engine's ring of a CPU, and read as often as it reads while new programs appear.
const SIDE_BAND_RING: usize = 1 << 20;
const SIDE_BAND_ROUND: Duration = Duration::from_millis(25);

const EXPLANATION: &str = "\
Pairs of equal work with and without the profiler of the whole node, the order of each pair drawn by lot. Mean of the pairs'
differences, and its 95 % interval (Student's t); what the aim is compared with is the interval's upper end. `spread`: standard
deviation of the units without the profiler, as a share of their mean. CPU time is the scheduler's account in ns, without steal.
Time on the clock has steal and everybody else in it: on a virtual machine its interval is the wider one.";

/// A program, the turns with which its calibration begins, and how much it may lose, %.
struct Case<'a> {
    name: &'a str,
    program: &'a Path,
    words: &'a [&'a str],
    turns: u64,
    aim: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (deep, forks) = (deep(folder.path(), FramePointer::Omitted)?, compile("forks.c", folder.path(), "forks", &[])?);
    let memory = ["55", "16", "8192", "units"];
    let compute = ["55", "16", "0", "units"];
    let cases = [
        Case { name: "55 frames, computing", program: &deep, words: &compute, turns: 1 << 20, aim: 0.5 },
        Case { name: "55 frames, 8 MiB at random", program: &deep, words: &memory, turns: 1 << 20, aim: 0.5 },
        Case { name: "fork, exec, exit", program: &forks, words: &[], turns: 16, aim: 2.0 },
    ];
    machine::begin("slowdown: what a profiled program loses, %", EXPLANATION);
    println!("{}", interrupts());
    println!("{} Hz, one process on each of {} CPUs, {} s a unit.", options.hz, machine::cpus(), options.seconds);
    if options.null {
        println!("NO profiler in either half: what the method makes of nothing.");
    }
    if options.side_band {
        println!("NO profiler: only perf's side-band records, thrown away.");
    }
    println!();
    machine::head(&[
        "program",
        "pairs",
        "CPU time",
        "interval",
        "on the clock",
        "interval",
        "spread CPU / clock",
        "samples",
        "aim",
        "steal",
        "load",
    ]);
    for case in cases.iter().filter(|case| case.name.contains(&options.only)) {
        measure(case, options)?;
    }
    Ok(())
}

/// Whether the time of interrupts, the programs' among it, is in a process's CPU time.
fn interrupts() -> &'static str {
    let clock = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    // Without CONFIG_IRQ_TIME_ACCOUNTING nothing measures interrupts, and the column is zero to the tick on a virtual machine.
    let column = clock.lines().next().and_then(|line| line.split_whitespace().nth(6)?.parse::<u64>().ok());
    match column {
        Some(0) => "The kernel does not account interrupts apart: the eBPF programs' time is in the CPU time.",
        _ => {
            "The kernel may account interrupts apart (CONFIG_IRQ_TIME_ACCOUNTING): then the eBPF programs' time is NOT in the CPU time."
        }
    }
}

fn measure(case: &Case<'_>, options: &Options) -> Result<()> {
    let words: Vec<String> = case.words.iter().map(|word| (*word).to_owned()).collect();
    let start = |cpu| Worker::start(case.program, &words, cpu);
    let mut workers = (0..machine::cpus()).map(start).collect::<Result<Vec<_>>>()?;
    let turns = calibrate(&mut workers, case.turns, Duration::from_secs_f64(options.seconds))?;
    let warm_up = (turns as f64 * options.warm_up / options.seconds) as u64;
    let steal = machine::Steal::begin();
    let mut lot = Lot::seeded();
    let (mut cpu, mut wall, mut without, mut samples) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..options.pairs {
        let with_first = lot.draw();
        let mut halves = [Unit::default(); 2];
        for with in [with_first, !with_first] {
            let profiler = (with && !options.null).then(|| Profiler::start(options)).transpose()?;
            // The other half does the same for fairness.
            work(&mut workers, warm_up)?;
            halves[usize::from(with)] = work(&mut workers, turns)?;
            samples += profiler.map_or(Ok(0), Profiler::stop)?;
        }
        let [off, on] = halves;
        cpu.push(loss(on.processor, off.processor));
        wall.push(loss(on.wall, off.wall));
        without.push(off);
    }
    if samples == 0 && !options.null {
        bail!("the profiler took no samples and no records: nothing was measured");
    }
    let (cpu, wall) = (Interval::of(&cpu), Interval::of(&wall));
    let interval = |interval: &Interval| format!("{:+.2} … {:+.2}", interval.lower(), interval.upper());
    println!(
        "| {} | {} | {:+.3} | {} | {:+.3} | {} | {:.2} % / {:.2} % | {} | {} | {} | {} |",
        case.name,
        cpu.count,
        cpu.mean,
        interval(&cpu),
        wall.mean,
        interval(&wall),
        spread(without.iter().map(|unit| unit.processor)),
        spread(without.iter().map(|unit| unit.wall)),
        samples / u64::from(options.pairs.max(1)),
        case.aim,
        steal.text(),
        machine::load(),
    );
    Ok(())
}

/// A unit on every worker at the same time; the sums of what they took.
fn work(workers: &mut [Worker], turns: u64) -> Result<Unit> {
    workers.iter_mut().try_for_each(|worker| worker.begin(turns))?;
    workers.iter_mut().try_fold(Unit::default(), |sum, worker| {
        let unit = worker.end()?;
        Ok(Unit { processor: sum.processor + unit.processor, wall: sum.wall + unit.wall })
    })
}

/// Turns that take about that long on the clock.
fn calibrate(workers: &mut [Worker], mut turns: u64, wanted: Duration) -> Result<u64> {
    // Ever longer, until the unit is long enough to tell: at most 2⁴⁰ times as long.
    for _ in 0..40 {
        let mean = work(workers, turns)?.wall / workers.len() as u32;
        if mean * 4 >= wanted {
            return Ok((turns as f64 * wanted.as_secs_f64() / mean.as_secs_f64()) as u64);
        }
        turns *= 2;
    }
    bail!("a worker does nothing")
}

/// How much more `on` is than `off`, %.
fn loss(on: Duration, off: Duration) -> f64 {
    (on.as_secs_f64() / off.as_secs_f64() - 1.0) * 100.0
}

/// Standard deviation as a share of the mean, %; NaN for fewer than two.
fn spread(times: impl Iterator<Item = Duration>) -> f64 {
    let times: Vec<f64> = times.map(|time| time.as_secs_f64()).collect();
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    let squares = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>();
    (squares / (times.len() as f64 - 1.0)).sqrt() / mean * 100.0
}

/// A coin: xorshift64 (Marsaglia, 2003), seeded by the clock.
struct Lot(u64);

impl Lot {
    fn seeded() -> Lot {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Lot(now.as_nanos() as u64 | 1)
    }

    fn draw(&mut self) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 63 == 1
    }
}

/// An engine on a thread of its own, sampling the whole node; or what stands for it.
struct Profiler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Profiler {
    /// Returns once the timers run.
    fn start(options: &Options) -> Result<Profiler> {
        let stop = Arc::new(AtomicBool::new(false));
        let ((running, runs), asked): (_, Arc<AtomicBool>) = (channel(), stop.clone());
        let (hz, side_band) = (options.hz, options.side_band);
        let thread = std::thread::spawn(move || {
            // Nobody listens any more if the bench gave up.
            let begun = || _ = running.send(());
            if side_band { throw_side_band_away(&asked, begun) } else { sample(hz, &asked, begun) }
        });
        let profiler = Profiler { stop, thread };
        profiler.wait(runs)
    }

    fn wait(self, runs: Receiver<()>) -> Result<Profiler> {
        match runs.recv() {
            Ok(()) => Ok(self),
            // The thread ended before it said so: its error is the reason.
            Err(_) => Err(self.stop().err().context("the profiler ended at once")?),
        }
    }

    /// Samples, or records, that it took.
    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the profiler's thread panicked"))?
    }
}

/// Samples until it is asked to stop; the number of samples.
fn sample(hz: u32, asked: &AtomicBool, begun: impl FnOnce()) -> Result<u64> {
    let mut engine = recording::start(hz)?;
    // After the engine's beginning, as in `record`: threads inherit it.
    let _precedence = Precedence::take();
    begun();
    while !asked.load(Ordering::Relaxed) {
        let round = engine.round();
        recording::go_on(&mut engine, round)?;
    }
    Ok(engine.samples() as u64)
}

/// The same records of the same kinds in rings as large as the profiler's, of which nothing is made; their number.
fn throw_side_band_away(asked: &AtomicBool, begun: impl FnOnce()) -> Result<u64> {
    let _precedence = Precedence::take();
    let mut rings = Vec::new();
    for cpu in 0..machine::cpus() {
        let event = PerfEvent::side_band(cpu)?;
        let ring = PerfRing::map(&event, SIDE_BAND_RING)?;
        event.enable()?;
        rings.push((event, ring));
    }
    begun();
    let mut records = 0;
    while !asked.load(Ordering::Relaxed) {
        std::thread::sleep(SIDE_BAND_ROUND);
        rings.iter_mut().for_each(|(_, ring)| ring.drain(|_| records += 1));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_what_is_added_and_a_gain_is_negative() {
        let seconds = Duration::from_secs;
        assert_eq!([loss(seconds(3), seconds(2)), loss(seconds(1), seconds(2))], [50.0, -50.0]);
    }

    #[test]
    fn the_spread_is_the_samples_standard_deviation_over_its_mean() {
        // Mean 4, variance (4 + 4) / 2.
        assert_eq!(spread([2, 4, 6].map(Duration::from_secs).into_iter()), 50.0);
        assert!(spread([Duration::from_secs(1)].into_iter()).is_nan());
    }

    #[test]
    fn lots_fall_on_both_sides_about_equally_often() {
        let mut lot = Lot(88_172_645_463_325_252);
        let heads = (0..1000).filter(|_| lot.draw()).count();
        assert!((450..=550).contains(&heads), "{heads}");
    }
}
