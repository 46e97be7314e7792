//! The command line: raw words in `args`, validated settings in each command, nothing below sees strings.

// It panics where nobody listens any more; [`say`] does not.
#![warn(clippy::print_stderr)]

mod agent;
mod agent_args;
mod agent_page;
mod agent_run;
mod args;
mod capabilities;
mod cgroups;
mod command;
mod completions;
mod convert;
mod counters;
mod diff;
mod doctor;
mod expense;
mod files;
mod hand_over;
mod history;
mod in_force;
mod kubectl;
mod kubectl_agent;
mod kubectl_args;
mod kubectl_display;
mod live;
mod log;
mod machine;
mod old_names;
mod page;
mod page_args;
mod patience;
mod pod;
mod pod_args;
mod pod_follow;
mod pod_history;
mod print;
mod progress;
mod record;
mod recording;
mod report;
mod say;
mod selection;
mod settings;
mod sink_secrets;
mod sink_words;
mod stop;
mod top;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use kubectl_args::Plugin;
use say::say;

pub use args::{Arguments, record_help};
pub use old_names::{OLD_NAMES, OldName};

/// Runs the command that the words ask for; errors go to standard error, one sentence each.
pub fn run() -> ExitCode {
    crate::allocator::share_one_heap();
    let command = match parsed(std::env::args_os().collect()) {
        Ok(command) => command,
        Err(mut error) => {
            hint_at_dashes(&mut error, &std::env::args_os().collect::<Vec<_>>());
            // clap prints help and version as "errors" that are none.
            if let (Err(why), false) = (print::written(error.print()), error.use_stderr()) {
                say(format_args!("cannot write to standard output: {why}"));
                return ExitCode::FAILURE;
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match command {
        args::Command::Record(words) => record::run(words),
        args::Command::Pod(words) => pod::run(&words),
        args::Command::Kubectl(words) => kubectl::run(&words),
        args::Command::Live(_) => agent::run(agent_run::Shape::Live),
        args::Command::Agent(_) => agent::run(agent_run::Shape::Agent),
        args::Command::Config(_) => agent::print_settings(),
        args::Command::Doctor(_) => doctor::run(),
        args::Command::Top(words) => top::run(words),
        args::Command::Convert(words) => convert::run(&words),
        args::Command::Report(words) => report::run(&words),
        args::Command::Diff(words) => diff::run(&words),
        args::Command::Completions(words) => completions::completions(&words),
        args::Command::Man(words) => completions::man(&words),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say(sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The words of the command line; without a command they are `live`'s.
fn words() -> Vec<OsString> {
    complete(std::env::args_os().collect())
}

/// What kubectl calls when it is asked for `kubectl everflame`: a link of that name is a plugin.
const PLUGIN: &str = "kubectl-everflame";

/// What a command line asks for, the program's name first.
fn parsed(words: Vec<OsString>) -> Result<args::Command, clap::Error> {
    if words.first().and_then(|program| Path::new(program).file_stem()).is_some_and(|name| name == PLUGIN) {
        return Plugin::try_parse_from(words).map(|plugin| args::Command::Kubectl(plugin.words));
    }
    Arguments::try_parse_from(complete(words)).map(|arguments| arguments.command)
}

/// `record -d 1s true`: clap says that `true` is unexpected, and not where a command belongs.
fn hint_at_dashes(error: &mut clap::Error, words: &[OsString]) {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return };
    let is_command = words.get(1).is_some_and(|command| command == "record") && !word.starts_with('-');
    if error.kind() == ErrorKind::UnknownArgument && is_command {
        let hint = format!("a command to profile comes after '--': '-- {word}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
}

fn complete(mut words: Vec<OsString>) -> Vec<OsString> {
    let asks_of_everything = ["-h", "--help", "-V", "--version"];
    let has_none = match words.get(1).map(|word| word.to_string_lossy()) {
        Some(word) => word.starts_with('-') && !asks_of_everything.contains(&&*word),
        None => !words.is_empty(),
    };
    if has_none {
        words.insert(1, "live".into());
    }
    words
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
    use std::ffi::OsString;

    use super::{args, complete, hint_at_dashes, parsed, sentence};

    #[test]
    fn without_a_command_everflame_is_live() {
        for (given, expected) in [
            (&["everflame"][..], &["everflame", "live"][..]),
            (&["everflame", "--page", "x"], &["everflame", "live", "--page", "x"]),
            (&["everflame", "-F", "49"], &["everflame", "live", "-F", "49"]),
            (&["everflame", "--help"], &["everflame", "--help"]),
            (&["everflame", "-V"], &["everflame", "-V"]),
            (&["everflame", "record", "-d", "1s"], &["everflame", "record", "-d", "1s"]),
            (&["everflame", "recrod"], &["everflame", "recrod"]),
            (&[], &[]),
        ] {
            let given = given.iter().map(OsString::from).collect();
            assert_eq!(complete(given), expected.iter().map(OsString::from).collect::<Vec<_>>());
        }
    }

    #[test]
    fn by_the_plugin_s_name_it_is_kubectl_s_command_and_calls_itself_what_is_typed() {
        for program in ["kubectl-everflame", "/usr/bin/kubectl-everflame", "kubectl-everflame.exe"] {
            let of = |words: &[&str]| parsed([&[program], words].concat().iter().map(OsString::from).collect());
            for words in [&["shop/web-1"][..], &["-n", "shop", "web-1"]] {
                let Ok(args::Command::Kubectl(words)) = of(words) else { panic!("{words:?}") };
                assert!(words.pod.is_some_and(|pod| pod.ends_with("web-1")));
            }
            for word in ["--help", "--wizard"] {
                let text = of(&[word]).unwrap_err().to_string();
                assert!(text.contains("Usage: kubectl everflame ["), "{text}");
            }
            assert!(of(&["--version"]).unwrap_err().to_string().starts_with("kubectl everflame "));
        }
    }

    #[test]
    fn a_command_without_dashes_is_told_of_them_and_nothing_else_is() {
        for (words, is_told) in [
            (&["everflame", "record", "-d", "1s", "true"][..], true),
            (&["everflame", "record", "make", "-j8"], true),
            (&["everflame", "record", "--wizard"], false),
            (&["everflame", "top", "a.pb", "b.pb"], false),
        ] {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let mut error = parsed(words.clone()).unwrap_err();
            hint_at_dashes(&mut error, &words);
            let text = error.to_string();
            assert_eq!(text.contains("tip: a command to profile comes after '--': '-- "), is_told, "{text}");
        }
    }

    #[test]
    fn causes_that_were_quoted_are_not_said_again() {
        let quoted = anyhow::anyhow!("disk full").context("can't write x: disk full; free some");
        assert_eq!(sentence(&quoted), "can't write x: disk full; free some");
        let plain = anyhow::anyhow!("no such file").context("cannot run x");
        assert_eq!(sentence(&plain), "cannot run x: no such file");
    }
}
