//! Everflame's costs, measured: `benches kernel | agent | slowdown | memory | tables`; each prints a table for people.
//!
//! Needs root. A busy machine spoils every figure: the load stands beside them, and things that are compared are measured in
//! turns. What is measured is this build of the profiler's library and the committed eBPF object.

mod figures;
mod kernel;
mod machine;
mod plain;
mod programs;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "benches", about = "What Everflame costs")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// The programs' time per sample, beside a frame-pointer walk of the same stacks
    Kernel(kernel::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().bench {
        Bench::Kernel(options) => kernel::run(&options),
    }
}
