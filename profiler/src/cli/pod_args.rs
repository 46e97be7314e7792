//! The words of `everflame pod`.

use std::path::PathBuf;

use clap::Args;

use super::args::{Code, Sampling};

/// `everflame pod`.
#[derive(Debug, Args)]
pub struct Pod {
    /// Which: a pod's name, with its namespace where several have the name, or its uid. Several are given by their uids.
    #[arg(value_name = "NAMESPACE/POD", conflicts_with = "selector")]
    pub pod: Vec<String>,
    /// All pods of this node whose labels match, as kubectl writes it: app=web,tier!=test.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Only pods of this namespace.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Only containers of this name, or with this id (12 digits are enough); may repeat.
    #[arg(short, long, value_name = "NAME")]
    pub container: Vec<String>,
    /// How it is sampled and where the result goes.
    #[command(flatten)]
    pub sampling: Sampling,
    /// Which code.
    #[command(flatten)]
    pub code: Code,
    /// One file for each pod instead of one for all: cpu.html becomes cpu-NAMESPACE-POD.html.
    #[arg(long, value_name = "BY", value_parser = ["pod"])]
    pub split: Option<String>,
    /// Take the profile from the history of the agent whose page is at this address, instead of sampling: the last TIME.
    #[arg(long, value_name = "URL", conflicts_with_all = ["selector", "split", "user_only", "kernel_only"])]
    pub from_agent: Option<String>,
    /// File with the token that the agent's page asks for.
    #[arg(long, value_name = "FILE", env = "EVERFLAME_PAGE_TOKEN_FILE")]
    pub page_token_file: Option<PathBuf>,
    /// With --from-agent: the coming TIME instead of the last.
    #[arg(long, requires = "from_agent")]
    pub next: bool,
    /// Write no files: progress and profile go to standard output as lines for `everflame kubectl`, which started this.
    #[arg(long, hide = true, conflicts_with_all = ["from_agent", "split"])]
    pub hand_over: bool,
    /// Name of this node. Default: NODE_NAME, KUBERNETES_NODE_NAME, or the host's name.
    #[arg(long, value_name = "NAME", env = "EVERFLAME_NODE_NAME")]
    pub node_name: Option<String>,
    /// Whether pods are asked of the API server: auto (if there is one) or off.
    #[arg(long, value_name = "MODE", default_value = "auto", env = "EVERFLAME_KUBERNETES", value_parser = ["auto", "off"])]
    pub kubernetes: String,
    /// Container runtime to ask for what the API server does not tell: auto, off, or its socket's path.
    #[arg(long, value_name = "MODE", default_value = "auto", env = "EVERFLAME_CRI")]
    pub cri: String,
}
