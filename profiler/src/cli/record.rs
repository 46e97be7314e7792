//! `everflame record`: every CPU, some processes, a cgroup, or a command. The recording itself is in `recording`.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};

use anyhow::Context as _;

use super::args::Record;
use super::recording::{self, Companion, Settings};
use super::stop::Stop;
use crate::engine::{Engine, Options};

pub(super) fn run(words: Record) -> anyhow::Result<ExitCode> {
    let mut asked_for = AskedFor {
        command: words.command.clone(),
        files: recording::raise_file_limit(),
        pids: words.selection.pid.clone(),
        proc_root: Options::default().proc_root,
        child: None,
        status: None,
    };
    recording::run(&settings(words)?, &mut asked_for)
}

fn settings(words: Record) -> anyhow::Result<Settings> {
    let options = super::selection::options(words.selection, words.sampling.frequency)?;
    let mut settings = recording::settings(&words.sampling, options);
    if !words.command.is_empty() {
        // Until it ends, unless told otherwise.
        settings.duration = words.sampling.duration;
        settings.warm_up = false;
        settings.title = words.command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    }
    Ok(settings)
}

/// What the words name besides the whole machine.
struct AskedFor {
    command: Vec<std::ffi::OsString>,
    /// The limit of open files that we had.
    files: Option<libc::rlimit>,
    pids: Vec<u32>,
    proc_root: PathBuf,
    child: Option<Child>,
    /// The command's, once it ended.
    status: Option<ExitStatus>,
}

impl Companion for AskedFor {
    fn started(&mut self, engine: &mut Engine) -> anyhow::Result<()> {
        self.child = spawn(&self.command, self.files)?;
        if let Some(child) = &self.child {
            engine.follow(child.id());
        }
        Ok(())
    }

    fn round(&mut self, _: &mut Engine) -> anyhow::Result<bool> {
        if let Some(child) = &mut self.child {
            self.status = child.try_wait().context("cannot wait for the command")?;
        }
        let gone = |pid: &u32| !self.proc_root.join(pid.to_string()).exists();
        let all_gone = !self.pids.is_empty() && self.pids.iter().all(gone);
        if all_gone && self.status.is_none() {
            eprintln!("everflame: every process that was asked for has ended; so does the recording");
        }
        Ok(self.status.is_none() && !all_gone)
    }

    fn exit_code(&mut self, stop: &Stop) -> anyhow::Result<ExitCode> {
        if self.status.is_none()
            && let Some(child) = &mut self.child
        {
            // Time was up, or Ctrl-C came, which the command got as well: the result is there, the exit code is not yet.
            if stop.terminated() {
                // SAFETY: no pointers. The child has not been waited for, so the pid is its own.
                unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
            }
            eprintln!("everflame: waiting for the command to end (pid {})", child.id());
            self.status = Some(child.wait().context("cannot wait for the command")?);
        }
        Ok(self.status.map_or(ExitCode::SUCCESS, exit_code))
    }
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

/// A shell's convention: 128 + signal for a command that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}
