//! What `/proc/PID` tells of a process while it lives: cgroup, the named part of its environment, whether it is the kernel's.
//!
//! The rim: bounded reads of files whose content the process chooses. Never an error beyond "gone" and "another process".

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::cgroup_path;
use super::environment::{self, MAX_ENVIRONMENT, ProcessEnvironment};

/// A thread of the kernel's, in the flags of `/proc/PID/stat` (`include/linux/sched.h`, PF_KTHREAD).
const KERNEL_THREAD: u64 = 0x0020_0000;
/// How far two clocks' ideas of a start may be apart, ns: `/proc` counts ticks, and a fork record is written after the start.
/// A pid comes again only after all others (`pid_max`, at least 32,768) were used.
const START_SLACK_NS: u64 = 1_000_000_000;
/// Most bytes of `/proc/PID/stat`: 52 numbers and a name of 64.
const MAX_STAT: usize = 4096;
/// Buffers for environments are given back above this size.
const KEEP_BUFFER: usize = 64 << 10;

/// Facts of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its cgroup's path, the line that tells most.
    pub cgroup: Arc<str>,
    /// What it declares of itself.
    pub environment: ProcessEnvironment,
    /// False where the environment could not be read (no permission, a process of the kernel's).
    pub environment_read: bool,
    /// A thread of the kernel's.
    pub kernel_thread: bool,
}

/// Why there are no facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObserveError {
    /// It ended before it was looked at.
    #[error("process {0} is gone")]
    Gone(u32),
    /// Its pid has been given to another one.
    #[error("process {0} is another one by now")]
    Another(u32),
}

/// Reads processes; keeps one buffer for their environments.
#[derive(Debug, Default)]
pub struct Observer {
    buffer: Vec<u8>,
    /// What CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC, ns: `/proc` has start times of the former (since Linux 5.5).
    suspended_ns: u64,
}

impl Observer {
    /// One for a machine that was suspended for `suspended_ns` since it booted.
    pub fn new(suspended_ns: u64) -> Observer {
        Observer { buffer: Vec::new(), suspended_ns }
    }

    /// The facts of the process that has `pid` and started at `start_time_ns` (CLOCK_MONOTONIC; 0 if unknown).
    pub fn observe(&mut self, proc_root: &Path, pid: u32, start_time_ns: u64) -> Result<Observed, ObserveError> {
        let directory = proc_root.join(pid.to_string());
        let (started, flags) = self.stat(&directory).ok_or(ObserveError::Gone(pid))?;
        let same = |started: u64| start_time_ns == 0 || started.abs_diff(start_time_ns) <= START_SLACK_NS;
        if !same(started) && !same(started.saturating_sub(self.suspended_ns)) {
            return Err(ObserveError::Another(pid));
        }
        let mut text = Vec::new();
        let cgroups = read(&directory.join("cgroup"), cgroup_path::MAX_TEXT, &mut text);
        let cgroups = cgroups.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        let kernel_thread = flags & KERNEL_THREAD != 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        let environ = if kernel_thread { None } else { read(&directory.join("environ"), MAX_ENVIRONMENT, &mut buffer) };
        let found = Observed {
            cgroup: cgroup_path::parse_text(&cgroups).map_or_else(Arc::default, |(path, _)| path.into()),
            environment_read: environ.is_some(),
            environment: environ.map(environment::parse).unwrap_or_default(),
            kernel_thread,
        };
        // What was not looked for is not kept, neither in the buffer that is used again nor in one that is given back.
        buffer.fill(0);
        if std::hint::black_box(&buffer).capacity() <= KEEP_BUFFER {
            self.buffer = buffer;
        }
        // Ended meanwhile, and its pid taken: what was read may be of either.
        match self.stat(&directory) {
            Some((again, _)) if again == started => Ok(found),
            Some(_) => Err(ObserveError::Another(pid)),
            None => Err(ObserveError::Gone(pid)),
        }
    }

