//! Records of perf's rings: side-band (who maps, forks, execs, exits) and samples with registers and stack.
//!
//! Takes bytes, checks every length, borrows nothing that outlives the ring except by copy. Layouts:
//! `include/uapi/linux/perf_event.h`, `enum perf_event_type`.

use super::perf_event::USER_REGISTER_COUNT;

const MMAP: u32 = 1;
const LOST: u32 = 2;
const COMM: u32 = 3;
const EXIT: u32 = 4;
const THROTTLE: u32 = 5;
const UNTHROTTLE: u32 = 6;
const FORK: u32 = 7;
const SAMPLE: u32 = 9;
const MMAP2: u32 = 10;
const LOST_SAMPLES: u32 = 13;
const KSYMBOL: u32 = 17;
const CGROUP: u32 = 19;

const MISC_COMM_EXEC: u16 = 1 << 13;
const MISC_MMAP_BUILD_ID: u16 = 1 << 14;

/// A decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerfRecord {
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// CPU on which it was written.
    pub cpu: u32,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// What happened.
    pub event: Event,
}

/// What a record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Executable memory was mapped (or made executable).
    Mmap(Mmap),
    /// A thread took a name; `exec` says that it did so by running a new program.
    Comm {
        /// The name.
        comm: Vec<u8>,
        /// True for an exec.
        exec: bool,
    },
    /// A process or thread was made.
    Fork {
        /// Of which process.
        parent_pid: u32,
    },
    /// A thread ended.
    Exit,
    /// Kernel code came or went (BPF programs, ftrace trampolines).
    KernelSymbol(KernelSymbol),
    /// A cgroup was made.
    Cgroup {
        /// Its id, as `bpf_get_current_cgroup_id` gives it.
        id: u64,
        /// Its path from the hierarchy's root.
        path: Vec<u8>,
    },
    /// Records did not fit the ring.
    Lost(u64),
    /// perf slowed the event down.
    Throttle,
    /// perf let it run again.
    Unthrottle,
    /// Registers and stack of a sample that the program wanted copied.
    Copy(StackCopy),
}

/// An executable mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mmap {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Offset in the file.
    pub file_offset: u64,
    /// Device of the file: major, minor; 0 where the record carries a build id instead.
    pub device: (u32, u32),
    /// Inode; 0 likewise.
    pub inode: u64,
    /// Protection bits.
    pub protection: u32,
    /// Path as the process sees it, `//anon`, `[vdso]` …
    pub path: Vec<u8>,
}

/// Kernel code that came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSymbol {
    /// First address.
    pub address: u64,
    /// Bytes.
    pub length: u32,
    /// PERF_RECORD_KSYMBOL_TYPE_*.
    pub kind: u16,
    /// True if it went.
    pub removed: bool,
    /// Its name.
    pub name: Vec<u8>,
}

impl KernelSymbol {
    /// PERF_RECORD_KSYMBOL_TYPE_BPF: a BPF program, or a trampoline or dispatcher that was made for some. The other kinds are parts
    /// of the kernel: ftrace's trampolines, probes' slots.
    pub const BPF: u16 = 1;
}

/// Registers and stack as they were at a sample.
#[derive(Clone, PartialEq, Eq)]
pub struct StackCopy {
    /// General registers in DWARF order.
    pub registers: [u64; 16],
    /// Program counter.
    pub pc: u64,
    /// Code segment: tells 64-bit from 32-bit code.
    pub code_segment: u64,
    /// Stack bytes from sp upwards, as many as could be read. Never logged, spooled or exported.
    pub stack: Vec<u8>,
}

impl std::fmt::Debug for StackCopy {
    /// Without the bytes: they are other programs' data.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "StackCopy {{ pc: {:#x}, {} bytes }}", self.pc, self.stack.len())
    }
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Shorter than its kind must be.
    #[error("perf record of type {kind} is cut short at {length} bytes")]
    Short {
        /// PERF_RECORD_*.
        kind: u32,
        /// Bytes there were.
        length: usize,
    },
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    kind: u32,
}

impl<'a> Reader<'a> {
    fn short(&self) -> RecordError {
        RecordError::Short { kind: self.kind, length: self.bytes.len() }
    }
    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let end = self.at.checked_add(count).ok_or_else(|| self.short())?;
        let found = self.bytes.get(self.at..end).ok_or_else(|| self.short())?;
        self.at = end;
        Ok(found)
    }
    fn u16(&mut self) -> Result<u16, RecordError> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
    fn u32(&mut self) -> Result<u32, RecordError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
    fn u64(&mut self) -> Result<u64, RecordError> {
        let mut word = [0; 8];
        word.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(word))
    }
    /// The NUL-terminated text that fills the rest.
    fn text(&mut self) -> Vec<u8> {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())].to_vec()
    }
}

/// Bytes of the trailer that `sample_id_all` adds with TID | TIME | CPU.
const TRAILER: usize = 24;

