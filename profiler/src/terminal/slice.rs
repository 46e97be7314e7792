//! [`Slice`]: one named interval, reduced to what the screen needs: who spent how long in which stack. Samples of the same process
//! and stack are one entry, so that a minute of a large machine stays small.
//!
//! Names are other people's texts: what could move the terminal's cursor or turn its writing direction never gets past here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use unwind::end::End;

use crate::identity::cgroup_path;
use crate::ledger::Ledger;
use crate::profile::pprof::TRUNCATED;
use crate::profile::{Batch, Identity, Location, LocationKind, Process, StringIndex, beginning};
use crate::report::{self, summary::Quality};

/// Longest name, bytes; the widest terminals show about as much.
const MAX_NAME: usize = 512;
/// Frames of a stack that are kept, from the leaf: the unwinder's 1,024, the kernel's and what is inlined. 4 bytes each.
const MAX_FRAMES: usize = 4096;
/// Of a process, a function or a stack beside its texts and frames, bytes, for the window's bound.
const ENTRY_BYTES: usize = 96;
/// Digits of a container's id where it has no name, as container tools show it.
const SHORT_ID: usize = 12;

/// What an interval's code has no name for.
pub(super) const UNKNOWN: &str = "[unknown]";

/// A process, as it was in the interval.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Who {
    pub(super) pid: u32,
    pub(super) start_time_ns: u64,
    pub(super) comm: Arc<str>,
    /// Pod, container or systemd unit; empty if it is in none.
    pub(super) owner: Arc<str>,
}

/// A function in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Code {
    pub(super) name: Arc<str>,
    /// The executable's base name; empty if there is none.
    pub(super) file: Arc<str>,
    pub(super) is_kernel: bool,
}

/// CPU time of one process in one stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) process: u32,
    pub(super) stack: u32,
    pub(super) ns: u64,
}

/// See the module documentation. Indices are into its own tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Slice {
    /// CLOCK_MONOTONIC, ns.
    pub(super) ended_ns: u64,
    pub(super) duration_ns: u64,
    pub(super) ledger: Ledger,
    /// Frames of all samples, and those with a name.
    pub(super) frames: u64,
    pub(super) named: u64,
    /// CPU time that everflame itself took, ns.
    pub(super) own_cpu_ns: u64,
    pub(super) processes: Vec<Who>,
    pub(super) functions: Vec<Code>,
    /// Root first.
    pub(super) stacks: Vec<Box<[u32]>>,
    pub(super) spent: Vec<Spent>,
}

impl Slice {
    /// Reduces a batch. What its indices don't lead to is left out.
    pub(super) fn of(batch: &Batch) -> Slice {
        let quality = Quality::of(batch);
        let mut making = Making { batch, functions: Table::default(), frames_of: HashMap::new() };
        let mut stacks: Table<Box<[u32]>> = Table::default();
        let mut stack_numbers: HashMap<(u32, bool), u32> = HashMap::new();
        let mut spent: HashMap<(u32, u32), u64> = HashMap::new();
        for sample in &batch.samples {
            if sample.process.0 as usize >= batch.processes.len() {
                continue;
            }
            let stack = *stack_numbers
                .entry((sample.stack.0, sample.end == End::Truncated))
                .or_insert_with_key(|(stack, truncated)| stacks.number(making.stack(*stack, *truncated)));
            *spent.entry((sample.process.0, stack)).or_default() += sample.weight_ns;
        }
        let mut spent: Vec<Spent> =
            spent.into_iter().map(|((process, stack), ns)| Spent { process, stack, ns }).collect();
        spent.sort_unstable_by_key(|spent| (spent.process, spent.stack));
        Slice {
            ended_ns: batch.monotonic_start_ns.saturating_add(batch.duration_ns),
            duration_ns: batch.duration_ns,
            ledger: batch.ledger,
            frames: quality.frames,
            named: quality.named,
            own_cpu_ns: 0,
            processes: batch.processes.iter().map(|process| who(batch, process)).collect(),
            functions: making.functions.all,
            stacks: stacks.all,
            spent,
        }
    }

    /// Memory that it takes, estimated.
    pub(super) fn bytes(&self) -> usize {
        let processes: usize = self.processes.iter().map(|who| who.comm.len() + who.owner.len() + ENTRY_BYTES).sum();
        let functions: usize = self.functions.iter().map(|code| code.name.len() + code.file.len() + ENTRY_BYTES).sum();
        let stacks: usize = self.stacks.iter().map(|stack| stack.len() * size_of::<u32>() + ENTRY_BYTES).sum();
        processes + functions + stacks + self.spent.len() * size_of::<Spent>()
    }
}

