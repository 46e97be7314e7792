//! `everflame completions SHELL` and `everflame man`: both made from the same words as the help.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::{Arguments, Completions, Man};

pub(super) fn completions(words: &Completions) -> anyhow::Result<ExitCode> {
    super::print::print(completions_for(&words.shell))?;
    Ok(ExitCode::SUCCESS)
}

fn completions_for(shell: &str) -> Vec<u8> {
    let shell = match shell {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "everflame", &mut text);
    text
}

pub(super) fn man(words: &Man) -> anyhow::Result<ExitCode> {
    super::print::print(page(words.command.as_deref())?)?;
    Ok(ExitCode::SUCCESS)
}

fn page(name: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let mut command = Arguments::command();
    // Names the subcommands' pages `everflame-record(1)` and so on.
    command.build();
    let command = match name {
        Some(name) => command.find_subcommand(name).with_context(|| format!("there is no command {name}"))?.clone(),
        None => command,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text).context("cannot write the manual page")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_completed_in_every_shell_and_has_a_manual_page() {
        let names: Vec<String> =
            Arguments::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
        assert!(names.len() > 8);
        for shell in ["bash", "zsh", "fish"] {
            let text = String::from_utf8(completions_for(shell)).unwrap();
            for name in &names {
                assert!(text.contains(name.as_str()), "{shell} {name}");
            }
        }
        let whole = String::from_utf8(page(None).unwrap()).unwrap();
        for name in &names {
            let own = String::from_utf8(page(Some(name)).unwrap()).unwrap();
            assert!(own.contains(".SH SYNOPSIS") && whole.contains(&format!("everflame\\-{name}(1)")), "{name}");
        }
        assert_eq!(page(Some("x")).unwrap_err().to_string(), "there is no command x");
    }
}
