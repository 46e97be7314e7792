//! The binary `everflame`: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    profiler::cli::run()
}
