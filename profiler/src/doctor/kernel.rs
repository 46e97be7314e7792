//! What the kernel has and allows: version, BTF, lockdown, `bpf(2)`, `perf_event_open(2)`, its symbols, locked memory.

use super::Check;
use super::platform::{Platform, System};
use super::rights::{Capabilities, capability, words};

/// The oldest kernel that is tested.
const FLOOR: (u32, u32) = (5, 10);
/// Since then the memory of BPF maps is the memory cgroup's, not RLIMIT_MEMLOCK's.
const CGROUP_MEMORY: (u32, u32) = (5, 11);
/// Rings of one CPU at 99 Hz: 2 MiB of stack copies, 1 MiB of side-band, two control pages.
const RING_BYTES_PER_CPU: u64 = (3 << 20) + 8192;
/// Both ends of `no limit` (RLIM_INFINITY).
const UNLIMITED: u64 = u64::MAX;

/// `major.minor` of a release such as `6.1.0-18-amd64`.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// Version and machine. The version decides nothing, since distributions carry features back; loading does.
pub fn release(release: &str, machine: &str) -> Check {
    const NAME: &str = "kernel";
    const SOURCE: &str = "uname(2)";
    let found = format!("Linux {release}, {machine}");
    if machine != "x86_64" {
        return Check::fail(
            NAME,
            found,
            SOURCE,
            "Everflame knows x86-64 alone; keep it off other nodes by kubernetes.io/arch",
        );
    }
    match version(release) {
        Some(version) if version >= FLOOR => Check::ok(NAME, found, SOURCE),
        _ => Check::warn(NAME, found, SOURCE, "5.10 is the oldest kernel that is tested: use a newer one"),
    }
}

/// What the kernel's BTF is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BtfState {
    /// Read, with the offset of `task_struct.stack`.
    Usable,
    /// No such file.
    Missing,
    /// Not to be read: errno.
    Refused(i32),
    /// Read, and not understood.
    Unknown,
}

/// Types of the kernel, for offsets.
pub fn btf(state: BtfState) -> Check {
    const NAME: &str = "btf";
    const SOURCE: &str = crate::sampler::features::VMLINUX_BTF;
    match state {
        BtfState::Usable => Check::ok(NAME, "the kernel's types are there", SOURCE),
        BtfState::Missing => Check::fail(
            NAME,
            "missing",
            SOURCE,
            "use a kernel that is built with CONFIG_DEBUG_INFO_BTF=y, as all current node images are",
        ),
        BtfState::Refused(number) => {
            Check::fail(NAME, format!("can't be read: {}", words(number)), SOURCE, "mount /sys")
        }
        BtfState::Unknown => {
            Check::warn(NAME, "not understood: stacks of system calls may lack their user part before 5.15", SOURCE, "")
        }
    }
}

/// The mode in brackets of `none [integrity] confidentiality`.
fn lockdown_mode(text: &str) -> &str {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(mode, _)| mode)
}

/// Whether `/sys/kernel/security/lockdown` says that programs may not read kernel memory, without which ours are not loaded.
pub fn is_confidential(text: &str) -> bool {
    lockdown_mode(text) == "confidentiality"
}

/// Kernel lockdown. `None`: the file is not there, which is the case without the module or without securityfs.
pub fn lockdown(text: Option<&str>, platform: &Platform) -> Check {
    const NAME: &str = "lockdown";
    const SOURCE: &str = "/sys/kernel/security/lockdown";
    match text.map(lockdown_mode) {
        None => Check::ok(NAME, "not to be seen; bpf says whether it matters", SOURCE),
        Some("confidentiality") => {
            Check::fail(NAME, "confidentiality: programs may not read kernel memory", SOURCE, platform.lockdown())
        }
        Some(mode) => Check::ok(NAME, if mode.is_empty() { "none" } else { mode }, SOURCE),
    }
}

/// One system call that was tried.
pub type Attempt = Result<(), i32>;

/// What decides about a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// The own capabilities, if known.
    pub effective: Option<Capabilities>,
    /// Whether a seccomp filter is installed (`Seccomp: 2`).
    pub seccomp: bool,
    /// `/sys/kernel/security/lockdown`.
    pub lockdown: Option<&'a str>,
    /// Where we are.
    pub platform: &'a Platform,
}

