//! Which hits are left out: what the user asked not to see.

use profiler_common::filter;

use crate::maps::{FILTER_CGROUPS, FILTER_PIDS, HITS_BY_PID};

/// Whether a hit is to be left out for its process or its mode.
#[inline(always)]
pub(crate) fn is_filtered(bits: u32, tgid: u32, user_mode: bool) -> bool {
    if bits & filter::USER_ONLY != 0 && !user_mode {
        return true;
    }
    if bits & filter::KERNEL_ONLY != 0 && user_mode {
        return true;
    }
    if bits & (filter::PIDS | filter::PIDS_DENIED) == 0 {
        return false;
    }
    // SAFETY: a map value that is one word.
    is_denied(unsafe { FILTER_PIDS.get(tgid) }, bits & filter::PIDS != 0)
}

/// Whether a hit is to be left out for its cgroup.
#[inline(always)]
pub(crate) fn is_filtered_by_cgroup(bits: u32, cgroup_id: u64) -> bool {
    if bits & (filter::CGROUPS | filter::CGROUPS_DENIED) == 0 {
        return false;
    }
    // SAFETY: a map value that is one word.
    is_denied(unsafe { FILTER_CGROUPS.get(cgroup_id) }, bits & filter::CGROUPS != 0)
}

#[inline(always)]
fn is_denied(verdict: Option<&u32>, only_listed: bool) -> bool {
    match verdict {
        Some(verdict) => *verdict == filter::DENIED,
        None => only_listed,
    }
}

/// Counts a hit of a process, for tests.
#[inline(always)]
pub(crate) fn count_pid(tgid: u32) {
    if let Some(hits) = HITS_BY_PID.get_ptr_mut(tgid) {
        // SAFETY: a test's counter; two CPUs may race and lose one hit in a multi-threaded process.
        unsafe { *hits += 1 };
    } else {
        let _ = HITS_BY_PID.insert(tgid, 1, 0);
    }
}
