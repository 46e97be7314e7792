//! A small batch built by hand, shared by the pprof tests.

use profiles::ledger::{Drop, Ledger};
use profiles::profile::pprof::ProfileInfo;
use profiles::profile::{
    Batch, Function, FunctionIndex, Line, Location, LocationIndex, LocationKind, Mapping, MappingIndex, Process,
    ProcessIndex, Sample, Stack, StackIndex, StringTable,
};
use unwind::end::{End, provenance};

/// Builds a batch piece by piece.
pub(crate) struct Builder(pub(crate) Batch);

impl Builder {
    pub(crate) fn new() -> Self {
        Builder(Batch {
            wall_start_ns: 1_700_000_000_000_000_000,
            monotonic_start_ns: 5_000,
            duration_ns: 10_000_000_000,
            period_ns: 10_101_010,
            strings: StringTable::default(),
            mappings: Vec::new(),
            functions: Vec::new(),
            locations: Vec::new(),
            stacks: Vec::new(),
            processes: Vec::new(),
            identities: Vec::new(),
            samples: Vec::new(),
            ledger: Ledger::default(),
        })
    }

    pub(crate) fn mapping(&mut self, filename: &str, build_id: &str) -> MappingIndex {
        let (filename, build_id) = (self.0.strings.intern(filename), self.0.strings.intern(build_id));
        self.0.mappings.push(Mapping { filename, build_id });
        MappingIndex(self.0.mappings.len() as u32 - 1)
    }

    pub(crate) fn function(&mut self, name: &str, system_name: &str, file: &str, start_line: u32) -> FunctionIndex {
        let strings = &mut self.0.strings;
        let (name, system_name, filename) = (strings.intern(name), strings.intern(system_name), strings.intern(file));
        self.0.functions.push(Function { name, system_name, filename, start_line });
        FunctionIndex(self.0.functions.len() as u32 - 1)
    }

    pub(crate) fn location(
        &mut self,
        kind: LocationKind,
        mapping: Option<MappingIndex>,
        address: u64,
        lines: &[(FunctionIndex, u32)],
    ) -> LocationIndex {
        let lines = lines.iter().map(|(function, line)| Line { function: *function, line: *line, column: 0 }).collect();
        self.0.locations.push(Location { kind, mapping, address, lines });
        LocationIndex(self.0.locations.len() as u32 - 1)
    }

    pub(crate) fn stack(&mut self, locations: &[LocationIndex]) -> StackIndex {
        self.0.stacks.push(Stack { locations: locations.to_vec() });
        StackIndex(self.0.stacks.len() as u32 - 1)
    }

    pub(crate) fn process(&mut self, pid: u32, comm: &str, executable: &str) -> ProcessIndex {
        let (comm, executable) = (self.0.strings.intern(comm), self.0.strings.intern(executable));
        let cgroup = self.0.strings.intern("");
        self.0.processes.push(Process {
            pid,
            start_time_ns: 1,
            comm,
            executable,
            cgroup_id: 0,
            cgroup,
            identity: None,
        });
        ProcessIndex(self.0.processes.len() as u32 - 1)
    }

    pub(crate) fn sample(
        &mut self,
        process: ProcessIndex,
        tid: u32,
        thread: &str,
        stack: StackIndex,
        end: End,
        bits: u8,
    ) {
        let thread_name = self.0.strings.intern(thread);
        let time_ns = 5_000 + self.0.samples.len() as u64 * self.0.period_ns;
        self.0.samples.push(Sample {
            time_ns,
            weight_ns: self.0.period_ns,
            process,
            tid,
            thread_name,
            cpu: tid % 2,
            stack,
            end,
            provenance: bits,
        });
    }
}

/// Two processes, the kernel, inlining, an unnamed place, a truncated and a broken stack.
pub(crate) fn small_batch() -> Batch {
    let mut builder = Builder::new();
    let kernel = builder.mapping("[kernel.kallsyms]", "");
    let libc = builder.mapping("/usr/lib/libc.so.6", "aa11");
    let server = builder.mapping("/usr/bin/server", "bb22");

    let do_syscall = builder.function("do_syscall_64", "do_syscall_64", "", 0);
    let inner = builder.function("server::inner", "_ZN6server5innerE", "src/inner.rs", 10);
    let outer = builder.function("server::outer", "_ZN6server5outerE", "src/outer.rs", 20);
    let main = builder.function("main", "main", "src/main.rs", 1);

    let in_kernel = builder.location(LocationKind::Kernel, Some(kernel), 0x40, &[(do_syscall, 0)]);
    let inlined = builder.location(LocationKind::Native, Some(server), 0x1234, &[(inner, 12), (outer, 22)]);
    let in_main = builder.location(LocationKind::Native, Some(server), 0x1000, &[(main, 3)]);
    let unnamed = builder.location(LocationKind::Native, Some(libc), 0x5678, &[]);

    let complete = builder.stack(&[in_kernel, inlined, in_main]);
    let broken = builder.stack(&[unnamed]);
    let deep = builder.stack(&[inlined, inlined]);
    let kernel_only = builder.stack(&[in_kernel]);

    let server = builder.process(100, "server", "/usr/bin/server");
    let thread = builder.process(7, "kworker/0:1", "");
    builder.sample(server, 100, "server", complete, End::Complete, provenance::TABLE);
    builder.sample(server, 100, "server", complete, End::Complete, provenance::TABLE);
    builder.sample(server, 101, "worker", broken, End::BadRead, provenance::TABLE | provenance::FRAME_POINTER);
    builder.sample(server, 101, "worker", deep, End::Truncated, provenance::TABLE);
    builder.sample(thread, 7, "kworker/0:1", kernel_only, End::NoUser, 0);
    builder.0.ledger = Ledger { due: 1_980, recorded: 5, idle: 1_970, ..Ledger::default() };
    builder.0.ledger.dropped[Drop::RingFull as usize] = 2;
    builder.0.ledger.dropped[Drop::Malformed as usize] = 1;
    builder.0.ledger.balance();
    builder.0
}

pub(crate) fn info() -> ProfileInfo {
    ProfileInfo { frequency_hz: 99, cpus: 2, kernel_release: "6.1.0-test".to_owned() }
}
