//! Whether we may profile at all, asked before anything else: a clear word beats a verifier's.

use crate::sampler::SamplerError;

const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// The capabilities that are missing from an effective set (`CapEff` of `/proc/self/status`).
fn missing(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective >> bit & 1 != 0;
    let wanted = [(BPF, "CAP_BPF"), (PERFMON, "CAP_PERFMON"), (SYS_PTRACE, "CAP_SYS_PTRACE")];
    wanted
        .into_iter()
        // CAP_SYS_ADMIN stands in for BPF and PERFMON (≥ 5.8), not for SYS_PTRACE.
        .filter(|(bit, _)| !has(*bit) && (!has(SYS_ADMIN) || *bit == SYS_PTRACE))
        .map(|(_, name)| name)
        .collect()
}

/// Inode of the initial pid namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// An error that names what is missing.
pub(super) fn check() -> Result<(), SamplerError> {
    use std::os::unix::fs::MetadataExt as _;
    // The programs see pids of the initial namespace: in another one every process would be a stranger.
    if std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() != INITIAL_PID_NAMESPACE) {
        return Err(SamplerError::PidNamespace);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) else { return Ok(()) };
    let missing = missing(effective);
    if missing.is_empty() { Ok(()) } else { Err(SamplerError::Capability { missing: missing.join(", ") }) }
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn what_is_missing_is_named() {
        let bit = |number: u32| 1u64 << number;
        for (effective, wanted) in [
            (u64::MAX, vec![]),
            (0, vec!["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"]),
            (bit(21) | bit(19), vec![]),
            (bit(38) | bit(39) | bit(19), vec![]),
            (bit(39) | bit(19), vec!["CAP_PERFMON"]),
            (bit(21), vec!["CAP_SYS_PTRACE"]),
        ] {
            assert_eq!(missing(effective), wanted, "{effective:x}");
        }
    }
}
