//! What can go wrong between us and the kernel; each names the call, the object and the way out.

use std::io;

/// Failures of loading, opening and reading.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    /// A map or program of the object could not be loaded.
    #[error("the kernel refused the eBPF {what}: {why}{}", hint(why))]
    Load {
        /// Which map or program.
        what: String,
        /// The loader's and the verifier's words.
        why: String,
    },
    /// A filter set has no room.
    #[error(
        "more than {} {what} to filter by: name fewer of them, or choose by --comm",
        profiler_common::filter::MAX_LISTED
    )]
    FilterFull {
        /// Of what.
        what: &'static str,
    },
    /// `perf_event_open` failed.
    #[error("perf_event_open({what}) on CPU {cpu}: {source}; {}", perf_hint(source))]
    PerfEventOpen {
        /// Which event.
        what: &'static str,
        /// On which CPU.
        cpu: u32,
        /// errno.
        source: io::Error,
    },
    /// An ioctl on a perf event failed.
    #[error("ioctl({what}) on the perf event of CPU {cpu}: {source}; {}", perf_hint(source))]
    PerfEventIoctl {
        /// Which request.
        what: &'static str,
        /// On which CPU.
        cpu: u32,
        /// errno.
        source: io::Error,
    },
    /// A ring or segment could not be mapped.
    #[error("mmap of {bytes} bytes for {what}: {source}; with a low RLIMIT_MEMLOCK, CAP_IPC_LOCK is needed")]
    Map {
        /// What for.
        what: &'static str,
        /// How much.
        bytes: usize,
        /// errno.
        source: io::Error,
    },
    /// A file of the kernel's could not be read.
    #[error("cannot read {path}: {source}; {}", read_hint(source))]
    Read {
        /// Which.
        path: String,
        /// errno.
        source: io::Error,
    },
    /// A file of the kernel's was not what it should be.
    #[error("{path} is not understood: {why}; report it, with the file and what `uname -r` says")]
    Format {
        /// Which.
        path: String,
        /// Where.
        why: &'static str,
    },
    /// Not enough rights, found before anything else is tried.
    #[error(
        "profiling needs {missing}: run as root, or grant it (setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_checkpoint_restore,cap_syslog,cap_ipc_lock+ep {program})"
    )]
    Capability {
        /// The names of the capabilities that are not there.
        missing: String,
        /// Where the program is, as a shell's word.
        program: String,
    },
    /// A pid namespace of our own.
    #[error("this is not the host's pid namespace: run with hostPID: true (Kubernetes) or --pid=host (docker)")]
    PidNamespace,
    /// Lockdown in the mode that keeps kernel memory from programs (Linux 5.4).
    #[error(
        "the kernel is locked down (confidentiality), so that no program may read its memory: boot with lockdown=integrity, or without Secure Boot where that is what locks it"
    )]
    LockedDown,
    /// No BTF.
    #[error(
        "this kernel has no BTF (/sys/kernel/btf/vmlinux is missing): a kernel >= 5.10 built with CONFIG_DEBUG_INFO_BTF=y is needed"
    )]
    NoBtf,
}

fn hint(why: &str) -> &'static str {
    if why.contains("Operation not permitted") || why.contains("EPERM") {
        "; root or CAP_BPF + CAP_PERFMON is needed, and neither kernel lockdown (confidentiality) nor a seccomp profile may forbid bpf(2)"
    } else if why.contains("Function not implemented") || why.contains("ENOSYS") {
        "; this kernel is built without CONFIG_BPF_SYSCALL"
    } else {
        ""
    }
}

fn read_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "/proc and /sys of the host must be mounted where it runs",
        io::ErrorKind::PermissionDenied => "run as root; a container must not mask it",
        _ => "start again, and report it if it stays so",
    }
}

