//! What this process may do: capabilities, the host's processes, the files that they run.

use super::Check;
use super::platform::Platform;

/// Numbers of `include/uapi/linux/capability.h`.
pub mod capability {
    /// Read and search whatever the mode says.
    pub const DAC_READ_SEARCH: u32 = 2;
    /// Lock memory beyond RLIMIT_MEMLOCK.
    pub const IPC_LOCK: u32 = 14;
    /// Look into other users' processes.
    pub const SYS_PTRACE: u32 = 19;
    /// Nearly everything.
    pub const SYS_ADMIN: u32 = 21;
    /// Raise limits.
    pub const SYS_RESOURCE: u32 = 24;
    /// See kernel addresses.
    pub const SYSLOG: u32 = 34;
    /// perf events of everybody (≥ 5.8).
    pub const PERFMON: u32 = 38;
    /// Load programs (≥ 5.8).
    pub const BPF: u32 = 39;
    /// `/proc/PID/map_files` (≥ 5.9).
    pub const CHECKPOINT_RESTORE: u32 = 40;
}

/// Inode of the initial pid namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h).
pub const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// A set of capabilities, as `CapEff` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Whether `number` is in it.
    pub fn has(self, number: u32) -> bool {
        self.0 >> number & 1 != 0
    }

    fn missing(self, wanted: &[(u32, &'static str)]) -> Vec<&'static str> {
        use capability::{BPF, CHECKPOINT_RESTORE, PERFMON, SYS_ADMIN};
        // What was split off from it accepts it still; kallsyms asks for CAP_SYSLOG alone.
        let stands_in = |number: &u32| self.has(SYS_ADMIN) && [BPF, PERFMON, CHECKPOINT_RESTORE].contains(number);
        let lacks = |number: &u32| !self.has(*number) && !stands_in(number);
        wanted.iter().filter(|(number, _)| lacks(number)).map(|(_, name)| *name).collect()
    }

    /// Without which nothing starts.
    pub fn missing_required(self) -> Vec<&'static str> {
        use capability::{BPF, PERFMON, SYS_PTRACE};
        self.missing(&[(BPF, "BPF"), (PERFMON, "PERFMON"), (SYS_PTRACE, "SYS_PTRACE")])
    }

    /// Without which names or files are missing.
    pub fn missing_useful(self) -> Vec<&'static str> {
        use capability::{CHECKPOINT_RESTORE, DAC_READ_SEARCH, SYSLOG};
        self.missing(&[
            (DAC_READ_SEARCH, "DAC_READ_SEARCH"),
            (CHECKPOINT_RESTORE, "CHECKPOINT_RESTORE"),
            (SYSLOG, "SYSLOG"),
        ])
    }
}

/// What lacking capabilities cost. `None`: `/proc/self/status` did not tell.
pub fn capabilities(effective: Option<Capabilities>, platform: &Platform) -> Check {
    const NAME: &str = "capabilities";
    const SOURCE: &str = "CapEff in /proc/self/status";
    let Some(effective) = effective else {
        return Check::warn(NAME, "not known", SOURCE, "mount /proc");
    };
    let (required, useful) = (effective.missing_required(), effective.missing_useful());
    if !required.is_empty() {
        // All that a start asks for at once, as deploy/hardened-ds.yaml and the sentence of `record` name it. Whether memory may be
        // locked without the last one is another check's.
        let lock = effective.missing(&[(capability::IPC_LOCK, "IPC_LOCK")]);
        let all: Vec<&str> = required.iter().chain(&useful).chain(&lock).copied().collect();
        return Check::fail(NAME, format!("{} missing", required.join(", ")), SOURCE, platform.capabilities(&all));
    }
    if useful.is_empty() {
        return Check::ok(NAME, "all that are needed", SOURCE);
    }
    let costs = useful.iter().map(|name| match *name {
        "DAC_READ_SEARCH" => {
            "DAC_READ_SEARCH (programs in other users' private directories stay without stacks and names)"
        }
        "CHECKPOINT_RESTORE" => "CHECKPOINT_RESTORE (deleted and replaced executables stay without stacks and names)",
        _ => "SYSLOG (kernel functions stay without names)",
    });
    let found = format!("missing: {}", costs.collect::<Vec<_>>().join(", "));
    Check::warn(NAME, found, SOURCE, platform.capabilities(&useful))
}

/// Whether a seccomp filter is in force. What it forbids shows in the calls that are tried.
pub fn seccomp(installed: bool) -> Check {
    let found = if installed { "a filter is in force; bpf and perf-event were tried under it" } else { "no filter" };
    Check::ok("seccomp", found, "Seccomp in /proc/self/status")
}

/// Whether the pids here are those that the programs see.
pub fn host_pid(own_namespace: Option<u64>, platform: &Platform) -> Check {
    const NAME: &str = "host-pid";
    const SOURCE: &str = "/proc/self/ns/pid";
    match own_namespace {
        Some(INITIAL_PID_NAMESPACE) => Check::ok(NAME, "this is the host's pid namespace", SOURCE),
        Some(other) => {
            let found = format!(
                "pid namespace {other}, not the host's {INITIAL_PID_NAMESPACE}: every process would be a stranger"
            );
            Check::fail(NAME, found, SOURCE, platform.host_pid())
        }
        None => Check::warn(NAME, "not known", SOURCE, "mount /proc"),
    }
}

