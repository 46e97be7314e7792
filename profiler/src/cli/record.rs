//! `everflame record`: every CPU, some processes, a cgroup, or a command. The recording itself is in `recording`.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use anyhow::Context as _;

use super::args::{Record, Selection};
use super::command::{Command, LOOK, NotStarted};
use super::files::has_standard_output;
use super::recording::{self, Companion, Settings};
use super::say::say;
use super::stop::Stop;
use super::{machine, selection};
use crate::engine::{Engine, Options};

pub(super) fn run(words: Record) -> anyhow::Result<ExitCode> {
    let mut asked_for = AskedFor {
        words: words.command.clone(),
        files: machine::raise_file_limit(),
        is_output_taken: false,
        pids: words.selection.pid.clone(),
        proc_root: Options::default().proc_root,
        command: Command::default(),
        status: None,
    };
    let settings = settings(words)?;
    asked_for.is_output_taken = has_standard_output(&settings.outputs);
    recording::run(&settings, &mut asked_for).or_else(|error| match error.downcast_ref::<NotStarted>() {
        Some(not_started) => {
            say(not_started);
            Ok(not_started.exit_code())
        }
        None => Err(error),
    })
}

fn settings(words: Record) -> anyhow::Result<Settings> {
    let filters = filters(&words.selection, !words.command.is_empty());
    let options = selection::options(words.selection, words.sampling.frequency)?;
    let mut settings = recording::settings(&words.sampling, options);
    settings.filters = filters;
    if !words.command.is_empty() {
        // Until it ends, unless told otherwise.
        settings.duration = words.sampling.duration;
        settings.warm_up = false;
        settings.beside_command = true;
        settings.title = words.command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    }
    Ok(settings)
}

/// The words that leave samples out, one for each kind: all kinds must match. A command and names are of one kind: what is of the
/// command is sampled, and what has the name.
fn filters(words: &Selection, has_command: bool) -> Vec<String> {
    let names = words.comm.iter().map(|name| format!("--comm {name}"));
    let kinds = [
        words.pid.iter().map(|pid| format!("--pid {pid}")).collect(),
        has_command.then(|| "the command".to_owned()).into_iter().chain(names).collect(),
        words.cgroup.iter().map(|path| format!("--cgroup {}", path.display())).collect(),
        words.code.user_only.then(|| "--user-only".to_owned()).into_iter().collect(),
        words.code.kernel_only.then(|| "--kernel-only".to_owned()).into_iter().collect::<Vec<String>>(),
    ];
    let given = kinds.iter().filter(|kind| !kind.is_empty());
    given.map(|kind| if kind.len() == 1 { kind.concat() } else { format!("({})", kind.join(" or ")) }).collect()
}

/// What the words name besides the whole machine.
struct AskedFor {
    words: Vec<OsString>,
    /// The limit of open files that we had.
    files: Option<libc::rlimit>,
    is_output_taken: bool,
    pids: Vec<u32>,
    proc_root: PathBuf,
    command: Command,
    /// The command's, once it ended.
    status: Option<ExitStatus>,
}

impl AskedFor {
    /// Starts the command, if there is one, and gives its pid. A signal that came while programs were loaded never reached it: it would
    /// run on, and we would wait for it.
    fn start(&self, stop: &Stop) -> anyhow::Result<Option<u32>> {
        anyhow::ensure!(self.words.is_empty() || !stop.wanted(), "ended before the command was started");
        let command = self.command.clone();
        stop.before_exit(move || command.end());
        Ok(self.command.start(&self.words, self.files, self.is_output_taken)?)
    }

    /// Waits for the command, which gets SIGTERM if we do; `pause` is between two looks.
    fn wait(&mut self, stop: &Stop, mut pause: impl FnMut()) -> anyhow::Result<()> {
        let mut was_told = false;
        while self.status.is_none()
            && let Some(pid) = self.command.pid()
        {
            if stop.terminated() && !was_told {
                was_told = true;
                self.command.terminate();
                say(format_args!("the command (pid {pid}) was told to end"));
            }
            pause();
        }
        if self.status.is_none() {
            self.status = self.command.ended().context("cannot wait for the command")?;
        }
        Ok(())
    }
}

