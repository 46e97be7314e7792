//! What `/proc/PID` tells of a process.
//!
//! Constraint: `maps` waits for the process's memory lock, which a page fault on a dead file system may hold; it is read by
//! workers only. The other files here take no such lock.

use std::path::Path;
use std::sync::Arc;

use super::maps::Maps;
use super::one_process::Process;

/// Parent and age of a process, its name and program; `None` if there is no such process. Its mappings are not read.
pub(super) fn read_process(proc_root: &Path, pid: u32) -> Option<Process> {
    let Stat { parent, start_time_ns, leader_ended } = read_stat(proc_root, pid)?;
    let (comm, executable) = read_names(proc_root, pid);
    let mut process = Process { comm, executable, ..Process::new(pid, parent, start_time_ns) };
    process.leader_ended = leader_ended;
    Some(process)
}

/// What `/proc/PID/stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) parent: u32,
    /// CLOCK_BOOTTIME, ns.
    pub(super) start_time_ns: u64,
    /// The leader is a zombie or about to be one: of a process that has ended, or one that lives on in its other threads.
    pub(super) leader_ended: bool,
}

/// What `/proc/PID/stat` tells.
pub(super) fn read_stat(proc_root: &Path, pid: u32) -> Option<Stat> {
    let stat = std::fs::read(proc_root.join(format!("{pid}/stat"))).ok()?;
    parse_stat(&String::from_utf8_lossy(&stat), 1_000_000_000 / ticks_per_second())
}

/// Processor time of all threads, in clock ticks.
pub(super) fn read_cpu_ticks(proc_root: &Path, pid: u32) -> Option<u64> {
    let stat = std::fs::read(proc_root.join(format!("{pid}/stat"))).ok()?;
    parse_cpu_ticks(&String::from_utf8_lossy(&stat))
}

/// Name of the main thread, and path of the program.
pub(super) fn read_names(proc_root: &Path, pid: u32) -> (Arc<str>, Arc<str>) {
    let directory = proc_root.join(pid.to_string());
    let comm = std::fs::read(directory.join("comm")).unwrap_or_default();
    let comm = String::from_utf8_lossy(&comm);
    let executable = std::fs::read_link(directory.join("exe")).unwrap_or_default();
    let executable = executable.to_string_lossy();
    (comm.trim_end_matches('\n').into(), executable.strip_suffix(" (deleted)").unwrap_or(&executable).into())
}

/// Pids of all processes.
pub(super) fn list(proc_root: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(proc_root) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a process lives on after its leader has ended (`pthread_exit` in `main`).
pub(super) fn has_other_threads(proc_root: &Path, pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(proc_root.join(format!("{pid}/task"))) else { return false };
    tasks.flatten().any(|task| task.file_name().to_str() != Some(pid.to_string().as_str()))
}

/// The executable mappings. With a leader that has ended only its other threads show them. For workers only.
pub(super) fn read_maps(proc_root: &Path, pid: u32) -> Maps {
    let directory = proc_root.join(pid.to_string());
    let maps = std::fs::read(directory.join("maps")).unwrap_or_default();
    if !maps.is_empty() {
        return Maps::parse(&maps);
    }
    let Ok(tasks) = std::fs::read_dir(directory.join("task")) else { return Maps::default() };
    let mut others = tasks.flatten().map(|task| std::fs::read(task.path().join("maps")).unwrap_or_default());
    Maps::parse(&others.find(|maps| !maps.is_empty()).unwrap_or_default())
}

fn ticks_per_second() -> u64 {
    // SAFETY: no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// State, parent pid, flags and start time in ticks since boot, fields 3, 4, 9 and 22 of `/proc/PID/stat`; comm may hold any
/// character.
fn parse_stat(stat: &str, tick_ns: u64) -> Option<Stat> {
    /// The task is in `do_exit`, be it for seconds (include/linux/sched.h).
    const PF_EXITING: u32 = 4;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let flags: u32 = fields.nth(4)?.parse().ok()?;
    let leader_ended = is_zombie || flags & PF_EXITING != 0;
    let start_ticks: u64 = fields.nth(12)?.parse().ok()?;
    Some(Stat { parent, start_time_ns: start_ticks.saturating_mul(tick_ns), leader_ended })
}

/// `utime` and `stime`, fields 14 and 15 of `/proc/PID/stat`.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    ticks()?.checked_add(ticks()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name() {
        let tail = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 100";
        for comm in ["x", "a b", ") 9 (", ""] {
            let expected = Stat { parent: 7, start_time_ns: 42_420, leader_ended: false };
            assert_eq!(parse_stat(&format!("12 ({comm}) {tail}"), 10), Some(expected), "{comm}");
            assert_eq!(parse_cpu_ticks(&format!("12 ({comm}) {tail}")), Some(5 + 6), "{comm}");
        }
        assert_eq!(parse_stat("12 (x) S", 10), None);
        let zombie = tail.replacen('S', "Z", 1);
        assert!(parse_stat(&format!("12 (x) {zombie}"), 10).is_some_and(|stat| stat.leader_ended));
        assert_eq!(parse_cpu_ticks("12 (x) S 7 1 1 0 -1 4194560 1 2 3 4 5"), None);
        let most = u64::MAX;
        assert_eq!(parse_cpu_ticks(&format!("12 (x) S 7 1 1 0 -1 4194560 1 2 3 4 {most} 1")), None);
    }
}
