//! `cargo xtask qemu KERNEL -- WORDS`: one command inside another kernel, in QEMU, emulated.
//!
//! The root file system is an initramfs with PID 1 (`testkernel`), `/bin/everflame`, the matrix test and the static fixture
//! programs. Emulation (TCG), never KVM: `/dev/kvm` may exist and hang the guest. An emulated boot fails now and then, so it
//! is tried again, but only while init has not started: a failing test is never repeated. Times inside mean nothing.

use crate::{
    command,
    initramfs::Archive,
    install::{self, missing},
    kernels, paths, toolchain,
};
use anyhow::{Context, Result, bail};
use std::{
    cell::RefCell,
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    rc::Rc,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

const MUSL: &str = "x86_64-unknown-linux-musl";
const BOOT_ATTEMPTS: u32 = 3;
/// How long a kernel may take until init starts; 2 to 3 s on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A name from `cargo xtask kernels --list`, or the path of a kernel image
    kernel: String,
    /// The machine's memory
    #[arg(long, default_value_t = 1024, value_name = "MiB")]
    memory: u32,
    /// The machine's processors
    #[arg(long, default_value_t = 2, value_name = "N")]
    cpus: u32,
    /// Give up after this long
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    limit: u64,
    /// A file to put into /tests (may be repeated)
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// The command to run; without it the matrix test
    #[arg(last = true)]
    words: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let kernel = if Path::new(&options.kernel).is_file() {
        PathBuf::from(&options.kernel)
    } else {
        kernels::image(&options.kernel)?
    };
    let programs = Programs::build()?;
    let words = if options.words.is_empty() { vec!["/tests/matrix".to_owned()] } else { options.words.clone() };
    let machine = Machine { memory_mib: options.memory, cpus: options.cpus, limit: Duration::from_secs(options.limit) };
    let code = machine.run(&kernel, &programs, &options.file, &words)?;
    Ok(ExitCode::from(code))
}

/// The static programs that go into the initramfs.
pub(crate) struct Programs {
    files: Vec<(String, PathBuf)>,
}

impl Programs {
    /// [`Programs::build`], once per run.
    ///
    /// # Errors
    /// As there; a build that failed fails again.
    pub(crate) fn shared() -> Result<Rc<Programs>> {
        thread_local!(static SHARED: RefCell<Option<Rc<Programs>>> = const { RefCell::new(None) });
        if let Some(built) = SHARED.with_borrow(Clone::clone) {
            return Ok(built);
        }
        let built = Rc::new(Programs::build()?);
        SHARED.set(Some(Rc::clone(&built)));
        Ok(built)
    }

    /// The agent among them.
    pub(crate) fn everflame(&self) -> Option<&Path> {
        self.files.iter().find(|(name, _)| name == "bin/everflame").map(|(_, file)| file.as_path())
    }

    /// Builds them: `everflame`, PID 1, the matrix test, the fixtures.
    ///
    /// # Errors
    /// [`install::Missing`] without the musl target or a C compiler.
    pub(crate) fn build() -> Result<Programs> {
        toolchain::active().need_target(MUSL)?;
        let mut cargo = Command::new("cargo");
        cargo.current_dir(paths::root()).args(["build", "--locked", "--release", "--target", MUSL]);
        cargo.args(["--package", "everflame", "--package", "testkernel"]);
        cargo.arg("--target-dir").arg(paths::target());
        command::run(&mut cargo)?;
        let folder = paths::target().join(MUSL).join("release");
        let mut files = vec![
            ("init".to_owned(), folder.join("init")),
            ("bin/everflame".to_owned(), folder.join("everflame")),
            ("tests/matrix".to_owned(), folder.join("matrix")),
        ];
        for program in fixtures::static_programs() {
            let built = program.build().map_err(|error| match error {
                fixtures::BuildError::NoCompiler(..) => missing(error.to_string()),
                other => other.into(),
            })?;
            files.push((format!("fixtures/{}", program.file_name()), built));
        }
        Ok(Programs { files })
    }
}

/// The emulated machine.
pub(crate) struct Machine {
    /// MiB.
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    /// From power-on to power-off.
    pub(crate) limit: Duration,
}

