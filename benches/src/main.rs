//! Everflame's costs, measured: `benches --help` lists what; each prints a table for people. `cargo xtask bench` runs them all.
//!
//! Needs root. A busy machine spoils every figure: the load stands beside them, and things that are compared are measured in
//! turns. What is measured is this build of the profiler's library and the committed eBPF object.

mod account;
mod agent;
mod export;
mod figures;
mod first_unwind;
mod footprint;
mod fresh_build;
mod interval;
mod kernel;
mod load;
mod machine;
mod memory;
mod node;
mod plain;
mod programs;
mod recording;
mod slowdown;
mod steady;
mod store;
mod tables;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "benches", about = "What Everflame costs")]
struct Arguments {
    /// Short runs, which show that a bench works; their figures are rough
    #[arg(long, global = true)]
    quick: bool,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// The programs' time per sample, beside a frame-pointer walk of the same stacks
    Kernel(kernel::Options),
    /// CPU time per sample, all in: agent, programs, names and pprof
    Agent(agent::Options),
    /// The share of user stacks that the kernel finishes by itself
    Steady(steady::Options),
    /// What a program loses while it is profiled, and a loop of fork, exec and exit
    Slowdown(slowdown::Options),
    /// Memory of the whole profiler on a node with 200 processes
    Memory(memory::Options),
    /// The agent with containers and two back ends for an hour: does it stay as small as it was?
    Node(node::Options),
    /// Rows per second, bytes per row, and how soon a new binary is unwound in the kernel
    Tables(tables::Options),
    /// Time and memory to encode an interval for each back end, on a node with 10,000 containers
    Export(export::Options),
    /// What the history takes: bytes and CPU time per sample, and the time of questions
    #[command(subcommand)]
    Store(store::Options),
    /// A release build from nothing
    FreshBuild(fresh_build::Options),
}

/// How the bench `memory` calls this executable when it is to be the profiler: the same build, without another file.
const PROFILER: &str = "everflame";

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| name == PROFILER) {
        return profiler::cli::run();
    }
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Arguments { quick, bench }: Arguments) -> anyhow::Result<()> {
    match bench {
        Bench::Kernel(options) => kernel::run(&if quick { options.quick() } else { options }),
        Bench::Agent(options) => agent::run(&if quick { options.quick() } else { options }),
        Bench::Steady(options) => steady::run(&if quick { options.quick() } else { options }),
        Bench::Slowdown(options) => slowdown::run(&if quick { options.quick() } else { options }),
        Bench::Memory(options) => memory::run(&if quick { options.quick() } else { options }),
        Bench::Node(options) => node::run(&if quick { options.quick() } else { options }),
        Bench::Tables(options) => tables::run(&if quick { options.quick() } else { options }),
        Bench::Export(options) => export::run(&if quick { options.quick() } else { options }),
        Bench::Store(options) => store::run(&options),
        Bench::FreshBuild(options) => fresh_build::run(&options),
    }
}
