//! `cargo xtask ebpf`: the eBPF object from its source, the same bytes on every machine; `--check` compares.
//!
//! What makes the bytes the same: pinned tools ([`toolchain`]), no path of this machine in them (prefixes are remapped),
//! all crates in one workspace, and DWARF stripped: it is four fifths of the file, no kernel reads it, and it holds hashes
//! that depend on where the toolchain is. BTF stays; it is made from DWARF, so the compiler has to write that first.

use crate::{
    command,
    install::missing,
    paths,
    toolchain::{self, Toolchain},
};
use anyhow::{Context, Result};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Compare with the committed object instead of writing it; fails when the bytes differ
    #[arg(long)]
    check: bool,
    /// The processor whose registers and kernel the object is for
    #[arg(long, default_value = "x86_64", value_parser = ["x86_64", "aarch64"])]
    arch: String,
}

/// What `--check` found.
pub(crate) enum Comparison {
    /// The committed object is what this source and these tools make.
    Same,
    /// It is not; the text says how and what to do.
    Different(String),
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.check {
        return match check(&options.arch)? {
            Comparison::Same => {
                println!("{}: same bytes", committed(&options.arch).display());
                Ok(ExitCode::SUCCESS)
            }
            Comparison::Different(how) => {
                eprintln!("error: {how}");
                Ok(ExitCode::FAILURE)
            }
        };
    }
    let built = build(&options.arch)?;
    fs::create_dir_all(prebuilt())?;
    write(&committed(&options.arch), &built.bytes)?;
    write(&prebuilt().join("VERSIONS"), built.versions.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Builds and compares with the committed object.
///
/// # Errors
/// [`crate::install::Missing`] without the tools, or with another LLVM than the committed object's when the bytes differ:
/// then they say nothing about the source.
pub(crate) fn check(arch: &str) -> Result<Comparison> {
    let built = build(arch)?;
    let file = committed(arch);
    let was = fs::read(&file).with_context(|| format!("{}: run `cargo xtask ebpf`", file.display()))?;
    let versions = fs::read_to_string(prebuilt().join("VERSIONS")).unwrap_or_default();
    if was == built.bytes && versions == built.versions {
        return Ok(Comparison::Same);
    }
    if was != built.bytes && versions != built.versions {
        let (here, there) = (built.versions.replace('\n', ", "), versions.replace('\n', ", "));
        return Err(missing(format!("the tools that made the committed object ({there}); here are {here}")));
    }
    let kept = folder().join(file_name(arch));
    fs::write(&kept, &built.bytes)?;
    let at = was.iter().zip(&built.bytes).position(|(a, b)| a != b).unwrap_or(was.len().min(built.bytes.len()));
    Ok(Comparison::Different(format!(
        "{} is not what its source makes: {} bytes committed, {} built, first difference at byte {at}.\n\
         Run `cargo xtask ebpf` and commit profiler-ebpf/prebuilt/ (the built object is {}).",
        file.display(),
        was.len(),
        built.bytes.len(),
        kept.display(),
    )))
}

struct Built {
    bytes: Vec<u8>,
    versions: String,
}

fn prebuilt() -> PathBuf {
    paths::root().join("profiler-ebpf/prebuilt")
}

fn file_name(arch: &str) -> String {
    format!("everflame.{arch}.bpf.o")
}

fn committed(arch: &str) -> PathBuf {
    prebuilt().join(file_name(arch))
}

fn build(arch: &str) -> Result<Built> {
    let rust = Toolchain::pinned()?;
    rust.need_library_source()?;
    let (llvm, llvm_version) = toolchain::llvm()?;
    let linker = toolchain::bpf_linker(&llvm)?;

    let folder = folder();
    command::run(&mut cargo(&rust, "build", flags(arch, &rust, &linker)?))?;

    let stripped = folder.join("stripped.o");
    let mut objcopy = Command::new(llvm.join("bin/llvm-objcopy"));
    objcopy.arg("--strip-debug").arg(folder.join("bpfel-unknown-none/bpf/profiler-ebpf")).arg(&stripped);
    command::output(&mut objcopy)?;
    let bytes = fs::read(&stripped).with_context(|| stripped.display().to_string())?;

    let lock = fs::read_to_string(paths::root().join("Cargo.lock"))?;
    let aya = locked_version(&lock, "aya-ebpf").context("Cargo.lock has no aya-ebpf")?;
    let versions = format!(
        "rustc {} (LLVM {})\nbpf-linker {} (LLVM {llvm_version})\naya-ebpf {aya}\n",
        rust.verbose_version("release")?,
        rust.verbose_version("LLVM version")?,
        toolchain::BPF_LINKER,
    );
    Ok(Built { bytes, versions })
}

/// Clippy on the eBPF programs as they are compiled for BPF; on the host there is nothing of them to look at.
///
/// # Errors
/// For any warning; [`crate::install::Missing`] without the tools.
pub(crate) fn lint(arch: &str) -> Result<()> {
    let rust = Toolchain::pinned()?;
    rust.need_library_source()?;
    rust.need_component("clippy", "bin/cargo-clippy")?;
    // Nothing is linked.
    let flags = flags(arch, &rust, Path::new("bpf-linker"))?;
    command::run(cargo(&rust, "clippy", flags).args(["--", "-D", "warnings"]))
}

fn folder() -> PathBuf {
    paths::target().join("ebpf")
}

/// Cargo for the eBPF crate and its target.
fn cargo(rust: &Toolchain, word: &str, flags: OsString) -> Command {
    let mut cargo = rust.program("cargo");
    cargo.current_dir(paths::root());
    // For -Z build-std and the crate's unstable features on a stable compiler; for this one command only.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", flags);
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_BUILD_TARGET").env_remove("CARGO_INCREMENTAL");
    cargo.args([word, "--locked", "--package", "profiler-ebpf", "--profile", "bpf"]);
    cargo.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core", "--target-dir"]).arg(folder());
    cargo
}

/// All flags, since the variable replaces those of every configuration file; separated by the byte 0x1f.
fn flags(arch: &str, rust: &Toolchain, linker: &Path) -> Result<OsString> {
    let cargo_home = paths::cargo_home();
    let mut flags: Vec<OsString> = vec![
        format!("--cfg=bpf_target_arch=\"{arch}\"").into(),
        "-Cdebuginfo=2".into(),
        prefixed("-Clinker=", linker, ""),
        "-Clink-arg=--btf".into(),
        "-Ctarget-cpu=v3".into(),
        prefixed("--remap-path-prefix=", &paths::root(), "=/src"),
        prefixed("--remap-path-prefix=", &cargo_home, "=/cargo"),
        prefixed("--remap-path-prefix=", &rust.sysroot()?, "=/rust"),
    ];
    // The registry's folder has a name that depends on how cargo reaches it. The last matching prefix wins.
    for folder in fs::read_dir(cargo_home.join("registry/src")).into_iter().flatten().flatten() {
        flags.push(prefixed("--remap-path-prefix=", &folder.path(), "=/crates"));
    }
    Ok(flags.join(std::ffi::OsStr::new("\u{1f}")))
}

fn prefixed(before: &str, path: &Path, after: &str) -> OsString {
    let mut flag = OsString::from(before);
    flag.push(path);
    flag.push(after);
    flag
}

/// The version of a package in the text of a `Cargo.lock`.
fn locked_version<'text>(lock: &'text str, package: &str) -> Option<&'text str> {
    let after = lock.split(&format!("name = \"{package}\"\nversion = \"")).nth(1)?;
    after.split('"').next()
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let same = fs::read(file).is_ok_and(|was| was == bytes);
    fs::write(file, bytes).with_context(|| file.display().to_string())?;
    println!("{}: {} bytes{}", file.display(), bytes.len(), if same { ", as before" } else { "" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_comes_from_the_package_of_exactly_that_name() {
        let lock = "[[package]]\nname = \"aya-ebpf-bindings\"\nversion = \"0.2.0\"\n\n\
                    [[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n";
        assert_eq!(locked_version(lock, "aya-ebpf"), Some("0.2.1"));
        assert_eq!(locked_version(lock, "aya"), None);
    }
}
