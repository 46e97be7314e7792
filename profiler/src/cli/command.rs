//! [`Command`]: the command that `record` runs and profiles. It has our terminal, our process group and the limits that we had, so that
//! Ctrl-C on a terminal reaches it as it reaches us. It is not left behind: whoever ends us ends it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ExitCode, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long it may take to end once it is made to; then it is killed.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at whether it has ended.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// The command could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {program}: {source}")]
pub(super) struct NotStarted {
    program: String,
    source: io::Error,
}

impl NotStarted {
    /// What env(1), timeout(1) and shells end with: 127 for what is not there, 126 for what can't be executed.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.source.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
    }
}

/// See the module documentation. Clones are of the same one. It may not have been started.
#[derive(Clone, Default)]
pub(super) struct Command(Arc<Mutex<Option<Child>>>);

impl Command {
    /// Runs the words, if there are any, and gives the pid. `files` is the limit of open files that we had: a program that closes every
    /// descriptor it may have would see ours. A profile on standard output must not have the command's words in it: with
    /// `is_output_taken` these go to standard error.
    pub(super) fn start(
        &self,
        words: &[OsString],
        files: Option<libc::rlimit>,
        is_output_taken: bool,
    ) -> Result<Option<u32>, NotStarted> {
        let Some((program, arguments)) = words.split_first() else { return Ok(None) };
        let mut command = std::process::Command::new(program);
        command.args(arguments);
        if is_output_taken {
            command.stdout(io::stderr());
        }
        // SAFETY: setrlimit is async-signal-safe, and gets a valid limit.
        unsafe {
            command.pre_exec(move || {
                if let Some(limit) = files {
                    libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
                }
                Ok(())
            });
        }
        // Held while it starts, so that nobody who wants to end it comes in between.
        let mut child = self.child();
        let started =
            command.spawn().map_err(|source| NotStarted { program: program.to_string_lossy().into_owned(), source })?;
        Ok(Some(child.insert(started).id()))
    }

    /// How it ended; `None` while it runs, and if it was not started.
    pub(super) fn ended(&self) -> io::Result<Option<ExitStatus>> {
        self.child().as_mut().map_or(Ok(None), Child::try_wait)
    }

    /// Its pid while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        let mut child = self.child();
        let child = child.as_mut()?;
        matches!(child.try_wait(), Ok(None)).then(|| child.id())
    }

    /// Passes SIGTERM on.
    pub(super) fn terminate(&self) {
        let mut child = self.child();
        if let Some(child) = child.as_mut()
            && matches!(child.try_wait(), Ok(None))
        {
            // SAFETY: no pointers. The child has not been waited for, and the lock keeps it so: the pid is its own.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        }
    }

    /// Makes it end: by SIGTERM, or else by SIGKILL. Its own children are its business, as on a terminal.
    pub(super) fn end(&self) {
        self.terminate();
        if !self.ends_in_time() {
            if let Some(child) = self.child().as_mut() {
                let _ = child.kill();
            }
            self.ends_in_time();
        }
    }

    fn ends_in_time(&self) -> bool {
        let until = Instant::now() + PATIENCE;
        while self.pid().is_some() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn waited(command: &Command) -> ExitStatus {
        loop {
            if let Some(status) = command.ended().unwrap() {
                return status;
            }
            std::thread::sleep(LOOK);
        }
    }

    #[test]
    fn words_that_are_none_start_nothing_and_a_program_that_is_none_is_named() {
        let command = Command::default();
        assert_eq!(command.start(&[], None, false).unwrap(), None);
        assert!(command.ended().unwrap().is_none() && command.pid().is_none());
        command.end();
        for (program, words_of_it, code) in [
            ("/no/such/program", "No such file or directory (os error 2)", 127),
            ("/", "Permission denied (os error 13)", 126),
        ] {
            let error = command.start(&words(&[program]), None, false).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot run {program}: {words_of_it}"));
            assert_eq!(error.exit_code(), ExitCode::from(code));
        }
    }

    #[test]
    fn one_that_does_not_heed_sigterm_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        for (ignores, signal) in [("", libc::SIGTERM), ("trap '' TERM;", libc::SIGKILL)] {
            let ready = folder.path().join(signal.to_string());
            let command = Command::default();
            // One process, so that nothing is left of it.
            let script = format!("{ignores} : > {}; exec sleep 1000", ready.display());
            command.start(&words(&["sh", "-c", &script]), None, false).unwrap();
            while !ready.exists() {
                std::thread::sleep(LOOK);
            }
            command.end();
            assert_eq!(waited(&command).signal(), Some(signal));
            assert_eq!(command.pid(), None);
        }
    }
}