    /// Start in ns since boot and flags: fields 22 and 9 of `/proc/PID/stat`; the name in field 2 may hold any character.
    fn stat(&self, directory: &Path) -> Option<(u64, u64)> {
        let mut bytes = Vec::new();
        let text = String::from_utf8_lossy(read(&directory.join("stat"), MAX_STAT, &mut bytes)?);
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let flags = fields.nth(6)?.parse().ok()?;
        let ticks: u64 = fields.nth(12)?.parse().ok()?;
        Some((ticks.saturating_mul(1_000_000_000 / ticks_per_second()), flags))
    }
}

/// The first `most` bytes of a file, in `buffer`.
fn read<'a>(path: &Path, most: usize, buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    buffer.clear();
    File::open(path).ok()?.take(most as u64).read_to_end(buffer).ok()?;
    Some(buffer)
}

fn ticks_per_second() -> u64 {
    // SAFETY: no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// What CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC now, ns.
pub fn suspended_ns() -> u64 {
    let now = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a valid timespec is written.
        unsafe { libc::clock_gettime(clock, &mut time) };
        // The C library's widths differ among targets.
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    u64::try_from(now(libc::CLOCK_BOOTTIME) - now(libc::CLOCK_MONOTONIC)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 10_000_000;

    fn fake(pid: u32, flags: u64, ticks: u64, cgroup: &str, environ: Option<&[u8]>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join(pid.to_string());
        std::fs::create_dir(&directory).unwrap();
        let stat = format!("{pid} (a ) b) S 1 1 1 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 1 0 {ticks} 100 200\n");
        std::fs::write(directory.join("stat"), stat).unwrap();
        std::fs::write(directory.join("cgroup"), cgroup).unwrap();
        if let Some(environ) = environ {
            std::fs::write(directory.join("environ"), environ).unwrap();
        }
        root
    }

    #[test]
    fn the_process_itself_is_read_and_its_successor_never() {
        let root = fake(7, 0x40_0000, 1000, "0::/system.slice/a.service\n", Some(b"A=b\0DD_SERVICE=shop\0"));
        let started = 1000 * TICK_NS;
        let mut observer = Observer::new(0);
        for start in [0, started, started + 3_000_000, started - 1] {
            let found = observer.observe(root.path(), 7, start).unwrap();
            assert_eq!(&*found.cgroup, "/system.slice/a.service");
            assert_eq!(&*found.environment.datadog.service, "shop");
            assert!(found.environment_read && !found.kernel_thread);
        }
        for start in [1, started - 2 * START_SLACK_NS, started + 2 * START_SLACK_NS] {
            assert_eq!(observer.observe(root.path(), 7, start), Err(ObserveError::Another(7)));
        }
        assert_eq!(observer.observe(root.path(), 8, 0), Err(ObserveError::Gone(8)));
        // A machine that slept: /proc counts that time, records do not.
        let slept = 5 * START_SLACK_NS;
        assert!(Observer::new(slept).observe(root.path(), 7, started - slept).is_ok());
        assert!(observer.buffer.iter().all(|byte| *byte == 0), "no environment stays in memory");
    }

    #[test]
    fn an_environment_that_may_not_be_read_costs_only_itself() {
        let root = fake(7, 0, 5, "0::/kubepods/x\n", None);
        let found = Observer::new(0).observe(root.path(), 7, 0).unwrap();
        assert_eq!((&*found.cgroup, found.environment_read), ("/kubepods/x", false));
    }

    #[test]
    fn a_kernel_thread_is_told_by_its_flags() {
        let root = fake(2, KERNEL_THREAD | 0x40, 0, "0::/\n", Some(b"DD_SERVICE=no\0"));
        let found = Observer::new(0).observe(root.path(), 2, 0).unwrap();
        assert!(found.kernel_thread && !found.environment_read);
        assert_eq!(found.environment, ProcessEnvironment::default());
    }

    #[test]
    fn our_own_process_is_found_in_the_real_proc() {
        let found = Observer::new(suspended_ns()).observe(Path::new("/proc"), std::process::id(), 0).unwrap();
        assert!(found.environment_read && found.cgroup.starts_with('/'));
    }
}
