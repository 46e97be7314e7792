//! The eBPF object in the kernel: maps sized, globals set, programs verified. Nothing is attached here.

use aya::maps::{Array, HashMap, IterableMap as _, Map, MapData, PerCpuArray, PerCpuValues, ProgramArray, RingBuf};
use aya::programs::{PerfEvent, RawTracePoint};
use aya::{Ebpf, EbpfLoader};
use profiler_common::{CACHE_SLOTS, COUNTERS, ProcessEntry};
use unwind::slab::SEGMENT_WORDS;

use super::SamplerError;
use super::features::Features;
use super::filter_set::FilterSet;
use super::hierarchy::Controller;
use super::map_memory;
use super::signals::Deferred;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../profiler-ebpf/prebuilt/everflame.x86_64.bpf.o"
));

/// The hooks: program and raw tracepoint.
const HOOKS: [(&str, &str); 3] =
    [("process_exec", "sched_process_exec"), ("process_exit", "sched_process_exit"), ("task_rename", "task_rename")];

/// What the programs are told at load.
#[derive(Clone, Copy, Debug)]
pub struct ObjectOptions {
    /// Bits of [`profiler_common::filter`].
    pub filter: u32,
    /// The profiler's own pid, whose samples are left out; 0 to keep them.
    pub own_pid: u32,
    /// Perf core's stack copies per CPU and second.
    pub copies_per_second: u32,
    /// Bytes of the record ring; a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Entries of the process hash; about 100 bytes of kernel memory each.
    pub processes: u32,
    /// Whether the rule cache is used; off only to measure what it brings.
    pub rule_cache: bool,
    /// The controller of the v1 hierarchy whose cgroup ids records carry; `None` for version 2. One that
    /// [`Features::can_tell`] refuses gives ids of version 2.
    pub cgroup_controller: Option<Controller>,
}

/// Instructions that the verifier looked at, by program; `None` before 5.16.
pub type VerifiedInstructions = Vec<(&'static str, Option<u32>)>;

/// The loaded object.
pub struct Object {
    bpf: Ebpf,
    map_bytes: u64,
    /// Dropping the program array would empty it, and tail calls would fall through unseen.
    _programs: ProgramArray<MapData>,
}

fn load_error(what: impl Into<String>) -> impl FnOnce(&dyn std::error::Error) -> SamplerError {
    let what = what.into();
    move |error| {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !why.contains(&text) {
                why = format!("{why}: {text}");
            }
            cause = inner.source();
        }
        SamplerError::Load { what, why }
    }
}

impl Object {
    /// Creates the maps and loads every program.
    pub fn load(options: &ObjectOptions, features: &Features) -> Result<Object, SamplerError> {
        let _deferred = Deferred::all();
        let way = options.cgroup_controller.zip(features.cgroup_path);
        let way = way.and_then(|(controller, offsets)| Some((offsets, offsets.css_set_subsystem(controller)?)));
        let (cgroup, subsystem) = way.unwrap_or_default();
        let mut bpf = EbpfLoader::new()
            .override_global("FILTER", &options.filter, true)
            .override_global("OWN_PID", &options.own_pid, true)
            .override_global("HAVE_TASK_PT_REGS", &u32::from(features.task_pt_regs), true)
            .override_global("TASK_STACK_OFFSET", &features.task_stack_offset, true)
            .override_global("STACK_REGISTERS_OFFSET", &Features::STACK_REGISTERS_OFFSET, true)
            .override_global("TASK_CGROUPS_OFFSET", &cgroup.task_cgroups, true)
            .override_global("CSS_SET_SUBSYSTEM_OFFSET", &subsystem, true)
            .override_global("CSS_CGROUP_OFFSET", &cgroup.css_cgroup, true)
            .override_global("CGROUP_KN_OFFSET", &cgroup.cgroup_kn, true)
            .override_global("KERNFS_ID_OFFSET", &cgroup.kernfs_id, true)
            .override_global("COPIES_PER_SECOND", &options.copies_per_second, true)
            .override_global("USE_CACHE", &u32::from(options.rule_cache), true)
            .map_max_entries("RECORDS", options.ring_bytes)
            .map_max_entries("PROCESSES", options.processes)
            .load(OBJECT)
            .map_err(|error| load_error("object")(&error))?;
        let map_bytes = map_memory::bytes(&bpf);
        for name in ["sample", "quick", "unwind"] {
            let program: &mut PerfEvent = program(&mut bpf, name)?;
            program.load().map_err(|error| load_error(format!("program {name}"))(&error))?;
        }
        for (name, _) in HOOKS {
            let program: &mut RawTracePoint = program(&mut bpf, name)?;
            program.load().map_err(|error| load_error(format!("program {name}"))(&error))?;
        }
        let mut programs: ProgramArray<MapData> = take(&mut bpf, "PROGRAMS")?;
        for (index, name) in ["quick", "unwind"].into_iter().enumerate() {
            let program: &mut PerfEvent = program(&mut bpf, name)?;
            let fd = program.fd().map_err(|error| load_error(format!("program {name}"))(&error))?;
            programs.set(index as u32, fd, 0).map_err(|error| load_error("map PROGRAMS")(&error))?;
        }
        Ok(Object { bpf, map_bytes, _programs: programs })
    }

