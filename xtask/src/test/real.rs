//! The steps `real-…`: servers that others wrote, built from their published Go modules in `testservers/`, and the tests that
//! send them profiles. The servers are started and ended by the tests.
//!
//! All builds share one module cache and one build cache in cargo's target directory: cold they cost 300 s of processor time
//! without Kubernetes and 830 s with it, warm a few seconds.

use super::steps;
use crate::{
    command,
    install::{self, is_root, missing},
    paths,
    qemu::Programs,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Go that the servers' modules ask for; from 1.21 on `go` fetches it by itself.
const GO: (u32, u32) = (1, 26);
const GO_THAT_FETCHES: (u32, u32) = (1, 21);
/// Where `profiler/tests/real` looks for the servers, and for the static agent that it makes an image of.
const SERVERS_VARIABLE: &str = "EVERFLAME_TESTSERVERS";
const AGENT_VARIABLE: &str = "EVERFLAME_STATIC";
/// Where `profiler/tests/real/fleet.rs` finds a Python with DuckDB, and which: 94 MB.
const DUCKDB_VARIABLE: &str = "EVERFLAME_DUCKDB_PYTHON";
const DUCKDB: &str = "duckdb==2.0.1";
/// What pods run in; how each finds the others' place is in `profiler/tests/real/node.rs`.
const RUNTIME_PACKAGES: [&str; 4] = ["containerd", "runc", "containernetworking-plugins", "iproute2"];
const RUNTIME_FILES: [&str; 3] = ["/usr/bin/containerd", "/usr/sbin/runc", "/usr/lib/cni/bridge"];

/// Datadog's front, Pyroscope's receiver, OpenTelemetry's collector, and DuckDB that reads what the collector wrote.
pub(super) fn backends() -> Result<()> {
    need_root()?;
    for server in ["pyroscope", "datadog", "collector"] {
        build(server, &[])?;
    }
    // One test reads with it, and says itself that it lacks it; in continuous integration it fails.
    let python = duckdb().inspect_err(|error| println!("no DuckDB: {error:#}")).ok();
    let variables: Vec<_> = python.iter().map(|python| (DUCKDB_VARIABLE, python.as_path())).collect();
    test(&["--skip", "kubernetes"], &variables)
}

/// A Python of its own with DuckDB in cargo's target directory; the path of its interpreter.
fn duckdb() -> Result<PathBuf> {
    let folder = paths::target().join("duckdb");
    let python = folder.join("bin/python");
    let has_it =
        |python: &Path| Command::new(python).args(["-c", "import duckdb"]).output().is_ok_and(|o| o.status.success());
    if has_it(&python) {
        return Ok(python);
    }
    // Debian's python3 is there without `venv`.
    let can = || Command::new("python3").args(["-c", "import ensurepip"]).output().is_ok_and(|o| o.status.success());
    install::debian_packages(&["python3", "python3-venv"], can)?;
    command::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    command::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", DUCKDB]))?;
    ensure!(has_it(&python), "{} has no duckdb after pip installed it", python.display());
    Ok(python)
}

/// A Kubernetes node with pods. Its build is the long one: 530 s of processor time cold.
pub(super) fn kubernetes() -> Result<()> {
    need_root()?;
    const VERSION: &str = "k8s.io/component-base/version";
    let (number, major, minor) = ("gitVersion=v1.34.4", "gitMajor=1", "gitMinor=34");
    let words = [number, major, minor].map(|word| format!("-X {VERSION}.{word}"));
    build("kubernetes", &words.each_ref().map(String::as_str))?;
    // Its front is where the manifests deliver to.
    build("datadog", &[])?;
    install::debian_packages(&RUNTIME_PACKAGES, || {
        RUNTIME_FILES.iter().all(|file| Path::new(file).exists()) && paths::find_program("ip").is_some()
    })?;
    let programs = Programs::shared()?;
    test(&["kubernetes"], &[(AGENT_VARIABLE, programs.everflame().context("the build gave no everflame")?)])
}

/// Asked before the long builds.
fn need_root() -> Result<()> {
    if is_root() { Ok(()) } else { Err(missing("root")) }
}

/// Builds `testservers/NAME`.
fn build(name: &str, linker_words: &[&str]) -> Result<()> {
    let go = go()?;
    let (folder, caches) = (paths::root().join("testservers").join(name), paths::target().join("go"));
    let program = servers().join(name);
    fs::create_dir_all(servers())?;
    let mut build = Command::new(go);
    build
        .current_dir(folder)
        .env("GOMODCACHE", caches.join("modules"))
        .env("GOCACHE", caches.join("build"))
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "auto")
        // A module cache that is read-only can't be deleted with the target directory.
        .env("GOFLAGS", "-modcacherw -buildvcs=false -mod=readonly")
        .env("GOWORK", "off");
    let linker_words = [&["-s", "-w"], linker_words].concat().join(" ");
    build.args(["build", "-trimpath", "-ldflags", &linker_words, "-o"]).arg(program).arg(".");
    command::run(&mut build)
}

fn servers() -> PathBuf {
    paths::target().join("testservers")
}

/// A `go` that can build the servers.
fn go() -> Result<PathBuf> {
    install::debian_packages(&["golang-go"], || paths::find_program("go").is_some())?;
    let go = paths::find_program("go").ok_or_else(|| missing("go"))?;
    let says = command::output(Command::new(&go).arg("version").env("GOTOOLCHAIN", "local").current_dir("/"))?;
    if version(&says).is_none_or(|version| version < GO_THAT_FETCHES) {
        let (major, minor) = GO;
        return Err(missing(format!("Go {major}.{minor} (here is {})", says.trim())));
    }
    Ok(go)
}

/// Of `go version go1.26.8 linux/amd64`.
fn version(says: &str) -> Option<(u32, u32)> {
    let mut numbers = says.split_whitespace().nth(2)?.strip_prefix("go")?.split('.');
    let minor = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((numbers.next()?.parse().ok()?, minor(numbers.next()?)?))
}

/// The tests of `profiler/tests/real`, one at a time: most profile the whole machine. They wait for what must come and compare
/// counts, so that other work of the machine makes them slow and nothing else.
fn test(words: &[&str], variables: &[(&str, &Path)]) -> Result<()> {
    steps::need_compilers()?;
    ensure!(Path::new(&paths::root().join("profiler/tests/real/main.rs")).is_file(), "profiler/tests/real is gone");
    let mut cargo = steps::cargo(&["test", "--locked", "--package", "everflame", "--test", "real", "--"]);
    // `--nocapture`: the tables of what was measured.
    cargo.args(["--include-ignored", "--nocapture", "--test-threads=1"]).args(words);
    cargo.envs(variables.iter().copied());
    command::run(cargo.env(SERVERS_VARIABLE, servers()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_s_version_is_read() {
        let table = [
            ("go version go1.26.8 linux/amd64\n", Some((1, 26))),
            ("go version go1.19.8 linux/amd64", Some((1, 19))),
            ("go version go1.27rc1 linux/amd64", Some((1, 27))),
            ("go version devel +b1", None),
            ("", None),
        ];
        for (says, expected) in table {
            assert_eq!(version(says), expected, "{says}");
        }
    }
}