struct Table<T> {
    all: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { all: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Table<T> {
    fn number(&mut self, value: T) -> u32 {
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.all.push(value.clone());
            self.all.len() as u32 - 1
        })
    }
}

struct Making<'batch> {
    batch: &'batch Batch,
    functions: Table<Code>,
    /// By location: its functions, the innermost inlined one first.
    frames_of: HashMap<u32, Vec<u32>>,
}

impl Making<'_> {
    /// A stack's functions, root first.
    fn stack(&mut self, index: u32, truncated: bool) -> Box<[u32]> {
        let batch = self.batch;
        let locations = batch.stacks.get(index as usize).map_or(&[][..], |stack| &stack.locations);
        let mut frames = Vec::with_capacity(locations.len());
        for location in locations {
            if !self.frames_of.contains_key(&location.0) {
                let found = batch.locations.get(location.0 as usize).map(|location| self.frames(location));
                self.frames_of.insert(location.0, found.unwrap_or_default());
            }
            frames.extend_from_slice(self.frames_of.get(&location.0).map_or(&[][..], |frames| frames));
        }
        let truncated = truncated || frames.len() > MAX_FRAMES;
        frames.truncate(MAX_FRAMES);
        if truncated {
            frames.push(self.functions.number(Code { name: TRUNCATED.into(), file: "".into(), is_kernel: false }));
        }
        frames.reverse();
        frames.into()
    }

    fn frames(&mut self, location: &Location) -> Vec<u32> {
        let batch = self.batch;
        let path = location.mapping.and_then(|mapping| batch.mappings.get(mapping.0 as usize));
        let path = path.map_or("", |mapping| batch.strings.get(mapping.filename));
        let file: Arc<str> = shown(path.rsplit('/').next().unwrap_or(path));
        let is_kernel = matches!(location.kind, LocationKind::Kernel | LocationKind::KernelModule | LocationKind::Bpf);
        let names = location.lines.iter().filter_map(|line| batch.functions.get(line.function.0 as usize));
        let mut names: Vec<Arc<str>> = names.map(|function| shared(batch, function.name)).collect();
        if names.is_empty() {
            names.push(UNKNOWN.into());
        }
        names.into_iter().map(|name| self.functions.number(Code { name, file: file.clone(), is_kernel })).collect()
    }
}

fn who(batch: &Batch, process: &Process) -> Who {
    let identity = process.identity.and_then(|identity| batch.identities.get(identity.0 as usize));
    Who {
        pid: process.pid,
        start_time_ns: process.start_time_ns,
        comm: shared(batch, process.comm),
        owner: shown(&owner(identity, batch.strings.get(process.cgroup))),
    }
}

/// Pod and container, else the container, else the systemd unit.
fn owner(identity: Option<&Identity>, cgroup: &str) -> String {
    let id = cgroup_path::parse(cgroup).container_id;
    match identity {
        Some(identity) if !identity.pod.is_empty() => {
            let words = [&identity.namespace, &identity.pod, &identity.container];
            let words: Vec<&str> = words.into_iter().map(|word| &**word).filter(|word| !word.is_empty()).collect();
            return words.join("/");
        }
        Some(identity) if !identity.container.is_empty() => return identity.container.to_string(),
        _ => {}
    }
    if let Some(id) = id {
        return beginning(&id, SHORT_ID).to_owned();
    }
    let unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    cgroup.rsplit('/').find(unit).unwrap_or("").to_owned()
}

/// A text of the batch, shared with it where it can be shown as it is.
fn shared(batch: &Batch, index: StringIndex) -> Arc<str> {
    match batch.strings.get_shared(index) {
        Some(text) if text.len() <= MAX_NAME && matches!(report::shown(text), Cow::Borrowed(_)) => text.clone(),
        Some(text) => shown(text),
        None => "".into(),
    }
}

