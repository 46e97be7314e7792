//! User registers of the sampled task: from the context, or from the kernel stack when the sample hit kernel mode.
//! The one module that knows the architecture.

use aya_ebpf::{
    EbpfContext,
    bindings::{bpf_perf_event_data, pt_regs},
    helpers::{self, bpf_probe_read_kernel},
    programs::PerfEventContext,
};
use unwind::walk::Walk;

use crate::maps::{have_task_pt_regs, stack_registers_offset, task_stack_offset};

/// The code segment selector of 64-bit user code on x86-64 (`__USER_CS`).
const USER_CODE_64: u64 = 0x33;

/// What could be had.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserState {
    /// A 64-bit user frame; the registers are in the walk.
    Ready,
    /// A 32-bit task; only pc is in the walk.
    Compat,
    /// No user frame: a kernel thread.
    Absent,
    /// Kernel mode, and this kernel does not tell where the user registers are.
    Unknown,
}

/// Whether the sample hit user mode.
#[inline(always)]
pub(crate) fn in_user_mode(ctx: &PerfEventContext) -> bool {
    // SAFETY: the context of a perf_event program is a bpf_perf_event_data.
    let regs = unsafe { &(*(ctx.as_ptr() as *const bpf_perf_event_data)).regs };
    regs.cs & 3 == 3
}

/// Fills `walk` with the user registers.
#[inline(always)]
pub(crate) fn user_registers(ctx: &PerfEventContext, walk: &mut Walk) -> UserState {
    // SAFETY: as above.
    let regs = unsafe { &(*(ctx.as_ptr() as *const bpf_perf_event_data)).regs };
    let code_segment;
    if regs.cs & 3 == 3 {
        code_segment = regs.cs;
        walk.leaf = [
            regs.rax, regs.rdx, regs.rcx, regs.rbx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8, regs.r9, regs.r10,
            regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ];
        walk.pc = regs.rip;
    } else {
        let saved: *const pt_regs = if have_task_pt_regs() != 0 {
            // SAFETY: helpers without side effects; the result is only read through bpf_probe_read_kernel.
            unsafe { helpers::bpf_task_pt_regs(helpers::bpf_get_current_task_btf()) as *const pt_regs }
        } else if task_stack_offset() != 0 {
            // SAFETY: as above.
            let task = unsafe { helpers::bpf_get_current_task() };
            let stack = task.wrapping_add(task_stack_offset() as u64) as *const u64;
            // SAFETY: reads that fault give an error.
            let Ok(stack) = (unsafe { bpf_probe_read_kernel(stack) }) else {
                return UserState::Unknown;
            };
            stack.wrapping_add(stack_registers_offset() as u64) as *const pt_regs
        } else {
            return UserState::Unknown;
        };
        // One word at a time: copying the whole structure would become a call of memcpy, a BPF-to-BPF call.
        macro_rules! read {
            ($field:ident) => {
                // SAFETY: reads that fault give an error; the pointer is never dereferenced here.
                match unsafe { bpf_probe_read_kernel(&raw const (*saved).$field) } {
                    Ok(value) => value,
                    Err(_) => return UserState::Unknown,
                }
            };
        }
        code_segment = read!(cs);
        walk.pc = read!(rip);
        walk.leaf[3] = read!(rbx);
        walk.leaf[5] = read!(rdi);
        walk.leaf[6] = read!(rbp);
        walk.leaf[7] = read!(rsp);
        walk.leaf[10] = read!(r10);
        walk.leaf[12] = read!(r12);
        // Of the caller-saved registers only rdi is needed below a system call: glibc's vfork keeps its return address there.
        walk.leaf_known = 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 12;
        // Workers that the kernel starts for a process (io_uring, vhost) have user registers of zero.
        if code_segment & 3 != 3 || walk.pc == 0 {
            return UserState::Absent;
        }
        if code_segment != USER_CODE_64 {
            return UserState::Compat;
        }
        start(walk);
        return UserState::Ready;
    }
    walk.leaf_known = 0xffff;
    if code_segment != USER_CODE_64 {
        return UserState::Compat;
    }
    start(walk);
    UserState::Ready
}

#[inline(always)]
fn start(walk: &mut Walk) {
    walk.rbx = walk.leaf[3];
    walk.fp = walk.leaf[6];
    walk.sp = walk.leaf[7];
    walk.r12 = walk.leaf[12];
    walk.rbx_at = 0;
    walk.fp_at = 0;
    walk.r12_at = 0;
}
