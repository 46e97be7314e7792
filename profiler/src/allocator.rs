//! The C library's allocator, told to stay small.
//!
//! Constraint: only glibc has these knobs; elsewhere nothing is done, and nothing needs to be.

/// Heaps that threads share. By default glibc makes up to eight for each CPU, each of which keeps what its threads freed: an
/// agent with 60 containers and two back ends then takes 158 MB and grows, with one heap 102 MB and stays there, at the same
/// processor time (small blocks come from each thread's own cache, without a lock).
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 1;

/// Makes all threads share one heap; to be called before there are any.
pub(crate) fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers (mallopt(3)); one that it does not know changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

/// Gives freed memory back to the kernel: glibc keeps it for the next allocation otherwise.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
