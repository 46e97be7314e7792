//! Batches as a node might make them, the same for the same seed, and a plain form to compare them in.

use std::collections::BTreeMap;
use std::ops::Range;

use profiles::ledger::Ledger;
use profiles::profile::{
    Batch, BatchBuilder, Function, FunctionIndex, Identity, IdentityIndex, Line, LocationKind, Process, Sample,
};
use store::Label;
use unwind::end::End;

pub(crate) const SECOND: u64 = 1_000_000_000;
/// When the first batch begins, ns since the Unix epoch.
pub(crate) const START: u64 = 1_700_000_000 * SECOND;

/// xorshift: enough for tests, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// Makes batch after batch, 10 s each.
pub(crate) struct Maker {
    random: Random,
    batches: u64,
    pub(crate) samples: u64,
}

impl Maker {
    pub(crate) fn new(seed: u64) -> Maker {
        Maker { random: Random(seed * 2 + 0x9e37_79b9_7f4a_7c15), batches: 0, samples: 40 }
    }

    /// A maker whose first batch begins after `batches` others.
    pub(crate) fn after(seed: u64, batches: u64) -> Maker {
        Maker { batches, ..Maker::new(seed) }
    }

    pub(crate) fn batch(&mut self) -> Batch {
        let period = 10_101_010;
        let start = self.batches * 10 * SECOND;
        self.batches += 1;
        let random = &mut self.random;
        let mut builder = BatchBuilder::new();
        let mut samples = Vec::new();
        for number in 0..self.samples {
            let pod = random.below(4);
            let pid = 100 + pod as u32 * 10 + random.below(3) as u32;
            let process = Process {
                pid,
                start_time_ns: u64::from(pid) * 7,
                comm: builder.text(["nginx", "java", "postgres", "cc1"][pod as usize]),
                executable: builder.text(&format!("/usr/bin/program-{pod}")),
                cgroup_id: pod,
                cgroup: builder.text(&format!("/kubepods/pod{pod}")),
                identity: (pod != 3).then_some(IdentityIndex(pod as u32)),
            };
            let process = builder.process(process);
            let depth = random.below(6);
            let mut locations = Vec::new();
            for level in 0..depth {
                let kind = [LocationKind::Native, LocationKind::Kernel, LocationKind::Marker][random.below(3) as usize];
                let mapping =
                    (kind != LocationKind::Marker).then(|| builder.mapping(&format!("/lib/{level}.so"), "ab12"));
                locations.push(builder.location(kind, mapping, random.below(3) * 0x1000 + level));
            }
            let stack = builder.stack(locations).unwrap();
            let thread = random.below(3) as u32;
            samples.push(Sample {
                time_ns: 5 * SECOND + start + number * (10 * SECOND / self.samples) + random.below(1000),
                weight_ns: if random.below(20) == 0 { 7 } else { period },
                process,
                tid: pid + thread,
                thread_name: builder.text(["main", "worker", "gc"][thread as usize]),
                cpu: random.below(2) as u32,
                stack,
                end: [End::Complete, End::NoUser, End::Truncated][random.below(3) as usize],
                provenance: random.below(4) as u8,
            });
        }
        for sample in samples {
            builder.push(sample);
        }
        let names: Vec<_> = (0..4).map(|name| builder.text(&format!("function::<{name}>"))).collect();
        let file = builder.text("src/main.rs");
        let recorded = self.samples;
        let mut batch = builder.finish(period, Ledger { due: recorded + 3, recorded, idle: 3, ..Ledger::default() });
        batch.functions = names
            .iter()
            .map(|name| Function { name: *name, system_name: *name, filename: file, start_line: 10 + name.0 })
            .collect();
        for (number, location) in batch.locations.iter_mut().enumerate() {
            // Some unnamed, some with inlined functions.
            location.lines = (0..number % 3)
                .map(|line| Line {
                    function: FunctionIndex((number + line) as u32 % 4),
                    line: location.address as u32,
                    column: 2,
                })
                .collect();
        }
        batch.identities = (0..3).map(identity).collect();
        batch.wall_start_ns = START + start;
        batch.monotonic_start_ns = 5 * SECOND + start;
        batch.duration_ns = 10 * SECOND;
        batch
    }
}

