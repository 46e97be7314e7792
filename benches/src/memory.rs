//! Memory of the whole profiler, kernel side included, on a node with hundreds of processes.

use anyhow::{Result, bail};
use fixtures::Flavour;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::footprint::Footprint;
use crate::machine;
use crate::programs::{Running, compile};

/// Between two looks: each reads `smaps`, some milliseconds of the kernel's work.
const LOOK: Duration = Duration::from_millis(100);
/// Executables that `little.c` is compiled to.
const VARIANTS: usize = 20;
/// Each of these takes a little CPU and rests; those that the machine does not have are left out.
const INTERPRETERS: [(&str, &str, &str); 4] = [
    ("python3", "-c", "import time\nwhile 1:\n  sum(x*x for x in range(2000))\n  time.sleep(.1)"),
    ("perl", "-e", "while (1) { my $s = 0; $s += $_ for 1..2000; select(undef, undef, undef, .1) }"),
    ("bash", "-c", "exec 9<> <(:); while :; do for ((i = 0; i < 200; i++)); do :; done; read -rt 0.1 -u 9; done"),
    ("node", "-e", "setInterval(() => { let s = 0; for (let i = 0; i < 2e5; i++) s += i % 7 }, 100)"),
];
/// Processes of each interpreter, and of each compiled program that burns without a rest (at the lowest priority).
const PER_INTERPRETER: usize = 12;
const PER_BURNER: usize = 2;
const BURNERS: [(&str, Flavour); 3] =
    [("generics", Flavour::OmitFp), ("goroutines", Flavour::Static), ("exceptions", Flavour::OmitFp)];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Processes on the node beside those that are there
    #[arg(long, default_value_t = 200)]
    processes: usize,
    /// Seconds of the recording
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Samples per CPU and second
    #[arg(long, default_value_t = 99)]
    hz: u32,
}

impl Options {
    /// What shows whether it works, in half a minute.
    pub(crate) fn quick(self) -> Options {
        Options { seconds: 12, ..self }
    }
}

const EXPLANATION: &str = "\
`everflame record` of the whole node, this program's own build of it. `own`: RSS without mappings of BPF maps and rings, so with the
executable's own pages; `maps`, `programs`: the kernel's account of each; `rings`: perf rings. Steady: median of the recording's
second half. Peak: the largest sum of any look while recording, and until the process has ended, with naming everything at once
and writing pprof; what is shorter than the time between two looks is not seen. Aim: 100 MB or less.";

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    machine::begin("memory: the whole profiler, MB (10⁶ bytes)", EXPLANATION);
    println!("{} Hz, {} s, a look every {} ms.", options.hz, options.seconds, LOOK.as_millis());
    let (mut node, kinds) = start_processes(options.processes, folder.path())?;
    println!("Started: {kinds}\n");
    let output = folder.path().join("memory.pb.gz");
    let words = [
        "record",
        "--top",
        "0",
        "--duration",
        &format!("{}s", options.seconds),
        "--frequency",
        &options.hz.to_string(),
    ];
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0(crate::PROFILER).args(words).arg("--output").arg(&output).stdout(Stdio::piped());
    let began = Instant::now();
    let mut profiler = Running::spawn(&mut command)?;
    let mut looks = Vec::new();
    while profiler.is_alive() {
        // Between the last two looks the process may have gone.
        if let Ok(footprint) = Footprint::of(profiler.pid()) {
            looks.push((began.elapsed(), footprint));
        }
        std::thread::sleep(LOOK);
    }
    let said = profiler.rest_of_output()?;
    if !profiler.wait()? {
        bail!("the recording failed: {said}");
    }
    let alive = node.iter_mut().map(Running::is_alive).filter(|alive| *alive).count();
    drop(node);
    report(options, &looks)?;
    println!(
        "\nIn the profile: {} processes; of the {} started, {alive} ran to the end. {}",
        sampled(&output)?,
        options.processes,
        said.trim()
    );
    Ok(())
}

