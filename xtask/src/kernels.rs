//! `cargo xtask kernels`: kernels for the test matrix, from Debian's packages: downloaded and unpacked, never installed.
//!
//! They are kept in `target/kernels/NAME/`. The system's apt is not touched: the lists are private ones, for suites that this
//! machine's own sources need not have. The mirror is the one that this machine already uses for Debian, or the environment
//! variable `DEBIAN_MIRROR`. Exact versions change with time, so a pattern names a package and the newest match is taken.

use crate::{command, install::missing, paths};
use anyhow::{Context, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::OnceLock,
};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel of the matrix.
pub(crate) struct Kernel {
    /// How commands name it.
    pub(crate) name: &'static str,
    suite: &'static str,
    /// A regular expression for `apt-cache search --names-only`.
    package: &'static str,
}

/// The matrix. Debian has no package of 5.15 or 6.6 in any suite; the machine's own kernel is tested by the live tests.
pub(crate) const KERNELS: [Kernel; 4] = [
    Kernel { name: "5.10", suite: "bullseye", package: r"^linux-image-5\.10\..*-cloud-amd64-unsigned$" },
    Kernel { name: "6.1", suite: "bookworm", package: r"^linux-image-6\.1\..*-cloud-amd64-unsigned$" },
    Kernel { name: "6.12", suite: "trixie", package: r"^linux-image-6\.12\..*-cloud-amd64-unsigned$" },
    // From 7.x on the kernel is in linux-binary-*, and linux-image-* is empty.
    Kernel { name: "new", suite: "sid", package: r"^linux-binary-unsigned-[0-9].*-cloud-amd64$" },
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only show the matrix and what is here already
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut all = true;
    for kernel in &KERNELS {
        let here = match cached(kernel) {
            Some(image) => Ok(image),
            None if options.list => Err(anyhow::anyhow!("not downloaded")),
            None => image(kernel.name),
        };
        let package = fs::read_to_string(folder(kernel).join("package")).unwrap_or_default();
        match here {
            Ok(image) => println!("{:5} {} {}", kernel.name, package.trim(), image.display()),
            Err(error) => {
                all &= options.list;
                println!("{:5} {} ({}): {error:#}", kernel.name, kernel.suite, kernel.package);
            }
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The kernel image of that name, downloaded if it is not here.
///
/// # Errors
/// [`crate::install::Missing`] when it can't be downloaded.
pub(crate) fn image(name: &str) -> Result<PathBuf> {
    let names = || KERNELS.map(|kernel| kernel.name).join(", ");
    let kernel = KERNELS.iter().find(|kernel| kernel.name == name);
    let kernel = kernel.with_context(|| format!("no kernel {name}: there are {}", names()))?;
    if let Some(image) = cached(kernel) {
        return Ok(image);
    }
    download(kernel).map_err(|error| missing(format!("kernel {name}: {error:#}")))
}

fn folder(kernel: &Kernel) -> PathBuf {
    paths::target().join("kernels").join(kernel.name)
}

fn cached(kernel: &Kernel) -> Option<PathBuf> {
    let image = folder(kernel).join("vmlinuz");
    image.is_file().then_some(image)
}

fn download(kernel: &Kernel) -> Result<PathBuf> {
    let apt = Apt::shared()?;
    let found = command::output(apt.command("apt-cache").args(["search", "--names-only", kernel.package]))?;
    let packages = found.lines().filter_map(|line| line.split_whitespace().next());
    let package = packages.max_by_key(|package| version_of(package));
    let package = package.with_context(|| format!("suite {} has no package {}", kernel.suite, kernel.package))?;

    let target = paths::target().join("kernels");
    fs::create_dir_all(&target)?;
    let work = tempfile::tempdir_in(&target)?;
    println!("downloading {package}");
    command::output(apt.command("apt-get").current_dir(work.path()).args(["download", package]))?;
    let archive = file_where(work.path(), &|name| name.ends_with(".deb")).context("apt-get gave no package")?;
    let unpacked = work.path().join("unpacked");
    command::output(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&unpacked))?;
    let image = file_where(&unpacked, &|name| name.starts_with("vmlinuz"))
        .with_context(|| format!("{package} holds no vmlinuz"))?;

    fs::create_dir_all(folder(kernel))?;
    fs::write(folder(kernel).join("package"), format!("{package}\n"))?;
    // Last and in one step: that this file is there means that the kernel is.
    let place = folder(kernel).join("vmlinuz");
    fs::rename(image, &place)?;
    Ok(place)
}

/// The numbers in a package's name, for comparing versions: `5.10.0-9` is older than `5.10.0-32`.
fn version_of(package: &str) -> Vec<u64> {
    package.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The first regular file below `folder` whose name fits; symbolic links are not followed.
fn file_where(folder: &Path, fits: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let kind = entry.file_type().ok()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && fits(&entry.file_name().to_string_lossy()) {
                return Some(entry.path());
            }
        }
    }
    None
}

/// apt with lists of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// With lists fetched once per run.
    fn shared() -> Result<&'static Apt> {
        static SHARED: OnceLock<Result<Apt, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Apt::with_fresh_lists().map_err(|error| format!("{error:#}")));
        shared.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
    }

    fn with_fresh_lists() -> Result<Apt> {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            paths::find_program(program).with_context(|| format!("no {program} here"))?;
        }
        if !Path::new(KEYRING).is_file() {
            anyhow::bail!("{KEYRING} is absent (package debian-archive-keyring)");
        }
        let mirror = mirror().context("this machine's apt sources name no Debian mirror (set DEBIAN_MIRROR)")?;
        let apt = Apt { folder: paths::target().join("kernels/apt") };
        fs::create_dir_all(apt.folder.join("lists/partial"))?;
        let lines = KERNELS
            .iter()
            .map(|kernel| format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {} main\n", kernel.suite));
        fs::write(apt.folder.join("sources.list"), lines.collect::<String>())?;
        // A suite that has left the mirror must not hide the others: its kernel then has no package.
        if let Err(error) = command::output(apt.command("apt-get").arg("update")) {
            println!("apt: {error:#}");
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let set = |name: &str, value: &Path| format!("{name}={}", value.display());
        for option in [
            set("Dir::Etc::SourceList", &self.folder.join("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            set("Dir::State::Lists", &self.folder.join("lists")),
            // Absolute, or apt puts it below the system's cache; its own files then never mix with the system's.
            set("Dir::Cache", &self.folder),
            "APT::Architectures::=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            // Files for software centres: a third of the download, and nothing here reads them.
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.arg("-q");
        command
    }
}

/// The Debian mirror: `DEBIAN_MIRROR`, else the one in this machine's apt sources.
fn mirror() -> Option<String> {
    if let Ok(set) = env::var("DEBIAN_MIRROR") {
        return Some(set);
    }
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = parts.collect();
    files.sort();
    files.insert(0, "/etc/apt/sources.list".into());
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| mirror_in(&text))
}

/// The first address whose last part is `debian`, in either form of sources file.
fn mirror_in(sources: &str) -> Option<String> {
    let lines = sources.lines().map(str::trim).filter(|line| line.starts_with("URIs:") || line.starts_with("deb"));
    let mut words = lines.flat_map(str::split_whitespace);
    words.find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_comes_from_both_forms_of_sources_and_not_from_comments_or_other_archives() {
        let table = [
            (
                "Types: deb\n# http://old.test/debian\nURIs: http://a.test/debian\nSuites: x\n",
                Some("http://a.test/debian"),
            ),
            ("deb [arch=amd64] https://b.test/debian/ bookworm main\n", Some("https://b.test/debian/")),
            ("URIs: http://a.test/debian-security\n", None),
            ("deb http://c.test/ubuntu noble main\n", None),
            ("", None),
        ];
        for (text, mirror) in table {
            assert_eq!(mirror_in(text).as_deref(), mirror, "{text}");
        }
    }

    #[test]
    fn the_newest_package_is_found_by_number_not_by_letter() {
        let names = ["linux-image-5.10.0-9-cloud-amd64", "linux-image-5.10.0-32-cloud-amd64"];
        assert_eq!(names.into_iter().max_by_key(|name| version_of(name)), Some(names[1]));
    }
}
