//! Tables of what kernels say.

use super::super::Verdict::{Fail, Ok as Fine, Warn};
use super::*;

fn pod(id: &str) -> Platform {
    Platform::of(&format!("ID={id}\n"), true)
}

fn gate<'a>(numbers: &[u32], seccomp: bool, lockdown: Option<&'a str>, platform: &'a Platform) -> Gate<'a> {
    let effective = Capabilities(numbers.iter().map(|number| 1u64 << number).sum());
    Gate { effective: Some(effective), seccomp, lockdown, platform }
}

#[test]
fn versions_are_read_from_releases() {
    for (release, wanted) in [
        ("6.1.0-18-amd64", Some((6, 1))),
        ("5.10.0", Some((5, 10))),
        ("6.18.44-fc-v657", Some((6, 18))),
        ("", None),
        ("x", None),
    ] {
        assert_eq!(version(release), wanted, "{release}");
    }
}

#[test]
fn old_kernels_are_warned_of_and_other_machines_refused() {
    for (text, machine, verdict) in [
        ("5.10.0-30-amd64", "x86_64", Fine),
        ("5.14.0-427.el9", "x86_64", Fine),
        ("5.4.0-150-generic", "x86_64", Warn),
        ("4.18.0-553.el8", "x86_64", Warn),
        ("6.1.0", "aarch64", Fail),
    ] {
        assert_eq!(release(text, machine).verdict, verdict, "{text} {machine}");
    }
}

#[test]
fn btf_is_there_or_it_is_said_why_not() {
    for (state, verdict) in [
        (BtfState::Usable, Fine),
        (BtfState::Missing, Fail),
        (BtfState::Refused(libc::EACCES), Fail),
        (BtfState::Unknown, Warn),
    ] {
        assert_eq!(btf(state).verdict, verdict, "{state:?}");
    }
}

#[test]
fn only_confidentiality_is_in_the_way() {
    for (text, verdict, fix) in [
        (None, Fine, ""),
        (Some("[none] integrity confidentiality\n"), Fine, ""),
        (Some("none [integrity] confidentiality\n"), Fine, ""),
        (Some("none integrity [confidentiality]\n"), Fail, "Talos 1.14"),
    ] {
        let check = lockdown(text, &pod("talos"));
        assert_eq!(check.verdict, verdict, "{text:?}");
        assert!(check.fix.contains(fix), "{check:?}");
    }
}

#[test]
fn a_refused_bpf_call_blames_who_refused() {
    let platform = pod("debian");
    let secret = Some("none integrity [confidentiality]");
    for (number, numbers, seccomp, mode, fix) in [
        (libc::EPERM, &[38, 19][..], false, None, "add BPF under"),
        (libc::EPERM, &[38, 39], true, None, "containerd 1.6.9"),
        (libc::ENOSYS, &[38, 39], true, None, "seccomp"),
        (libc::ENOSYS, &[38, 39], false, None, "CONFIG_BPF_SYSCALL"),
        (libc::EPERM, &[38, 39], false, secret, "lockdown=integrity"),
        (libc::EPERM, &[21], false, None, "security module"),
    ] {
        let check = bpf(Err(number), &gate(numbers, seccomp, mode, &platform));
        assert_eq!(check.verdict, Fail);
        assert!(check.fix.contains(fix), "{fix}: {check:?}");
    }
    assert_eq!(bpf(Ok(()), &gate(&[], true, None, &platform)).verdict, Fine);
}

#[test]
fn a_refused_timer_blames_who_refused() {
    let platform = pod("debian");
    for (number, paranoid, numbers, seccomp, fix) in [
        (libc::EACCES, Some(2), &[39][..], false, "add PERFMON"),
        (libc::EPERM, Some(2), &[38], true, "seccomp"),
        (libc::EACCES, Some(4), &[38, 39], false, "sysctl -w kernel.perf_event_paranoid=2"),
        (libc::ENOSYS, None, &[38], false, "CONFIG_PERF_EVENTS"),
    ] {
        let check = perf_event(Err(number), paranoid, &gate(numbers, seccomp, None, &platform));
        assert_eq!(check.verdict, Fail);
        assert!(check.fix.contains(fix), "{fix}: {check:?}");
    }
}

#[test]
fn hidden_kernel_addresses_are_a_matter_of_two_keys() {
    for (state, restrict, numbers, verdict, fix) in [
        (Kallsyms::Shown, Some(1), &[34][..], Fine, ""),
        (Kallsyms::Hidden, Some(1), &[], Warn, "add SYSLOG under"),
        (Kallsyms::Hidden, Some(0), &[], Warn, "add SYSLOG under"),
        (Kallsyms::Hidden, Some(2), &[34], Warn, "machine.sysctls kernel.kptr_restrict"),
        (Kallsyms::Hidden, Some(2), &[], Warn, "and add SYSLOG"),
        (Kallsyms::Missing, None, &[34], Warn, "CONFIG_KALLSYMS"),
    ] {
        let platform = pod("talos");
        let check = kernel_symbols(state, restrict, &gate(numbers, false, None, &platform));
        assert_eq!(check.verdict, verdict, "{state:?}");
        assert!(check.fix.contains(fix), "{fix}: {check:?}");
    }
}

#[test]
fn locked_memory_matters_for_rings_and_before_5_11_for_maps() {
    let platform = pod("debian");
    let lock = |soft, hard, cpus, paranoid| MemoryLock { soft, hard, free_kb: 516, cpus, paranoid: Some(paranoid) };
    for (lock, version, numbers, verdict, fix) in [
        // The usual 8 MiB hold two CPUs' rings, not four's.
        (lock(8 << 20, 8 << 20, 2, 2), (6, 1), &[][..], Fine, ""),
        (lock(8 << 20, 8 << 20, 4, 2), (6, 1), &[], Fail, "IPC_LOCK"),
        (lock(64 << 10, 64 << 10, 2, 2), (6, 1), &[], Fail, "IPC_LOCK"),
        (lock(64 << 10, 64 << 10, 64, 2), (6, 1), &[14], Fine, ""),
        (lock(64 << 10, 64 << 10, 64, -1), (6, 1), &[], Fine, ""),
        (lock(u64::MAX, u64::MAX, 64, 2), (5, 10), &[], Fine, ""),
        (lock(64 << 10, 64 << 10, 2, 2), (5, 10), &[14], Fail, "SYS_RESOURCE"),
        (lock(64 << 10, 64 << 10, 2, 2), (5, 10), &[14, 24], Fine, ""),
    ] {
        let check = memory_lock(&lock, Some(version), &gate(numbers, false, None, &platform));
        assert_eq!(check.verdict, verdict, "{lock:?}: {check:?}");
        assert!(check.fix.contains(fix), "{check:?}");
    }
}

#[test]
fn the_start_names_its_numbers_or_its_error() {
    let ready = Start::Ready { programs: 6, cpus: 2, online: 2 };
    assert_eq!(start(&ready).found, "6 programs verified and attached, timers on 2 of 2 CPUs");
    assert_eq!(start(&Start::Ready { programs: 6, cpus: 1, online: 2 }).verdict, Warn);
    assert_eq!(start(&Start::Failed("no".into())).verdict, Fail);
    assert_eq!(open_files(1024).verdict, Warn);
    assert_eq!(open_files(4096).verdict, Fine);
}
