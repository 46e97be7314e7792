//! The steps of `cargo xtask test`, cheap ones first.

use super::{Remark, Step, real};
use crate::{
    budget, command, ebpf, fuzz,
    install::{self, missing},
    kernels, paths,
    qemu::{Machine, Programs},
    toolchain,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    time::Duration,
};

/// Node before this has no test runner that the page's tests can use.
const OLDEST_NODE: u32 = 20;
const CHROMIUM: &str = "/usr/bin/chromium";
/// Where `web/test/live/real.ts` looks for the agent.
const PROGRAM_VARIABLE: &str = "EVERFLAME_PROGRAM";
/// More files than these that need a second try are no bad luck.
const SECOND_TRIES: usize = 2;
/// Of one kernel's whole run, boot and all cases of the matrix test.
const KERNEL_LIMIT: Duration = Duration::from_secs(600);

pub(super) fn all() -> Vec<Step> {
    let mut steps = vec![
        step("format", "cargo fmt --check", format),
        step("clippy", "clippy on all targets, warnings are errors", clippy),
        step("clippy-ebpf", "clippy on the eBPF programs, compiled for BPF", || ebpf::lint("x86_64")),
        step("documentation", "rustdoc, warnings are errors", documentation),
        step("unit", "cargo test --workspace", unit),
        step("object", "the committed eBPF object is what its source makes", object),
        Step { name: "live".to_owned(), what: "profiling real programs on this kernel, as root", run: Box::new(live) },
        step("budget", "the verifier's work per program, against the committed budget", budget::check),
        step("page", "the flame-graph page: types, bundle, unit tests", page),
        step("page-browser", "the flame-graph page in Chromium", page_in_browser),
        step("static", "static build against musl", static_build),
        step("real-backends", "delivery to servers that others wrote", real::backends),
        step("real-kubernetes", "pods of a real Kubernetes node, and the manifests", real::kubernetes),
    ];
    steps.push(step("fuzz", "each fuzz target for a few seconds", fuzz::briefly));
    for kernel in &kernels::KERNELS {
        steps.push(Step {
            name: format!("kernel-{}", kernel.name),
            what: "the matrix test inside that kernel",
            run: Box::new(|| matrix(kernel.name).map(|()| Remark::new())),
        });
    }
    steps
}

fn step(name: &str, what: &'static str, run: fn() -> Result<()>) -> Step {
    Step { name: name.to_owned(), what, run: Box::new(move || run().map(|()| Remark::new())) }
}

pub(super) fn cargo(words: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(paths::root()).args(words);
    cargo
}

