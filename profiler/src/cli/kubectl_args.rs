//! The words of `everflame kubectl`, which is also `kubectl everflame`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};

use super::args::parse_duration;
use crate::kubectl::manifest::{DEFAULT_IMAGE, Toleration};

/// That of the manifests in `deploy/`.
const AGENT_NAMESPACE: &str = "everflame";

/// Profile pods of a Kubernetes cluster from anywhere: by the agent on their nodes, or by a pod that is started for it and goes away
/// again.
#[derive(Debug, Parser)]
#[command(name = "kubectl everflame", bin_name = "kubectl everflame", version)]
pub(super) struct Plugin {
    /// Those of `everflame kubectl`.
    #[command(flatten)]
    pub(super) words: Kubectl,
}

/// `everflame kubectl`.
#[derive(Debug, Args)]
pub struct Kubectl {
    /// Which: a pod's name, with its namespace or with -n; a uid with --node.
    #[arg(value_name = "NAMESPACE/POD", conflicts_with = "selector")]
    pub pod: Option<String>,
    /// All pods whose labels match, as kubectl writes it: app=web,tier!=test. One profile comes of them.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// The pods' namespace. Default: the context's.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Only containers of this name; may repeat.
    #[arg(short, long, value_name = "NAME")]
    pub container: Vec<String>,
    /// How long, without what it takes to pull an image and to start: 30s, 500ms, 2m, 1h.
    #[arg(short, long, value_name = "TIME", default_value = "30s", env = "EVERFLAME_DURATION", value_parser = parse_duration)]
    pub duration: Duration,
    /// Samples per second on each CPU, 1 to 10000. Default: 99, and what a resident agent samples with. Giving it starts a one-shot.
    #[arg(short = 'F', long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub frequency: Option<u32>,
    /// Where to write; may repeat. The suffix says the form: .pb.gz .pb .html .svg .folded, - is standard output (pprof).
    /// Default: cpu.pb.gz and cpu.html.
    #[arg(short, long, value_name = "FILE", env = "EVERFLAME_OUTPUT")]
    pub output: Vec<PathBuf>,
    /// One file for each pod instead of one for all: cpu.html becomes cpu-NAMESPACE-POD.html.
    #[arg(long, value_name = "BY", value_parser = ["pod"])]
    pub split: Option<String>,
    /// How many functions to print.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// Only user code: no kernel frames, no samples in the kernel.
    #[arg(long, conflicts_with = "kernel_only")]
    pub user_only: bool,
    /// Only kernel code.
    #[arg(long)]
    pub kernel_only: bool,
    /// Which cluster, and who asks.
    #[command(flatten, next_help_heading = "Options for the cluster")]
    pub cluster: ClusterWords,
    /// How it is run there.
    #[command(flatten, next_help_heading = "Options for the profiler's pod")]
    pub one_shot: OneShotWords,
}

/// Which cluster, and who asks.
#[derive(Debug, Args)]
pub struct ClusterWords {
    /// File that says which clusters there are. Default: as kubectl, KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Which of its contexts.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Where the agents on the nodes are: pods of other namespaces are not asked, nor given the token.
    #[arg(long, value_name = "NAME", default_value = AGENT_NAMESPACE, env = "EVERFLAME_AGENT_NAMESPACE")]
    pub agent_namespace: String,
    /// File with the token that a resident agent's page asks for.
    #[arg(long, value_name = "FILE", env = "EVERFLAME_PAGE_TOKEN_FILE")]
    pub page_token_file: Option<PathBuf>,
}

/// How a one-shot is run.
#[derive(Debug, Args)]
pub struct OneShotWords {
    /// Start a pod of its own, also where an agent with a page runs on the node.
    #[arg(long)]
    pub one_shot: bool,
    /// The profiler's image.
    #[arg(long, value_name = "IMAGE", default_value = DEFAULT_IMAGE, env = "EVERFLAME_IMAGE")]
    pub image: String,
    /// Where its pods are made. Default: the namespace of the pods that are profiled.
    #[arg(long, value_name = "NAME")]
    pub in_namespace: Option<String>,
    /// A taint that it tolerates, KEY[=VALUE][:EFFECT], instead of all; may repeat.
    #[arg(long, value_name = "TAINT")]
    pub toleration: Vec<Toleration>,
    /// Its service account, for admission rules that go by it; no token is mounted.
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,
    /// The node, for a pod that is given by its uid: then no pod is looked up.
    #[arg(long, value_name = "NAME", requires = "pod")]
    pub node: Option<String>,
    /// Leave the Job there at the end; it goes away ten minutes later.
    #[arg(long)]
    pub keep: bool,
    /// Print the Job that would be made, and make nothing.
    #[arg(long)]
    pub print_manifest: bool,
}
