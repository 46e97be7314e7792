//! One recording, from the first hit to the files: what `record` and `pod` have in common. What is theirs alone is a [`Companion`].

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use profiler_common::filter;

use super::args::Sampling;
use super::expense::Expense;
use super::hand_over::HandOver;
use super::progress::Progress;
use super::stop::Stop;
use super::{counters, hand_over};
use crate::engine::{Engine, Interval, Options, Precedence};
use crate::naming::{Namer, unhurried};
use crate::output;
use crate::profile::Batch;
use crate::profile::pprof::{ProfileInfo, Vocabulary, encode_in};
use crate::report::summary::summary;
use crate::report::thousands;
use crate::report::top::{TopOptions, render};

/// Where nothing else ends a recording.
pub(super) const DEFAULT_DURATION: Duration = Duration::from_secs(30);

/// How long a recording waits for the unwind tables of busy processes before its first sample.
const WARM_UP: Duration = Duration::from_secs(2);

/// What a recording is told.
pub(super) struct Settings {
    pub(super) options: Options,
    /// `None` where only the companion or the user ends it.
    pub(super) duration: Option<Duration>,
    /// Whether what is recorded runs already, so that tables can be made before the first sample.
    pub(super) warm_up: bool,
    pub(super) outputs: Vec<PathBuf>,
    /// What the page calls itself.
    pub(super) title: String,
    pub(super) rows: usize,
    pub(super) statistics: bool,
    /// How samples are labelled.
    pub(super) vocabulary: Vocabulary,
    /// Whether progress and profile go to standard output as lines, and nothing into files.
    pub(super) hand_over: bool,
}

/// A part of a recording that has files of its own.
pub(super) struct Part {
    /// What comes before the suffix of its files' names, after a dash.
    pub(super) name: String,
    pub(super) title: String,
    pub(super) batch: Batch,
}

/// What a command does while a recording runs.
pub(super) trait Companion {
    /// Everything is loaded, nothing sampled.
    fn loaded(&mut self, _: &mut Engine) -> anyhow::Result<()> {
        Ok(())
    }
    /// Sampling has begun.
    fn started(&mut self, _: &mut Engine) -> anyhow::Result<()> {
        Ok(())
    }
    /// After each round: whether to go on. It says itself why not.
    fn round(&mut self, _: &mut Engine) -> anyhow::Result<bool> {
        Ok(true)
    }
    /// Whose samples are, and which of them stay; names are there.
    fn finished(&mut self, _: &mut Interval) -> anyhow::Result<()> {
        Ok(())
    }
    /// The parts that are written apart; without any the whole is written.
    fn parts(&self, _: &Batch) -> anyhow::Result<Vec<Part>> {
        Ok(Vec::new())
    }
    /// Everything is written and said.
    fn exit_code(&mut self, _: &Stop) -> anyhow::Result<ExitCode> {
        Ok(ExitCode::SUCCESS)
    }
}

/// What the words that all recordings share come to, with options that say what is sampled.
pub(super) fn settings(words: &Sampling, mut options: Options) -> Settings {
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
    Settings {
        options,
        duration: Some(words.duration.unwrap_or(DEFAULT_DURATION)),
        warm_up: true,
        outputs: outputs(words),
        title: host(),
        rows: words.top,
        statistics: words.statistics,
        vocabulary: Vocabulary::EVERFLAME,
        hand_over: false,
    }
}

/// Where the result goes.
pub(super) fn outputs(words: &Sampling) -> Vec<PathBuf> {
    if words.output.is_empty() {
        vec![PathBuf::from("cpu.pb.gz"), PathBuf::from("cpu.html")]
    } else {
        words.output.clone()
    }
}

/// Records, names, writes and says what was seen.
pub(super) fn run(settings: &Settings, companion: &mut dyn Companion) -> anyhow::Result<ExitCode> {
    super::capabilities::check()?;
    for path in &settings.outputs {
        output::prepare(path)?;
    }
    raise_file_limit();
    let stop = Stop::watch().context("cannot watch for Ctrl-C")?;
    let mut engine = Engine::new(settings.options.clone())?;
    companion.loaded(&mut engine)?;
    if settings.warm_up {
        warm_up(&mut engine, &stop)?;
    }
    engine.start()?;
    companion.started(&mut engine)?;
    let Watched { broken, expense } = watch(&mut engine, settings, companion, &stop)?;
    let statistics = settings.statistics.then(|| counters::statistics(&mut engine));
    let programs = engine.program_counters().unwrap_or_default();
    let mut recording = engine.finish()?;
    let info = ProfileInfo {
        frequency_hz: settings.options.frequency_hz,
        cpus: recording.cpus,
        kernel_release: kernel_release(),
    };
    let mut namer = Namer::new(unhurried(), &settings.options.proc_root).context("cannot start the symbolizer")?;
    namer.name(&mut recording.interval);
    companion.finished(&mut recording.interval)?;
    let batch = &recording.interval.batch;
    let profile = encode_in(batch, &info, &settings.vocabulary)?;
    if settings.hand_over {
        hand_over::profile(&profile, &summary(batch, &info))?;
        let code = companion.exit_code(&stop)?;
        return Ok(if broken { ExitCode::FAILURE } else { code });
    }
    // Whatever can be written is written, also when one place fails.
    let mut files = Files { failed: broken, written: Vec::new() };
    let parts = companion.parts(batch)?;
    for part in &parts {
        let profile = encode_in(&part.batch, &info, &settings.vocabulary)?;
        for path in &settings.outputs {
            files.write(&profile, &beside(path, &part.name), &part.title);
        }
    }
    if parts.is_empty() {
        for path in &settings.outputs {
            files.write(&profile, path, &settings.title);
        }
    }
    let mut text = files.text();
    text += &summary(batch, &info);
    text += "\n";
    let rows = TopOptions { rows: settings.rows, ..TopOptions::default() };
    text += &render(&profile, &rows)?;
    if let Some(verdicts) = statistics {
        text += &verdicts;
        text += &expense.text();
        text += &counters::of_recording(&recording, programs, namer.statistics().named());
    }
    say(&settings.outputs, &text);
    let code = companion.exit_code(&stop)?;
    Ok(if files.failed { ExitCode::FAILURE } else { code })
}

