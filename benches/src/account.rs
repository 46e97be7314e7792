//! What was spent so far: CPU time of processes, and the kernel's own account of our eBPF programs.

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};
use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// CPU time of this process, all threads, ns exact: the scheduler's account, not the tick's.
pub(crate) fn own_cpu_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the timespec; for a clock that does not exist it stays zero.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The same of another process.
///
/// # Errors
/// When it is gone.
pub(crate) fn cpu_time_of(pid: u32) -> Result<Duration> {
    let mut id = 0;
    // SAFETY: writes the id.
    let failed = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut id) };
    anyhow::ensure!(failed == 0, "process {pid} has no clock: {}", std::io::Error::from_raw_os_error(failed));
    Ok(clock(id))
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The kernel measures every run of every eBPF program as long as this lives; about 50 ns more per run.
pub(crate) struct ProgramStatistics(#[expect(dead_code, reason = "closing it ends the measurement")] OwnedFd);

impl ProgramStatistics {
    /// # Errors
    /// Without the right to do so, and before 5.8.
    pub(crate) fn enable() -> Result<ProgramStatistics> {
        Ok(ProgramStatistics(enable_stats(Stats::RunTime).context("BPF_ENABLE_STATS")?))
    }
}

/// Runs and time of the perf-event programs that a process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProgramTime {
    pub(crate) runs: u64,
    pub(crate) time_ns: u64,
}

impl ProgramTime {
    /// Of programs attached to a perf event, tail calls included; hooks are left out. `process`: a pid, or `self`.
    pub(crate) fn of(process: &str) -> Result<ProgramTime> {
        let mut all = HashMap::new();
        for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
            // A descriptor may have been closed since the list was made.
            let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
            if let Some((id, time)) = program(&text) {
                all.insert(id, time);
            }
        }
        Ok(all.into_values().fold(ProgramTime::default(), |sum, each| ProgramTime {
            runs: sum.runs + each.runs,
            time_ns: sum.time_ns + each.time_ns,
        }))
    }

    pub(crate) fn since(self, before: ProgramTime) -> ProgramTime {
        ProgramTime { runs: self.runs - before.runs, time_ns: self.time_ns - before.time_ns }
    }
}

/// A program's id and account from its descriptor's `fdinfo` (kernel/bpf/syscall.c, bpf_prog_show_fdinfo).
fn program(text: &str) -> Option<(u64, ProgramTime)> {
    const PERF_EVENT: u64 = 7;
    let field = |name: &str| number(text, name);
    (field("prog_type")? == PERF_EVENT)
        .then_some((field("prog_id")?, ProgramTime { runs: field("run_cnt")?, time_ns: field("run_time_ns")? }))
}

/// The number behind `name:` at a line's beginning.
pub(crate) fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_perf_event_programs_are_counted() {
        let text = "pos:\t0\nflags:\t02000000\nprog_type:\t7\nprog_jited:\t1\nprog_tag:\tabc\nmemlock:\t8192\nprog_id:\t31\n\
                    run_time_ns:\t8000\nrun_cnt:\t4\n";
        assert_eq!(program(text), Some((31, ProgramTime { runs: 4, time_ns: 8000 })));
        assert_eq!(program(&text.replace("prog_type:\t7", "prog_type:\t17")), None);
        assert_eq!(program("pos:\t0\nmap_type:\t2\n"), None);
    }
}