impl Gate<'_> {
    fn lacks(&self, number: u32) -> bool {
        let stands_in = number != capability::SYSLOG;
        self.effective.is_some_and(|set| !(set.has(number) || stands_in && set.has(capability::SYS_ADMIN)))
    }

    /// Why a call was refused, as a fix.
    fn fix(&self, number: i32, wanted: u32, name: &str, option: &str) -> String {
        if number == libc::ENOSYS && !self.seccomp {
            return format!("this kernel is built without {option}");
        }
        if self.lacks(wanted) {
            return self.platform.capabilities(&[name]);
        }
        if self.seccomp {
            return self.platform.seccomp().to_owned();
        }
        if self.lockdown.map(lockdown_mode) == Some("confidentiality") {
            return self.platform.lockdown().to_owned();
        }
        "a security module (SELinux, AppArmor) forbids it: see the kernel's log".to_owned()
    }
}

/// A program of two instructions, loaded.
pub fn bpf(attempt: Attempt, gate: &Gate<'_>) -> Check {
    const SOURCE: &str = "bpf(BPF_PROG_LOAD)";
    match attempt {
        Ok(()) => Check::ok("bpf", "programs can be loaded", SOURCE),
        Err(number) => {
            let fix = gate.fix(number, capability::BPF, "BPF", "CONFIG_BPF_SYSCALL");
            Check::fail("bpf", words(number), SOURCE, fix)
        }
    }
}

/// A timer on the first CPU, with `kernel.perf_event_paranoid`.
pub fn perf_event(attempt: Attempt, paranoid: Option<i64>, gate: &Gate<'_>) -> Check {
    let source = match paranoid {
        Some(paranoid) => format!("perf_event_open(2), kernel.perf_event_paranoid={paranoid}"),
        None => "perf_event_open(2)".to_owned(),
    };
    let number = match attempt {
        Ok(()) => return Check::ok("perf-event", "timers can be opened", source),
        Err(number) => number,
    };
    let mut fix = gate.fix(number, capability::PERFMON, "PERFMON", "CONFIG_PERF_EVENTS");
    let has_admin = gate.effective.is_some_and(|set| set.has(capability::SYS_ADMIN));
    if paranoid.is_some_and(|paranoid| paranoid > 2) && number == libc::EACCES && !has_admin {
        // Distributions' own values; some of their patches ask for CAP_SYS_ADMIN.
        fix = gate.platform.sysctl("kernel.perf_event_paranoid", "2") + ", or add SYS_ADMIN";
    }
    Check::fail("perf-event", words(number), source, fix)
}

/// What the first lines of kallsyms show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kallsyms {
    /// Addresses.
    Shown,
    /// Zeros.
    Hidden,
    /// No file, or an empty one.
    Missing,
}

/// Names of kernel functions.
pub fn kernel_symbols(state: Kallsyms, kptr_restrict: Option<i64>, gate: &Gate<'_>) -> Check {
    const NAME: &str = "kernel-symbols";
    let restrict = kptr_restrict.map_or(String::new(), |value| format!(", kernel.kptr_restrict={value}"));
    let source = format!("/proc/kallsyms{restrict}");
    match state {
        Kallsyms::Shown => Check::ok(NAME, "addresses are shown", source),
        Kallsyms::Missing => {
            Check::warn(NAME, "none: kernel functions stay without names", source, "a kernel with CONFIG_KALLSYMS")
        }
        Kallsyms::Hidden => {
            let fix = if kptr_restrict.is_some_and(|value| value >= 2) {
                let and = if gate.lacks(capability::SYSLOG) { ", and add SYSLOG" } else { "" };
                gate.platform.sysctl("kernel.kptr_restrict", "1") + and
            } else {
                gate.platform.capabilities(&["SYSLOG"])
            };
            Check::warn(NAME, "addresses are hidden: kernel functions stay without names", source, fix)
        }
    }
}

