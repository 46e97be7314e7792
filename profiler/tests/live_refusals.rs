//! What `everflame record` says where the kernel refuses it: one line, with what was tried, the system's words and the way out.
//!
//! The refusals are made: a seccomp filter answers one system call as a kernel without it, a locked-down one,
//! `perf_event_paranoid` or a container's own filter would; an empty file system hides BTF.

mod live;

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fixtures::skip;

/// What is not there for everflame.
#[derive(Clone, Copy, Debug)]
enum Refused {
    /// A system call ends with this error.
    Call(libc::c_long, i32),
    /// `/sys/kernel/btf` is empty.
    Btf,
}

/// Refuses it to this process and what it executes. Between fork and exec: system calls, and nothing else.
fn refuse(refused: Refused) -> io::Result<()> {
    match refused {
        Refused::Call(number, error) => refuse_call(number as u32, error as u32),
        Refused::Btf => hide_btf(),
    }
}

fn refuse_call(number: u32, error: u32) -> io::Result<()> {
    let step = |code: u32, jump_unless: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump_unless,
        k: value,
    };
    // The call's number is the first word of what a filter sees (`struct seccomp_data`).
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | error),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program and its steps outlive the call, which copies them.
    let done = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::c_ulong::from(libc::SECCOMP_MODE_FILTER), &raw const program)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn hide_btf() -> io::Result<()> {
    let nothing = std::ptr::null::<libc::c_char>();
    let (root, btf, kind) = (c"/".as_ptr(), c"/sys/kernel/btf".as_ptr(), c"tmpfs".as_ptr());
    // SAFETY: strings that end with NUL, and no data; what is mounted is this process's alone.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(nothing, root, nothing, libc::MS_REC | libc::MS_PRIVATE, nothing.cast()) == 0
            && libc::mount(kind, btf, kind, 0, nothing.cast()) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `everflame record` of this process, into a file; `None` where nothing can be refused, after saying why.
fn record(file: &Path, refused: Refused) -> Option<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everflame"));
    command.args(["record", "-d", "50ms", "-o"]).arg(file).arg("--pid").arg(std::process::id().to_string());
    command.stdin(Stdio::null());
    // SAFETY: it makes system calls and nothing else.
    unsafe { command.pre_exec(move || refuse(refused)) };
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            skip(format_args!("{refused:?}: {error}"));
            None
        }
    }
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn what_the_kernel_refuses_is_one_line_that_says_what_and_how_to_mend_it() {
    const BPF: &str = "everflame: the kernel refused the eBPF ";
    const PERF: &str = "everflame: perf_event_open(";
    const MAY_NOT_LOAD: &str = "(os error 1); root or CAP_BPF + CAP_PERFMON is needed, and neither kernel lockdown \
        (confidentiality) nor a seccomp profile may forbid bpf(2)\n";
    const MAY_NOT_SAMPLE: &str = "; kernel.perf_event_paranoid or a seccomp profile forbids it: run as root, or with \
        CAP_PERFMON (CAP_SYS_ADMIN where paranoid is 3 or more)\n";
    let _alone = live::alone();
    if live::engine(live::options(&[])).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (refused, beginning, end) in [
        (
            Refused::Btf,
            "everflame: this kernel has no BTF (/sys/kernel/btf/vmlinux is missing): ",
            "a kernel >= 5.10 built with CONFIG_DEBUG_INFO_BTF=y is needed\n",
        ),
        (Refused::Call(libc::SYS_bpf, libc::EPERM), BPF, MAY_NOT_LOAD),
        (Refused::Call(libc::SYS_bpf, libc::ENOSYS), BPF, "; this kernel is built without CONFIG_BPF_SYSCALL\n"),
        (Refused::Call(libc::SYS_perf_event_open, libc::EACCES), PERF, MAY_NOT_SAMPLE),
        (Refused::Call(libc::SYS_perf_event_open, libc::EPERM), PERF, MAY_NOT_SAMPLE),
        (
            Refused::Call(libc::SYS_perf_event_open, libc::ENOSYS),
            PERF,
            "; this kernel is built without CONFIG_PERF_EVENTS\n",
        ),
    ] {
        let Some(output) = record(&folder.path().join("cpu.pb.gz"), refused) else { continue };
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(beginning) && said.ends_with(end), "{refused:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{refused:?}: {said}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{refused:?}: {said}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{refused:?}");
    }
}
