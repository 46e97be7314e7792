//! Exec and exit: the process entry is removed at once, so that neither a new program in the same process nor a reused pid is
//! ever unwound with another program's rows. A new name removes the entry of an unwanted process: it may be wanted by it.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use profiler_common::{Counter, ProcessEntry};

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

/// `task_rename` runs for a thread that names itself or another of its process (prctl, `/proc/self/comm`), and in exec.
#[raw_tracepoint(tracepoint = "task_rename")]
fn task_rename(_: RawTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: a map value. Should it be another process's by now, then ours was replaced or removed, which is all the same.
    let unwanted = unsafe { PROCESSES.get(tgid) }.is_some_and(|entry| entry.table == ProcessEntry::UNWANTED);
    if unwanted && PROCESSES.remove(tgid).is_ok() {
        count(Counter::RenameHook);
    }
    0
}
