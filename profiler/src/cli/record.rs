//! `everflame record`: the main job.

use std::io::IsTerminal as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use profiler_common::filter;

use super::args::Record;
use super::expense::Expense;
use super::progress::Progress;
use super::stop::Stop;
use crate::engine::{Engine, Group, Options, Precedence, Recording, of_programs};
use crate::naming::{Namer, unhurried};
use crate::output;
use crate::profile::pprof::{ProfileInfo, encode};
use crate::report::summary::summary;
use crate::report::thousands;
use crate::report::top::{TopOptions, render};

/// Without a command and a duration.
const DEFAULT_DURATION: Duration = Duration::from_secs(30);

/// How long a recording waits for the unwind tables of busy processes before its first sample.
const WARM_UP: Duration = Duration::from_secs(2);

/// What the words mean.
struct Settings {
    options: Options,
    duration: Option<Duration>,
    outputs: Vec<PathBuf>,
    command: Vec<std::ffi::OsString>,
    rows: usize,
    statistics: bool,
}

pub(super) fn run(words: Record) -> anyhow::Result<ExitCode> {
    let settings = settings(words)?;
    super::capabilities::check()?;
    for path in &settings.outputs {
        output::prepare(path)?;
    }
    let before = raise_file_limit();
    let stop = Stop::watch().context("cannot watch for Ctrl-C")?;
    let mut engine = Engine::new(settings.options.clone())?;
    if settings.command.is_empty() {
        warm_up(&mut engine, &stop)?;
    }
    engine.start()?;
    let mut child = spawn(&settings.command, before)?;
    if let Some(child) = &child {
        engine.follow(child.id());
    }
    let Watched { mut status, broken, expense } = watch(&mut engine, &settings, child.as_mut(), &stop)?;
    let statistics = settings.statistics.then(|| statistics(&mut engine));
    let programs = engine.program_counters().unwrap_or_default();
    let mut recording = engine.finish()?;
    let info = ProfileInfo {
        frequency_hz: settings.options.frequency_hz,
        cpus: recording.cpus,
        kernel_release: kernel_release(),
    };
    let mut namer = Namer::new(unhurried(), &settings.options.proc_root).context("cannot start the symbolizer")?;
    namer.name(&mut recording.interval);
    let batch = &recording.interval.batch;
    let profile = encode(batch, &info)?;
    let title = title(&settings);
    // Whatever can be written is written, also when one place fails.
    let mut failed = broken;
    let mut written = Vec::new();
    for path in &settings.outputs {
        match output::write(&profile, path, &title) {
            Ok(()) => written.push(describe(path)),
            Err(error) => {
                eprintln!("everflame: {error}");
                failed = true;
            }
        }
    }
    let mut text = String::new();
    if !written.is_empty() {
        text += &format!("wrote {}\n", written.join(" and "));
    }
    text += &summary(batch, &info);
    text += "\n";
    let rows = TopOptions { rows: settings.rows, ..TopOptions::default() };
    text += &render(&profile, &rows)?;
    if let Some(verdicts) = statistics {
        text += &verdicts;
        text += &expense.text();
        text += &recording_statistics(&recording, programs, namer.statistics().named());
    }
    say(&settings, &text);
    if status.is_none()
        && let Some(child) = &mut child
    {
        // Time was up, or Ctrl-C came, which the command got as well: the result is there, the exit code is not yet.
        if stop.terminated() {
            // SAFETY: no pointers. The child has not been waited for, so the pid is its own.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        }
        eprintln!("everflame: waiting for the command to end (pid {})", child.id());
        status = Some(child.wait().context("cannot wait for the command")?);
    }
    if failed {
        return Ok(ExitCode::FAILURE);
    }
    Ok(status.map_or(ExitCode::SUCCESS, exit_code))
}

/// Standard output is for people, unless a profile goes there.
fn say(settings: &Settings, text: &str) {
    if settings.outputs.iter().any(|path| path == Path::new(output::STANDARD)) {
        eprint!("{text}");
    } else {
        super::print::print(text);
    }
}

fn describe(path: &Path) -> String {
    let name = path.display();
    if path == Path::new(output::STANDARD) {
        return "standard output (pprof)".to_owned();
    }
    match output::OutputFormat::of_path(path) {
        Ok(format) => format!("{name} ({})", format.name()),
        Err(_) => name.to_string(),
    }
}

fn settings(words: Record) -> anyhow::Result<Settings> {
    let mut options = super::selection::options(words.selection, words.frequency)?;
    if words.verify {
        options.filter |= filter::COPY_ALL;
        // Every sample is copied when verifying.
        options.copies_per_second = words.frequency + 1;
    }
    if words.count_pids {
        options.filter |= filter::COUNT_PIDS;
    }
    options.rule_cache = !words.no_rule_cache;
    options.verify = words.verify;
    let outputs = if words.output.is_empty() {
        vec![PathBuf::from("cpu.pb.gz"), PathBuf::from("cpu.html")]
    } else {
        words.output
    };
    let duration = match (words.duration, words.command.is_empty()) {
        (None, true) => Some(DEFAULT_DURATION),
        (duration, _) => duration,
    };
    Ok(Settings { options, duration, outputs, command: words.command, rows: words.top, statistics: words.statistics })
}

/// The command gets back the limit of open files that we had: a program that closes every descriptor it may have would see the change.
fn spawn(command: &[std::ffi::OsString], files: Option<libc::rlimit>) -> anyhow::Result<Option<Child>> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    let mut command = Command::new(program);
    command.args(arguments);
    // SAFETY: setrlimit is async-signal-safe, and gets a valid limit.
    unsafe {
        command.pre_exec(move || {
            if let Some(limit) = files {
                libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            }
            Ok(())
        });
    }
    let child = command.spawn().with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
    Ok(Some(child))
}

