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
    if missing.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe().map(|path| for_shell(&path)).unwrap_or_else(|_| "everflame".to_owned());
    Err(SamplerError::Capability { missing: missing.join(", "), program })
}

/// A path as it is pasted into a shell.
fn for_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+".contains(letter);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for (path, expected) in [
            ("/usr/local/bin/everflame", "/usr/local/bin/everflame"),
            ("/my tools/everflame", "'/my tools/everflame'"),
            ("/it's/everflame", r"'/it'\''s/everflame'"),
        ] {
            assert_eq!(for_shell(Path::new(path)), expected);
        }
    }
}