fn report(options: &Options, looks: &[(Duration, Footprint)]) -> Result<()> {
    let seconds = Duration::from_secs(u64::from(options.seconds));
    let part = |from: Duration, to: Duration| {
        looks.iter().filter(move |(at, _)| *at >= from && *at < to).map(|(_, footprint)| *footprint)
    };
    let steady: Vec<Footprint> = part(seconds / 2, seconds).collect();
    if steady.is_empty() {
        bail!("the recording ended before its middle");
    }
    let median =
        |of: fn(&Footprint) -> u64| Figures::new(steady.iter().map(|each| of(each) as f64 / 1e6).collect()).median();
    machine::head(&["", "own", "maps", "programs", "rings", "sum", "load"]);
    println!(
        "| steady | {:.1} | {:.1} | {:.1} | {:.1} | **{:.1}** | {} |",
        median(|each| each.own),
        median(|each| each.maps),
        median(|each| each.programs),
        median(|each| each.rings),
        median(Footprint::total),
        machine::load(),
    );
    for (name, to) in [("peak, recording", seconds), ("peak, to the end", Duration::MAX)] {
        let Some(most) = part(Duration::ZERO, to).max_by_key(Footprint::total) else { continue };
        let Footprint { own, maps, programs, rings } = most;
        let [own, maps, programs, rings, sum] =
            [own, maps, programs, rings, most.total()].map(|bytes| bytes as f64 / 1e6);
        println!("| {name} | {own:.1} | {maps:.1} | {programs:.1} | {rings:.1} | **{sum:.1}** | {} |", machine::load());
    }
    Ok(())
}

/// Distinct processes in a pprof file.
fn sampled(file: &Path) -> Result<usize> {
    let profile = profiler::profile::pprof::decode(&fs::read(file)?)?;
    let pid = profile.string_table.iter().position(|text| text == "pid").map(|index| index as i64);
    let labels = profile.sample.iter().flat_map(|sample| &sample.label);
    let pids: std::collections::HashSet<i64> =
        labels.filter(|label| Some(label.key) == pid).map(|label| label.num).collect();
    Ok(pids.len())
}

/// So many processes of as many executables as this machine can give; what they are.
fn start_processes(count: usize, folder: &Path) -> Result<(Vec<Running>, String)> {
    let mut plan: Vec<(PathBuf, Vec<OsString>, bool)> = Vec::new();
    let mut kinds = Vec::new();
    for (name, flag, program) in INTERPRETERS {
        let Some(path) = find(name) else { continue };
        kinds.push(format!("{PER_INTERPRETER} {name}"));
        plan.extend((0..PER_INTERPRETER).map(|_| (path.clone(), vec![flag.into(), program.into()], false)));
    }
    for (name, flavour) in BURNERS {
        let Ok(path) = fixtures::build(name, flavour) else { continue };
        kinds.push(format!("{PER_BURNER} {name}"));
        plan.extend((0..PER_BURNER).map(|_| (path.clone(), Vec::new(), true)));
    }
    plan.truncate(count);
    let variants = (0..VARIANTS.min(count - plan.len()))
        .map(|variant| compile("little.c", folder, &format!("little-{variant}"), &[&format!("-DVARIANT={variant}")]))
        .collect::<Result<Vec<_>>>()?;
    let rest = count - plan.len();
    kinds.push(format!("{rest} of {} compiled programs", variants.len()));
    plan.extend(variants.iter().cycle().take(rest).map(|path| (path.clone(), vec!["500".into()], false)));
    let start = |(path, words, burns): &(PathBuf, Vec<OsString>, bool)| {
        let mut command = Command::new(path);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
        let running = Running::spawn(&mut command)?;
        if *burns {
            running.put_last();
        }
        Ok(running)
    };
    Ok((plan.iter().map(start).collect::<Result<_>>()?, kinds.join(", ")))
}

fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}