/// Decodes one record with its header; `Ok(None)` for kinds that we have no use for.
pub fn parse(bytes: &[u8]) -> Result<Option<PerfRecord>, RecordError> {
    let mut head = Reader { bytes, at: 0, kind: 0 };
    let kind = head.u32()?;
    head.kind = kind;
    let misc = head.u16()?;
    let _size = head.u16()?;
    if kind == SAMPLE {
        return sample(Reader { bytes, at: 8, kind }).map(Some);
    }
    if !matches!(
        kind,
        MMAP | MMAP2 | LOST | COMM | EXIT | THROTTLE | UNTHROTTLE | FORK | LOST_SAMPLES | KSYMBOL | CGROUP
    ) {
        return Ok(None);
    }
    let body_end = bytes.len().checked_sub(TRAILER).filter(|end| *end >= 8).ok_or_else(|| head.short())?;
    let mut trailer = Reader { bytes, at: body_end, kind };
    let (mut pid, mut tid, time_ns, cpu) = (trailer.u32()?, trailer.u32()?, trailer.u64()?, trailer.u32()?);
    let mut body = Reader { bytes: &bytes[..body_end], at: 8, kind };
    let event = match kind {
        MMAP2 => {
            (pid, tid) = (body.u32()?, body.u32()?);
            let (start, length, file_offset) = (body.u64()?, body.u64()?, body.u64()?);
            let (major, minor, inode, _generation) = (body.u32()?, body.u32()?, body.u64()?, body.u64()?);
            let has_build_id = misc & MISC_MMAP_BUILD_ID != 0;
            let (protection, _flags) = (body.u32()?, body.u32()?);
            Event::Mmap(Mmap {
                start,
                length,
                file_offset,
                device: if has_build_id { (0, 0) } else { (major, minor) },
                inode: if has_build_id { 0 } else { inode },
                protection,
                path: body.text(),
            })
        }
        MMAP => {
            (pid, tid) = (body.u32()?, body.u32()?);
            let (start, length, file_offset) = (body.u64()?, body.u64()?, body.u64()?);
            let protection = libc::PROT_EXEC as u32;
            Event::Mmap(Mmap { start, length, file_offset, device: (0, 0), inode: 0, protection, path: body.text() })
        }
        COMM => {
            (pid, tid) = (body.u32()?, body.u32()?);
            Event::Comm { comm: body.text(), exec: misc & MISC_COMM_EXEC != 0 }
        }
        FORK => {
            pid = body.u32()?;
            let parent_pid = body.u32()?;
            tid = body.u32()?;
            Event::Fork { parent_pid }
        }
        EXIT => {
            pid = body.u32()?;
            body.u32()?;
            tid = body.u32()?;
            Event::Exit
        }
        KSYMBOL => {
            let (address, length, kind, flags) = (body.u64()?, body.u32()?, body.u16()?, body.u16()?);
            Event::KernelSymbol(KernelSymbol { address, length, kind, removed: flags & 1 != 0, name: body.text() })
        }
        CGROUP => Event::Cgroup { id: body.u64()?, path: body.text() },
        LOST => {
            body.u64()?;
            Event::Lost(body.u64()?)
        }
        LOST_SAMPLES => Event::Lost(body.u64()?),
        THROTTLE => Event::Throttle,
        _ => Event::Unthrottle,
    };
    Ok(Some(PerfRecord { time_ns, cpu, pid, tid, event }))
}

