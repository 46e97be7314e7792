//! What the agent itself uses, as the kernel accounts it.

use std::path::Path;

/// Processor time of all threads so far, user and system, ns (`getrusage(2)`).
pub(crate) fn cpu_ns() -> u64 {
    // SAFETY: a zeroed rusage is valid, and the call fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let ns = |time: libc::timeval| time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_usec.unsigned_abs() * 1000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

/// Resident memory without what is shared, bytes (`statm`, proc(5)): BPF maps and perf rings that are mapped count as shared.
pub(super) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string(Path::new("/proc/self/statm")).unwrap_or_default();
    let mut pages = statm.split_ascii_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(shared) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_show() {
        let (cpu, memory) = (cpu_ns(), resident_bytes());
        let block = vec![1u8; 64 << 20];
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        assert_eq!(sum, 64 << 20);
        assert!(cpu_ns() > cpu);
        assert!(resident_bytes() > memory + (60 << 20));
    }
}
