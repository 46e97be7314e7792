//! The words of the command line, as data: names, environment names, defaults and help come from here alone.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::agent_args::Agent;
use super::kubectl_args::Kubectl;
use super::pod_args::Pod;

/// A continuous whole-node CPU profiler for Linux: no instrumentation, no restart, no language flag. Without a command it profiles
/// this machine and serves a page that shows it (`live`).
#[derive(Debug, Parser)]
#[command(
    name = "everflame",
    version,
    about,
    max_term_width = 100,
    disable_help_subcommand = true,
    override_usage = "everflame [OPTIONS OF live]\n       everflame <COMMAND>",
    after_help = "`everflame live --help` shows the options of everflame without a command, such as --page and --store."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Profile this machine, keep a history, and show it on a page at http://127.0.0.1:7654. This is what `everflame` alone does.
    #[command(
        mut_arg("page", |page| page.default_value("127.0.0.1:7654")),
        mut_arg("listen", |listen| listen.default_value("off")),
        mut_arg("log_level", |level| level.default_value("warn"))
    )]
    Live(Agent),
    /// Profile every CPU for a while (or while a command runs), then write the profile and print what was hot.
    Record(Record),
    /// Profile a pod on this node, found by its name, its uid or a label selector, then write the profile and print what was hot.
    #[command(mut_arg("duration", |duration| duration.help("How long: 30s, 500ms, 2m, 1h [default: 30s]")))]
    Pod(Pod),
    /// Profile pods of a Kubernetes cluster from anywhere: by the agent on their nodes, or by a pod that is started for it and goes
    /// away again. Called `kubectl-everflame`, the program is the kubectl plugin `kubectl everflame`.
    Kubectl(Kubectl),
    /// Run for good: profile every CPU, find out whose each sample is, and deliver profiles.
    Agent(Agent),
    /// Print the settings that the agent would run with, and where each comes from.
    Config(Agent),
    /// Check this machine, the API server and the sinks as the agent would meet them. Exit code 1 if something fails.
    Doctor(Doctor),
    /// Show live who uses the processors, in which functions; with a FILE print the hottest functions of a pprof file.
    Top(Top),
    /// Write a pprof file in another form.
    Convert(Convert),
    /// Say what a pprof file holds: what was measured, how, and the hottest functions.
    Report(Report),
    /// Compare two pprof files, function by function.
    Diff(Diff),
    /// Print the completions for a shell.
    Completions(Completions),
    /// Print the manual page of everflame, or of one of its commands.
    Man(Man),
}

