//! The command line: raw words in `args`, validated settings in each command, nothing below sees strings.

mod args;
mod capabilities;
mod cgroups;
mod convert;
mod progress;
mod record;
mod stop;
mod top;

use std::process::ExitCode;

use clap::Parser as _;

pub use args::{Arguments, record_help};

/// Runs the command that the words ask for; errors go to standard error, one sentence each.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap prints help and version as "errors" that are none.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match arguments.command {
        args::Command::Record(words) => record::run(words),
        args::Command::Top(words) => top::run(&words),
        args::Command::Convert(words) => convert::run(&words),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("everflame: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each said once: most errors here already quote the system's words.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if text.is_empty() {
            text = words;
        } else if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn causes_that_were_quoted_are_not_said_again() {
        let quoted = anyhow::anyhow!("disk full").context("can't write x: disk full; free some");
        assert_eq!(sentence(&quoted), "can't write x: disk full; free some");
        let plain = anyhow::anyhow!("no such file").context("cannot run x");
        assert_eq!(sentence(&plain), "cannot run x: no such file");
    }
}
