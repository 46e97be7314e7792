//! [`Merged`]: several slices as one: each process and function once, and every stack of those that are wanted.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::slice::{Code, Slice, Who};
use crate::ledger::Ledger;

/// Whose stacks are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Only {
    /// Everybody's.
    #[default]
    Everything,
    /// One process's.
    Process { pid: u32, start_time_ns: u64, comm: Arc<str> },
    /// Those of a pod, container or unit.
    Owner(Arc<str>),
}

impl Only {
    fn takes(&self, who: &Who) -> bool {
        match self {
            Only::Everything => true,
            Only::Process { pid, start_time_ns, .. } => (who.pid, who.start_time_ns) == (*pid, *start_time_ns),
            Only::Owner(owner) => who.owner == *owner,
        }
    }
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Merged {
    parts: Vec<Part>,
    /// With the newest name and owner of each.
    pub(super) processes: Vec<Who>,
    pub(super) functions: Vec<Code>,
    pub(super) duration_ns: u64,
    pub(super) ledger: Ledger,
    pub(super) frames: u64,
    pub(super) named: u64,
    pub(super) own_cpu_ns: u64,
}

#[derive(Debug)]
struct Part {
    slice: Arc<Slice>,
    /// By the slice's numbers.
    processes: Vec<usize>,
    functions: Vec<usize>,
}

impl Merged {
    /// Of slices in order of time.
    pub(super) fn of(slices: &[Arc<Slice>]) -> Merged {
        let mut merged = Merged::default();
        let (mut processes, mut functions) = (HashMap::new(), HashMap::new());
        for slice in slices {
            merged.duration_ns += slice.duration_ns;
            merged.ledger.add(&slice.ledger);
            merged.frames += slice.frames;
            merged.named += slice.named;
            merged.own_cpu_ns += slice.own_cpu_ns;
            let mut part = Part { slice: slice.clone(), processes: Vec::new(), functions: Vec::new() };
            for who in &slice.processes {
                let number = number(&mut processes, &mut merged.processes, (who.pid, who.start_time_ns), who);
                let known = &mut merged.processes[number];
                known.comm.clone_from(&who.comm);
                if !who.owner.is_empty() {
                    known.owner.clone_from(&who.owner);
                }
                part.processes.push(number);
            }
            for code in &slice.functions {
                part.functions.push(number(&mut functions, &mut merged.functions, code.clone(), code));
            }
            merged.parts.push(part);
        }
        merged
    }

    /// Calls `each` with process, functions (root first) and ns of every stack that `only` takes.
    pub(super) fn visit(&self, only: &Only, mut each: impl FnMut(usize, &[usize], u64)) {
        let takes: Vec<bool> = self.processes.iter().map(|who| only.takes(who)).collect();
        let mut path = Vec::new();
        for part in &self.parts {
            for spent in &part.slice.spent {
                let process = part.processes[spent.process as usize];
                if takes[process] {
                    let stack = &part.slice.stacks[spent.stack as usize];
                    path.clear();
                    path.extend(stack.iter().map(|code| part.functions[*code as usize]));
                    each(process, &path, spent.ns);
                }
            }
        }
    }
}

fn number<K: Eq + Hash, V: Clone>(numbers: &mut HashMap<K, usize>, all: &mut Vec<V>, key: K, value: &V) -> usize {
    *numbers.entry(key).or_insert_with(|| {
        all.push(value.clone());
        all.len() - 1
    })
}
