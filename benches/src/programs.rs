//! The programs that are measured: compiled from C with and without frame pointers, started, pinned, killed.

use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(source);
    let program = folder.join(name);
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let done = Command::new(&compiler).arg("-O2").args(flags).arg("-o").arg(&program).arg(&source).status();
    if !done.with_context(|| format!("cannot run {}", compiler.to_string_lossy()))?.success() {
        bail!("{} did not compile", source.display());
    }
    Ok(program)
}

/// A running program, killed when it goes out of scope.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it, and waits for its first line: from then on it burns.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(program: &Path, words: &[String], cpu: u32) -> Result<Running> {
        let mut command = Command::new(program);
        command.args(words).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        crate::machine::pin(child.id() as i32, cpu);
        // Others on a shared machine shall not take the CPU away; without the right to do so, they do.
        // SAFETY: a plain system call.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, child.id(), -20) };
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        Ok(Running(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
