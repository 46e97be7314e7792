//! Getting tools that a chore needs.
//!
//! Debian packages are installed when this process is root and there is `apt-get`; rustup components, targets and cargo
//! programs whenever `rustup` and `cargo` are there. Everything else is a [`Missing`], which a test step reports as skipped.

use crate::{command, paths};
use anyhow::{Result, anyhow};
use std::{path::Path, process::Command};

/// Something that this machine does not have, and what would provide it: one line.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

impl std::fmt::Display for Missing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// An error that says that something is missing.
pub(crate) fn missing(what: impl Into<String>) -> anyhow::Error {
    anyhow!(Missing(what.into()))
}

/// True for a process of the superuser.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and can't fail.
    unsafe { libc::geteuid() == 0 }
}

/// Sees to it that `probe` holds, by installing Debian `packages` if it does not yet.
///
/// # Errors
/// [`Missing`] when installing is not possible or did not help.
pub(crate) fn debian_packages(packages: &[&str], probe: impl Fn() -> bool) -> Result<()> {
    if probe() {
        return Ok(());
    }
    let names = packages.join(" ");
    let apt = paths::find_program("apt-get").ok_or_else(|| missing(format!("{names} (no apt-get here)")))?;
    if !is_root() {
        return Err(missing(format!("{names}: run `apt-get install {names}` as root")));
    }
    let apt_get = |words: &[&str]| {
        let mut apt_get = Command::new(&apt);
        apt_get.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=300"]).args(words);
        apt_get
    };
    // A package that conflicts with one that is there (Debian's containerd with Docker's own) must not take its place.
    let install = [&["install", "-y", "--no-remove", "--no-install-recommends"], packages].concat();
    // The lists may be absent or old: a second try with fresh ones.
    if command::run(&mut apt_get(&install)).is_err() {
        command::run(&mut apt_get(&["update"])).map_err(|error| missing(format!("{names}: {error:#}")))?;
        command::run(&mut apt_get(&install)).map_err(|error| missing(format!("{names}: {error:#}")))?;
    }
    if probe() { Ok(()) } else { Err(missing(format!("{names}: installed, and still not found"))) }
}

/// A `cargo install`ed program of exactly that version: from `PATH`, else from `target/tools`, else built into it.
///
/// # Errors
/// [`Missing`] when it can't be built.
pub(crate) fn cargo_program(
    name: &str,
    version: &str,
    prepare: impl Fn(&mut Command),
    words: &[&str],
) -> Result<std::path::PathBuf> {
    let right_version = |program: &Path| {
        let says = command::output(Command::new(program).arg("--version")).unwrap_or_default();
        says.split_whitespace().any(|word| word == version)
    };
    let tools = paths::target().join("tools");
    let built = tools.join("bin").join(name);
    for candidate in paths::find_program(name).into_iter().chain([built.clone()]) {
        if candidate.is_file() && right_version(&candidate) {
            return Ok(candidate);
        }
    }
    let mut install = Command::new("cargo");
    install.args(["install", "--locked", "--force", name, "--version", version, "--root"]).arg(&tools).args(words);
    // Away from the checkout: its target directory and configuration are not this program's.
    install.current_dir(std::env::temp_dir()).env("CARGO_TARGET_DIR", tools.join("build"));
    prepare(&mut install);
    command::run(&mut install).map_err(|error| missing(format!("{name} {version}: {error:#}")))?;
    // The build's leavings are a few hundred MB that nothing reads again; failing to delete them is harmless.
    let _ = std::fs::remove_dir_all(tools.join("build"));
    Ok(built)
}
