//! Names from any bytes that call themselves ELF: symbol tables, DWARF, Go's tables, compressed sections, MiniDebugInfo.
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
    let key = KEY.fetch_add(1, Ordering::Relaxed);
    let executable = Executable { key, content: Content::Bytes(elf.into()), path: "/nowhere/fuzz".into(), root: None };
    let request = Request { executable: Arc::new(executable), addresses };
    let frames = symbolizer.symbolize(&[request]);
    assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
    symbolizer.forget(key);
});
