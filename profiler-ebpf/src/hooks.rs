//! Exec and exit: the process entry is removed at once, so that neither a new program in the same process nor a reused pid is
//! ever unwound with another program's rows.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use profiler_common::Counter;

use crate::maps::{PROCESSES, count};

/// `sched_process_exec` runs in the new program's task, after the point of no return.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_exec(_: RawTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if PROCESSES.remove(tgid).is_ok() {
        count(Counter::ExecHook);
    }
    0
}

/// `sched_process_exit` runs for every thread; the entry goes with the leader.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn process_exit(_: RawTracePointContext) -> i32 {
    let id = bpf_get_current_pid_tgid();
    if (id >> 32) as u32 == id as u32 && PROCESSES.remove((id >> 32) as u32).is_ok() {
        count(Counter::ExitHook);
    }
    0
}
