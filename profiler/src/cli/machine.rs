//! What a recording is told by this machine, and asks of it.

/// This machine's name.
pub(super) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// The kernel's release, as `uname -r` says it.
pub(super) fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Each executable keeps a file open: take what the hard limit allows. Returns what it was.
pub(super) fn raise_file_limit() -> Option<libc::rlimit> {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut before) != 0 {
            return None;
        }
        let most = libc::rlimit { rlim_cur: before.rlim_max, ..before };
        libc::setrlimit(libc::RLIMIT_NOFILE, &most);
    }
    Some(before)
}
