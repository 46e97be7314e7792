//! One recording, from the first hit to the files: what `record` and `pod` have in common. What is theirs alone is a [`Companion`].

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use profiler_common::filter;

use super::args::Sampling;
use super::expense::Expense;
use super::files::{Files, beside};
use super::hand_over::HandOver;
use super::progress::{Progress, during};
use super::say::say;
use super::stop::Stop;
use super::{counters, hand_over, machine};
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
    /// Whether a command writes to standard output while we record: what we say goes to standard error.
    pub(super) beside_command: bool,
    /// The user's words that leave samples out, all of which must match.
    pub(super) filters: Vec<String>,
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
    fn started(&mut self, _: &mut Engine, _: &Stop) -> anyhow::Result<()> {
        Ok(())
    }
    /// After each round: whether to go on. It says itself why not. An error ends the recording, and what was recorded is written.
    fn round(&mut self, _: &mut Engine) -> anyhow::Result<bool> {
        Ok(true)
    }
    /// Whose samples are, and which of them stay; names are there. After an error they stay as they are.
    fn finished(&mut self, _: &mut Interval) -> anyhow::Result<()> {
        Ok(())
    }
    /// The parts that are written apart; without any, and after an error, the whole is written.
    fn parts(&self, _: &Batch) -> anyhow::Result<Vec<Part>> {
        Ok(Vec::new())
    }
    /// Everything is written and said, as far as it could be. Called whenever [`started`](Companion::started) was.
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
        title: machine::host(),
        beside_command: false,
        filters: Vec::new(),
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
    machine::raise_file_limit();
    let stop = Stop::watch().context("cannot watch for Ctrl-C")?;
    let mut engine = Engine::new(settings.options.clone())?;
    companion.loaded(&mut engine)?;
    if settings.warm_up {
        warm_up(&mut engine, &stop)?;
    }
    engine.start()?;
    companion.started(&mut engine, &stop)?;
    // From here on an error costs what it is about and no more: there is a recording, and maybe a command that runs.
    let mut files = Files::default();
    let expense = watch(&mut engine, settings, companion, &stop, &mut files);
    let finished = finish(engine, settings, companion, &expense, &mut files);
    files.checked(finished);
    let of_command = files.checked(companion.exit_code(&stop)).unwrap_or(ExitCode::SUCCESS);
    Ok(files.exit_code(of_command))
}

/// From the last sample to the last line.
fn finish(
    mut engine: Engine,
    settings: &Settings,
    companion: &mut dyn Companion,
    expense: &Expense,
    files: &mut Files,
) -> anyhow::Result<()> {
    let statistics = settings.statistics.then(|| counters::statistics(&mut engine));
    let programs = engine.program_counters().unwrap_or_default();
    let mut recording = engine.finish()?;
    let info = ProfileInfo {
        frequency_hz: settings.options.frequency_hz,
        cpus: recording.cpus,
        kernel_release: machine::kernel_release(),
    };
    let namer = Namer::new(unhurried(), &settings.options.proc_root).context("cannot start the symbolizer");
    let mut namer = files.checked(namer);
    if let Some(namer) = &mut namer {
        during("finding names", || namer.name(&mut recording.interval));
    }
    if settings.hand_over {
        files.checked(companion.finished(&mut recording.interval));
        let batch = &recording.interval.batch;
        return hand_over::profile(&encode_in(batch, &info, &settings.vocabulary)?, &summary(batch, &info));
    }
    let mut text = write(&mut recording.interval, &info, settings, companion, files);
    if let Some(verdicts) = statistics {
        text += &verdicts;
        text += &expense.text();
        let names = namer.map_or(Vec::new(), |namer| namer.statistics().named());
        text += &counters::of_recording(&recording, programs, names);
    }
    if settings.beside_command {
        files.say_beside(&text);
    } else {
        files.say(&settings.outputs, &text);
    }
    Ok(())
}

/// Writes a named recording, and gives what is to be said of it.
fn write(
    interval: &mut Interval,
    info: &ProfileInfo,
    settings: &Settings,
    companion: &mut dyn Companion,
    files: &mut Files,
) -> String {
    files.checked(companion.finished(interval));
    let batch = &interval.batch;
    let parts = files.checked(companion.parts(batch)).unwrap_or_default();
    for part in &parts {
        let Some(profile) = files.checked(encode_in(&part.batch, info, &settings.vocabulary)) else { continue };
        for path in &settings.outputs {
            files.write(&profile, &beside(path, &part.name), &part.title);
        }
    }
    let profile = files.checked(encode_in(batch, info, &settings.vocabulary));
    if let Some(profile) = profile.as_ref().filter(|_| parts.is_empty()) {
        for path in &settings.outputs {
            files.write(profile, path, &settings.title);
        }
    }
    let mut text = files.text();
    text += &summary(batch, info);
    text += "\n";
    text += &nothing_matched(batch, &settings.filters);
    if let Some(profile) = profile.as_ref().filter(|_| !batch.samples.is_empty()) {
        text += &hottest(profile, settings.rows, files);
    }
    text
}

/// A line that says why there are no samples, where the filters are why.
fn nothing_matched(batch: &Batch, filters: &[String]) -> String {
    if filters.is_empty() || batch.ledger.recorded > 0 || batch.ledger.dropped_total() > 0 {
        return String::new();
    }
    let elsewhere = match batch.ledger.filtered {
        0 => "there were no other hits either".to_owned(),
        1 => "1 hit was left out".to_owned(),
        count => format!("{} hits were left out", thousands(count)),
    };
    format!("no sample matched {}: {elsewhere}\n", filters.join(" and "))
}