impl Companion for AskedFor {
    fn started(&mut self, engine: &mut Engine, stop: &Stop) -> anyhow::Result<()> {
        if let Some(pid) = self.start(stop)? {
            engine.follow(pid);
        }
        Ok(())
    }

    fn round(&mut self, _: &mut Engine) -> anyhow::Result<bool> {
        self.status = self.command.ended().context("cannot wait for the command")?;
        let gone = |pid: &u32| !self.proc_root.join(pid.to_string()).exists();
        let all_gone = !self.pids.is_empty() && self.pids.iter().all(gone);
        if all_gone && self.status.is_none() {
            say("every process that was asked for has ended; so does the recording");
        }
        Ok(self.status.is_none() && !all_gone)
    }

    fn exit_code(&mut self, stop: &Stop) -> anyhow::Result<ExitCode> {
        if self.status.is_none()
            && let Some(pid) = self.command.pid()
        {
            // Time was up, or Ctrl-C came, which the command got as well: the result is there, the exit code is not yet.
            let next = if stop.wanted() && !stop.terminated() {
                "a second Ctrl-C ends both"
            } else {
                "Ctrl-C tells it to end, a second one ends both"
            };
            say(format_args!("waiting for the command to end (pid {pid}); {next}"));
        }
        self.wait(stop, || std::thread::sleep(LOOK))?;
        // What ended the command may have been the second signal's last deed.
        stop.give_way();
        Ok(self.status.map_or(ExitCode::SUCCESS, exit_code))
    }
}

/// A shell's convention: 128 + signal for a command that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Arguments, Command as Asked};
    use clap::Parser as _;

    fn asked_for(words: &[&str]) -> AskedFor {
        AskedFor {
            words: words.iter().map(OsString::from).collect(),
            files: None,
            is_output_taken: false,
            pids: Vec::new(),
            proc_root: PathBuf::from("/proc"),
            command: Command::default(),
            status: None,
        }
    }

    #[test]
    fn a_command_is_not_started_after_the_signal_that_it_would_never_get() {
        let (command, whole_machine, stop) = (asked_for(&["sleep", "1000"]), asked_for(&[]), Stop::default());
        stop.terminate();
        assert_eq!(command.start(&stop).unwrap_err().to_string(), "ended before the command was started");
        assert_eq!(command.command.pid(), None);
        assert_eq!(whole_machine.start(&stop).unwrap(), None);
    }

    #[test]
    fn a_sigterm_that_comes_while_the_command_is_waited_for_is_passed_on() {
        let mut asked_for = asked_for(&["sleep", "1000"]);
        let stop = Stop::default();
        asked_for.start(&stop).unwrap();
        let mut pauses = 0;
        let pause = || {
            // It waits already when the signal comes.
            if pauses == 1 {
                stop.terminate();
            }
            pauses += 1;
            std::thread::sleep(LOOK);
        };
        asked_for.wait(&stop, pause).unwrap();
        assert_eq!(asked_for.status.and_then(|status| status.signal()), Some(libc::SIGTERM));
        assert_eq!(exit_code(asked_for.status.unwrap()), ExitCode::from(143));
    }
    #[test]
    fn kinds_of_filters_are_named_once_each_and_a_command_is_a_kind_with_the_names() {
        let of = |words: &[&str]| {
            let all = [&["everflame", "record"], words].concat();
            let Asked::Record(words) = Arguments::parse_from(all).command else { panic!("{words:?}") };
            filters(&words.selection, !words.command.is_empty()).join(" and ")
        };
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["--pid", "7", "--comm", "nginx"]), "--pid 7 and --comm nginx");
        assert_eq!(of(&["--pid", "7", "--pid", "8", "--user-only"]), "(--pid 7 or --pid 8) and --user-only");
        assert_eq!(
            of(&["--comm", "x", "--cgroup", "a.slice", "--", "make"]),
            "(the command or --comm x) and --cgroup a.slice"
        );
    }

    #[test]
    fn a_command_has_standard_output_for_itself() {
        for (words, expected) in [(&["everflame", "record"][..], false), (&["everflame", "record", "--", "make"], true)]
        {
            let Asked::Record(words) = Arguments::parse_from(words).command else { panic!() };
            assert_eq!(settings(words).unwrap().beside_command, expected);
        }
    }
}
