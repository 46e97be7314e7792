//! Developer chores, one module per command: `cargo xtask ebpf | test | kernels | qemu | fuzz | budget | bench`.
//!
//! A chore that lacks a tool installs it where that is allowed (see [`install`]) and otherwise says in one line what is
//! missing. Nothing here is needed for `cargo build`: the eBPF object is committed.

mod bench;
mod budget;
mod command;
mod ebpf;
mod fuzz;
mod initramfs;
mod install;
mod kernels;
mod paths;
mod qemu;
mod test;
mod toolchain;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Developer chores of Everflame", version)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build the eBPF object and write it, with the versions that made it, to profiler-ebpf/prebuilt/
    Ebpf(ebpf::Options),
    /// Test everything that can be tested on this machine
    Test(test::Options),
    /// Compare the verifier's work per eBPF program with the committed budget
    Budget(budget::Options),
    /// Measure what profiling costs on this machine
    Bench(bench::Options),
    /// Feed the readers of hostile input with broken files
    Fuzz(fuzz::Options),
    /// Download the kernels of the test matrix
    Kernels(kernels::Options),
    /// Run a command inside another kernel, in QEMU
    Qemu(qemu::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Ebpf(options) => ebpf::run(&options),
        Chore::Test(options) => test::run(&options),
        Chore::Budget(options) => budget::run(&options),
        Chore::Bench(options) => bench::run(&options),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Kernels(options) => kernels::run(&options),
        Chore::Qemu(options) => qemu::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