    /// Kernel memory of its maps, bytes, without the slab's segments.
    pub fn map_bytes(&self) -> u64 {
        self.map_bytes
    }

    /// Attaches the exec, exit and rename hooks.
    pub fn attach_hooks(&mut self) -> Result<(), SamplerError> {
        for (name, tracepoint) in HOOKS {
            let program: &mut RawTracePoint = program(&mut self.bpf, name)?;
            program.attach(tracepoint).map_err(|error| load_error(format!("hook {tracepoint}"))(&error))?;
        }
        Ok(())
    }

    /// The file descriptor of the sampling program, for `PERF_EVENT_IOC_SET_BPF`.
    pub fn sample_program(&mut self) -> Result<i32, SamplerError> {
        use std::os::fd::{AsFd as _, AsRawFd as _};
        let program: &mut PerfEvent = program(&mut self.bpf, "sample")?;
        let fd = program.fd().map_err(|error| load_error("program sample")(&error))?;
        Ok(fd.as_fd().as_raw_fd())
    }

    /// How much work the verifier had with each program.
    pub fn verified_instructions(&mut self) -> VerifiedInstructions {
        let mut all = Vec::new();
        for (name, program) in self.bpf.programs() {
            let name = match name {
                "sample" => "sample",
                "quick" => "quick",
                "unwind" => "unwind",
                "process_exec" => "process_exec",
                "process_exit" => "process_exit",
                "task_rename" => "task_rename",
                _ => continue,
            };
            all.push((name, program.info().ok().and_then(|info| info.verified_instruction_count())));
        }
        all.sort_unstable();
        all
    }

