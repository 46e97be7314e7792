//! The pinned tools that make the eBPF object, and the Rust toolchain that chores run with.
//!
//! The object's bytes depend on rustc, on LLVM and on bpf-linker, so one exact rustc builds it, whatever version is active.
//! bpf-linker reads LLVM bitcode: its LLVM must not be older than rustc's.

use crate::{
    command,
    install::{self, missing},
    paths,
};
use anyhow::{Context, Result};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The compiler that the committed object is made with.
pub(crate) const RUSTC: &str = "1.95.0";
/// The linker of the committed object.
pub(crate) const BPF_LINKER: &str = "0.13.0";
const LLVM_MAJOR: &str = "22";

/// A Rust toolchain: the active one, or a named one through `rustup run`.
pub(crate) struct Toolchain {
    name: Option<&'static str>,
}

impl Toolchain {
    /// The toolchain of version [`RUSTC`]: the active one if it is that version, else the one of that name, which is
    /// downloaded if rustup can.
    ///
    /// # Errors
    /// [`install::Missing`] without it.
    pub(crate) fn pinned() -> Result<Toolchain> {
        let active = Toolchain { name: None };
        if active.release()? == RUSTC {
            return Ok(active);
        }
        let named = Toolchain { name: Some(RUSTC) };
        if paths::find_program("rustup").is_none() {
            return Err(missing(format!(
                "rustc {RUSTC} (the active one is {}, and there is no rustup)",
                active.release()?
            )));
        }
        if named.release().is_err() {
            let mut rustup = Command::new("rustup");
            rustup.args(["toolchain", "install", RUSTC, "--profile", "minimal", "--component", "rust-src"]);
            command::run(&mut rustup).map_err(|error| missing(format!("rustc {RUSTC}: {error:#}")))?;
        }
        Ok(named)
    }

    /// A program of this toolchain.
    pub(crate) fn program(&self, name: &str) -> Command {
        match self.name {
            None => Command::new(name),
            Some(toolchain) => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", toolchain, name]);
                // Cargo sets these for the processes it starts; they would name the active toolchain's programs.
                for variable in ["RUSTC", "RUSTDOC", "CARGO", "RUSTUP_TOOLCHAIN"] {
                    rustup.env_remove(variable);
                }
                rustup
            }
        }
    }

    /// A line of `rustc -vV`, without its key.
    ///
    /// # Errors
    /// When rustc does not run or does not say it.
    pub(crate) fn verbose_version(&self, key: &str) -> Result<String> {
        let text = command::output(self.program("rustc").arg("-vV"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        Ok(line.with_context(|| format!("rustc -vV has no line {key}"))?.to_owned())
    }

    fn release(&self) -> Result<String> {
        self.verbose_version("release")
    }

    /// The toolchain's directory.
    ///
    /// # Errors
    /// When rustc does not run.
    pub(crate) fn sysroot(&self) -> Result<PathBuf> {
        Ok(command::output(self.program("rustc").args(["--print", "sysroot"]))?.trim_end().into())
    }

    /// The standard library's source, which `core` for BPF is built from.
    ///
    /// # Errors
    /// [`install::Missing`] without it and without rustup.
    pub(crate) fn need_library_source(&self) -> Result<()> {
        let source = self.sysroot()?.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        self.rustup_add(&source, &["component", "add", "rust-src"])
    }

    /// The standard library for another target.
    ///
    /// # Errors
    /// [`install::Missing`] without it and without rustup.
    pub(crate) fn need_target(&self, target: &str) -> Result<()> {
        let library = self.sysroot()?.join("lib/rustlib").join(target).join("lib");
        self.rustup_add(&library, &["target", "add", target])
    }

    /// A component of the toolchain, known by a file of it.
    ///
    /// # Errors
    /// [`install::Missing`] without it and without rustup.
    pub(crate) fn need_component(&self, name: &str, evidence: &str) -> Result<()> {
        // Without rustup the toolchain may be spread over the system.
        let program = Path::new(evidence).file_name().and_then(|name| name.to_str());
        if program.is_some_and(|name| paths::find_program("rustup").is_none() && paths::find_program(name).is_some()) {
            return Ok(());
        }
        self.rustup_add(&self.sysroot()?.join(evidence), &["component", "add", name])
    }

    fn rustup_add(&self, evidence: &Path, words: &[&str]) -> Result<()> {
        if evidence.exists() {
            return Ok(());
        }
        let what = format!("rustup {}", words.join(" "));
        if paths::find_program("rustup").is_none() {
            return Err(missing(format!("{} (no rustup: `{what}`)", evidence.display())));
        }
        let mut rustup = Command::new("rustup");
        rustup.args(words);
        if let Some(name) = self.name {
            rustup.args(["--toolchain", name]);
        }
        command::run(&mut rustup).map_err(|error| missing(format!("{what}: {error:#}")))
    }
}

/// The active toolchain.
pub(crate) fn active() -> Toolchain {
    Toolchain { name: None }
}

/// LLVM's folder of programs and its exact version; installed when it is absent and that is allowed.
///
/// # Errors
/// [`install::Missing`].
pub(crate) fn llvm() -> Result<(PathBuf, String)> {
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{LLVM_MAJOR}"));
    let config = prefix.join("bin/llvm-config");
    // Polly: LLVM's cmake files name it, and linking fails without it.
    let packages = [format!("llvm-{LLVM_MAJOR}-dev"), format!("libpolly-{LLVM_MAJOR}-dev")];
    install::debian_packages(&packages.each_ref().map(String::as_str), || config.exists())?;
    let version = command::output(Command::new(&config).arg("--version"))?.trim().to_owned();
    Ok((prefix, version))
}

/// bpf-linker [`BPF_LINKER`], built against that LLVM when it is absent.
///
/// # Errors
/// [`install::Missing`].
pub(crate) fn bpf_linker(llvm_prefix: &Path) -> Result<PathBuf> {
    let feature = format!("llvm-{LLVM_MAJOR}");
    let prepare = |install: &mut Command| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(llvm_prefix.join("bin")).chain(std::env::split_paths(&path));
        if let Ok(joined) = std::env::join_paths(folders) {
            install.env("PATH", joined);
        }
        install.env("LLVM_PREFIX", llvm_prefix);
    };
    install::cargo_program("bpf-linker", BPF_LINKER, prepare, &["--no-default-features", "--features", &feature])
}
