//! The programs that are measured: compiled from C and assembler, started, pinned, told to work, killed.

use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Whether code keeps a frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramePointer {
    /// As distributions built until lately.
    Omitted,
    /// What a frame-pointer walk needs.
    Kept,
}

/// Compiles `deep.c`.
///
/// # Errors
/// Without a C compiler.
pub(crate) fn deep(folder: &Path, pointer: FramePointer) -> Result<PathBuf> {
    let (flag, name) = match pointer {
        FramePointer::Omitted => ("-fomit-frame-pointer", "deep-omitted"),
        FramePointer::Kept => ("-fno-omit-frame-pointer", "deep-kept"),
    };
    compile("deep.c", folder, name, &[flag])
}

/// Compiles a program of ours.
///
/// # Errors
/// Without a C compiler, or when it refuses.
pub(crate) fn compile(source: &str, folder: &Path, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let program = folder.join(name);
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(&compiler);
    // Flags may name further sources.
    command.current_dir(&sources).arg("-O2").args(flags).arg("-o").arg(&program).arg(source);
    let done = command.status().with_context(|| format!("cannot run {}", compiler.to_string_lossy()))?;
    if !done.success() {
        bail!("{source} did not compile");
    }
    Ok(program)
}

/// A running program, killed when it goes out of scope.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it on one CPU before all others, and waits for its first line: from then on it burns.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(program: &Path, words: &[String], cpu: u32) -> Result<Running> {
        let mut command = Command::new(program);
        let mut running = Running::spawn(command.args(words).stdout(Stdio::piped()))?;
        running.put_first(cpu);
        running.wait_until_ready()?;
        Ok(running)
    }

    /// Starts it, and waits for nothing.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn spawn(command: &mut Command) -> Result<Running> {
        // No program outlives a bench that was killed.
        // SAFETY: runs between fork and exec, where a plain system call is allowed.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Ok(Running(command.spawn().with_context(|| command.get_program().to_string_lossy().into_owned())?))
    }

    /// On one CPU, and before others: nobody on a shared machine shall take it away. Without the right to do so, they do.
    fn put_first(&self, cpu: u32) {
        crate::machine::pin(self.0.id() as i32, cpu);
        // SAFETY: a plain system call.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, self.0.id(), -20) };
    }

    /// Behind all others: it takes what they leave.
    pub(crate) fn put_last(&self) {
        // SAFETY: a plain system call.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, self.0.id(), 19) };
    }

    /// What it writes until it ends.
    ///
    /// # Errors
    /// When that is no text.
    pub(crate) fn rest_of_output(&mut self) -> Result<String> {
        let mut said = String::new();
        if let Some(mut out) = self.0.stdout.take() {
            out.read_to_string(&mut said)?;
        }
        Ok(said)
    }

    fn wait_until_ready(&mut self) -> Result<Option<BufReader<ChildStdout>>> {
        let mut said = self.0.stdout.take().map(BufReader::new);
        if let Some(said) = &mut said {
            said.read_line(&mut String::new())?;
        }
        Ok(said)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it runs still.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        // SAFETY: a plain system call; the child is not waited for yet, so the pid is its own.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGTERM) };
    }

    /// Waits for its end; whether it was a good one.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub(crate) fn wait(&mut self) -> Result<bool> {
        Ok(self.0.wait()?.success())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that works in units: a number of turns in, the time they took out.
pub(crate) struct Worker {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    _running: Running,
}

/// What a unit took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Processor time of the program and of its ended children.
    pub(crate) processor: Duration,
    /// Time on the clock.
    pub(crate) wall: Duration,
}

impl Worker {
    /// Starts it on one CPU, at the usual priority.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(program: &Path, words: &[String], cpu: u32) -> Result<Worker> {
        let mut command = Command::new(program);
        let mut running = Running::spawn(command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        crate::machine::pin(running.0.id() as i32, cpu);
        let answers = running.wait_until_ready()?.context("no standard output")?;
        let orders = running.0.stdin.take().context("no standard input")?;
        Ok(Worker { orders, answers, _running: running })
    }

    /// Begins a unit of so many turns.
    ///
    /// # Errors
    /// When the program has ended.
    pub(crate) fn begin(&mut self, turns: u64) -> Result<()> {
        Ok(self.orders.write_all(format!("{turns}\n").as_bytes())?)
    }

    /// Waits for the unit's end.
    ///
    /// # Errors
    /// When the program has ended instead.
    pub(crate) fn end(&mut self) -> Result<Unit> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        unit(&line).with_context(|| format!("a worker answered {line:?}"))
    }
}

/// Two numbers in ns: processor, clock.
fn unit(line: &str) -> Option<Unit> {
    let mut words = line.split_whitespace().map(|word| word.parse().ok().map(Duration::from_nanos));
    let unit = Unit { processor: words.next()??, wall: words.next()?? };
    words.next().is_none().then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_answer_is_two_numbers_and_nothing_else() {
        let both = Unit { processor: Duration::from_nanos(12), wall: Duration::from_nanos(345) };
        for (line, answer) in
            [("12 345\n", Some(both)), ("12\n", None), ("12 345 6\n", None), ("12 x\n", None), ("", None)]
        {
            assert_eq!(unit(line), answer, "{line:?}");
        }
    }

    #[test]
    fn programs_that_work_in_units_do_what_they_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let forks = compile("forks.c", folder.path(), "forks", &[]).unwrap();
        let deep = deep(folder.path(), FramePointer::Omitted).unwrap();
        let words = ["3", "2", "64", "units"].map(str::to_owned);
        for (mut worker, turns) in
            [(Worker::start(&forks, &[], 0).unwrap(), 2), (Worker::start(&deep, &words, 0).unwrap(), 1_000_000)]
        {
            for _ in 0..2 {
                worker.begin(turns).unwrap();
                let unit = worker.end().unwrap();
                assert!(unit.processor > Duration::ZERO && unit.wall > Duration::ZERO, "{unit:?}");
            }
        }
    }
}