fn perf_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "kernel.perf_event_paranoid or a seccomp profile forbids it: run as root, or with CAP_PERFMON (CAP_SYS_ADMIN where paranoid is 3 or more)"
        }
        Some(libc::EMFILE | libc::ENFILE) => "too many open files: raise RLIMIT_NOFILE",
        Some(libc::ENOSYS) => "this kernel is built without CONFIG_PERF_EVENTS",
        Some(libc::ENODEV | libc::ENOENT) => "this CPU or event does not exist (went offline?)",
        _ => "see perf_event_open(2)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(why: &str) -> SamplerError {
        SamplerError::Load { what: "map RECORDS".into(), why: why.into() }
    }

    fn open(error: i32) -> SamplerError {
        SamplerError::PerfEventOpen { what: "cpu-clock", cpu: 3, source: io::Error::from_raw_os_error(error) }
    }

    fn ioctl(error: i32) -> SamplerError {
        SamplerError::PerfEventIoctl { what: "SET_BPF", cpu: 3, source: io::Error::from_raw_os_error(error) }
    }

    fn read(error: i32) -> SamplerError {
        SamplerError::Read { path: "/proc/stat".into(), source: io::Error::from_raw_os_error(error) }
    }

    #[test]
    fn each_refusal_names_what_was_tried_why_it_failed_and_the_way_out() {
        const LOAD: &str = "the kernel refused the eBPF map RECORDS: ";
        const OPEN: &str = "perf_event_open(cpu-clock) on CPU 3: ";
        const IOCTL: &str = "ioctl(SET_BPF) on the perf event of CPU 3: ";
        const READ: &str = "cannot read /proc/stat: ";
        const MAY_NOT_LOAD: &str = "; root or CAP_BPF + CAP_PERFMON is needed, and neither kernel lockdown \
            (confidentiality) nor a seccomp profile may forbid bpf(2)";
        const MAY_NOT_SAMPLE: &str = "; kernel.perf_event_paranoid or a seccomp profile forbids it: run as root, or with \
            CAP_PERFMON (CAP_SYS_ADMIN where paranoid is 3 or more)";
        const NOT_PERMITTED: &str = "Operation not permitted (os error 1)";
        const NOT_IMPLEMENTED: &str = "Function not implemented (os error 38)";
        for (error, tried, why, way_out) in [
            // Locked down, forbidden to users, or by a container's filter of system calls.
            (load(NOT_PERMITTED), LOAD, NOT_PERMITTED, MAY_NOT_LOAD),
            (load("bpf: EPERM"), LOAD, "bpf: EPERM", MAY_NOT_LOAD),
            (load(NOT_IMPLEMENTED), LOAD, NOT_IMPLEMENTED, "; this kernel is built without CONFIG_BPF_SYSCALL"),
            // The verifier's words are all that there is.
            (load("R1 is no pointer"), LOAD, "R1 is no pointer", ""),
            (open(libc::EACCES), OPEN, "Permission denied (os error 13)", MAY_NOT_SAMPLE),
            (open(libc::EPERM), OPEN, NOT_PERMITTED, MAY_NOT_SAMPLE),
            (ioctl(libc::EPERM), IOCTL, NOT_PERMITTED, MAY_NOT_SAMPLE),
            (open(libc::ENOSYS), OPEN, NOT_IMPLEMENTED, "; this kernel is built without CONFIG_PERF_EVENTS"),
            (
                open(libc::EMFILE),
                OPEN,
                "Too many open files (os error 24)",
                "; too many open files: raise RLIMIT_NOFILE",
            ),
            (
                open(libc::ENODEV),
                OPEN,
                "No such device (os error 19)",
                "; this CPU or event does not exist (went offline?)",
            ),
            (open(libc::EINVAL), OPEN, "Invalid argument (os error 22)", "; see perf_event_open(2)"),
            (
                read(libc::ENOENT),
                READ,
                "No such file or directory (os error 2)",
                "; /proc and /sys of the host must be mounted where it runs",
            ),
            (
                read(libc::EACCES),
                READ,
                "Permission denied (os error 13)",
                "; run as root; a container must not mask it",
            ),
            (
                SamplerError::NoBtf,
                "this kernel has no BTF ",
                "(/sys/kernel/btf/vmlinux is missing)",
                ": a kernel >= 5.10 built with CONFIG_DEBUG_INFO_BTF=y is needed",
            ),
            (
                SamplerError::LockedDown,
                "the kernel is locked down (confidentiality), ",
                "so that no program may read its memory",
                ": boot with lockdown=integrity, or without Secure Boot where that is what locks it",
            ),
            (
                SamplerError::PidNamespace,
                "this is not the host's pid namespace",
                "",
                ": run with hostPID: true (Kubernetes) or --pid=host (docker)",
            ),
            (
                SamplerError::Capability {
                    missing: "CAP_BPF, CAP_SYSLOG".into(),
                    program: "/usr/bin/everflame".into(),
                },
                "profiling needs ",
                "CAP_BPF, CAP_SYSLOG",
                ": run as root, or grant it (setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,\
                 cap_checkpoint_restore,cap_syslog,cap_ipc_lock+ep /usr/bin/everflame)",
            ),
        ] {
            assert_eq!(error.to_string(), [tried, why, way_out].concat());
        }
    }
}