/// What bounds locked memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLock {
    /// RLIMIT_MEMLOCK, soft, bytes.
    pub soft: u64,
    /// RLIMIT_MEMLOCK, hard, bytes.
    pub hard: u64,
    /// `kernel.perf_event_mlock_kb`: free for each CPU.
    pub free_kb: u64,
    /// Online CPUs.
    pub cpus: u64,
    /// `kernel.perf_event_paranoid`; -1 lifts the bound on rings.
    pub paranoid: Option<i64>,
}

/// Perf rings, and before 5.11 the maps as well, count against RLIMIT_MEMLOCK.
pub fn memory_lock(lock: &MemoryLock, version: Option<(u32, u32)>, gate: &Gate<'_>) -> Check {
    const NAME: &str = "memory-lock";
    const SOURCE: &str = "getrlimit(RLIMIT_MEMLOCK), kernel.perf_event_mlock_kb";
    let has = |number| gate.effective.is_none_or(|set| set.has(number));
    if version.is_some_and(|version| version < CGROUP_MEMORY)
        && lock.hard != UNLIMITED
        && !has(capability::SYS_RESOURCE)
    {
        let found = format!("{} before Linux 5.11, where BPF maps count too", size(lock.hard));
        return Check::fail(NAME, found, SOURCE, gate.platform.capabilities(&["SYS_RESOURCE"]));
    }
    let needed = (lock.cpus * RING_BYTES_PER_CPU).saturating_sub(lock.cpus * (lock.free_kb << 10));
    if has(capability::IPC_LOCK) || lock.paranoid == Some(-1) || lock.soft == UNLIMITED || lock.soft >= needed {
        return Check::ok(NAME, format!("enough for the rings of {} CPUs", lock.cpus), SOURCE);
    }
    let found = format!("{}, but the rings of {} CPUs take {}", size(lock.soft), lock.cpus, size(needed));
    Check::fail(NAME, found, SOURCE, gate.platform.capabilities(&["IPC_LOCK"]))
}

fn size(bytes: u64) -> String {
    match bytes {
        UNLIMITED => "unlimited".to_owned(),
        _ if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes >> 10),
    }
}

/// Each CPU takes two files and each executable one.
pub fn open_files(hard: u64) -> Check {
    /// 64 CPUs and 1,500 executables with room to spare.
    const ENOUGH: u64 = 4096;
    const SOURCE: &str = "getrlimit(RLIMIT_NOFILE)";
    if hard >= ENOUGH {
        return Check::ok(
            "open-files",
            if hard == UNLIMITED { "unlimited".to_owned() } else { format!("up to {hard}") },
            SOURCE,
        );
    }
    Check::warn("open-files", format!("up to {hard}"), SOURCE, format!("raise the hard limit to {ENOUGH}"))
}

/// Users of other profilers look for it; it is not read here.
pub fn tracefs() -> Check {
    Check::ok("tracefs", "not needed, neither debugfs", "raw tracepoints and perf's own records")
}

/// What the real start came to: programs verified and CPUs with timers, or the error's sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// All is in the kernel.
    Ready {
        /// Programs.
        programs: usize,
        /// CPUs with a timer.
        cpus: usize,
        /// CPUs that are online.
        online: u32,
    },
    /// It ended here.
    Failed(String),
}

/// The same start that the agent makes.
pub fn start(start: &Start) -> Check {
    const SOURCE: &str = "the agent's own start";
    match start {
        Start::Ready { programs, cpus, online } => {
            let found = format!("{programs} programs verified and attached, timers on {cpus} of {online} CPUs");
            if *cpus as u32 >= *online {
                Check::ok("start", found, SOURCE)
            } else {
                Check::warn("start", found, SOURCE, "")
            }
        }
        Start::Failed(why) => Check::fail("start", why.clone(), SOURCE, "see the checks above"),
    }
}

/// Lockdown on a system whose vendor changed its default is worth the name.
pub fn system(platform: &Platform) -> Check {
    let name = if platform.name.is_empty() { "unnamed" } else { &platform.name };
    let place = if platform.in_pod { ", in a pod" } else { "" };
    let kind = match platform.system {
        System::Other => "",
        _ => ", whose settings have a way of their own",
    };
    Check::ok("system", format!("{name}{place}{kind}"), "/proc/1/root/etc/os-release")
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
