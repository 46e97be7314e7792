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
            eprintln!("everflame: {error:#}");
            ExitCode::FAILURE
        }
    }
}