/// `everflame record`.
#[derive(Debug, Args)]
pub struct Record {
    /// How it is recorded.
    #[command(flatten)]
    pub sampling: Sampling,
    /// What is sampled.
    #[command(flatten)]
    pub selection: Selection,
    /// A command to run and profile with its children; its exit code is passed on (126: it can't be executed, 127: not found).
    /// What everflame says goes to standard error then.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// How something is recorded, and where the result goes; of `record` and of `pod`.
#[derive(Debug, Args)]
pub struct Sampling {
    /// How long: 30s, 500ms, 2m, 1h. Default: 30s, with a COMMAND until it ends.
    #[arg(short, long, value_name = "TIME", env = "EVERFLAME_DURATION", value_parser = parse_duration)]
    pub duration: Option<std::time::Duration>,
    /// Samples per second on each CPU, 1 to 10000.
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = 99, env = "EVERFLAME_FREQUENCY", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub frequency: u32,
    /// Where to write; may repeat. The suffix says the form: .pb.gz .pb .html .svg .folded, - is standard output (pprof).
    /// Default: cpu.pb.gz and cpu.html.
    #[arg(short, long, value_name = "FILE", env = "EVERFLAME_OUTPUT")]
    pub output: Vec<PathBuf>,
    /// How many functions to print.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// Print every counter at the end.
    #[arg(long)]
    pub statistics: bool,
    /// Unwind every sample a second time in user space and compare (costs a stack copy for each sample).
    #[arg(long, hide = true)]
    pub verify: bool,
    /// Look every rule up in the tables, to measure what the cache brings.
    #[arg(long, hide = true)]
    pub no_rule_cache: bool,
    /// Count timer hits by process, to compare with what was recorded.
    #[arg(long, hide = true)]
    pub count_pids: bool,
}

/// What is sampled; of `record` and of the live `top`.
#[derive(Debug, Args)]
pub struct Selection {
    /// Only this process; may repeat. Of several kinds of filters all must match.
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Only processes or threads of this name; may repeat. Of several kinds of filters all must match, but beside a COMMAND these are
    /// profiled as well.
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<String>,
    /// Only this cgroup and those below it, as a path under the cgroup file system.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Which code.
    #[command(flatten)]
    pub code: Code,
}

/// Which code of what is sampled.
#[derive(Debug, Args)]
pub struct Code {
    /// Only user code: no kernel frames, no samples in the kernel.
    #[arg(long, conflicts_with = "kernel_only")]
    pub user_only: bool,
    /// Only kernel code.
    #[arg(long)]
    pub kernel_only: bool,
    /// Keep samples of the profiler itself.
    #[arg(long)]
    pub include_self: bool,
    /// Most memory for unwind tables, in MiB (4 to 252); each MiB holds about 250,000 rows, a large program's.
    #[arg(long, value_name = "MIB", default_value_t = 64, env = "EVERFLAME_UNWIND_MEMORY", value_parser = clap::value_parser!(u64).range(4..=252))]
    pub unwind_memory: u64,
}

/// `everflame doctor`: the agent's words, so that it looks where the agent would.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The agent's settings.
    #[command(flatten)]
    pub agent: Agent,
    /// Print JSON instead of lines.
    #[arg(long)]
    pub json: bool,
    /// Record for 3 s and print the top causes of incomplete stacks, by executable.
    #[arg(long)]
    pub top: bool,
}

/// `everflame top`.
#[derive(Debug, Args)]
pub struct Top {
    // What may come from the environment does not conflict: it is there for other commands as well.
    /// A pprof file, plain or gzipped, to print the hottest functions of; - for standard input. Without it the machine is
    /// sampled and shown live.
    #[arg(conflicts_with_all = ["pid", "comm", "cgroup", "user_only", "kernel_only", "include_self"])]
    pub file: Option<PathBuf>,
    /// Live: samples per second on each CPU, 1 to 10000.
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = 99, env = "EVERFLAME_FREQUENCY", value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = LIVE)]
    pub frequency: u32,
    /// What is sampled.
    #[command(flatten, next_help_heading = LIVE)]
    pub selection: Selection,
    /// How many functions.
    #[arg(short = 'n', long, default_value_t = 20, requires = "file", help_heading = OF_A_FILE)]
    pub rows: usize,
    /// Which sample type, such as samples, cpu or inuse_space. Default: the file's own.
    #[arg(long, value_name = "NAME", requires = "file", help_heading = OF_A_FILE)]
    pub sample_type: Option<String>,
    /// Add the functions of all processes up.
    #[arg(long, requires = "file", help_heading = OF_A_FILE)]
    pub no_processes: bool,
}

/// What only one of the two forms of `top` knows.
const LIVE: &str = "Options of the live screen";
const OF_A_FILE: &str = "Options with a FILE";

/// `everflame convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// A pprof file, plain or gzipped; - for standard input.
    pub input: PathBuf,
    /// Where to write; the suffix says the form.
    pub output: PathBuf,
}

/// `everflame report`.
#[derive(Debug, Args)]
pub struct Report {
    /// A pprof file, plain or gzipped; - for standard input.
    pub file: PathBuf,
    /// How many functions.
    #[arg(short = 'n', long, default_value_t = 20)]
    pub rows: usize,
    /// Which sample type, such as samples, cpu or inuse_space. Default: the file's own.
    #[arg(long, value_name = "NAME")]
    pub sample_type: Option<String>,
    /// Print JSON instead of lines.
    #[arg(long)]
    pub json: bool,
}