/// What was written, and whether something could not be.
#[derive(Default)]
pub(super) struct Files {
    pub(super) failed: bool,
    written: Vec<String>,
}

impl Files {
    /// Writes one; an error is said and does not keep others from being written.
    pub(super) fn write(&mut self, profile: &pprof_proto::Profile, path: &Path, title: &str) {
        match output::write(profile, path, title) {
            Ok(()) => self.written.push(describe(path)),
            Err(error) => {
                eprintln!("everflame: {error}");
                self.failed = true;
            }
        }
    }

    /// A line that names them.
    pub(super) fn text(&self) -> String {
        if self.written.is_empty() { String::new() } else { format!("wrote {}\n", self.written.join(" and ")) }
    }
}

/// Standard output is for people, unless a profile goes there.
pub(super) fn say(outputs: &[PathBuf], text: &str) {
    if outputs.iter().any(|path| path == Path::new(output::STANDARD)) {
        eprint!("{text}");
    } else {
        super::print::print(text);
    }
}

/// `cpu.pb.gz` of a part: `cpu-PART.pb.gz`.
pub(super) fn beside(path: &Path, part: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let suffixes = output::OutputFormat::SUFFIXES.iter().map(|(suffix, _)| suffix);
    let suffix = suffixes.filter(|suffix| lower.ends_with(**suffix)).map(|suffix| suffix.len()).max().unwrap_or(0);
    let (stem, suffix) = name.split_at(name.len() - suffix);
    path.with_file_name(format!("{stem}-{part}{suffix}"))
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

/// Ticks until time is up, the companion is through, or the user wants an end.
fn watch(
    engine: &mut Engine,
    settings: &Settings,
    companion: &mut dyn Companion,
    stop: &Stop,
) -> anyhow::Result<Watched> {
    let started = Instant::now();
    // A command runs already, and does not inherit it.
    let _precedence = Precedence::take();
    let progress = std::io::stderr().is_terminal().then(Progress::start);
    let mut hand_over = settings.hand_over.then(|| HandOver::begin(settings.duration));
    let (mut broken, mut expense) = (false, Expense::begin());
    loop {
        let left = settings.duration.map(|duration| duration.saturating_sub(started.elapsed()));
        std::thread::sleep(left.map_or(engine.round(), |left| left.min(engine.round())));
        if let Err(error) = engine.tick() {
            // What was recorded until now is worth more than a clean end.
            eprintln!("everflame: {error}; the recording ends here");
            broken = true;
            break;
        }
        expense.look(engine.samples());
        if let Some(hand_over) = &mut hand_over {
            hand_over.progress(started.elapsed(), engine.samples() as u64);
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
        if !companion.round(engine)?
            || stop.wanted()
            || settings.duration.is_some_and(|duration| started.elapsed() >= duration)
        {
            break;
        }
        if engine.is_full() {
            eprintln!(
                "everflame: the recording holds as much as it may ({} samples), so it ends here; \
                a lower -F or fewer processes last longer, `everflame` alone keeps a history on disk",
                thousands(engine.samples() as u64)
            );
            break;
        }
    }
    if let Some(progress) = &progress {
        progress.end();
    }
    Ok(Watched { broken, expense })
}

/// How a recording came to its end.
struct Watched {
    /// Whether the engine could not go on.
    broken: bool,
    /// What it cost until then.
    expense: Expense,
}

/// This machine's name.
pub(super) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
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

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::beside;

    #[test]
    fn a_part_s_file_keeps_folder_and_suffix() {
        for (path, expected) in [
            ("cpu.html", "cpu-a.html"),
            ("/x/cpu.pb.gz", "/x/cpu-a.pb.gz"),
            ("CPU.PB.GZ", "CPU-a.PB.GZ"),
            ("../a.b/é.svg", "../a.b/é-a.svg"),
        ] {
            assert_eq!(beside(Path::new(path), "a"), PathBuf::from(expected));
        }
    }
}
