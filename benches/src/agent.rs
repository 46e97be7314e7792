//! Cost per sample, all in, as an agent has it: the engine's rounds, the programs in the kernel, and each interval cut, named and
//! made to pprof while sampling goes on.

use anyhow::Result;
use profiler::engine::{Engine, Precedence};
use profiler::naming::{Namer, unhurried};
use profiler::profile::pprof::{ProfileInfo, encode, to_gzip_quickly};
use std::path::Path;
use std::time::Duration;

use crate::account::{ProgramStatistics, ProgramTime, own_cpu_time};
use crate::figures::Figures;
use crate::interval::Interval;
use crate::load::Load;
use crate::{machine, recording};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Samples per CPU and second
    #[arg(long, value_delimiter = ',', default_values_t = [99, 997])]
    hz: Vec<u32>,
    /// Intervals before anything counts: start-up, row building, first samples, first names
    #[arg(long, default_value_t = 2)]
    warm_up: u32,
    /// Intervals that are measured
    #[arg(long, default_value_t = 8)]
    intervals: u32,
    /// Seconds of an interval
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// Also processes from executables never seen before, all the time
    #[arg(long)]
    spawner: bool,
}

impl Options {
    /// What shows whether it works, in half a minute.
    pub(crate) fn quick(self) -> Options {
        Options { warm_up: 1, intervals: 3, seconds: 3.0, ..self }
    }
}

const EXPLANATION: &str = "\
`loop`: CPU time of the whole agent process per sample while it drains, orders, aggregates and builds rows. `ship`: the same
while each interval is cut, named and made to gzipped pprof; sending is not in it, and shorter intervals cost more. Both are
means over the intervals with 95 % intervals (Student's t).
`programs`: the kernel's account (bpf_stats) of the sampling programs, hits on idle CPUs and the ring included, over the
samples; beside it the programs' own timers, which end before the ring. All in = loop + ship + programs. Aim: 25 µs or less.";

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    machine::begin("agent: cost per sample, all in, µs", EXPLANATION);
    println!("{} intervals of {} s after {} of warm-up.", options.intervals, options.seconds, options.warm_up);
    let load = Load::start(folder.path(), options.spawner)?;
    println!("Load: {}\n", load.text());
    machine::head(&[
        "Hz",
        "samples",
        "lost",
        "user frames",
        "loop",
        "ship",
        "programs",
        "own timers p50 / p99",
        "all in",
        "steal",
        "load",
    ]);
    options.hz.iter().try_for_each(|hz| measure(*hz, options))
}

/// An agent without a network.
struct Agent {
    engine: Engine,
    namer: Namer,
    info: ProfileInfo,
}

impl Agent {
    /// Rounds for so long, then cuts and ships: CPU time of each, and the samples shipped.
    fn interval(&mut self, time: Duration) -> Result<(Duration, Duration, usize)> {
        let began = own_cpu_time();
        recording::go_on(&mut self.engine, time)?;
        let looped = own_cpu_time();
        let mut interval = self.engine.cut()?;
        self.namer.name(&mut interval);
        let bytes = to_gzip_quickly(&encode(&interval.batch, &self.info)?);
        drop(bytes);
        Ok((looped - began, own_cpu_time() - looped, interval.batch.samples.len()))
    }
}

fn measure(hz: u32, options: &Options) -> Result<()> {
    let _statistics = ProgramStatistics::enable()?;
    let engine = recording::start(hz)?;
    let info = ProfileInfo { frequency_hz: hz, cpus: engine.cpus() as u32, kernel_release: String::new() };
    let mut agent = Agent { engine, namer: Namer::new(unhurried(), Path::new("/proc"))?, info };
    let _precedence = Precedence::take();
    let time = Duration::from_secs_f64(options.seconds);
    for _ in 0..options.warm_up {
        agent.interval(time)?;
    }
    let steal = machine::Steal::begin();
    let (programs, before, lost) = (ProgramTime::of("self")?, agent.engine.counters().clone(), agent.engine.lost());
    let (mut looped, mut shipped, mut samples) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.intervals {
        let (in_loop, in_ship, count) = agent.interval(time)?;
        let per_sample = |spent: Duration| spent.as_secs_f64() * 1e6 / count as f64;
        looped.push(per_sample(in_loop));
        shipped.push(per_sample(in_ship));
        samples += count;
    }
    let programs = ProgramTime::of("self")?.since(programs).time_ns as f64 / 1e3 / samples as f64;
    let after = agent.engine.counters();
    let costs = after.costs_ns[before.costs_ns.len()..].iter().map(|cost| f64::from(*cost) / 1e3);
    let own = Figures::new(costs.collect());
    let (looped, shipped) = (Interval::of(&looped), Interval::of(&shipped));
    println!(
        "| {hz} | {samples} | {} | {:.1} | {:.2} ± {:.2} | {:.2} ± {:.2} | {programs:.2} | {:.2} / {:.2} | **{:.2}** | {} | {} |",
        agent.engine.lost() - lost,
        (after.kernel_walked_frames - before.kernel_walked_frames) as f64 / samples as f64,
        looped.mean,
        looped.half_width,
        shipped.mean,
        shipped.half_width,
        own.median(),
        own.at(0.99),
        looped.mean + shipped.mean + programs,
        steal.text(),
        machine::load(),
    );
    Ok(())
}
