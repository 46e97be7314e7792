//! [`Counters`]: what identity found, missed and left out since it began. [`Sizes`]: what it keeps.

/// Samples are counted once, when their batch is identified; the rest as it happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Samples whose container is known by name.
    pub tagged: u64,
    /// Samples whose pod is known, but not which of its containers (a sandbox, a container inside a container).
    pub pod_only: u64,
    /// Samples of processes in no container.
    pub host: u64,
    /// Samples of containers of which only the id is known.
    pub container_unknown: u64,
    /// Samples whose cgroup names another pod than the one that has their container: they go to the latter.
    pub contradictions: u64,
    /// Containers that were waited for in vain.
    pub waited_in_vain: u64,
    /// Processes that were read from `/proc`.
    pub processes_read: u64,
    /// Processes that were gone, or another one, when they were to be read.
    pub processes_missed: u64,
    /// Environments that could not be read.
    pub environments_unreadable: u64,
    /// Values in environments that were refused (too long, control characters …).
    pub environment_values_refused: u64,
    /// Notes that found the queue full.
    pub notes_dropped: u64,
    /// Processes that found no room among [`super::MAX_PROCESSES`].
    pub processes_refused: u64,
    /// Cgroups that found no room among [`super::cgroups::MAX_CGROUPS`].
    pub cgroups_refused: u64,
    /// Walks of the cgroup tree.
    pub cgroup_walks: u64,
    /// Pods and containers that found no room.
    pub pods_refused: u64,
    /// Pods that the API server told of, new, changed or deleted.
    pub api_events: u64,
    /// Complete lists of the node's pods.
    pub api_lists: u64,
    /// Failures of the watch.
    pub api_errors: u64,
    /// Questions to a container runtime.
    pub runtime_requests: u64,
    /// Those that failed: no connection, a timeout, no answer that we understand.
    pub runtime_errors: u64,
    /// Questions to the runtime that were not asked, because too many containers were unknown.
    pub runtime_dropped: u64,
}

/// How many of each are known, what ended a short time ago included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Pods, once for each source that told of them.
    pub pods: u64,
    /// Containers, likewise.
    pub containers: u64,
    /// Processes.
    pub processes: u64,
    /// Cgroups.
    pub cgroups: u64,
}
