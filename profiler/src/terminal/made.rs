//! Slices for tests, out of folded stacks.

use std::sync::Arc;

use super::merged::Merged;
use super::slice::{Code, Slice, Spent, Who};
use crate::ledger::Ledger;

/// pid, comm, owner, functions from the root, and ns.
pub(super) type Line<'text> = (u32, &'text str, &'text str, &'text str, u64);

/// A second that ends at `second`. Functions named `k_…` are the kernel's; a process starts at ten times its pid.
pub(super) fn slice(second: u64, lines: &[Line]) -> Slice {
    let mut slice = Slice { ended_ns: second * 1_000_000_000, duration_ns: 1_000_000_000, ..Slice::default() };
    for (pid, comm, owner, stack, ns) in lines {
        let who = Who { pid: *pid, start_time_ns: u64::from(*pid) * 10, comm: (*comm).into(), owner: (*owner).into() };
        let mut frames = Vec::new();
        for name in stack.split(';') {
            let is_kernel = name.starts_with("k_");
            let file = if is_kernel { "[kernel]" } else { "bin" };
            frames.push(number(&mut slice.functions, Code { name: name.into(), file: file.into(), is_kernel }));
            slice.frames += 1;
            slice.named += 1;
        }
        let process = number(&mut slice.processes, who);
        let stack = number(&mut slice.stacks, frames.into_boxed_slice());
        slice.spent.push(Spent { process, stack, ns: *ns });
        slice.ledger.recorded += 1;
    }
    let recorded = slice.ledger.recorded;
    slice.ledger = Ledger { due: recorded + 2, recorded, idle: 2, ..Ledger::default() };
    slice
}

pub(super) fn merged(seconds: &[&[Line]]) -> Merged {
    let slices = seconds.iter().enumerate().map(|(second, lines)| Arc::new(slice(second as u64 + 1, lines)));
    Merged::of(&slices.collect::<Vec<_>>())
}

fn number<T: PartialEq>(all: &mut Vec<T>, value: T) -> u32 {
    let found = all.iter().position(|known| *known == value).unwrap_or_else(|| {
        all.push(value);
        all.len() - 1
    });
    found as u32
}