/// `everflame diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The pprof file to compare with, plain or gzipped; - for standard input.
    pub before: PathBuf,
    /// The pprof file that is compared.
    pub after: PathBuf,
    /// How many functions.
    #[arg(short = 'n', long, default_value_t = 20)]
    pub rows: usize,
    /// Which sample type, such as samples, cpu or inuse_space. Default: the files' own.
    #[arg(long, value_name = "NAME")]
    pub sample_type: Option<String>,
    /// Print JSON instead of lines.
    #[arg(long)]
    pub json: bool,
}

/// `everflame completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell: bash, zsh or fish.
    #[arg(value_name = "SHELL", value_parser = ["bash", "zsh", "fish"])]
    pub shell: String,
}

/// `everflame man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Of which command; without it of everflame.
    pub command: Option<String>,
}

/// The help of `everflame record`, as README shows it: 100 columns, whatever the terminal.
pub fn record_help() -> String {
    use clap::CommandFactory as _;
    let mut command = Arguments::command().term_width(100);
    let record = command.find_subcommand_mut("record").map(|record| {
        let mut record = record.clone().term_width(100).bin_name("everflame record");
        record.render_help().to_string()
    });
    record.unwrap_or_default().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Longest duration, a day: the batch is held in memory.
const MAX_DURATION_SECONDS: f64 = 86_400.0;

pub(super) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}: write 500ms, 30s, 2m or 1h")),
    };
    let seconds = number.parse::<f64>().map_err(|_| "write a number and a unit, such as 30s".to_owned())? * factor;
    if !(0.01..=MAX_DURATION_SECONDS).contains(&seconds) {
        return Err("must be between 10ms and 24h".to_owned());
    }
    Ok(std::time::Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::recording::DEFAULT_DURATION;
    use clap::CommandFactory as _;

    #[test]
    fn the_table_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_says_how_long_a_recording_is_without_duration() {
        let default = format!("{}s", DEFAULT_DURATION.as_secs());
        let command = Arguments::command();
        for (name, expected) in
            [("record", format!("Default: {default}, with a COMMAND")), ("pod", format!("[default: {default}]"))]
        {
            let words = command.find_subcommand(name).unwrap();
            let duration = words.get_arguments().find(|argument| argument.get_id() == "duration").unwrap();
            let help = duration.get_help().unwrap().to_string();
            assert!(help.contains(&expected), "{name}: {help}");
        }
    }

    #[test]
    fn durations_have_units_and_bounds() {
        for (text, wanted) in [
            ("30s", Some(30_000)),
            ("30", Some(30_000)),
            ("1.5s", Some(1500)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("0s", None),
            ("25h", None),
            ("", None),
            ("s", None),
            ("3x", None),
            ("-3s", None),
        ] {
            assert_eq!(parse_duration(text).ok().map(|time| time.as_millis()), wanted, "{text:?}");
        }
    }

    #[test]
    fn top_is_live_or_of_a_file_and_takes_the_words_of_one_of_them() {
        for (words, fine) in [
            (&[][..], true),
            (&["--pid", "1", "--comm", "x", "-F", "49"], true),
            (&["-"], true),
            (&["cpu.pb.gz", "-n", "3", "--sample-type", "cpu", "--no-processes"], true),
            (&["cpu.pb.gz", "--pid", "1"], false),
            (&["cpu.pb.gz", "--user-only"], false),
            (&["-n", "3"], false),
            (&["--no-processes"], false),
        ] {
            let all = [&["everflame", "top"], words].concat();
            assert_eq!(Arguments::try_parse_from(all).is_ok(), fine, "{words:?}");
        }
    }

    #[test]
    fn frequencies_outside_the_bounds_are_refused() {
        for (hz, fine) in [("0", false), ("1", true), ("10000", true), ("10001", false), ("20000", false), ("x", false)]
        {
            assert_eq!(Arguments::try_parse_from(["everflame", "record", "-F", hz]).is_ok(), fine, "{hz}");
        }
    }
}
