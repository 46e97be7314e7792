//! The comparator: `plain` of the eBPF object, which fills the same record from `bpf_get_stack`.

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, MapData, RingBuf};
use aya::programs::PerfEvent as Program;
use aya::{Ebpf, EbpfLoader};
use profiler::sampler::perf_event::PerfEvent;
use profiler::sampler::record;
use profiler_common::filter;
use std::os::fd::{AsFd as _, AsRawFd as _};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../profiler-ebpf/prebuilt/everflame.x86_64.bpf.o"
));

/// The loaded comparator, sampling one process on one CPU.
pub(crate) struct Plain {
    ring: RingBuf<MapData>,
    event: PerfEvent,
    _bpf: Ebpf,
}

impl Plain {
    /// Loads it and opens its timer, not yet started.
    ///
    /// # Errors
    /// Without the rights, or when the object has no such program.
    pub(crate) fn load(pid: u32, cpu: u32, frequency_hz: u32) -> Result<Plain> {
        let mut bpf = EbpfLoader::new()
            .override_global("FILTER", &filter::PIDS, true)
            .map_max_entries("RECORDS", 8 << 20)
            .load(OBJECT)?;
        let program: &mut Program = bpf.program_mut("plain").context("no program `plain` in the object")?.try_into()?;
        program.load()?;
        let fd = program.fd()?.as_fd().as_raw_fd();
        let mut pids: HashMap<MapData, u32, u32> = bpf.take_map("FILTER_PIDS").context("FILTER_PIDS")?.try_into()?;
        pids.insert(pid, 1, 0)?;
        let ring = bpf.take_map("RECORDS").context("RECORDS")?.try_into()?;
        let event = PerfEvent::sampling(cpu, 1_000_000_000 / u64::from(frequency_hz), 4096)?;
        event.set_program(fd)?;
        Ok(Plain { ring, event, _bpf: bpf })
    }

    pub(crate) fn start(&self) -> Result<()> {
        Ok(self.event.enable()?)
    }

    pub(crate) fn stop(&self) -> Result<()> {
        Ok(self.event.disable()?)
    }

    /// Takes what is in the ring: cost in ns and user frames of each sample.
    pub(crate) fn drain(&mut self, costs: &mut Vec<(u32, u16)>) {
        while let Some(item) = self.ring.next() {
            if let Some(record) = record::parse(&item) {
                costs.push((record.header.cost_ns, record.header.user_frames));
            }
        }
    }
}
