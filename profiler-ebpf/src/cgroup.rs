//! The cgroup of the sampled task, in the hierarchy that the agent chose.
//!
//! Kernels tell a program the id in hierarchy v2 only. Of a v1 hierarchy it is read as the kernel itself finds it:
//! `task->cgroups->subsys[controller]->cgroup->kn->id`, with offsets from BTF.

use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_task, bpf_probe_read_kernel};

use crate::maps::{
    cgroup_kn_offset, css_cgroup_offset, css_set_subsystem_offset, kernfs_id_offset, task_cgroups_offset,
};

/// The id of the current task's cgroup, which is the inode number of its directory; 0 if it can't be had.
#[inline(always)]
pub(crate) fn current_cgroup_id() -> u64 {
    if task_cgroups_offset() == 0 {
        // SAFETY: a helper without arguments.
        return unsafe { bpf_get_current_cgroup_id() };
    }
    // SAFETY: a helper without arguments.
    let mut at = unsafe { bpf_get_current_task() };
    macro_rules! follow {
        ($offset:expr) => {
            // SAFETY: reads that fault give an error; the pointer is never dereferenced here.
            match unsafe { bpf_probe_read_kernel(at.wrapping_add($offset as u64) as *const u64) } {
                Ok(value) => at = value,
                Err(_) => return 0,
            }
        };
    }
    follow!(task_cgroups_offset());
    follow!(css_set_subsystem_offset());
    follow!(css_cgroup_offset());
    follow!(cgroup_kn_offset());
    follow!(kernfs_id_offset());
    at
}
