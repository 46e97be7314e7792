//! `everflame record`: the main job.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use profiler_common::filter;
use symbolizer::Symbolizer;

use super::args::Record;
use super::progress::Progress;
use super::stop::Stop;
use crate::engine::{Engine, Options, Precedence, Recording, Target, naming};
use crate::output;
use crate::profile::pprof::{ProfileInfo, encode};
use crate::report::summary::summary;
use crate::report::thousands;
use crate::report::top::{TopOptions, render};

/// Without a command and a duration.
const DEFAULT_DURATION: Duration = Duration::from_secs(30);

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
    raise_file_limit();
    let stop = Stop::watch().context("cannot watch for Ctrl-C")?;
    let mut engine = Engine::new(settings.options.clone())?;
    engine.start()?;
    let mut child = spawn(&settings.command)?;
    if let Some(child) = &child {
        engine.follow(child.id());
    }
    let Watched { mut status, broken } = watch(&mut engine, &settings, child.as_mut(), &stop)?;
    let statistics = settings.statistics.then(|| statistics(&mut engine));
    let mut recording = engine.finish()?;
    let info = ProfileInfo {
        frequency_hz: settings.options.frequency_hz,
        cpus: recording.cpus,
        kernel_release: kernel_release(),
    };
    let symbolizer = Symbolizer::new(naming::unhurried()).context("cannot start the symbolizer")?;
    naming::name_locations(&mut recording, &symbolizer, &settings.options.proc_root);
    let profile = encode(&recording.batch, &info)?;
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
    text += &summary(&recording.batch, &info);
    text += "\n";
    let rows = TopOptions { rows: settings.rows, ..TopOptions::default() };
    text += &render(&profile, &rows)?;
    if let Some(verdicts) = statistics {
        text += &verdicts;
        text += &recording_statistics(&recording);
    }
    say(&settings, &text);
    if status.is_none()
        && let Some(child) = &mut child
    {
        // Time was up, or Ctrl-C came, which the command got as well: the result is there, the exit code is not yet.
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
        let mut out = std::io::stdout().lock();
        // A closed pipe (`| head`) is the reader's choice.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
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
    let mut bits = 0;
    if words.user_only {
        bits |= filter::USER_ONLY;
    }
    if words.kernel_only {
        bits |= filter::KERNEL_ONLY;
    }
    if !words.pid.is_empty() {
        bits |= filter::PIDS;
    }
    if words.verify {
        bits |= filter::COPY_ALL;
    }
    if words.count_pids {
        bits |= filter::COUNT_PIDS;
    }
    let cgroups = match &words.cgroup {
        Some(path) => {
            bits |= filter::CGROUPS;
            super::cgroups::ids_below(path)?
        }
        None => Vec::new(),
    };
    let defaults = Options::default();
    let options = Options {
        frequency_hz: words.frequency,
        filter: bits,
        pids: words.pid,
        cgroups,
        target: Target::named(words.comm),
        include_self: words.include_self,
        unwind_bytes: words.unwind_memory << 20,
        // Every sample is copied when verifying.
        copies_per_second: if words.verify { words.frequency + 1 } else { defaults.copies_per_second },
        rule_cache: !words.no_rule_cache,
        verify: words.verify,
        ..defaults
    };
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

fn spawn(command: &[std::ffi::OsString]) -> anyhow::Result<Option<Child>> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    let child = Command::new(program)
        .args(arguments)
        .spawn()
        .with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
    Ok(Some(child))
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
    let mut broken = false;
    let status = loop {
        let left = settings.duration.map(|duration| duration.saturating_sub(started.elapsed()));
        std::thread::sleep(left.map_or(engine.round(), |left| left.min(engine.round())));
        if let Err(error) = engine.tick() {
            // What was recorded until now is worth more than a clean end.
            eprintln!("everflame: {error}; the recording ends here");
            broken = true;
            break None;
        }
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
        let pids = &settings.options.pids;
        if !pids.is_empty() && pids.iter().all(|pid| !settings.options.proc_root.join(pid.to_string()).exists()) {
            eprintln!("everflame: every process that was asked for has ended; so does the recording");
            break None;
        }
    };
    if let Some(progress) = &progress {
        progress.end();
    }
    Ok(Watched { status, broken })
}

/// How a recording came to its end.
struct Watched {
    /// The command's, if it ended.
    status: Option<ExitStatus>,
    /// Whether the engine could not go on.
    broken: bool,
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

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Each executable keeps a file open: take what the hard limit allows.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
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

fn recording_statistics(recording: &Recording) -> String {
    let counters = &recording.counters;
    let executables = &recording.executables.counters;
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
    text += &format!(
        "copies: finished {} missing {} lost {} unclaimed {}; stale {} late {} side-band lost {} malformed {} throttled {}\n",
        counters.finished_from_copy,
        counters.copy_missing,
        counters.copies_lost,
        counters.copies_unclaimed,
        counters.stale,
        counters.late,
        counters.side_band_lost,
        counters.malformed_side_band,
        counters.throttled,
    );
    text += &format!(
        "verify: same {} different {} deeper than the copy {}\n",
        counters.verified_same, counters.verified_different, counters.verified_cut
    );
    text += &format!(
        "executables: rows {} unsupported {} built in {} ms; without rows {} not opened {} replaced {} not ELF {} too many {} refused {} evicted {}; pages of shrunk files {}\n",
        executables.rows,
        executables.unsupported_rows,
        executables.build_ns / 1_000_000,
        executables.without_rows,
        executables.not_opened,
        executables.replaced,
        executables.not_elf,
        executables.too_many,
        executables.refused,
        executables.evicted,
        crate::process::mapped_file::replaced_pages(),
    );
    let (tables, processes) = (&recording.table_counters, &recording.process_counters);
    text += &format!(
        "tables: refused {} escape rules refused {} grace periods {}; processes: unknown {} too many {} mappings dropped {}\n",
        tables.refused,
        tables.escapes_refused,
        tables.grace_periods,
        processes.unknown,
        processes.too_many,
        processes.mappings_dropped,
    );
    text += &format!("kernel memory: {} KiB of maps and rings\n", recording.kernel_bytes >> 10);
    text
}
