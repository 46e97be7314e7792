//! Whether we may profile at all, asked before anything else: a clear word beats a verifier's.

use std::path::Path;

use crate::doctor::rights::INITIAL_PID_NAMESPACE;
use crate::doctor::{facts, kernel};
use crate::sampler::SamplerError;

/// An error that names what is missing.
pub(super) fn check() -> Result<(), SamplerError> {
    // The programs see pids of the initial namespace: in another one every process would be a stranger.
    if facts::pid_namespace().is_some_and(|inode| inode != INITIAL_PID_NAMESPACE) {
        return Err(SamplerError::PidNamespace);
    }
    // The verifier only says "cannot use helper bpf_probe_read_kernel" of it.
    if facts::lockdown(Path::new("/proc")).is_some_and(|text| kernel::is_confidential(&text)) {
        return Err(SamplerError::LockedDown);
    }
    let Some(effective) = facts::own_rights().0 else { return Ok(()) };
    let missing: Vec<String> = effective.missing_required().iter().map(|name| format!("CAP_{name}")).collect();
    if missing.is_empty() { Ok(()) } else { Err(SamplerError::Capability { missing: missing.join(", ") }) }
}