fn format() -> Result<()> {
    toolchain::active().need_component("rustfmt", "bin/cargo-fmt")?;
    command::run(&mut cargo(&["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    toolchain::active().need_component("clippy", "bin/cargo-clippy")?;
    command::run(&mut cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn documentation() -> Result<()> {
    let mut doc = cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
    command::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn unit() -> Result<()> {
    need_compilers()?;
    command::run(&mut cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]))
}

/// What the fixture programs are built with, and changed by.
pub(super) fn need_compilers() -> Result<()> {
    let c_library = || Path::new("/usr/include/stdio.h").exists();
    let there = || paths::find_program("cc").is_some() && paths::find_program("c++").is_some() && c_library();
    install::debian_packages(&["gcc", "g++", "libc6-dev"], there)?;
    install::debian_packages(&["golang-go"], || paths::find_program("go").is_some())?;
    // They give fixture programs the forms of debug information that distributions give theirs.
    let tools = ["dwz", "xz", "objcopy"];
    install::debian_packages(&["dwz", "xz-utils", "binutils"], || {
        tools.iter().all(|tool| paths::find_program(tool).is_some())
    })?;
    toolchain::active().need_target("x86_64-unknown-linux-musl")
}

fn object() -> Result<()> {
    match ebpf::check("x86_64")? {
        ebpf::Comparison::Same => Ok(()),
        ebpf::Comparison::Different(how) => bail!(how),
    }
}

/// `profiler/tests/live*.rs`. One at a time: each profiles the whole machine. Their shares depend on what else the machine does in
/// those seconds, so a file that fails has a second try, and the table says so.
fn live() -> Result<Remark> {
    if !install::is_root() {
        return Err(missing("root"));
    }
    need_compilers()?;
    install::debian_packages(&["tmux"], || paths::find_program("tmux").is_some())?;
    let files = fs::read_dir(paths::root().join("profiler/tests"))?.flatten().map(|entry| entry.path());
    let files = files.filter(|file| file.extension().is_some_and(|suffix| suffix == "rs"));
    let names = files.filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.filter(|name| name.starts_with("live")).collect();
    names.sort();
    ensure!(!names.is_empty(), "profiler/tests/ holds no live*.rs");
    let run = |name: &str| {
        let words = ["test", "--locked", "--no-fail-fast", "--package", "everflame", "--test", name];
        command::run(cargo(&words).args(["--", "--include-ignored", "--test-threads=1"]))
    };
    // All are built before the first one measures.
    command::run(&mut cargo(&["test", "--locked", "--no-run", "--package", "everflame", "--test", "live*"]))?;
    let (mut failed, mut again) = (Vec::new(), Vec::new());
    for name in names {
        if run(&name).is_ok() {
            continue;
        }
        println!("{name}: a second try");
        match run(&name) {
            Ok(()) => again.push(name),
            Err(_) => failed.push(name),
        }
    }
    ensure!(failed.is_empty(), "failed twice: {}", failed.join(", "));
    ensure!(again.len() <= SECOND_TRIES, "too many needed a second try: {}", again.join(", "));
    Ok(if again.is_empty() { Remark::new() } else { format!("at the second try: {}", again.join(", ")) })
}

/// npm in `web/`, with its packages installed: makes its commands.
fn npm() -> Result<impl Fn(&[&str]) -> Command> {
    let folder = paths::root().join("web");
    let says = command::output(Command::new("node").arg("--version")).map_err(|_| missing("node"))?;
    let major = says.trim().trim_start_matches('v').split('.').next().and_then(|digits| digits.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_NODE) {
        return Err(missing(format!("node {OLDEST_NODE} or newer (here is {})", says.trim())));
    }
    paths::find_program("npm").ok_or_else(|| missing("npm"))?;
    let npm = move |words: &[&str]| {
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).args(words);
        npm
    };
    if !packages_are_those_of_the_lock_file(&paths::root().join("web")) {
        command::run(&mut npm(&["ci", "--no-audit", "--no-fund"]))
            .map_err(|error| missing(format!("the page's npm packages: {error:#}")))?;
    }
    Ok(npm)
}

/// npm leaves a copy of the lock file with what it installed; older than the lock file, it is not of it.
fn packages_are_those_of_the_lock_file(folder: &Path) -> bool {
    let time = |file: &str| folder.join(file).metadata().and_then(|data| data.modified());
    matches!((time("node_modules/.package-lock.json"), time("package-lock.json")), (Ok(there), Ok(lock)) if there >= lock)
}

fn page() -> Result<()> {
    command::run(&mut npm()?(&["test"]))
}

fn page_in_browser() -> Result<()> {
    let npm = npm()?;
    let tests = fs::read_dir(paths::root().join("web/test/browser"))?.flatten();
    let any = tests.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().ends_with(".test.ts"));
    ensure!(any, "web/test/browser/ holds no *.test.ts");
    install::debian_packages(&["chromium"], || Path::new(CHROMIUM).exists())?;
    let mut test = npm(&["run", "test:browser"]);
    if let Some(everflame) = real_everflame()? {
        test.env(PROGRAM_VARIABLE, everflame);
    }
    command::run(&mut test)
}

/// The agent whose page is tested besides made-up ones. Without root, or what its build needs, those tests say that they are skipped;
/// in continuous integration they fail.
fn real_everflame() -> Result<Option<PathBuf>> {
    if !install::is_root() {
        return Ok(None);
    }
    match need_compilers().and_then(|()| Programs::shared()) {
        Ok(programs) => Ok(programs.everflame().map(Path::to_owned)),
        Err(error) if error.is::<install::Missing>() => {
            println!("no real everflame for the page's tests: {error:#}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn static_build() -> Result<()> {
    let programs = Programs::shared()?;
    let everflame = programs.everflame().context("the build gave no everflame")?;
    let elf = fs::read(everflame).with_context(|| everflame.display().to_string())?;
    match interpreter(&elf) {
        Some(true) => bail!("{} asks for a dynamic loader", everflame.display()),
        Some(false) => {}
        None => bail!("{} is not a 64-bit ELF file", everflame.display()),
    }
    println!("{}: {} bytes, static", everflame.display(), elf.len());
    command::run(Command::new(everflame).arg("--version"))
}

/// Whether a 64-bit little-endian ELF file names a dynamic loader; `None` if it is no such file.
fn interpreter(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, length: usize| {
        let bytes = elf.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0_usize, |value, byte| value << 8 | usize::from(*byte)))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    let kinds = (0..count).map(|index| number(table.checked_add(index * size)?, 4));
    kinds.collect::<Option<Vec<_>>>().map(|kinds| kinds.contains(&(PT_INTERP as usize)))
}

fn matrix(kernel: &str) -> Result<()> {
    let image: PathBuf = kernels::image(kernel)?;
    need_compilers()?;
    let programs: Rc<Programs> = Programs::shared()?;
    let machine = Machine { memory_mib: 1024, cpus: 2, limit: KERNEL_LIMIT };
    let code = machine.run(&image, &programs, &[], &["/tests/matrix".to_owned()])?;
    ensure!(code == 0, "the matrix test in kernel {kernel} ended with {code}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_elf_file_tells_whether_it_wants_a_loader() {
        let mut elf = vec![0_u8; 0x40 + 2 * 0x38];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[0x20], elf[0x36], elf[0x38]) = (0x40, 0x38, 2);
        elf[0x40] = 1;
        assert_eq!(interpreter(&elf), Some(false));
        elf[0x40 + 0x38] = 3;
        assert_eq!(interpreter(&elf), Some(true));
        assert_eq!(interpreter(&elf[..0x60]), None);
        assert_eq!(interpreter(b"#!/bin/sh"), None);
    }
}
