//! The whole agent on a node with containers, for as long as is asked: processor time per sample, memory, and whether both stay.

mod containers;
mod receivers;

use anyhow::{Context as _, Result, bail};
use profiler::profile::pprof;
use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::account::{ProgramStatistics, ProgramTime, cpu_time_of};
use crate::figures::Figures;
use crate::footprint::Footprint;
use crate::load::Load;
use crate::machine;
use crate::programs::{Running, compile};
use containers::Containers;
use receivers::Receiver;

/// Between two looks at the memory: each reads `smaps`, a millisecond of the kernel's work.
const LOOK: Duration = Duration::from_secs(5);
/// Rows of the table.
const ROWS: u32 = 12;
/// The agent's start: eBPF programs are verified, the tables of what runs are built.
const PATIENCE: Duration = Duration::from_secs(60);
/// Different executables among those that take a little processor time each.
const VARIANTS: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Containers, each with one program
    #[arg(long, default_value_t = 60)]
    containers: usize,
    /// Samples per CPU and second
    #[arg(long, default_value_t = 99)]
    hz: u32,
    /// The agent's --cpu-limit, percent of the node
    #[arg(long, default_value_t = 1.0)]
    cpu_limit: f64,
    /// Seconds of an upload
    #[arg(long, default_value_t = 60)]
    interval: u32,
    /// With the page and its history, which nobody looks at
    #[arg(long)]
    page: bool,
    /// Writes profiles to files as well, and compares their sum with what the containers' cgroups were charged
    #[arg(long)]
    account: bool,
    /// Keeps the agent's files there, its log and its history among them; must not be there yet
    #[arg(long)]
    keep: Option<PathBuf>,
}

impl Options {
    /// What shows whether it works, in a minute.
    pub(crate) fn quick(self) -> Options {
        Options { minutes: 1.0, interval: 10, ..self }
    }
}

const EXPLANATION: &str = "\
`everflame agent`, this program's own build of it, delivers to two back ends (Datadog's wire and OTLP over HTTP) that take everything.
All CPUs are busy at the lowest priority. `agent` and `programs`: processor time per sample of the row's span, the agent's by the
kernel's account of the process, the programs' by the kernel's own; `of the node`: both, as a share of all CPUs. Memory is counted
as in `memory`, and is the largest of the row's looks.";

/// What was read of the agent at one moment.
#[derive(Clone, Copy, Default)]
struct Look {
    agent: Duration,
    programs: ProgramTime,
    samples: u64,
}

impl Look {
    fn at(pid: u32, metrics: SocketAddr) -> Result<Look> {
        Ok(Look {
            agent: cpu_time_of(pid)?,
            programs: ProgramTime::of(&pid.to_string())?,
            samples: metric(&get(metrics, "/metrics")?, "everflame_timer_hits_total{fate=\"recorded\"}")?,
        })
    }

