//! `/proc/kallsyms`, with every second line also added as if the kernel had announced it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use symbolizer::kernel::{KernelKind, KernelSymbols};

fuzz_target!(|data: &[u8]| {
    let mut symbols = KernelSymbols::parse(data, None);
    for (number, line) in data.split(|byte| *byte == b'\n').enumerate() {
        let digits = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let Ok(address) = u64::from_str_radix(&String::from_utf8_lossy(digits), 16) else { continue };
        symbols.lookup(address);
        if number % 2 == 0 {
            symbols.add_ksym(address, line.len() as u64, &String::from_utf8_lossy(line), KernelKind::Bpf);
        } else {
            symbols.remove(address);
        }
        symbols.lookup(address.wrapping_add(1));
    }
});