/// What came of looking into another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It worked.
    Seen,
    /// errno.
    Refused(i32),
    /// There was nobody to look at.
    Nobody,
}

/// Whether `maps` and `root` of other processes can be read.
pub fn processes(look: &Look, source: &str, effective: Option<Capabilities>, platform: &Platform) -> Check {
    const NAME: &str = "processes";
    match look {
        Look::Seen => Check::ok(NAME, "other processes can be read", source),
        Look::Nobody => {
            let fix = "give --proc-root the place of the host's /proc; hidepid must be 0 or 1";
            Check::fail(NAME, "no other process is there", source, fix)
        }
        Look::Refused(number) => {
            let found = format!("refused: {}", words(*number));
            if effective.is_some_and(|effective| !effective.has(capability::SYS_PTRACE)) {
                return Check::fail(NAME, found, source, platform.capabilities(&["SYS_PTRACE"]));
            }
            let fix =
                "a security module forbids it: AppArmor Unconfined, SELinux type spc_t, as in deploy/hardened-ds.yaml";
            Check::fail(NAME, found, source, fix)
        }
    }
}

/// Whether mapped files can be opened whatever became of their paths.
pub fn map_files(look: &Look, source: &str, platform: &Platform) -> Check {
    const NAME: &str = "map-files";
    match look {
        Look::Seen => Check::ok(NAME, "mapped files can be opened", source),
        Look::Nobody => Check::warn(NAME, "no process with a mapped file could be read", source, ""),
        Look::Refused(number) => {
            let found =
                format!("refused ({}): deleted and replaced executables stay without stacks and names", words(*number));
            Check::warn(NAME, found, source, platform.capabilities(&["CHECKPOINT_RESTORE"]))
        }
    }
}

/// The system's words for errno.
pub(super) fn words(number: i32) -> String {
    std::io::Error::from_raw_os_error(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn set(numbers: &[u32]) -> Capabilities {
        Capabilities(numbers.iter().map(|number| 1u64 << number).sum())
    }

    fn pod() -> Platform {
        Platform::of("", true)
    }

    #[test]
    fn what_is_missing_is_named_with_what_it_costs() {
        let seven = [2, 14, 19, 34, 38, 39, 40];
        let without = |number: u32| set(&seven.into_iter().filter(|other| *other != number).collect::<Vec<_>>());
        let cases = [
            (set(&seven), Verdict::Ok, "all that are needed"),
            (without(39), Verdict::Fail, "BPF missing"),
            (without(38), Verdict::Fail, "PERFMON missing"),
            (without(19), Verdict::Fail, "SYS_PTRACE missing"),
            (without(2), Verdict::Warn, "private directories"),
            (without(40), Verdict::Warn, "deleted and replaced"),
            (without(34), Verdict::Warn, "kernel functions"),
            (set(&[21, 19, 2, 34]), Verdict::Ok, "all that are needed"),
            (set(&[21, 19, 2]), Verdict::Warn, "kernel functions"),
            (set(&[21]), Verdict::Fail, "SYS_PTRACE missing"),
            (set(&[]), Verdict::Fail, "BPF, PERFMON, SYS_PTRACE missing"),
        ];
        for (effective, verdict, found) in cases {
            let check = capabilities(Some(effective), &pod());
            assert_eq!(check.verdict, verdict, "{:x}", effective.0);
            assert!(check.found.contains(found), "{check:?}");
        }
        assert_eq!(capabilities(None, &pod()).verdict, Verdict::Warn);
        let all = "add BPF, PERFMON, SYS_PTRACE, DAC_READ_SEARCH, CHECKPOINT_RESTORE, SYSLOG, IPC_LOCK under";
        assert!(capabilities(Some(set(&[])), &pod()).fix.contains(all));
        assert!(!capabilities(Some(set(&[14])), &pod()).fix.contains("IPC_LOCK"));
    }

    #[test]
    fn a_seccomp_filter_is_told_of() {
        assert_eq!([true, false].map(|installed| seccomp(installed).found.contains("in force")), [true, false]);
    }

    #[test]
    fn only_the_initial_pid_namespace_will_do() {
        assert_eq!(host_pid(Some(4026531836), &pod()).verdict, Verdict::Ok);
        let nested = host_pid(Some(4026532201), &pod());
        assert_eq!((nested.verdict, nested.fix.contains("hostPID: true")), (Verdict::Fail, true));
    }

    #[test]
    fn a_refusal_blames_the_capability_or_else_the_security_module() {
        let of = |look, effective| processes(&look, "/proc/1/maps", Some(effective), &pod());
        assert_eq!(of(Look::Seen, set(&[])).verdict, Verdict::Ok);
        assert_eq!(of(Look::Nobody, set(&[])).verdict, Verdict::Fail);
        assert!(of(Look::Refused(libc::EACCES), set(&[])).fix.contains("SYS_PTRACE"));
        assert!(of(Look::Refused(libc::EACCES), set(&[19])).fix.contains("AppArmor"));
        let refused = map_files(&Look::Refused(libc::EPERM), "/proc/1/map_files", &pod());
        assert_eq!((refused.verdict, refused.fix.contains("CHECKPOINT_RESTORE")), (Verdict::Warn, true));
    }
}
