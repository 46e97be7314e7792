//! The kernel's vDSO image, out of our own address space: every 64-bit process has the same one.

use std::sync::OnceLock;

/// The vDSO is one or two pages; more than this is not believed.
const MAX_BYTES: usize = 64 << 10;

/// The image's bytes; empty if this process has none (`vdso=0` on the kernel's command line).
pub fn image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let Ok(maps) = std::fs::read("/proc/self/maps") else { return Vec::new() };
        let Some(mapping) = super::maps::Maps::parse(&maps)
            .mappings
            .into_iter()
            .find(|mapping| mapping.backing == super::Backing::Vdso)
        else {
            return Vec::new();
        };
        let length = (mapping.end - mapping.start) as usize;
        if length > MAX_BYTES {
            return Vec::new();
        }
        // SAFETY: the kernel maps the vDSO readable for the whole life of the process, at the bounds just read.
        unsafe { std::slice::from_raw_parts(mapping.start as *const u8, length) }.to_vec()
    })
}