    /// What was spent between two looks, in words.
    fn until(&self, later: &Look, elapsed: Duration) -> String {
        let samples = later.samples - self.samples;
        let programs = Duration::from_nanos(later.programs.since(self.programs).time_ns);
        let spent = (later.agent - self.agent + programs).as_secs_f64();
        let share = spent / elapsed.as_secs_f64() / f64::from(machine::cpus()) * 100.0;
        format!("{samples} samples, {:.1} µs of each all in, {share:.3} % of the node", spent * 1e6 / samples as f64)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    machine::begin("node: the agent with containers and two back ends", EXPLANATION);
    let temporary = tempfile::tempdir()?;
    if let Some(folder) = &options.keep {
        fs::create_dir(folder).with_context(|| folder.display().to_string())?;
    }
    let folder = options.keep.as_deref().unwrap_or(temporary.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (datadog, otlp) = (Receiver::start(&runtime)?, Receiver::start(&runtime)?);
    // Before the programs, so that it is dropped after them: a cgroup with a process in it stays.
    let containers = Containers::make()?;
    let _statistics = ProgramStatistics::enable()?;
    let metrics = free_port()?;
    let mut agent = start_agent(options, folder, [datadog.address, otlp.address], metrics)?;
    let ready = || get(metrics, "/readyz").is_ok_and(|said| said.starts_with("HTTP/1.1 200"));
    let began = Instant::now();
    while !ready() {
        if !agent.is_alive() || began.elapsed() > PATIENCE {
            bail!("the agent did not begin: {}", fs::read_to_string(folder.join("log"))?);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let programs = start_programs(options.containers, folder, &containers)?;
    println!(
        "{} Hz, {} min, --cpu-limit {}, {} containers{}.\n",
        options.hz,
        options.minutes,
        options.cpu_limit,
        options.containers,
        if options.page { ", page and history" } else { "" }
    );
    let looks = watch(options, &mut agent, metrics)?;
    let charged = containers.charged();
    drop(programs);
    println!("\nOver the last half the memory was {}.", stays(&looks[looks.len() / 2..]));
    agent.terminate();
    if !agent.wait()? {
        bail!("the agent ended badly: {}", fs::read_to_string(folder.join("log"))?);
    }
    for (name, receiver) in [("Datadog", &datadog), ("OTLP", &otlp)] {
        let (requests, bytes) = receiver.so_far();
        println!("{name}: {requests} requests, {:.1} MB.", bytes as f64 / 1e6);
        if requests == 0 {
            bail!("nothing was delivered to {name}: {}", fs::read_to_string(folder.join("log"))?);
        }
    }
    if options.account {
        let charged = charged.context("no cgroup of version 2 that tells processor time")?;
        account(&folder.join("profiles"), options.containers, charged)?;
    }
    Ok(())
}

fn start_agent(options: &Options, folder: &Path, back_ends: [SocketAddr; 2], metrics: SocketAddr) -> Result<Running> {
    let [datadog, otlp] = back_ends;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0(crate::PROFILER).arg("agent").args(["--kubernetes", "off", "--cri", "off"]);
    command.args(["--to", &format!("datadog+http://{datadog}"), "--to", &format!("otlp+http://{otlp}")]);
    command.args(["--frequency", &options.hz.to_string(), "--cpu-limit", &options.cpu_limit.to_string()]);
    command.args(["--interval", &format!("{}s", options.interval), "--listen", &metrics.to_string()]);
    command.arg("--spool").arg(folder.join("spool"));
    if options.page {
        command.args(["--page", "127.0.0.1:0", "--store"]).arg(folder.join("history"));
    }
    if options.account {
        command.arg("--to").arg(format!("file://{}", folder.join("profiles").display()));
    }
    let log = fs::File::create(folder.join("log"))?;
    Running::spawn(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))
}

/// A busy program of each kind, and for the rest programs that take a hundredth of a processor each.
fn start_programs(count: usize, folder: &Path, containers: &Containers) -> Result<(Load, Vec<Running>)> {
    let load = Load::start(folder, false)?;
    let mut number = 0;
    for running in load.running() {
        running.put_last();
        containers.put(number, running.pid())?;
        number += 1;
    }
    let variants = (0..VARIANTS)
        .map(|variant| compile("little.c", folder, &format!("little-{variant}"), &[&format!("-DVARIANT={variant}")]))
        .collect::<Result<Vec<_>>>()?;
    let mut little = Vec::new();
    for program in variants.iter().cycle().take(count.saturating_sub(number)) {
        let running = Running::spawn(Command::new(program).arg("1000").stdout(Stdio::null()))?;
        running.put_last();
        containers.put(number, running.pid())?;
        number += 1;
        little.push(running);
    }
    Ok((load, little))
}

/// Looks until the time is over, and prints the table; all footprints' sums, bytes.
fn watch(options: &Options, agent: &mut Running, metrics: SocketAddr) -> Result<Vec<u64>> {
    machine::head(&[
        "minutes",
        "samples",
        "agent µs",
        "programs µs",
        "all in",
        "of the node",
        "Hz",
        "own MB",
        "maps",
        "programs",
        "rings",
        "sum",
        "load",
    ]);
    let (began, span) = (Instant::now(), Duration::from_secs_f64(options.minutes * 60.0));
    let (mut all, first, mut row_began) = (Vec::new(), Look::at(agent.pid(), metrics)?, began);
    let mut before = first;
    for row in 1..=ROWS {
        let mut most = Footprint::default();
        while began.elapsed() < span * row / ROWS {
            std::thread::sleep(LOOK.min(span / ROWS));
            if !agent.is_alive() {
                bail!("the agent ended");
            }
            let footprint = Footprint::of(agent.pid())?;
            all.push(footprint.total());
            most = if footprint.total() > most.total() { footprint } else { most };
        }
        let now = Look::at(agent.pid(), metrics)?;
        let hertz = metric(&get(metrics, "/metrics")?, "everflame_frequency_hertz")?;
        let samples = now.samples - before.samples;
        let spent = [now.agent - before.agent, Duration::from_nanos(now.programs.since(before.programs).time_ns)];
        let each = spent.map(|time| time.as_secs_f64() * 1e6 / samples as f64);
        let share = spent.iter().sum::<Duration>().as_secs_f64()
            / row_began.elapsed().as_secs_f64()
            / f64::from(machine::cpus());
        let memory = [most.own, most.maps, most.programs, most.rings].map(|bytes| format!("{:.1}", bytes as f64 / 1e6));
        println!(
            "| {:.0} | {samples} | {:.1} | {:.1} | **{:.1}** | {:.3} % | {hertz} | {} | **{:.1}** | {} |",
            began.elapsed().as_secs_f64() / 60.0,
            each[0],
            each[1],
            each[0] + each[1],
            share * 100.0,
            memory.join(" | "),
            most.total() as f64 / 1e6,
            machine::load(),
        );
        (before, row_began) = (now, Instant::now());
    }
    println!("\nThe whole time: {}.", first.until(&before, began.elapsed()));
    Ok(all)
}

/// From the median of a span's first tenth to that of its last, in words.
fn stays(looks: &[u64]) -> String {
    let tenth = (looks.len() / 10).max(1);
    let median = |looks: &[u64]| Figures::new(looks.iter().map(|bytes| *bytes as f64 / 1e6).collect()).median();
    let all = Figures::new(looks.iter().map(|bytes| *bytes as f64 / 1e6).collect());
    format!(
        "{:.1} MB at first, {:.1} MB at last (least {:.1}, most {:.1}, {} looks)",
        median(&looks[..tenth.min(looks.len())]),
        median(&looks[looks.len().saturating_sub(tenth)..]),
        all.least(),
        all.most(),
        all.count()
    )
}

/// Sums the files' samples of our containers, and compares them with what those were charged.
fn account(folder: &Path, count: usize, charged: Duration) -> Result<()> {
    let ours: HashSet<String> = (0..count).map(containers::id).collect();
    let (mut samples, mut time_ns) = (0u64, 0u64);
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let profile = pprof::decode(&fs::read(entry?.path())?)?;
        let text = |index: i64| profile.string_table.get(index as usize).map_or("", String::as_str);
        for sample in &profile.sample {
            let container = sample.label.iter().find(|label| text(label.key) == "container_id");
            if container.is_some_and(|label| ours.contains(text(label.str))) {
                samples += sample.value.first().copied().unwrap_or(0).unsigned_abs();
                time_ns += sample.value.get(1).copied().unwrap_or(0).unsigned_abs();
            }
        }
    }
    let (sampled, charged) = (time_ns as f64 / 1e9, charged.as_secs_f64());
    println!(
        "Containers: {samples} samples are {sampled:.2} s, their cgroups were charged {charged:.2} s: {:+.2} % (chance: {:.2} %).",
        (sampled / charged - 1.0) * 100.0,
        300.0 / (samples as f64).sqrt(),
    );
    Ok(())
}

/// A port that was free a moment ago.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The agent's answer, head and body.
fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A metric's number; all that are asked for are whole, whatever way they are written.
fn metric(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let number = line.and_then(|number| number.split(' ').next()?.parse::<f64>().ok());
    Ok(number.with_context(|| format!("no metric {name}"))? as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "hits_total{fate=\"idle\"} 5\nhits 7\nhits_total{fate=\"recorded\"} 9\nhits_at 3.0 170\n";
        assert_eq!(metric(text, "hits").unwrap(), 7);
        assert_eq!(metric(text, "hits_total{fate=\"recorded\"}").unwrap(), 9);
        assert_eq!(metric(text, "hits_at").unwrap(), 3);
        assert!(metric(text, "hits_total").is_err());
    }
}
