//! Profiles sent to servers that others wrote: the Datadog agent's own HTTP front, an OpenTelemetry collector, Pyroscope's
//! generated code, a Kubernetes API server. What they took is read back and compared.
//!
//! `cargo xtask test --real` builds the servers (`testservers/`) and names their folder in `EVERFLAME_TESTSERVERS`. Without it a
//! test says so and ends; in continuous integration that is a failure. They listen on loopback, at ports of their own choice.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod agent;
mod busy_pods;
mod cluster;
mod datadog;
mod end_to_end;
mod faults;
mod fleet;
mod images;
mod intake;
mod intervals;
mod isolation;
mod kubernetes;
mod kubernetes_capabilities;
mod kubernetes_kubectl;
mod kubernetes_pod_command;
mod leaving;
mod left_out;
#[path = "../live/mod.rs"]
mod live;
mod loss;
mod network;
mod node;
mod otlp;
#[path = "../otlp_stacks/mod.rs"]
mod otlp_stacks;
mod pods;
mod proxy;
mod pyroscope;
mod recorded;
mod samples;
mod servers;