/// A batch of 10 s in which each of these pods has a thread of its own, with one sample: of 1 ns for pod 0, one more for each next pod.
pub(crate) fn crowd(batch: u64, pods: Range<u32>) -> Batch {
    let start = batch * 10 * SECOND;
    let mut builder = BatchBuilder::new();
    let (comm, executable) = (builder.text("server"), builder.text("/usr/bin/server"));
    let location = builder.location(LocationKind::Native, None, 0x1000);
    let stack = builder.stack(vec![location]).unwrap();
    for (place, pod) in (0..).zip(pods.clone()) {
        let process = Process {
            pid: 1000 + pod,
            start_time_ns: 7,
            comm,
            executable,
            cgroup_id: u64::from(pod),
            cgroup: builder.text(&format!("/kubepods/pod{pod}")),
            identity: Some(IdentityIndex(place)),
        };
        let sample = Sample {
            time_ns: 5 * SECOND + start + u64::from(place),
            weight_ns: u64::from(pod) + 1,
            process: builder.process(process),
            tid: 1000 + pod,
            thread_name: builder.text(&format!("thread-{pod}")),
            cpu: 0,
            stack,
            end: End::Complete,
            provenance: 0,
        };
        builder.push(sample);
    }
    let recorded = u64::from(pods.end - pods.start);
    let mut batch = builder.finish(1, Ledger { due: recorded, recorded, ..Ledger::default() });
    batch.identities = pods.map(|pod| identity(u64::from(pod))).collect();
    batch.wall_start_ns = START + start;
    batch.monotonic_start_ns = 5 * SECOND + start;
    batch.duration_ns = 10 * SECOND;
    batch
}

fn identity(pod: u64) -> Identity {
    Identity {
        container_id: format!("{pod:064}").into(),
        pod: format!("pod-{pod}").into(),
        namespace: if pod == 0 { "front" } else { "back" }.into(),
        container: "main".into(),
        workload_kind: "Deployment".into(),
        workload: format!("work-{}", pod / 2).into(),
        service: format!("service-{pod}").into(),
        node: "node-1".into(),
        labels: vec![("team".into(), format!("team-{pod}").into())],
        ..Identity::default()
    }
}

/// A frame in words.
pub(crate) type PlainFrame =
    (LocationKind, Option<(String, String)>, u64, Vec<(String, String, String, u32, u32, u32)>);

/// A sample in words, so that batches with other indices can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) wall_ns: u64,
    pub(crate) weight_ns: u64,
    pub(crate) cpu: u32,
    pub(crate) owner: PlainOwner,
    pub(crate) frames: Vec<PlainFrame>,
    pub(crate) end: End,
    pub(crate) provenance: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlainOwner {
    pub(crate) pid: u32,
    pub(crate) start_time_ns: u64,
    pub(crate) comm: String,
    pub(crate) executable: String,
    pub(crate) cgroup: (u64, String),
    pub(crate) identity: String,
    pub(crate) labels: BTreeMap<&'static str, String>,
    pub(crate) tid: u32,
    pub(crate) thread_name: String,
}

pub(crate) fn plain(batch: &Batch) -> Vec<Plain> {
    let text = |index| batch.strings.get(index).to_owned();
    let frame = |index: usize| {
        let location = &batch.locations[index];
        let mapping = location.mapping.map(|mapping| &batch.mappings[mapping.0 as usize]);
        let lines = location.lines.iter().map(|line| {
            let function = &batch.functions[line.function.0 as usize];
            let names = (text(function.name), text(function.system_name), text(function.filename));
            (names.0, names.1, names.2, function.start_line, line.line, line.column)
        });
        let mapping = mapping.map(|mapping| (text(mapping.filename), text(mapping.build_id)));
        (location.kind, mapping, location.address, lines.collect())
    };
    let sample = |sample: &Sample| {
        let process = &batch.processes[sample.process.0 as usize];
        let identity = process.identity.map(|identity| batch.identities[identity.0 as usize].clone());
        let known = identity.clone().unwrap_or_default();
        let labels = [
            (Label::Namespace, known.namespace.to_string()),
            (Label::Workload, known.workload.to_string()),
            (Label::Pod, known.pod.to_string()),
            (Label::Container, known.container.to_string()),
            (Label::Service, known.service.to_string()),
            (Label::Node, known.node.to_string()),
            (Label::Process, text(process.comm)),
            (Label::Executable, text(process.executable)),
            (Label::Thread, text(sample.thread_name)),
        ];
        Plain {
            wall_ns: sample.time_ns - batch.monotonic_start_ns + batch.wall_start_ns,
            weight_ns: sample.weight_ns,
            cpu: sample.cpu,
            owner: PlainOwner {
                pid: process.pid,
                start_time_ns: process.start_time_ns,
                comm: text(process.comm),
                executable: text(process.executable),
                cgroup: (process.cgroup_id, text(process.cgroup)),
                identity: format!("{identity:?}"),
                labels: labels.into_iter().map(|(label, value)| (label.name(), value)).collect(),
                tid: sample.tid,
                thread_name: text(sample.thread_name),
            },
            frames: batch.stacks[sample.stack.0 as usize]
                .locations
                .iter()
                .map(|location| frame(location.0 as usize))
                .collect(),
            end: sample.end,
            provenance: sample.provenance,
        }
    };
    batch.samples.iter().map(sample).collect()
}
