//! The words of `everflame agent`: flags, environment names, defaults and help in one table, which the configuration file shares.

use std::ops::RangeInclusive;
use std::path::{Component, PathBuf};
use std::time::Duration;

use clap::Args;

use super::args::parse_duration;
use crate::identity::label_selector;

/// `everflame agent`, and `everflame config`, which prints what they come to.
#[derive(Debug, Clone, Args)]
pub struct Agent {
    /// A TOML file with any of these settings, by the names of the flags. Flags and environment go before it.
    #[arg(long, value_name = "FILE", env = "EVERFLAME_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where to send profiles; may repeat. datadog+http://HOST:8126, datadog+unix:///SOCKET, otlp+grpc://HOST:4317,
    /// otlp+http://HOST:4318, pyroscope+http://HOST:4040, file:///DIRECTORY; http://HOST:PORT is asked what it is.
    #[arg(long, value_name = "ADDRESS", env = "EVERFLAME_TO", value_delimiter = ',')]
    pub to: Vec<String>,
    /// Samples per second on each CPU, 1 to 10000.
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = 99, env = "EVERFLAME_FREQUENCY", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub frequency: u32,
    /// How much time one upload covers, 10s to 10m.
    #[arg(long, value_name = "TIME", default_value = "60s", env = "EVERFLAME_INTERVAL", value_parser = parse_interval)]
    pub interval: Duration,
    /// Added to every profile, as KEY:VALUE; may repeat.
    #[arg(long, value_name = "KEY:VALUE", env = "EVERFLAME_TAGS", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// Label of pods, by its key, that is added to the profiles of a pod that has it; may repeat.
    #[arg(long, value_name = "KEY", env = "EVERFLAME_POD_LABEL", value_delimiter = ',', value_parser = parse_label_key)]
    pub pod_label: Vec<String>,
    /// One profile for the whole node, with containers as labels, instead of one for each service and container.
    #[arg(long, env = "EVERFLAME_WHOLE_NODE")]
    pub whole_node: bool,
    /// Only these namespaces; may repeat.
    #[arg(long, value_name = "NAME", env = "EVERFLAME_NAMESPACE", value_delimiter = ',')]
    pub namespace: Vec<String>,
    /// Only pods whose labels match, as kubectl writes it: app=web,tier!=test.
    #[arg(long, value_name = "SELECTOR", env = "EVERFLAME_POD_SELECTOR")]
    pub pod_selector: Option<String>,
    /// Only containers of these names; may repeat.
    #[arg(long, value_name = "NAME", env = "EVERFLAME_CONTAINER", value_delimiter = ',')]
    pub container: Vec<String>,
    /// Not these namespaces; may repeat.
    #[arg(long, value_name = "NAME", env = "EVERFLAME_EXCLUDE_NAMESPACE", value_delimiter = ',')]
    pub exclude_namespace: Vec<String>,
    /// Not pods whose labels match, as kubectl writes it: app=batch,tier!=prod.
    #[arg(long, value_name = "SELECTOR", env = "EVERFLAME_EXCLUDE_POD_SELECTOR")]
    pub exclude_pod_selector: Option<String>,
    /// Not containers of these names; may repeat.
    #[arg(long, value_name = "NAME", env = "EVERFLAME_EXCLUDE_CONTAINER", value_delimiter = ',')]
    pub exclude_container: Vec<String>,
    /// Only processes or threads of these names; may repeat.
    #[arg(long, value_name = "NAME", env = "EVERFLAME_COMM", value_delimiter = ',')]
    pub comm: Vec<String>,
    /// Not processes or threads of these names; may repeat.
    #[arg(long, value_name = "NAME", env = "EVERFLAME_EXCLUDE_COMM", value_delimiter = ',')]
    pub exclude_comm: Vec<String>,
    /// Only this cgroup and those below it, as a path under the cgroup file system.
    #[arg(long, value_name = "PATH", env = "EVERFLAME_CGROUP")]
    pub cgroup: Option<PathBuf>,
    /// Not this cgroup and those below it, now or later, as a path under the cgroup file system; may repeat.
    #[arg(long, value_name = "PATH", env = "EVERFLAME_EXCLUDE_CGROUP", value_delimiter = ',', value_parser = parse_cgroup)]
    pub exclude_cgroup: Vec<PathBuf>,
    /// Keep samples of the profiler itself.
    #[arg(long, env = "EVERFLAME_INCLUDE_SELF")]
    pub include_self: bool,
    /// Name of this node. Default: NODE_NAME, KUBERNETES_NODE_NAME, or the host's name.
    #[arg(long, value_name = "NAME", env = "EVERFLAME_NODE_NAME")]
    pub node_name: Option<String>,
    /// Whether pods are asked of the API server: auto (if there is one) or off.
    #[arg(long, value_name = "MODE", default_value = "auto", env = "EVERFLAME_KUBERNETES", value_parser = ["auto", "off"])]
    pub kubernetes: String,
    /// Container runtime to ask where the API server can't be: auto, off, or its socket's path.
    #[arg(long, value_name = "MODE", default_value = "auto", env = "EVERFLAME_CRI")]
    pub cri: String,
    /// Where the host's /proc is.
    #[arg(long, value_name = "PATH", default_value = "/proc", env = "EVERFLAME_PROC_ROOT")]
    pub proc_root: PathBuf,
    /// Where the host's cgroup file system is.
    #[arg(long, value_name = "PATH", default_value = "/sys/fs/cgroup", env = "EVERFLAME_CGROUP_ROOT")]
    pub cgroup_root: PathBuf,
    /// Directory for what could not be sent; without it only memory is used.
    #[arg(long, value_name = "DIRECTORY", env = "EVERFLAME_SPOOL")]
    pub spool: Option<PathBuf>,
    /// Most space for what could not be sent, in MiB, over all sinks.
    #[arg(long, value_name = "MIB", default_value_t = 512, env = "EVERFLAME_SPOOL_SIZE", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub spool_size: u64,
    /// A header for every HTTP and gRPC request, as NAME: VALUE; may repeat. With a sink's address and a space before it, it goes
    /// to that sink alone, and so do the files below.
    #[arg(long, value_name = "NAME: VALUE", env = "EVERFLAME_HEADER")]
    pub header: Vec<String>,
    /// File with a bearer token; read again when it changes. May repeat, for each sink.
    #[arg(long, value_name = "FILE", env = "EVERFLAME_TOKEN_FILE", value_delimiter = ',')]
    pub token_file: Vec<String>,
    /// Certificates of the authorities to trust instead of the system's, as PEM. May repeat, for each sink.
    #[arg(long, value_name = "FILE", env = "EVERFLAME_CA_FILE", value_delimiter = ',')]
    pub ca_file: Vec<String>,
    /// Client certificate, as PEM; with --client-key. May repeat, for each sink.
    #[arg(long, value_name = "FILE", env = "EVERFLAME_CLIENT_CERTIFICATE", value_delimiter = ',')]
    pub client_certificate: Vec<String>,
    /// Its private key, as PEM; with --client-certificate. May repeat, for each sink.
    #[arg(long, value_name = "FILE", env = "EVERFLAME_CLIENT_KEY", value_delimiter = ',')]
    pub client_key: Vec<String>,
    /// Where /metrics, /healthz and /readyz listen; off for nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9464", env = "EVERFLAME_LISTEN")]
    pub listen: String,
    /// The live page and the history behind it.
    #[command(flatten)]
    pub page: super::page_args::Page,
    /// Most processor time that profiling may take, in percent of the node; the rate is lowered before it is passed.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, env = "EVERFLAME_CPU_LIMIT", value_parser = parse_percent)]
    pub cpu_limit: f64,
    /// Most memory that the agent may take, BPF maps included, in MiB; the rate is lowered before, then symbols are forgotten.
    /// Default: the limit of its cgroup.
    #[arg(long, value_name = "MIB", env = "EVERFLAME_MEMORY_LIMIT", value_parser = clap::value_parser!(u64).range(64..=1_048_576))]
    pub memory_limit: Option<u64>,
    /// Most memory for unwind tables, in MiB (4 to 252); each MiB holds about 250,000 rows, a large program's.
    #[arg(long, value_name = "MIB", default_value_t = 64, env = "EVERFLAME_UNWIND_MEMORY", value_parser = clap::value_parser!(u64).range(4..=252))]
    pub unwind_memory: u64,
    /// How long the end may take to deliver what is left.
    #[arg(long, value_name = "TIME", default_value = "25s", env = "EVERFLAME_SHUTDOWN_TIMEOUT", value_parser = parse_duration)]
    pub shutdown_timeout: Duration,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORM", default_value = "text", env = "EVERFLAME_LOG_FORMAT", value_parser = ["text", "json"])]
    pub log_format: String,
    /// What is logged: error, warn, info, debug.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "EVERFLAME_LOG_LEVEL", value_parser = ["error", "warn", "info", "debug"])]
    pub log_level: String,
}

/// What one upload may cover.
pub(super) const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(600);

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if INTERVALS.contains(&interval) { Ok(interval) } else { Err("must be between 10s and 10m".to_owned()) }
}

/// A path that [`crate::agent::excluded`] can compare: which cgroup `..` leads to depends on links that only the host has.
fn parse_cgroup(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let leads_up = path.components().any(|part| part == Component::ParentDir);
    let names_one = path.components().any(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if names_one && !leads_up {
        Ok(path)
    } else {
        Err("write a cgroup's path as /proc/PID/cgroup shows it, or under /sys/fs/cgroup, without ..".to_owned())
    }
}

fn parse_label_key(text: &str) -> Result<String, String> {
    if label_selector::is_key(text) {
        Ok(text.to_owned())
    } else {
        Err("write the key of a label, such as team or app.kubernetes.io/part-of".to_owned())
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent: f64 =
        text.trim_end_matches('%').parse().map_err(|_| "write a number of percent, such as 0.5".to_owned())?;
    if (0.01..=100.0).contains(&percent) { Ok(percent) } else { Err("must be between 0.01 and 100".to_owned()) }
}
