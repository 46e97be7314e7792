//! All memory that a process costs: its own, its BPF maps and programs, its perf rings; each byte once.
//!
//! Mapped BPF memory is in the process's RSS on some kernels and not on others, so mappings of maps and rings are taken out of
//! it, and the kernel's own account of each map (`memlock` in `fdinfo`) and the rings' whole sizes are added.

use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::fs;

use crate::account::number;

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// RSS without mappings of BPF maps and perf rings.
    pub(crate) own: u64,
    /// BPF maps, slab segments among them.
    pub(crate) maps: u64,
    /// eBPF programs.
    pub(crate) programs: u64,
    /// Perf rings.
    pub(crate) rings: u64,
}

impl Footprint {
    /// Of a process as it is now.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn of(pid: u32) -> Result<Footprint> {
        let path = format!("/proc/{pid}/smaps");
        let (own, rings) = mappings(&fs::read_to_string(&path).context(path)?);
        let (mut maps, mut programs) = (HashMap::new(), HashMap::new());
        let path = format!("/proc/{pid}/fdinfo");
        for entry in fs::read_dir(&path).context(path)? {
            // A descriptor may have been closed since the list was made.
            let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
            match descriptor(&text) {
                Some(Descriptor::Map(id, bytes)) => maps.insert(id, bytes),
                Some(Descriptor::Program(id, bytes)) => programs.insert(id, bytes),
                None => None,
            };
        }
        Ok(Footprint { own, maps: maps.values().sum(), programs: programs.values().sum(), rings })
    }

    pub(crate) fn total(&self) -> u64 {
        self.own + self.maps + self.programs + self.rings
    }
}

/// Own RSS, and the perf rings' sizes, from `/proc/PID/smaps`.
fn mappings(text: &str) -> (u64, u64) {
    let (mut own, mut rings, mut name) = (0, 0, "");
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next().and_then(|word| word.parse::<u64>().ok())) {
            (Some("Rss:"), Some(kib)) if !name.starts_with("anon_inode:") => own += kib << 10,
            // A ring's pages are all there from the beginning, touched or not.
            (Some("Size:"), Some(kib)) if name == "anon_inode:[perf_event]" => rings += kib << 10,
            // The head of a mapping: range, rights, offset, device, inode, name.
            (Some(range), _) if range.contains('-') => name = line.split_whitespace().nth(5).unwrap_or(""),
            _ => {}
        }
    }
    (own, rings)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Descriptor {
    /// Id and bytes.
    Map(u64, u64),
    Program(u64, u64),
}

/// A map or program from its descriptor's `fdinfo` (kernel/bpf/syscall.c); the same one may have several descriptors.
fn descriptor(text: &str) -> Option<Descriptor> {
    let bytes = number(text, "memlock")?;
    match (number(text, "map_id"), number(text, "prog_id")) {
        (Some(id), _) => Some(Descriptor::Map(id, bytes)),
        (None, Some(id)) => Some(Descriptor::Program(id, bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_kernel_memory_is_not_counted_as_the_processs_own() {
        let text = "5600-5700 r--p 00000000 fe:00 247278     /usr/bin/everflame\nSize: 8 kB\nRss: 4 kB\nPss: 4 kB\n\
                    5700-5800 rw-p 00000000 00:00 0\nSize: 100 kB\nRss: 60 kB\n\
                    5800-5900 rw-s 00000000 00:0e 1031     anon_inode:bpf-map\nSize: 4096 kB\nRss: 4096 kB\n\
                    5900-5a00 rw-s 00000000 00:0e 1031     anon_inode:[perf_event]\nSize: 2052 kB\nRss: 8 kB\n\
                    5a00-5b00 rw-p 00000000 00:00 0     [stack]\nSize: 132 kB\nRss: 1 kB\n";
        assert_eq!(mappings(text), (65 << 10, 2052 << 10));
    }

    #[test]
    fn maps_and_programs_are_known_by_their_ids() {
        let map = "pos:\t0\nmap_type:\t2\nmax_entries:\t1\nmemlock:\t4194600\nmap_id:\t77\nfrozen:\t0\n";
        let program = "prog_type:\t7\nprog_jited:\t1\nmemlock:\t8192\nprog_id:\t31\nrun_cnt:\t0\n";
        assert_eq!(descriptor(map), Some(Descriptor::Map(77, 4_194_600)));
        assert_eq!(descriptor(program), Some(Descriptor::Program(31, 8192)));
        assert_eq!(descriptor("pos:\t0\nflags:\t02\nmnt_id:\t15\n"), None);
    }

    #[test]
    fn a_process_without_bpf_has_only_its_own_memory() {
        let footprint = Footprint::of(std::process::id()).unwrap();
        assert!(footprint.own > 0);
        assert_eq!((footprint.maps, footprint.programs, footprint.rings), (0, 0, 0));
        assert_eq!(footprint.total(), footprint.own);
    }
}
