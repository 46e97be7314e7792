//! Names from any bytes that call themselves ELF: symbol tables, stubs, DWARF, Go's tables, compressed sections, MiniDebugInfo;
//! and from the same bytes with a header that names no section headers, whose names are where `PT_DYNAMIC` says.
//!
//! The last 16 bytes are two addresses to look up. A panic in the symbolizer's worker ends the fuzzer too, although the
//! symbolizer itself would survive it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};
use symbolizer::{Content, Executable, Options, Request, Symbolizer};

static SYMBOLIZER: OnceLock<Symbolizer> = OnceLock::new();
static KEY: AtomicU64 = AtomicU64::new(1);

fuzz_target!(|data: &[u8]| {
    let Some((elf, last)) = data.split_last_chunk::<16>() else { return };
    let symbolizer =
        SYMBOLIZER.get_or_init(|| Symbolizer::new(Options { open_files: 1, ..Options::default() }).expect("a thread"));
    let word = |at: usize| u64::from_le_bytes(last[at..at + 8].try_into().expect("8 bytes"));
    // Any 64-bit address, and one near the usual start of code, which mutation reaches more easily.
    let addresses = vec![word(0), 0x1000 + (word(8) & 0xffff)];
    for bytes in [elf.to_vec(), without_section_headers(elf.to_vec())] {
        let key = KEY.fetch_add(1, Ordering::Relaxed);
        let content = Content::Bytes(bytes.into());
        let executable = Executable { key, content, path: "/nowhere/fuzz".into(), root: None };
        let request = Request { executable: Arc::new(executable), addresses: addresses.clone() };
        let frames = symbolizer.symbolize(&[request]);
        assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
        symbolizer.forget(key);
    }
});

/// As packers leave it: `e_shoff`, and the sizes and numbers of section headers, are zero.
fn without_section_headers(mut elf: Vec<u8>) -> Vec<u8> {
    for field in [0x28..0x30, 0x3a..0x40] {
        if let Some(bytes) = elf.get_mut(field) {
            bytes.fill(0);
        }
    }
    elf
}
