//! Running other programs: each is shown, and a failure names the whole command.

use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// The command as one would type it. Not quoted for a shell: for people to read.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().replace('\u{1f}', " ")).collect::<Vec<_>>().join(" ")
}

/// Runs with this process's output and without input.
///
/// # Errors
/// When it can't be started or ends with anything but 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("can't start {}", shown(command)))?;
    if !status.success() {
        bail!("{}: {status}", shown(command));
    }
    Ok(())
}

/// Runs silently and gives what it printed on its standard output.
///
/// # Errors
/// When it can't be started or ends with anything but 0; the message then holds its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("can't start {}", shown(command)))?;
    if !done.status.success() {
        bail!("{}: {}\n{}", shown(command), done.status, String::from_utf8_lossy(&done.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