/// The table of functions, as far as it can be made.
pub(super) fn hottest(profile: &pprof_proto::Profile, rows: usize, files: &mut Files) -> String {
    files.checked(render(profile, &TopOptions { rows, ..TopOptions::default() })).unwrap_or_default()
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

/// Ticks until time is up, the companion is through, or the user wants an end. Gives what that cost.
fn watch(
    engine: &mut Engine,
    settings: &Settings,
    companion: &mut dyn Companion,
    stop: &Stop,
    files: &mut Files,
) -> Expense {
    let started = Instant::now();
    // A command runs already, and does not inherit it.
    let _precedence = Precedence::take();
    let progress = std::io::stderr().is_terminal().then(Progress::start);
    let mut hand_over = settings.hand_over.then(|| HandOver::begin(settings.duration));
    let mut expense = Expense::begin();
    loop {
        let left = settings.duration.map(|duration| duration.saturating_sub(started.elapsed()));
        std::thread::sleep(left.map_or(engine.round(), |left| left.min(engine.round())));
        if let Err(error) = engine.tick() {
            // What was recorded until now is worth more than a clean end.
            files.fail(&anyhow::anyhow!("{error}; the recording ends here"));
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
        let goes_on = files.checked(companion.round(engine)).unwrap_or(false);
        if !goes_on || stop.wanted() || settings.duration.is_some_and(|duration| started.elapsed() >= duration) {
            break;
        }
        if engine.is_full() {
            say(format_args!(
                "the recording holds as much as it may ({} samples), so it ends here; \
                a lower -F or fewer processes last longer, `everflame` alone keeps a history on disk",
                thousands(engine.samples() as u64)
            ));
            break;
        }
    }
    if let Some(progress) = &progress {
        progress.end();
    }
    expense
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::profile::{BatchBuilder, LocationKind, Process, Sample};
    use unwind::end::End;

    /// A companion that can't say anything of what was recorded.
    struct Failing;

    impl Companion for Failing {
        fn finished(&mut self, _: &mut Interval) -> anyhow::Result<()> {
            anyhow::bail!("a test's first")
        }
        fn parts(&self, _: &Batch) -> anyhow::Result<Vec<Part>> {
            anyhow::bail!("a test's second")
        }
    }

    fn one_sample() -> Interval {
        let mut builder = BatchBuilder::new();
        let (comm, empty) = (builder.text("server"), builder.text(""));
        let process =
            Process { pid: 7, start_time_ns: 3, comm, executable: empty, cgroup_id: 0, cgroup: empty, identity: None };
        let process = builder.process(process);
        let leaf = builder.location(LocationKind::Kernel, None, 0x40);
        let stack = builder.stack(vec![leaf]).unwrap();
        let end = End::NoUser;
        builder.push(Sample {
            time_ns: 1,
            weight_ns: 9,
            process,
            tid: 7,
            thread_name: comm,
            cpu: 0,
            stack,
            end,
            provenance: 0,
        });
        let batch = builder.finish(10, Ledger { due: 1, recorded: 1, ..Ledger::default() });
        Interval { batch, code: Vec::new(), kernel_symbols: Vec::new(), cgroups: Vec::new() }
    }

    #[test]
    fn what_fails_after_a_recording_costs_nothing_but_itself() {
        let folder = tempfile::tempdir().unwrap();
        let [written, refused] = ["cpu.folded", "missing/cpu.folded"].map(|name| folder.path().join(name));
        let settings = Settings {
            options: Options::default(),
            duration: None,
            warm_up: false,
            outputs: vec![refused, written.clone()],
            title: String::new(),
            beside_command: false,
            filters: vec!["--comm server".to_owned()],
            rows: 5,
            statistics: false,
            vocabulary: Vocabulary::EVERFLAME,
            hand_over: false,
        };
        let info = ProfileInfo { frequency_hz: 99, cpus: 2, kernel_release: String::new() };
        let mut files = Files::default();
        let text = write(&mut one_sample(), &info, &settings, &mut Failing, &mut files);
        assert!(std::fs::read_to_string(&written).unwrap().starts_with("server;"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("wrote {} (folded stacks)", written.display()));
        assert!(lines[1].contains("ledger: 1 due = 1 + 0 idle"), "{text}");
        assert!(lines[3].starts_with(" 100%"), "{text}");
        assert_eq!(files.exit_code(ExitCode::SUCCESS), ExitCode::FAILURE);
        assert_eq!(files.exit_code(ExitCode::from(7)), ExitCode::from(7));
    }

    #[test]
    fn filters_that_nothing_matched_are_named_with_what_they_left_out() {
        let batch =
            |recorded, filtered| BatchBuilder::new().finish(10, Ledger { recorded, filtered, ..Ledger::default() });
        let filters = ["--pid 1234".to_owned(), "--comm nginx".to_owned()];
        assert_eq!(
            nothing_matched(&batch(0, 1593), &filters),
            "no sample matched --pid 1234 and --comm nginx: 1 593 hits were left out\n"
        );
        assert_eq!(nothing_matched(&batch(0, 1), &filters[..1]), "no sample matched --pid 1234: 1 hit was left out\n");
        assert_eq!(
            nothing_matched(&batch(0, 0), &filters[1..]),
            "no sample matched --comm nginx: there were no other hits either\n"
        );
        assert_eq!(nothing_matched(&batch(1, 1593), &filters), "");
        assert_eq!(nothing_matched(&batch(0, 0), &[]), "");
    }
}