    /// The record ring.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, SamplerError> {
        take(&mut self.bpf, "RECORDS")
    }

    /// The hash pid → process table.
    pub fn take_processes(&mut self) -> Result<HashMap<MapData, u32, PodProcessEntry>, SamplerError> {
        take(&mut self.bpf, "PROCESSES")
    }

    /// The rule caches, to be cleared when their tags run out.
    pub fn take_rule_caches(&mut self) -> Result<RuleCaches, SamplerError> {
        Ok(RuleCaches(take(&mut self.bpf, "RULES")?))
    }

    /// The outer map of the slab.
    pub fn take_segments(
        &mut self,
    ) -> Result<aya::maps::ArrayOfMaps<MapData, Array<MapData, PodSegment>>, SamplerError> {
        take(&mut self.bpf, "SEGMENTS")
    }

    /// The set of pids that are let through or left out.
    pub fn take_pid_filter(&mut self) -> Result<FilterSet<u32>, SamplerError> {
        Ok(FilterSet::new(take(&mut self.bpf, "FILTER_PIDS")?, "pids"))
    }

    /// The set of cgroup ids that are let through or left out.
    pub fn take_cgroup_filter(&mut self) -> Result<FilterSet<u64>, SamplerError> {
        Ok(FilterSet::new(take(&mut self.bpf, "FILTER_CGROUPS")?, "cgroups"))
    }

    /// Timer hits by pid, counted when `filter::COUNT_PIDS` is set.
    pub fn hits_by_pid(&mut self) -> Result<Vec<(u32, u64)>, SamplerError> {
        let map: HashMap<&MapData, u32, u64> =
            HashMap::try_from(self.map("HITS_BY_PID")?).map_err(|error| load_error("map HITS_BY_PID")(&error))?;
        Ok(map.iter().flatten().collect())
    }

    /// The programs' counters, summed over CPUs, in the order of [`profiler_common::Counter`].
    pub fn counters(&self) -> Result<[u64; COUNTERS], SamplerError> {
        let map: PerCpuArray<&MapData, u64> =
            PerCpuArray::try_from(self.map("COUNTS")?).map_err(|error| load_error("map COUNTS")(&error))?;
        let mut sums = [0; COUNTERS];
        for (index, sum) in sums.iter_mut().enumerate() {
            let values = map.get(&(index as u32), 0).map_err(|error| load_error("map COUNTS")(&error))?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }

    /// One of the programs' counters by CPU number.
    pub fn counter_by_cpu(&self, counter: profiler_common::Counter) -> Result<Vec<u64>, SamplerError> {
        let map: PerCpuArray<&MapData, u64> =
            PerCpuArray::try_from(self.map("COUNTS")?).map_err(|error| load_error("map COUNTS")(&error))?;
        let values = map.get(&(counter as u32), 0).map_err(|error| load_error("map COUNTS")(&error))?;
        Ok(values.to_vec())
    }

    fn map(&self, name: &str) -> Result<&Map, SamplerError> {
        self.bpf
            .map(name)
            .ok_or_else(|| SamplerError::Load { what: format!("map {name}"), why: "not in the object".into() })
    }
}

fn program<'a, T>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T, SamplerError>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program>,
    <&'a mut T as TryFrom<&'a mut aya::programs::Program>>::Error: std::error::Error,
{
    let found = bpf
        .program_mut(name)
        .ok_or_else(|| SamplerError::Load { what: format!("program {name}"), why: "not in the object".into() })?;
    found.try_into().map_err(|error| load_error(format!("program {name}"))(&error))
}

fn take<T>(bpf: &mut Ebpf, name: &str) -> Result<T, SamplerError>
where
    T: TryFrom<Map>,
    T::Error: std::error::Error,
{
    let map = bpf
        .take_map(name)
        .ok_or_else(|| SamplerError::Load { what: format!("map {name}"), why: "not in the object".into() })?;
    map.try_into().map_err(|error| load_error(format!("map {name}"))(&error))
}

/// `aya::Pod` is a foreign trait and the entry a foreign type: the newtype is the price of a common crate without aya.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct PodProcessEntry(pub ProcessEntry);
// SAFETY: four u32 without padding.
unsafe impl aya::Pod for PodProcessEntry {}

/// The rule cache of every CPU.
pub struct RuleCaches(PerCpuArray<MapData, PodCache>);

impl RuleCaches {
    /// Empties them all; false if the kernel refused.
    pub fn clear(&mut self) -> bool {
        let Ok(cpus) = aya::util::nr_cpus() else { return false };
        let empty = vec![PodCache([0; CACHE_SLOTS * 2]); cpus];
        PerCpuValues::try_from(empty).is_ok_and(|values| self.0.set(0, values, 0).is_ok())
    }
}

/// One CPU's cache as a map value.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodCache([u64; CACHE_SLOTS * 2]);
// SAFETY: plain words.
unsafe impl aya::Pod for PodCache {}

/// A whole segment as a map value; never held by value, only its size is used.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct PodSegment([u32; SEGMENT_WORDS]);
// SAFETY: plain words.
unsafe impl aya::Pod for PodSegment {}

/// Makes one slab segment: an array of one 4 MiB value that can be mapped.
pub fn create_segment() -> Result<Array<MapData, PodSegment>, SamplerError> {
    const BPF_F_MMAPABLE: u32 = 1 << 10;
    Array::create(1, BPF_F_MMAPABLE).map_err(|error| load_error("slab segment")(&error))
}

/// The raw file descriptor of a map, for `mmap`.
pub fn segment_fd(segment: &Array<MapData, PodSegment>) -> i32 {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    segment.map().fd().as_fd().as_raw_fd()
}