fn sample(mut body: Reader<'_>) -> Result<PerfRecord, RecordError> {
    let (pid, tid, time_ns, cpu) = (body.u32()?, body.u32()?, body.u64()?, body.u32()?);
    body.u32()?;
    let mut copy = StackCopy { registers: [0; 16], pc: 0, code_segment: 0, stack: Vec::new() };
    if body.u64()? != 0 {
        let mut values = [0u64; USER_REGISTER_COUNT];
        for value in &mut values {
            *value = body.u64()?;
        }
        // perf's order (arch/x86/include/uapi/asm/perf_regs.h): ax bx cx dx si di bp sp ip flags cs ss, then r8 to r15.
        let [ax, bx, cx, dx, si, di, bp, sp, ip, _flags, cs, _ss, high @ ..] = values;
        copy.registers[..8].copy_from_slice(&[ax, dx, cx, bx, si, di, bp, sp]);
        copy.registers[8..].copy_from_slice(&high);
        copy.pc = ip;
        copy.code_segment = cs;
    }
    let asked = body.u64()? as usize;
    if asked != 0 {
        let bytes = body.take(asked)?;
        let valid = (body.u64()? as usize).min(asked);
        copy.stack.extend_from_slice(&bytes[..valid]);
    }
    Ok(PerfRecord { time_ns, cpu, pid, tid, event: Event::Copy(copy) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, misc: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(misc.to_le_bytes());
        bytes.extend(((8 + body.len() + TRAILER) as u16).to_le_bytes());
        bytes.extend(body);
        bytes.extend(7u32.to_le_bytes());
        bytes.extend(8u32.to_le_bytes());
        bytes.extend(1234u64.to_le_bytes());
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes
    }

    fn words(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn each_kind_gives_its_fields() {
        let mmap = words(&[
            &5u32.to_le_bytes(),
            &6u32.to_le_bytes(),
            &0x1000u64.to_le_bytes(),
            &0x2000u64.to_le_bytes(),
            &0x3000u64.to_le_bytes(),
            &8u32.to_le_bytes(),
            &1u32.to_le_bytes(),
            &99u64.to_le_bytes(),
            &0u64.to_le_bytes(),
            &5u32.to_le_bytes(),
            &2u32.to_le_bytes(),
            b"/bin/x\0\0",
        ]);
        let wanted = Mmap {
            start: 0x1000,
            length: 0x2000,
            file_offset: 0x3000,
            device: (8, 1),
            inode: 99,
            protection: 5,
            path: b"/bin/x".to_vec(),
        };
        let symbol = |kind: u16, flags: u16| {
            let head = [&0xffff_0000_u64.to_le_bytes()[..], &64u32.to_le_bytes(), &kind.to_le_bytes()];
            words(&[&head.concat(), &flags.to_le_bytes(), b"slot\0\0\0\0"])
        };
        let slot =
            |kind, removed| KernelSymbol { address: 0xffff_0000, length: 64, kind, removed, name: b"slot".to_vec() };
        let cases: Vec<(Vec<u8>, u32, u32, Event)> = vec![
            (record(MMAP2, 0, &mmap), 5, 6, Event::Mmap(wanted)),
            (
                record(COMM, MISC_COMM_EXEC, &words(&[&5u32.to_le_bytes(), &5u32.to_le_bytes(), b"sh\0\0\0\0\0\0"])),
                5,
                5,
                Event::Comm { comm: b"sh".to_vec(), exec: true },
            ),
            (
                record(FORK, 0, &words(&[&9u32.to_le_bytes(), &5u32.to_le_bytes(), &9u32.to_le_bytes(), &[0; 12]])),
                9,
                9,
                Event::Fork { parent_pid: 5 },
            ),
            (
                record(EXIT, 0, &words(&[&9u32.to_le_bytes(), &[0; 4], &10u32.to_le_bytes(), &[0; 12]])),
                9,
                10,
                Event::Exit,
            ),
            (record(LOST, 0, &words(&[&1u64.to_le_bytes(), &42u64.to_le_bytes()])), 7, 8, Event::Lost(42)),
            (
                record(CGROUP, 0, &words(&[&77u64.to_le_bytes(), b"/a/b\0\0\0\0"])),
                7,
                8,
                Event::Cgroup { id: 77, path: b"/a/b".to_vec() },
            ),
            (record(KSYMBOL, 0, &symbol(2, 1)), 7, 8, Event::KernelSymbol(slot(2, true))),
            (record(KSYMBOL, 0, &symbol(1, 0)), 7, 8, Event::KernelSymbol(slot(KernelSymbol::BPF, false))),
        ];
        for (bytes, pid, tid, event) in cases {
            let found = parse(&bytes).unwrap().unwrap();
            assert_eq!(found, PerfRecord { time_ns: 1234, cpu: 3, pid, tid, event });
        }
        assert_eq!(parse(&record(99, 0, &[0; 8])), Ok(None));
    }

    #[test]
    fn a_sample_gives_registers_in_dwarf_order_and_the_valid_part_of_the_stack() {
        let mut bytes = Vec::new();
        bytes.extend(SAMPLE.to_le_bytes());
        bytes.extend([0; 4]);
        for word in [(6u64 << 32) | 5, 1234, 3, 2] {
            bytes.extend(word.to_le_bytes());
        }
        for register in 100..120u64 {
            bytes.extend(register.to_le_bytes());
        }
        bytes.extend(16u64.to_le_bytes());
        bytes.extend([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(8u64.to_le_bytes());
        let found = parse(&bytes).unwrap().unwrap();
        let Event::Copy(copy) = found.event else { panic!("not a copy") };
        assert_eq!((found.pid, found.tid, found.time_ns, found.cpu), (5, 6, 1234, 3));
        assert_eq!(copy.registers, [100, 103, 102, 101, 104, 105, 106, 107, 112, 113, 114, 115, 116, 117, 118, 119]);
        assert_eq!((copy.pc, copy.code_segment), (108, 110));
        assert_eq!(copy.stack, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn cut_records_are_refused_without_panic() {
        let whole = record(MMAP2, 0, &[1; 80]);
        for end in 0..whole.len() {
            let _ = parse(&whole[..end]);
        }
        assert_eq!(parse(&whole[..30]), Err(RecordError::Short { kind: MMAP2, length: 30 }));
    }
}
