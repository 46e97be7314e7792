//! `everflame agent` and `everflame config`.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::agent_args::Agent;
use super::agent_run::Shape;
use super::args::Arguments;
use super::old_names;
use super::say::say;
use super::settings::{self, SettingsError, Sourced};

pub(super) fn print_settings() -> anyhow::Result<ExitCode> {
    let Some(sourced) = resolved()? else { return Ok(ExitCode::from(2)) };
    let words = Agent::from_arg_matches(&sourced.matches)?;
    let limit = super::agent_run::cgroup_memory_limit(&words);
    let unsaid = super::in_force::unsaid(&words, variable, &super::machine::host(), limit)?;
    let command = Arguments::command();
    if let Some(subcommand) = command.find_subcommand("config") {
        super::print::print(sourced.render(subcommand, &unsaid))?;
    }
    for sentence in super::sink_secrets::shared(&words, &super::sink_words::settings(&words, variable)?) {
        say(format_args!("warning: {sentence}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A variable of the environment, if it is text.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The settings with their sources; `None` if clap has said what is wrong with the words.
pub(super) fn resolved() -> anyhow::Result<Option<Sourced>> {
    let command = Arguments::command();
    let words = super::words();
    let names = || std::env::vars_os().map(|(name, _)| name);
    for name in settings::unknown_environment(&command, names()) {
        say(format_args!("warning: the environment variable {name} is no setting"));
    }
    for sentence in old_names::without_meaning(names()) {
        say(format_args!("warning: {sentence}"));
    }
    match settings::resolve(&command, &words, &variable) {
        Ok(sourced) => {
            for note in &sourced.notes {
                say(format_args!("warning: {note}"));
            }
            Ok(Some(sourced))
        }
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
