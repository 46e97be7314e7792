//! The eBPF programs of the sampler. Built by `cargo xtask ebpf` for `bpfel-unknown-none`; on the host this is an empty binary.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}
