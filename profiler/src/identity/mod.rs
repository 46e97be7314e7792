//! Whose a process is: container, pod, workload, service, from cgroup paths, the API server, the container runtime and the
//! process's own environment. The result is a [`crate::profile::Identity`].
//!
//! Constraint: everything read here is hostile (cgroup names, environments, API answers); never an error, at worst unknown.
//!
//! [`Identities`] is the front. Behind it one thread reads `/proc` and the cgroup tree, one task watches the API server, one asks
//! the container runtime; what they found out is in [`known`]. All rules and parsers are free of I/O.

mod api_server;
pub mod cgroup_path;
pub mod cgroups;
pub mod counters;
pub mod cri;
pub mod docker;
pub mod environment;
mod identities;
pub mod known;
pub mod label_selector;
pub mod observed;
pub mod pod_object;
pub mod pods;
mod reader;
pub mod runtime;
mod selector;
pub mod service;
pub mod watch;
pub mod workload;

pub use api_server::ApiServer;
pub use cgroups::Hierarchy;
pub use counters::{Counters, Sizes};
pub use identities::{Identities, Options};
pub use known::MAX_PROCESSES;
pub use label_selector::{LabelSelector, LabelSelectorError};
pub use runtime::{RuntimeSocket, Sockets};
pub use selector::{Selector, SelectorOptions};
