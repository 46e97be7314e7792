//! One unwinder for two worlds.
//!
//! The same [`step`](walk::step) is compiled into the eBPF program and into the agent. It is generic over three things:
//! reading a word of the target's memory ([`Memory`](walk::Memory)), reading the unwind tables ([`Slab`](slab::Slab)), and
//! remembering the rule of a program counter ([`RuleCache`](walk::RuleCache)).
//!
//! **Constraints.** `no_std`, no allocation, no recursion, no panic: every index is masked or checked. The kernel's verifier
//! walks every path, so compares inside searches are arithmetic and absent things read as zero, which always means "none".
//!
//! **Not here.** Opening files, `/proc`, BPF maps. The table builder (feature `build`) takes bytes and gives rows.
#![cfg_attr(not(feature = "build"), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod end;
pub mod rule;
pub mod slab;
pub mod walk;

#[cfg(feature = "build")]
pub mod build;
