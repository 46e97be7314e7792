//! PID 1 of a test kernel: mounts what a profiler needs, runs one command, and ends the machine with its exit code.
//!
//! The command comes from `/command` in the initramfs, words separated by NUL (the kernel's command line would limit their
//! number and need quoting). Lines that begin with `INIT:` are for the runner, `INIT: kernel …` when init has started and
//! `INIT: exit N` as the last one; the rest is the command's own output. Not a general init: no services, no network.

use std::{
    ffi::{CStr, OsStr},
    fs, io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::{Command, Stdio},
    time::Duration,
};

/// The exit code for a command that could not be started, as in a shell.
const NOT_STARTED: u8 = 127;

const MOUNTS: [(&CStr, &CStr); 8] = [
    (c"proc", c"/proc"),
    (c"sysfs", c"/sys"),
    (c"devtmpfs", c"/dev"),
    (c"tmpfs", c"/tmp"),
    (c"bpf", c"/sys/fs/bpf"),
    (c"tracefs", c"/sys/kernel/tracing"),
    (c"cgroup2", c"/sys/fs/cgroup"),
    (c"securityfs", c"/sys/kernel/security"),
];

fn main() {
    if std::process::id() != 1 {
        eprintln!("init: this is PID 1 of a test kernel; as another process it does nothing");
        std::process::exit(2);
    }
    for (kind, place) in MOUNTS {
        if let Err(error) = mount(kind, place) {
            println!("INIT: mount {}: {error}", place.to_string_lossy());
        }
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    println!(
        "INIT: kernel {} after {} s, BTF {}",
        release.trim(),
        uptime.split_whitespace().next().unwrap_or("?"),
        if fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false) { "yes" } else { "no" },
    );
    // On an emulated CPU perf's watchdog ("interrupt took too long") would throttle every event; tests want the asked rate.
    if let Err(error) = fs::write("/proc/sys/kernel/perf_cpu_time_max_percent", "0") {
        println!("INIT: perf_cpu_time_max_percent: {error}");
    }
    let code = run_command().unwrap_or_else(|error| {
        println!("INIT: {error}");
        NOT_STARTED
    });
    finish(code);
}

fn mount(kind: &CStr, place: &CStr) -> io::Result<()> {
    fs::create_dir_all(OsStr::from_bytes(place.to_bytes()))?;
    // SAFETY: all pointers are to NUL-terminated strings that outlive the call; no data argument is given.
    let result = unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `/command` and gives its exit code, 128 + the signal for one that was killed.
fn run_command() -> io::Result<u8> {
    let text = fs::read("/command")?;
    let mut words = text.split(|byte| *byte == 0).map(OsStr::from_bytes);
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).current_dir("/");
    command.env_clear().envs([("PATH", "/bin:/tests"), ("HOME", "/"), ("RUST_BACKTRACE", "1")]);
    // A group of its own, so that nothing the command sends to "its group" reaches init.
    command.process_group(0);
    let child = command.spawn().map_err(|error| io::Error::other(format!("{}: {error}", program.display())))?;
    let wanted = child.id().cast_signed();
    // Not Child::wait: init also inherits orphans, and they must be reaped or their pids stay taken.
    loop {
        let mut status = 0;
        // SAFETY: the only pointer is to a local variable.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if ended == wanted {
            let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
            return Ok(u8::try_from(code).unwrap_or(u8::MAX));
        }
        if ended < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return Err(io::Error::last_os_error());
        }
    }
}

/// Says the exit code and ends the machine; does not return.
fn finish(code: u8) -> ! {
    println!("INIT: exit {code}");
    // Without the drain, ending QEMU loses the serial port's last lines now and then.
    // SAFETY: neither call has preconditions.
    unsafe {
        libc::tcdrain(libc::STDOUT_FILENO);
        libc::sync();
    }
    std::thread::sleep(Duration::from_millis(100));
    end_emulator(code);
    // SAFETY: no preconditions; the machine is meant to end here.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// QEMU's isa-debug-exit device: ends it at once with status `code << 1 | 1`.
#[cfg(target_arch = "x86_64")]
fn end_emulator(code: u8) {
    const PORT: u16 = 0xf4;
    // SAFETY: asks for the right to use four ports, of which only the next line uses one.
    if unsafe { libc::ioperm(u64::from(PORT), 4, 1) } == 0 {
        // SAFETY: the port belongs to isa-debug-exit and was just granted; on a machine without that device nothing reads it.
        unsafe { std::arch::asm!("out dx, eax", in("dx") PORT, in("eax") u32::from(code), options(nomem, nostack)) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn end_emulator(_: u8) {}