/// A command has no tables yet that could be made; whatever else runs has.
fn warm_up(engine: &mut Engine, stop: &Stop) -> anyhow::Result<()> {
    let progress = std::io::stderr().is_terminal().then(Progress::start);
    if let Some(progress) = &progress {
        progress.say("reading unwind tables of busy processes".to_owned());
    }
    let result = engine.warm_up(WARM_UP, || stop.wanted());
    if let Some(progress) = &progress {
        progress.end();
    }
    Ok(result?)
}

/// Ticks until time is up, the command has ended, or the user wants an end.
fn watch(
    engine: &mut Engine,
    settings: &Settings,
    mut child: Option<&mut Child>,
    stop: &Stop,
) -> anyhow::Result<Watched> {
    let started = Instant::now();
    // The command runs already, and does not inherit it.
    let _precedence = Precedence::take();
    let progress = std::io::stderr().is_terminal().then(Progress::start);
    let (mut broken, mut expense) = (false, Expense::begin());
    let status = loop {
        let left = settings.duration.map(|duration| duration.saturating_sub(started.elapsed()));
        std::thread::sleep(left.map_or(engine.round(), |left| left.min(engine.round())));
        if let Err(error) = engine.tick() {
            // What was recorded until now is worth more than a clean end.
            eprintln!("everflame: {error}; the recording ends here");
            broken = true;
            break None;
        }
        expense.look(engine.samples());
        if let Some(progress) = &progress {
            progress.say(format!(
                "{:.1} s · {} CPUs · {} samples · {} processes · {} lost",
                started.elapsed().as_secs_f64(),
                engine.cpus(),
                thousands(engine.samples() as u64),
                thousands(engine.sampled_processes() as u64),
                thousands(engine.lost()),
            ));
        }
        if let Some(child) = child.as_mut()
            && let Some(status) = child.try_wait().context("cannot wait for the command")?
        {
            break Some(status);
        }
        if stop.wanted() || settings.duration.is_some_and(|duration| started.elapsed() >= duration) {
            break None;
        }
        if engine.is_full() {
            eprintln!(
                "everflame: the recording holds as much as it may ({} samples), so it ends here; \
                a lower -F or fewer processes last longer, `everflame` alone keeps a history on disk",
                thousands(engine.samples() as u64)
            );
            break None;
        }
        let pids = &settings.options.pids;
        if !pids.is_empty() && pids.iter().all(|pid| !settings.options.proc_root.join(pid.to_string()).exists()) {
            eprintln!("everflame: every process that was asked for has ended; so does the recording");
            break None;
        }
    };
    if let Some(progress) = &progress {
        progress.end();
    }
    Ok(Watched { status, broken, expense })
}

/// How a recording came to its end.
struct Watched {
    /// The command's, if it ended.
    status: Option<ExitStatus>,
    /// Whether the engine could not go on.
    broken: bool,
    /// What it cost until then.
    expense: Expense,
}

/// A shell's convention: 128 + signal for a command that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}

/// What the page calls itself: the command, or the host.
fn title(settings: &Settings) -> String {
    if settings.command.is_empty() {
        return std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    }
    settings.command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

pub(super) fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Each executable keeps a file open: take what the hard limit allows. Returns what it was.
pub(super) fn raise_file_limit() -> Option<libc::rlimit> {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut before) != 0 {
            return None;
        }
        let most = libc::rlimit { rlim_cur: before.rlim_max, ..before };
        libc::setrlimit(libc::RLIMIT_NOFILE, &most);
    }
    Some(before)
}

fn statistics(engine: &mut Engine) -> String {
    let mut text = String::from("\nverified instructions:");
    for (name, count) in engine.verified_instructions() {
        text += &match count {
            Some(count) => format!(" {name} {count}"),
            None => format!(" {name} unknown"),
        };
    }
    text += "\n";
    if let Ok(hits) = engine.hits_by_pid()
        && !hits.is_empty()
    {
        let mut hits = hits;
        hits.sort_unstable();
        for (pid, count) in hits {
            text += &format!("hits: pid {pid} {count}\n");
        }
    }
    text
}

fn recording_statistics(
    recording: &Recording,
    programs: [u64; profiler_common::COUNTERS],
    names: Vec<(&'static str, u64)>,
) -> String {
    let counters = &recording.counters;
    let mut text = String::new();
    if let Some((mean, median, p99)) = counters.cost() {
        text += &format!("program time per sample: mean {mean} ns, median {median} ns, p99 {p99} ns\n");
    }
    if let Some(share) = counters.kernel_share() {
        text += &format!("finished in the kernel: {:.2} %\n", share * 100.0);
    }
    if counters.kernel_walked_frames > 0 {
        let share = counters.cache_hits as f64 / counters.kernel_walked_frames as f64;
        text += &format!("rule cache: {:.1} % of {} frames\n", share * 100.0, counters.kernel_walked_frames);
    }
    let mut groups = vec![of_programs(&programs)];
    groups.extend(recording.statistics());
    groups.push(("names", names));
    text + &counter_table(&groups)
}

/// A line for each part, with all of its counters: `tables: refused 0, escapes_refused 0, …`.
fn counter_table(groups: &[Group]) -> String {
    let line = |(part, counters): &Group| {
        let counters: Vec<String> = counters.iter().map(|(name, count)| format!("{name} {count}")).collect();
        format!("{part}: {}\n", counters.join(", "))
    };
    groups.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::counter_table;

    #[test]
    fn every_counter_is_on_its_parts_line() {
        let groups = [("tables", vec![("refused", 1), ("grace_periods", 20)]), ("names", vec![("late", 0)])];
        assert_eq!(counter_table(&groups), "tables: refused 1, grace_periods 20\nnames: late 0\n");
    }
}