enum Boot {
    /// The command ran and ended with this code.
    Exit(u8),
    /// Init never started.
    NotStarted,
    /// Init started, and then the machine ended without a word or stood still.
    Died(&'static str),
}

impl Machine {
    /// Boots `kernel`, runs `words` in it and gives their exit code. The machine's output goes to this process's.
    ///
    /// # Errors
    /// [`install::Missing`] without QEMU; when the kernel dies, stands still or never starts init.
    pub(crate) fn run(&self, kernel: &Path, programs: &Programs, more: &[PathBuf], words: &[String]) -> Result<u8> {
        let qemu = qemu()?;
        let folder = tempfile::tempdir()?;
        let initramfs = folder.path().join("initramfs");
        write_initramfs(&initramfs, programs, more, words)?;
        for attempt in 1..=BOOT_ATTEMPTS {
            match self.boot(&qemu, kernel, &initramfs)? {
                Boot::Exit(code) => return Ok(code),
                Boot::Died(how) => bail!("{}: {how}", kernel.display()),
                Boot::NotStarted => println!("qemu: init did not start (attempt {attempt} of {BOOT_ATTEMPTS})"),
            }
        }
        bail!("{}: init did not start in {BOOT_ATTEMPTS} attempts", kernel.display())
    }

    fn boot(&self, qemu: &Path, kernel: &Path, initramfs: &Path) -> Result<Boot> {
        let mut machine = Command::new(qemu);
        // cx16 off: with it, 6.12 dies of a double fault right after cmpxchg16b in kmalloc under multi-threaded TCG.
        machine.args(["-M", "q35", "-cpu", "max,-cx16", "-accel", "tcg,thread=multi"]);
        machine.args(["-m", &self.memory_mib.to_string(), "-smp", &self.cpus.to_string()]);
        machine.args(["-nographic", "-nodefaults", "-serial", "stdio", "-monitor", "none", "-no-reboot"]);
        machine.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        machine.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
        // no_timer_check: else a busy host ends the boot with "IO-APIC + timer doesn't work!".
        machine.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init"]);
        machine.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        die_with_parent(&mut machine);
        let mut running = Running(machine.spawn().with_context(|| command::shown(&machine))?);
        let output = running.0.stdout.take().context("QEMU has no output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(self.follow(&lines))
    }

    /// Shows the machine's lines until it says its exit code, ends, or takes too long.
    fn follow(&self, lines: &Receiver<String>) -> Boot {
        let start = Instant::now();
        let mut started = false;
        loop {
            let limit = if started { self.limit } else { BOOT_LIMIT.min(self.limit) };
            let not_started_or = |how| if started { Boot::Died(how) } else { Boot::NotStarted };
            let line = match lines.recv_timeout(limit.saturating_sub(start.elapsed())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => return not_started_or("no end within the limit"),
                Err(RecvTimeoutError::Disconnected) => return not_started_or("the kernel ended without 'INIT: exit'"),
            };
            println!("    {line}");
            // The kernel may write into the same line, so the mark need not be at its start.
            started |= line.contains("INIT: kernel ");
            if let Some(code) = line.split("INIT: exit ").nth(1) {
                let digits: String = code.chars().take_while(char::is_ascii_digit).collect();
                if let Ok(code) = digits.parse() {
                    return Boot::Exit(code);
                }
            }
        }
    }
}

/// QEMU, ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An emulator that outlives an interrupted test would keep a core busy for ever.
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the closure makes one system call, which is allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// QEMU for x86-64, installed when it is absent and that is allowed.
///
/// # Errors
/// [`install::Missing`].
pub(crate) fn qemu() -> Result<PathBuf> {
    let name = "qemu-system-x86_64";
    install::debian_packages(&["qemu-system-x86"], || paths::find_program(name).is_some())?;
    paths::find_program(name).ok_or_else(|| missing(name))
}

fn write_initramfs(file: &Path, programs: &Programs, more: &[PathBuf], words: &[String]) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(file)?));
    for folder in ["dev", "proc", "sys", "tmp", "tests", "fixtures"] {
        archive.directory(folder)?;
    }
    for (name, from) in &programs.files {
        archive.copy(name, from)?;
    }
    for from in more {
        let name = from.file_name().with_context(|| format!("{} has no name", from.display()))?;
        archive.copy(&format!("tests/{}", name.to_string_lossy()), from)?;
    }
    archive.file("command", 0o644, words.join("\0").as_bytes())?;
    archive.finish()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(lines: &[&str]) -> Boot {
        let (sender, receiver) = channel();
        for line in lines {
            sender.send((*line).to_owned()).unwrap();
        }
        drop(sender);
        Machine { memory_mib: 1, cpus: 1, limit: Duration::from_secs(60) }.follow(&receiver)
    }

    #[test]
    fn the_exit_code_is_the_one_that_init_says_even_after_kernel_text_in_the_line() {
        let lines = ["boot", "INIT: kernel 6.1", "a test", "[ 3.1] noiseINIT: exit 17"];
        assert!(matches!(end_of(&lines), Boot::Exit(17)));
    }

    #[test]
    fn a_machine_that_ends_is_retried_only_when_init_had_not_started() {
        assert!(matches!(end_of(&["Kernel panic"]), Boot::NotStarted));
        assert!(matches!(end_of(&["INIT: kernel 6.1", "Kernel panic"]), Boot::Died(_)));
    }
}