fn shown(text: &str) -> Arc<str> {
    report::shown(beginning(text, MAX_NAME)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{
        BatchBuilder, Function, FunctionIndex, IdentityIndex, Line, LocationIndex, Sample, StackIndex,
    };

    fn sample(process: crate::profile::ProcessIndex, stack: StackIndex, weight_ns: u64, end: End) -> Sample {
        let thread_name = StringIndex(0);
        Sample { time_ns: 1, weight_ns, process, tid: 1, thread_name, cpu: 0, stack, end, provenance: 0 }
    }

    fn process(builder: &mut BatchBuilder, comm: &str) -> crate::profile::ProcessIndex {
        let (comm, empty) = (builder.text(comm), builder.text(""));
        builder.process(Process {
            pid: 7,
            start_time_ns: 3,
            comm,
            executable: empty,
            cgroup_id: 0,
            cgroup: empty,
            identity: None,
        })
    }

    #[test]
    fn equal_stacks_of_a_process_are_one_and_inlined_functions_are_frames() {
        let mut builder = BatchBuilder::new();
        let spinner = process(&mut builder, "spin\x1b[2J\u{202e}ner");
        let file = builder.mapping("/usr/bin/spinner", "");
        let kernel = builder.mapping("[kernel.kallsyms]", "");
        let leaf = builder.location(LocationKind::Kernel, Some(kernel), 9);
        let places = [1, 2].map(|address| builder.location(LocationKind::Native, Some(file), address));
        let stack = builder.stack(vec![leaf, places[0], places[1]]).unwrap();
        for (weight, end) in [(10, End::Complete), (5, End::NoRows), (1, End::Truncated)] {
            builder.push(sample(spinner, stack, weight, end));
        }
        let names = ["inlined", "outer", "vfs_read"].map(|name| builder.text(name));
        let mut batch = builder.finish(10, Ledger { due: 3, recorded: 3, ..Ledger::default() });
        let function = |name| Function { name, system_name: name, filename: name, start_line: 0 };
        batch.functions = names.map(function).to_vec();
        let line = |number| Line { function: FunctionIndex(number), line: 0, column: 0 };
        batch.locations[places[0].0 as usize].lines = vec![line(0), line(1)];
        batch.locations[leaf.0 as usize].lines = vec![line(2)];
        (batch.monotonic_start_ns, batch.duration_ns) = (100, 50);

        let slice = Slice::of(&batch);
        let text = |stack: &[u32]| {
            let codes = stack.iter().map(|code| &slice.functions[*code as usize]);
            codes.map(|code| format!("{}@{}", code.name, code.file)).collect::<Vec<_>>().join(" ")
        };
        let stack = "[unknown]@spinner outer@spinner inlined@spinner vfs_read@[kernel.kallsyms]";
        assert_eq!(text(&slice.stacks[0]), stack);
        assert_eq!(text(&slice.stacks[1]), format!("[truncated]@ {stack}"));
        assert_eq!(slice.spent.iter().map(|spent| spent.ns).collect::<Vec<_>>(), [15, 1]);
        assert_eq!((slice.frames, slice.named, slice.ended_ns, slice.ledger.recorded), (9, 6, 150, 3));
        assert!(slice.functions.iter().any(|code| code.is_kernel && &*code.name == "vfs_read"));
        assert_eq!(&*slice.processes[0].comm, "spin?[2J?ner");
    }

    #[test]
    fn indices_that_lead_nowhere_are_left_out() {
        let mut builder = BatchBuilder::new();
        let known = process(&mut builder, "known");
        let stack = builder.stack(vec![LocationIndex(77)]).unwrap();
        builder.push(sample(known, StackIndex(5), 1, End::Complete));
        builder.push(sample(known, stack, 2, End::Complete));
        builder.push(sample(crate::profile::ProcessIndex(9), stack, 4, End::Complete));
        let mut batch = builder.finish(10, Ledger::default());
        batch.processes[0].identity = Some(IdentityIndex(4));
        let slice = Slice::of(&batch);
        assert_eq!(slice.spent.iter().map(|spent| spent.ns).sum::<u64>(), 3);
        assert!(slice.stacks.iter().all(|stack| stack.is_empty()));
    }

    #[test]
    fn the_owner_is_the_nearest_thing_with_a_name() {
        let id = "0123456789abcdef".repeat(4);
        let pod =
            Identity { namespace: "shop".into(), pod: "cart-1".into(), container: "app".into(), ..Identity::default() };
        let container = Identity { container: "db".into(), ..Identity::default() };
        let docker = format!("/system.slice/docker-{id}.scope");
        let cases = [
            (Some(&pod), docker.as_str(), "shop/cart-1/app"),
            (Some(&container), &docker, "db"),
            (Some(&Identity::default()), &docker, "0123456789ab"),
            (None, &docker, "0123456789ab"),
            (None, "/system.slice/ssh.service", "ssh.service"),
            (None, "/user.slice/user-0.slice/session-3.scope/x", "session-3.scope"),
            (None, "/", ""),
            (None, "", ""),
        ];
        for (identity, cgroup, expected) in cases {
            assert_eq!(owner(identity, cgroup), expected, "{cgroup}");
        }
    }
}
