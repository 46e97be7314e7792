//! [`Batch`]: samples of one period with everything they refer to, each thing once.
//!
//! Constraint: self-contained and bounded by its maker. Samples keep their own time, so that history and OTLP can use it;
//! aggregation is the business of each output. Indices are into the batch's own tables; tables only grow.

use hashbrown::HashMap;
use std::sync::Arc;

use unwind::end::End;

use super::owner::Identity;
use crate::ledger::Ledger;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        pub struct $name(pub u32);
    };
}
index!(/** Into [`Batch::strings`]. */ StringIndex);
index!(/** Into [`Batch::mappings`]. */ MappingIndex);
index!(/** Into [`Batch::functions`]. */ FunctionIndex);
index!(/** Into [`Batch::locations`]. */ LocationIndex);
index!(/** Into [`Batch::stacks`]. */ StackIndex);
index!(/** Into [`Batch::processes`]. */ ProcessIndex);
index!(/** Into [`Batch::identities`]. */ IdentityIndex);

/// Each text once.
#[derive(Clone, Debug, Default)]
pub struct StringTable {
    texts: Vec<Arc<str>>,
    index: HashMap<Arc<str>, StringIndex>,
}

impl StringTable {
    /// A table with room for so many texts, for those who know how many come.
    pub fn with_capacity(texts: usize) -> StringTable {
        StringTable { texts: Vec::with_capacity(texts), index: HashMap::with_capacity(texts) }
    }

    /// The index of `text`, which is added if it is new.
    pub fn intern(&mut self, text: &str) -> StringIndex {
        if let Some(found) = self.index.get(text) {
            return *found;
        }
        let shared: Arc<str> = text.into();
        let index = StringIndex(self.texts.len() as u32);
        self.texts.push(shared.clone());
        self.index.insert(shared, index);
        index
    }

    /// The text at `index`; empty for an index that is not from this table.
    pub fn get(&self, index: StringIndex) -> &str {
        self.texts.get(index.0 as usize).map_or("", |text| text)
    }

    /// The index of a text that is shared instead of copied if it is new.
    pub fn share(&mut self, text: &Arc<str>) -> StringIndex {
        if let Some(found) = self.index.get(text) {
            return *found;
        }
        let index = StringIndex(self.texts.len() as u32);
        self.texts.push(text.clone());
        self.index.insert(text.clone(), index);
        index
    }

    /// The text at `index`, to be shared with another table; `None` for an index that is not from this table.
    pub fn get_shared(&self, index: StringIndex) -> Option<&Arc<str>> {
        self.texts.get(index.0 as usize)
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is no text yet.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// All texts in the order they were first seen.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }
}

/// One executable (or the kernel, or a module) that locations lie in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// Path as the target process sees it, or `[kernel.kallsyms]`, `[vdso]`, `[bpf]`, `[anon]`.
    pub filename: StringIndex,
    /// GNU build id, lower-case hex; empty if the file has none.
    pub build_id: StringIndex,
}

/// A source function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// For people: demangled.
    pub name: StringIndex,
    /// The linkage (mangled) name.
    pub system_name: StringIndex,
    /// Source file; empty if unknown.
    pub filename: StringIndex,
    /// Line on which the function starts; 0 if unknown.
    pub start_line: u32,
}

/// One function at a location: the innermost inlined one first, the one they were all inlined into last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// Which function.
    pub function: FunctionIndex,
    /// Source line; 0 if unknown.
    pub line: u32,
    /// Source column; 0 if unknown.
    pub column: u32,
}

/// What sort of code a location is: the page colours by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LocationKind {
    /// Compiled code of an ELF file.
    Native,
    /// Code of a Go binary.
    Go,
    /// The kernel proper.
    Kernel,
    /// A kernel module.
    KernelModule,
    /// A BPF program.
    Bpf,
    /// The vDSO.
    Vdso,
    /// Anonymous executable memory: code made at run time.
    Jit,
    /// A frame that an interpreter runs (Python, V8 bytecode, JVM …).
    Interpreter,
    /// Not code: says that the stack goes on, or why it stopped (`[truncated]`).
    Marker,
    /// An address in nothing that we know.
    Unknown,
}

impl LocationKind {
    /// The name used in labels and in the page's data.
    pub fn name(self) -> &'static str {
        match self {
            LocationKind::Native => "native",
            LocationKind::Go => "go",
            LocationKind::Kernel => "kernel",
            LocationKind::KernelModule => "kernel module",
            LocationKind::Bpf => "bpf",
            LocationKind::Vdso => "vdso",
            LocationKind::Jit => "jit",
            LocationKind::Interpreter => "interpreter",
            LocationKind::Marker => "marker",
            LocationKind::Unknown => "unknown",
        }
    }
}

/// One frame's place: an address in a mapping, with its names once they are known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// What sort of code.
    pub kind: LocationKind,
    /// Which executable; `None` for markers and addresses in nothing.
    pub mapping: Option<MappingIndex>,
    /// ELF virtual address for files (independent of the load bias; a caller's frame points into its call instruction), relative
    /// to the module for the kernel, the raw pc otherwise.
    pub address: u64,
    /// Names, innermost inlined function first; empty if there is no name.
    pub lines: Vec<Line>,
}

/// A whole stack, leaf first; user frames follow kernel frames. Compared whole, never by a hash alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Stack {
    /// Leaf first.
    pub locations: Vec<LocationIndex>,
}

/// A process as it was at its samples' time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Process id in the agent's namespace (tgid).
    pub pid: u32,
    /// Start time in ns of CLOCK_MONOTONIC's clock, 0 if unknown: (pid, start time) names a process for ever.
    pub start_time_ns: u64,
    /// The main thread's comm.
    pub comm: StringIndex,
    /// Path of the executable; empty if unknown.
    pub executable: StringIndex,
    /// cgroup id, 0 if unknown.
    pub cgroup_id: u64,
    /// cgroup path; empty if unknown.
    pub cgroup: StringIndex,
    /// Whose it is; `None` until somebody looked, and in recordings that do not ask.
    pub identity: Option<IdentityIndex>,
}

/// One hit of the sampling timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// How much CPU time this sample stands for, ns (the period in force when it was taken).
    pub weight_ns: u64,
    /// Which process.
    pub process: ProcessIndex,
    /// Thread id in the agent's namespace.
    pub tid: u32,
    /// The thread's comm at that time.
    pub thread_name: StringIndex,
    /// CPU number.
    pub cpu: u32,
    /// Which stack.
    pub stack: StackIndex,
    /// How the user part ended.
    pub end: End,
    /// Bits of [`unwind::end::provenance`].
    pub provenance: u8,
}

/// Samples of one period of time.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Wall clock at the start, ns since the Unix epoch.
    pub wall_start_ns: u64,
    /// CLOCK_MONOTONIC at the start, ns: `sample.time_ns - monotonic_start_ns + wall_start_ns` is a sample's wall time.
    pub monotonic_start_ns: u64,
    /// Length, ns.
    pub duration_ns: u64,
    /// Sampling period, ns.
    pub period_ns: u64,
    /// Every text.
    pub strings: StringTable,
    /// Executables.
    pub mappings: Vec<Mapping>,
    /// Functions.
    pub functions: Vec<Function>,
    /// Frames' places.
    pub locations: Vec<Location>,
    /// Distinct stacks.
    pub stacks: Vec<Stack>,
    /// Processes.
    pub processes: Vec<Process>,
    /// Whose processes are, each once.
    pub identities: Vec<Identity>,
    /// In order of time.
    pub samples: Vec<Sample>,
    /// What became of every timer hit in this period.
    pub ledger: Ledger,
}
