//! Where and when a figure was measured: no figure is worth anything without it.

use std::fs;

/// One line: processor, number of CPUs, kernel, date.
pub(crate) fn line() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let cpus = processor.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cpus} CPUs, Linux {}, {}, load {}", kernel.trim(), date(), load())
}

/// The load average over the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Year, month and day in UTC.
fn date() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = seconds as libc::time_t;
    // SAFETY: all-zero is a valid `tm`, and gmtime_r fills it.
    let parts = unsafe {
        let mut parts = std::mem::zeroed::<libc::tm>();
        libc::gmtime_r(&raw const time, &raw mut parts);
        parts
    };
    format!("{}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday)
}

/// Keeps a process (0: the calling thread) on one CPU.
pub(crate) fn pin(pid: i32, cpu: u32) {
    // SAFETY: all-zero is an empty set; CPU_SET writes inside it for the CPUs of this machine.
    unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        libc::CPU_SET(cpu as usize, &mut set);
        libc::sched_setaffinity(pid, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}
