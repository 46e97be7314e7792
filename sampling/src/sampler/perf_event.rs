//! `perf_event_open(2)`: the sampling timers, the side-band events, and their mapped rings.
//!
//! aya's wrapper gives no control over the attributes, hence this module. It is the only one, with `tables::segments`, that
//! maps kernel memory. Layouts: `include/uapi/linux/perf_event.h`.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::SamplerError;

/// `struct perf_event_attr`, PERF_ATTR_SIZE_VER7 (Linux 5.13; older kernels take it as long as what they don't know is 0).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved_2: u16,
    aux_sample_size: u32,
    reserved_3: u32,
    sig_data: u64,
}
const _: () = assert!(size_of::<Attributes>() == 128);

const TYPE_SOFTWARE: u32 = 1;
const CPU_CLOCK: u64 = 0;
const DUMMY: u64 = 9;

const SAMPLE_TID: u64 = 1 << 1;
const SAMPLE_TIME: u64 = 1 << 2;
const SAMPLE_CPU: u64 = 1 << 7;
const SAMPLE_REGS_USER: u64 = 1 << 12;
const SAMPLE_STACK_USER: u64 = 1 << 13;

const FLAG_DISABLED: u64 = 1 << 0;
const FLAG_MMAP: u64 = 1 << 8;
const FLAG_COMM: u64 = 1 << 9;
const FLAG_TASK: u64 = 1 << 13;
const FLAG_WATERMARK: u64 = 1 << 14;
const FLAG_SAMPLE_ID_ALL: u64 = 1 << 18;
const FLAG_EXCLUDE_CALLCHAIN_USER: u64 = 1 << 22;
const FLAG_MMAP2: u64 = 1 << 23;
const FLAG_COMM_EXEC: u64 = 1 << 24;
const FLAG_USE_CLOCKID: u64 = 1 << 25;
const FLAG_KSYMBOL: u64 = 1 << 29;
const FLAG_CGROUP: u64 = 1 << 32;

const IOC_ENABLE: libc::c_ulong = 0x2400;
const IOC_DISABLE: libc::c_ulong = 0x2401;
const IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
const IOC_PERIOD: libc::c_ulong = 0x4008_2404;

/// Registers that perf core copies: all general ones, ip, flags, cs, ss; without the segment registers, which it refuses.
pub const USER_REGISTERS: u64 = 0x00ff_0fff;
/// Number of bits in [`USER_REGISTERS`].
pub const USER_REGISTER_COUNT: usize = 20;

/// An open event on one CPU.
#[derive(Debug)]
pub struct PerfEvent {
    fd: OwnedFd,
    /// The CPU it counts on.
    pub cpu: u32,
}

fn open(attributes: &mut Attributes, cpu: u32, what: &'static str) -> Result<PerfEvent, SamplerError> {
    attributes.size = size_of::<Attributes>() as u32;
    const FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    // SAFETY: the attribute block is as long as it says; pid -1 and a CPU need no other pointer.
    let result = unsafe {
        libc::syscall(libc::SYS_perf_event_open, attributes as *const Attributes, -1, cpu, -1, FLAG_FD_CLOEXEC)
    };
    if result < 0 {
        return Err(SamplerError::PerfEventOpen { what, cpu, source: io::Error::last_os_error() });
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(PerfEvent { fd: unsafe { OwnedFd::from_raw_fd(result as i32) }, cpu })
}

impl PerfEvent {
    /// The sampling timer of a CPU: software cpu-clock every `period_ns`, disabled, its ring taking registers and
    /// `stack_bytes` of stack for each sample that the program returns 1 for.
    pub fn sampling(cpu: u32, period_ns: u64, stack_bytes: u32) -> Result<PerfEvent, SamplerError> {
        let mut attributes = Attributes {
            kind: TYPE_SOFTWARE,
            config: CPU_CLOCK,
            sample_period: period_ns,
            sample_type: SAMPLE_TID | SAMPLE_TIME | SAMPLE_CPU | SAMPLE_REGS_USER | SAMPLE_STACK_USER,
            flags: FLAG_DISABLED | FLAG_SAMPLE_ID_ALL | FLAG_USE_CLOCKID | FLAG_WATERMARK | FLAG_EXCLUDE_CALLCHAIN_USER,
            // Never wakes us: rings are drained on a timer.
            wakeup: u32::MAX,
            sample_regs_user: USER_REGISTERS,
            sample_stack_user: stack_bytes,
            clockid: libc::CLOCK_MONOTONIC,
            ..Attributes::default()
        };
        open(&mut attributes, cpu, "cpu-clock")
    }

    /// The side-band event of a CPU: exec, mmap, fork, comm, exit, ksymbol and (≥ 5.7) cgroup records, no samples.
    pub fn side_band(cpu: u32) -> Result<PerfEvent, SamplerError> {
        let mut attributes = Attributes {
            kind: TYPE_SOFTWARE,
            config: DUMMY,
            sample_type: SAMPLE_TID | SAMPLE_TIME | SAMPLE_CPU,
            flags: FLAG_DISABLED
                | FLAG_MMAP
                | FLAG_MMAP2
                | FLAG_COMM
                | FLAG_COMM_EXEC
                | FLAG_TASK
                | FLAG_KSYMBOL
                | FLAG_CGROUP
                | FLAG_SAMPLE_ID_ALL
                | FLAG_USE_CLOCKID
                | FLAG_WATERMARK,
            wakeup: u32::MAX,
            clockid: libc::CLOCK_MONOTONIC,
            ..Attributes::default()
        };
        open(&mut attributes, cpu, "dummy (side-band)")
    }

    fn ioctl(&self, request: libc::c_ulong, argument: libc::c_ulong, what: &'static str) -> Result<(), SamplerError> {
        // SAFETY: requests that take a number or the address of a live u64, on a descriptor that we own.
        if unsafe { libc::ioctl(self.fd.as_raw_fd(), request as _, argument) } < 0 {
            return Err(SamplerError::PerfEventIoctl { what, cpu: self.cpu, source: io::Error::last_os_error() });
        }
        Ok(())
    }

    /// Runs the program (by file descriptor) on each overflow.
    pub fn set_program(&self, program: i32) -> Result<(), SamplerError> {
        self.ioctl(IOC_SET_BPF, program as libc::c_ulong, "PERF_EVENT_IOC_SET_BPF")
    }

    /// Changes the period, ns, from the next timer start on (`PERF_EVENT_IOC_PERIOD`, at once since 3.14).
    pub fn set_period(&self, period_ns: u64) -> Result<(), SamplerError> {
        let argument = std::ptr::from_ref(&period_ns) as libc::c_ulong;
        self.ioctl(IOC_PERIOD, argument, "PERF_EVENT_IOC_PERIOD")
    }

    /// Starts counting.
    pub fn enable(&self) -> Result<(), SamplerError> {
        self.ioctl(IOC_ENABLE, 0, "PERF_EVENT_IOC_ENABLE")
    }

    /// Stops counting.
    pub fn disable(&self) -> Result<(), SamplerError> {
        self.ioctl(IOC_DISABLE, 0, "PERF_EVENT_IOC_DISABLE")
    }

    /// The event's count: for cpu-clock, ns for which it was enabled on a CPU that was online.
    pub fn count(&self) -> Result<u64, SamplerError> {
        let mut value = 0u64;
        // SAFETY: eight bytes into a u64.
        let read = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut value).cast(), 8) };
        if read != 8 {
            return Err(SamplerError::Read {
                path: format!("the perf event of CPU {}", self.cpu),
                source: io::Error::last_os_error(),
            });
        }
        Ok(value)
    }
}

