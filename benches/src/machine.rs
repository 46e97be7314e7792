//! Where and when a figure was measured: no figure is worth anything without it.

use std::fs;

/// Above this, somebody else uses the machine, and figures of time are not worth repeating.
const QUIET: f64 = 0.5;

/// Prints a bench's heading: its title, the machine, a warning if the machine is busy already, and what the table means.
pub(crate) fn begin(title: &str, explanation: &str) {
    println!("\n## {title}\n\n{}", line());
    if load().parse::<f64>().is_ok_and(|load| load > QUIET) {
        println!("WARNING: the load was above {QUIET} before this bench began; take no figure of time from it");
    }
    println!("\n{explanation}\n");
}

/// Prints a table's head.
pub(crate) fn head(columns: &[&str]) {
    println!("| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
}

/// One line: processor, number of CPUs, memory, kernel, date, load.
fn line() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Not those that this process was left on: the bench may have pinned itself.
    let cpus = processor.lines().filter(|line| line.starts_with("processor")).count();
    let mib = memory_mib();
    let build = if cfg!(debug_assertions) { ", UNOPTIMIZED BUILD" } else { "" };
    format!("{model}, {cpus} CPUs, {mib} MiB, Linux {}, {}, load {}{build}", kernel.trim(), date(), load())
}

/// The load average over the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// CPUs that this process may run on.
pub(crate) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

fn memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
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

/// Time that the host took from this machine while it wanted to run, as a share of all CPUs' time between two looks.
pub(crate) struct Steal(Option<(u64, u64)>);

impl Steal {
    pub(crate) fn begin() -> Steal {
        Steal(Self::now())
    }

    /// Since [`Steal::begin`], in percent; says so where the kernel does not tell.
    pub(crate) fn text(&self) -> String {
        match (self.0, Self::now()) {
            (Some((steal, all)), Some((steal_now, all_now))) if all_now > all => {
                format!("{:.2} %", (steal_now - steal) as f64 * 100.0 / (all_now - all) as f64)
            }
            _ => "unknown".to_owned(),
        }
    }

    /// Ticks of steal, and of everything, since boot (`man 5 proc`).
    fn now() -> Option<(u64, u64)> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let ticks: Vec<u64> =
            text.lines().next()?.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
        // The first eight do not overlap: guest time, behind them, is in user time.
        Some((*ticks.get(7)?, ticks.iter().take(8).sum()))
    }
}
