//! `everflame agent` and `everflame config`.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::agent_args::Agent;
use super::agent_run::Shape;
use super::args::Arguments;
use super::say::say;
use super::settings::{self, SettingsError, Sourced};

pub(super) fn print_settings() -> anyhow::Result<ExitCode> {
    let Some(sourced) = resolved()? else { return Ok(ExitCode::from(2)) };
    let command = Arguments::command();
    if let Some(subcommand) = command.find_subcommand("config") {
        super::print::print(sourced.render(subcommand))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The settings with their sources; `None` if clap has said what is wrong with the words.
pub(super) fn resolved() -> anyhow::Result<Option<Sourced>> {
    let command = Arguments::command();
    let words = super::words();
    for name in settings::unknown_environment(&command, std::env::vars_os().map(|(name, _)| name)) {
        say(format_args!("warning: the environment variable {name} is no setting"));
    }
    match settings::resolve(&command, &words) {
        Ok(sourced) => Ok(Some(sourced)),
        Err(SettingsError::Words(error)) => {
            let _ = error.print();
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// `everflame agent`, and `everflame live`, which has the same words with other defaults.
pub(super) fn run(shape: Shape) -> anyhow::Result<ExitCode> {
    let Some(sourced) = resolved()? else { return Ok(ExitCode::from(2)) };
    let words = Agent::from_arg_matches(&sourced.matches)?;
    super::agent_run::run(&words, shape)
}
