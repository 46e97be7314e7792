//! What this kernel can do: asked, never guessed from its version.

use std::io;

use super::SamplerError;
use super::btf::Btf;
use super::hierarchy::{CgroupHierarchy, Controller};

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
    /// The way to a cgroup's id in a v1 hierarchy, if the kernel tells.
    pub cgroup_path: Option<CgroupOffsets>,
}

/// Byte offsets on the way `task->cgroups->subsys[controller]->cgroup->kn->id` (include/linux/cgroup-defs.h, kernfs.h; the id
/// is one 64-bit number since 5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupOffsets {
    /// `task_struct.cgroups`.
    pub task_cgroups: u32,
    /// `css_set.subsys`.
    pub css_set_subsystems: u32,
    /// `cgroup_subsys_state.cgroup`.
    pub css_cgroup: u32,
    /// `cgroup.kn`.
    pub cgroup_kn: u32,
    /// `kernfs_node.id`.
    pub kernfs_id: u32,
    /// Each controller's place in `subsys`, in the order of [`Controller::ALL`]; `None` if the kernel is built without it.
    places: [Option<u32>; Controller::ALL.len()],
}

impl CgroupOffsets {
    fn read(btf: &Btf<'_>) -> Option<CgroupOffsets> {
        Some(CgroupOffsets {
            task_cgroups: btf.member_offset("task_struct", "cgroups")?,
            css_set_subsystems: btf.member_offset("css_set", "subsys")?,
            css_cgroup: btf.member_offset("cgroup_subsys_state", "cgroup")?,
            cgroup_kn: btf.member_offset("cgroup", "kn")?,
            kernfs_id: btf.member_offset("kernfs_node", "id")?,
            places: Controller::ALL.map(|controller| btf.enumerator("cgroup_subsys_id", &controller.enumerator())),
        })
    }

    /// Offset of a controller's entry in `css_set`.
    pub fn css_set_subsystem(&self, controller: Controller) -> Option<u32> {
        Some(self.css_set_subsystems + self.places[controller as usize]? * size_of::<u64>() as u32)
    }
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
        let btf = Btf::parse(&data);
        let task_stack_offset = btf.as_ref().and_then(|btf| btf.member_offset("task_struct", "stack")).unwrap_or(0);
        let cgroup_path = btf.as_ref().and_then(CgroupOffsets::read);
        Ok(Features { task_pt_regs: has_helper(BPF_FUNC_TASK_PT_REGS), task_stack_offset, cgroup_path })
    }

    /// Whether the programs can tell a task's cgroup id in this hierarchy: always in v2, in v1 if BTF shows the way.
    pub fn can_tell(&self, hierarchy: &CgroupHierarchy) -> bool {
        hierarchy.controller.is_none_or(|controller| {
            self.cgroup_path.is_some_and(|offsets| offsets.css_set_subsystem(controller).is_some())
        })
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
