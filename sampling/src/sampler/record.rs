//! Records of the BPF ring, decoded: header, kernel frames, user frames.

use profiler_common::{MAX_KERNEL_FRAMES, RecordHeader, record_flags};
use unwind::end::End;
use unwind::walk::MAX_USER_FRAMES;

/// A sample as the kernel recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Everything but the frames.
    pub header: RecordHeader,
    /// How the user part ended.
    pub end: End,
    /// Kernel return addresses, leaf first.
    pub kernel: Vec<u64>,
    /// User lookup addresses, leaf first.
    pub user: Vec<u64>,
}

/// Bytes between header and frames when a trace context is there: trace id and span id.
const TRACE_CONTEXT_BYTES: usize = 24;

/// Decodes one record; `None` if the bytes are not one (counted by the caller as malformed).
pub fn parse(bytes: &[u8]) -> Option<Record> {
    let head = bytes.get(..size_of::<RecordHeader>())?;
    let u16_at = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let u64_at = |at: usize| u32_at(at) as u64 | (u32_at(at + 4) as u64) << 32;
    let mut comm = [0; 16];
    comm.copy_from_slice(&head[16..32]);
    let header = RecordHeader {
        time_ns: u64_at(0),
        cgroup_id: u64_at(8),
        comm,
        tgid: u32_at(32),
        tid: u32_at(36),
        cpu: u32_at(40),
        generation: u32_at(44),
        cost_ns: u32_at(48),
        kernel_frames: u16_at(52),
        user_frames: u16_at(54),
        cache_hits: u16_at(56),
        kind: head[58],
        end: head[59],
        provenance: head[60],
        flags: head[61],
        reserved: [head[62], head[63]],
    };
    let end = End::from_number(header.end).filter(|end| (*end as usize) < End::OF_THE_KERNEL)?;
    let (kernel, user) = (header.kernel_frames as usize, header.user_frames as usize);
    if kernel > MAX_KERNEL_FRAMES || user > MAX_USER_FRAMES + 1 {
        return None;
    }
    let context = if header.flags & record_flags::TRACE_CONTEXT != 0 { TRACE_CONTEXT_BYTES } else { 0 };
    let frames = bytes.get(size_of::<RecordHeader>() + context..)?;
    if frames.len() != (kernel + user) * 8 {
        return None;
    }
    let mut words = frames.chunks_exact(8).map(|chunk| {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    let kernel = words.by_ref().take(kernel).collect();
    Some(Record { header, end, kernel, user: words.collect() })
}

impl Record {
    /// Whether perf core was asked for registers and stack.
    pub fn copy_requested(&self) -> bool {
        self.header.flags & record_flags::COPY_REQUESTED != 0
    }

    /// Whether the hit was in kernel code.
    pub fn is_in_kernel_mode(&self) -> bool {
        self.header.flags & record_flags::KERNEL_MODE != 0
    }

    /// The thread's name without its padding.
    pub fn comm(&self) -> &[u8] {
        let comm = &self.header.comm;
        &comm[..comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(header: &RecordHeader, frames: &[u64]) -> Vec<u8> {
        // SAFETY: the header has no padding (its size is asserted), so all its bytes are initialised.
        let head = unsafe { std::slice::from_raw_parts((&raw const *header).cast::<u8>(), size_of::<RecordHeader>()) };
        let mut bytes = head.to_vec();
        bytes.extend(frames.iter().flat_map(|frame| frame.to_le_bytes()));
        bytes
    }

    #[test]
    fn a_record_comes_back_field_by_field() {
        let header = RecordHeader {
            time_ns: 1,
            cgroup_id: 2,
            comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
            tgid: 3,
            tid: 4,
            cpu: 5,
            generation: 6,
            cost_ns: 7,
            kernel_frames: 2,
            user_frames: 3,
            cache_hits: 1,
            kind: 0,
            end: End::Complete as u8,
            provenance: 1,
            flags: record_flags::COPY_REQUESTED,
            reserved: [0; 2],
        };
        let record = parse(&bytes_of(&header, &[10, 11, 20, 21, 22])).unwrap();
        assert_eq!(record.header, header);
        assert_eq!((record.end, record.comm()), (End::Complete, &b"worker"[..]));
        assert_eq!((record.kernel.as_slice(), record.user.as_slice()), (&[10, 11][..], &[20, 21, 22][..]));
        assert!(record.copy_requested());
    }

    #[test]
    fn lengths_and_numbers_that_do_not_fit_are_refused() {
        let good = RecordHeader { user_frames: 1, ..RecordHeader::default() };
        assert!(parse(&bytes_of(&good, &[1])).is_some());
        assert_eq!(parse(&bytes_of(&good, &[])), None);
        assert_eq!(parse(&bytes_of(&good, &[1, 2])), None);
        assert_eq!(parse(&bytes_of(&RecordHeader { end: 200, ..good }, &[1])), None);
        assert_eq!(parse(&bytes_of(&RecordHeader { kernel_frames: 128, ..good }, &[0; 129])), None);
        assert_eq!(parse(&[0; 63]), None);
    }
}