/// The mapped ring of an event: `1 + 2ⁿ` pages.
pub struct PerfRing {
    base: *mut u8,
    bytes: usize,
    data: usize,
}

// SAFETY: the mapping is used by one owner at a time; the kernel's side is synchronised by head and tail.
unsafe impl Send for PerfRing {}

const PAGE: usize = 4096;
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;
const RECORD_HEADER: usize = 8;

impl PerfRing {
    /// Maps a ring of `data_bytes` (a power of two, at least a page).
    pub fn map(event: &PerfEvent, data_bytes: usize) -> Result<PerfRing, SamplerError> {
        let bytes = PAGE + data_bytes;
        // SAFETY: a fresh mapping of our own descriptor.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(SamplerError::Map { what: "a perf ring", bytes, source: io::Error::last_os_error() });
        }
        // Copies of other programs' stacks lie here: they must not get into a core file of ours.
        // SAFETY: our own mapping.
        unsafe { libc::madvise(base, bytes, libc::MADV_DONTDUMP) };
        Ok(PerfRing { base: base.cast(), bytes, data: data_bytes })
    }

    /// How much is mapped: the control page and the data.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn position(&self, at: usize) -> &AtomicU64 {
        // SAFETY: `at` is one of two aligned u64 of the control page, shared with the kernel.
        unsafe { &*self.base.add(at).cast::<AtomicU64>() }
    }

    /// Hands every waiting record (with its 8-byte header) to `each`, in ring order, and frees its room.
    ///
    /// Reads up to the head that stood when it began, so that a fast producer can't keep it for ever.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        let head = self.position(DATA_HEAD).load(Ordering::Acquire);
        let mut tail = self.position(DATA_TAIL).load(Ordering::Relaxed);
        let mut wrapped = Vec::new();
        while head.wrapping_sub(tail) >= RECORD_HEADER as u64 {
            let at = (tail as usize) & (self.data - 1);
            // SAFETY: between tail and head the kernel does not write; records are 8-byte aligned, so a header never wraps.
            let data = unsafe { std::slice::from_raw_parts(self.base.add(PAGE), self.data) };
            let length = u16::from_le_bytes([data[at + 6], data[at + 7]]) as usize;
            if length < RECORD_HEADER || length as u64 > head.wrapping_sub(tail) {
                // Can't happen with a sane kernel; skipping everything is the only safe way on.
                tail = head;
                break;
            }
            if at + length <= self.data {
                each(&data[at..at + length]);
            } else {
                wrapped.clear();
                wrapped.extend_from_slice(&data[at..]);
                wrapped.extend_from_slice(&data[..at + length - self.data]);
                each(&wrapped);
            }
            tail = tail.wrapping_add(length as u64);
            self.position(DATA_TAIL).store(tail, Ordering::Release);
        }
        self.position(DATA_TAIL).store(tail, Ordering::Release);
    }
}

impl std::ops::Drop for PerfRing {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, not used afterwards.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}
