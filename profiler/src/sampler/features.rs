//! What this kernel can do: asked, never guessed from its version.

use std::io;

use super::SamplerError;
use super::btf::Btf;

/// Where the kernel's BTF is (≥ 5.4, CONFIG_DEBUG_INFO_BTF).
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

const BPF_FUNC_TASK_PT_REGS: i32 = 175;
/// x86-64's THREAD_SIZE (arch/x86/include/asm/page_64_types.h), without KASAN.
const THREAD_SIZE: u32 = 16 << 10;
/// sizeof(struct pt_regs) on x86-64.
const PT_REGS_SIZE: u32 = 168;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `bpf_task_pt_regs` exists (≥ 5.15).
    pub task_pt_regs: bool,
    /// Offset of `task_struct.stack`; 0 if unknown.
    pub task_stack_offset: u32,
}

impl Features {
    /// Where saved registers lie in a kernel stack.
    pub const STACK_REGISTERS_OFFSET: u32 = THREAD_SIZE - PT_REGS_SIZE;

    /// Asks the running kernel.
    pub fn probe() -> Result<Features, SamplerError> {
        let data = match std::fs::read(VMLINUX_BTF) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SamplerError::NoBtf),
            Err(source) => return Err(SamplerError::Read { path: VMLINUX_BTF.into(), source }),
        };
        let task_stack_offset =
            Btf::parse(&data).and_then(|btf| btf.member_offset("task_struct", "stack")).unwrap_or(0);
        Ok(Features { task_pt_regs: has_helper(BPF_FUNC_TASK_PT_REGS), task_stack_offset })
    }
}

/// Whether perf_event programs may call helper `id`: loads `call id; r0 = 0; exit` and reads why it was refused. The arguments
/// are uninitialised, so a helper that exists is refused with other words than "invalid func".
fn has_helper(id: i32) -> bool {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_PERF_EVENT: u64 = 7;
    let instruction = |code: u64, immediate: i32| code | ((immediate as u32 as u64) << 32);
    let program = [instruction(0x85, id), instruction(0xb7, 0), instruction(0x95, 0)];
    let mut log = vec![0u8; 4096];
    let mut attributes = [0u64; 16];
    attributes[0] = BPF_PROG_TYPE_PERF_EVENT | (program.len() as u64) << 32;
    attributes[1] = program.as_ptr() as u64;
    attributes[2] = c"GPL".as_ptr() as u64;
    attributes[3] = 1 | (log.len() as u64) << 32;
    attributes[4] = log.as_mut_ptr() as u64;
    // SAFETY: the attribute block is as long as said, and its pointers outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, attributes.as_ptr(), size_of_val(&attributes)) };
    if result >= 0 {
        // SAFETY: a file descriptor that the call above returned to us.
        unsafe { libc::close(result as i32) };
        return true;
    }
    let log = String::from_utf8_lossy(&log);
    !log.starts_with('\0') && !log.contains("unknown func") && !log.contains("invalid func")
}
