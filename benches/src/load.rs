//! A mixed load that keeps every CPU busy: deep C stacks over much memory, threads, C++, Rust, Go, system calls.

use anyhow::Result;
use fixtures::Flavour;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::programs::{FramePointer, Running, deep};

/// Programs of `fixtures`, with their flavour and words. Each runs until it is killed.
const FIXTURES: [(&str, Flavour, &[&str]); 7] = [
    ("chain", Flavour::OmitFp, &[]),
    ("recursion", Flavour::OmitFp, &["60", FOR_EVER]),
    ("threads", Flavour::OmitFp, &["8", FOR_EVER]),
    ("exceptions", Flavour::OmitFp, &[]),
    ("generics", Flavour::OmitFp, &[]),
    ("goroutines", Flavour::Static, &[]),
    ("syscalls", Flavour::OmitFp, &[]),
];
/// Processes from executables that nobody has seen before, one after the other.
const SPAWNER: (&str, Flavour, &[&str]) = ("spawner", Flavour::OmitFp, &[]);
/// Seconds: `recursion` and `threads` take a number of their own only before these.
const FOR_EVER: &str = "86400";
/// Frames and KiB of the deep program.
const DEEP: [&str; 3] = ["120", "32", "4096"];

/// Running programs, killed when they go out of scope.
pub(crate) struct Load {
    running: Vec<Running>,
    names: Vec<String>,
}

impl Load {
    /// Starts them; a program whose compiler is missing is left out, and that is printed.
    ///
    /// # Errors
    /// Without a C compiler.
    pub(crate) fn start(folder: &Path, with_spawner: bool) -> Result<Load> {
        let mut load = Load { running: Vec::new(), names: Vec::new() };
        load.add("deep", &deep(folder, FramePointer::Omitted)?, &DEEP, folder)?;
        for (name, flavour, words) in FIXTURES.iter().chain(with_spawner.then_some(&SPAWNER)) {
            match fixtures::build(name, *flavour) {
                Ok(program) => load.add(name, &program, words, folder)?,
                Err(error) => println!("left out of the load: {error}"),
            }
        }
        Ok(load)
    }

    fn add(&mut self, name: &str, program: &Path, words: &[&str], folder: &Path) -> Result<()> {
        let mut command = Command::new(program);
        // The spawner writes its executables there.
        self.running.push(Running::spawn(command.args(words).stdout(Stdio::null()).env("TMPDIR", folder))?);
        self.names.push(name.to_owned());
        Ok(())
    }

    /// The programs themselves.
    pub(crate) fn running(&self) -> &[Running] {
        &self.running
    }

    /// The pids of the programs, without those of their children.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.running.iter().map(Running::pid).collect()
    }

    /// What runs, for a table's heading.
    pub(crate) fn text(&self) -> String {
        format!("{} programs: {}", self.running.len(), self.names.join(", "))
    }
}
