//! The eBPF programs of the sampler: `sample` and its continuations `quick` and `unwind`, and the exec and exit hooks.
//!
//! Built by `cargo xtask ebpf` for `bpfel-unknown-none`; on the host this is an empty binary. Constraints: 512 bytes of stack,
//! so state lives in per-CPU memory; every path bounded for the verifier of Linux 5.10; no BPF-to-BPF calls, which arm64
//! before 6.0 refuses beside tail calls. The unwinder itself is the `unwind` crate's, the same source as in the agent.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod cache;
#[cfg(target_arch = "bpf")]
mod cgroup;
#[cfg(target_arch = "bpf")]
mod continuations;
#[cfg(target_arch = "bpf")]
mod filter;
#[cfg(target_arch = "bpf")]
mod hooks;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod plain;
#[cfg(target_arch = "bpf")]
mod registers;
#[cfg(target_arch = "bpf")]
mod sample;
#[cfg(target_arch = "bpf")]
mod scratch;
#[cfg(target_arch = "bpf")]
mod stack;
#[cfg(target_arch = "bpf")]
mod submit;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
