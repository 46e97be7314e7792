use super::*;

const KALLSYMS: &str = "\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff81000000 T startup_64
ffffffff81000100 t local_alias
ffffffff81000100 T __global_alias
ffffffff81000100 T global_alias
ffffffff81000200 W weak
ffffffff81000200 t strong
ffffffff81000300 T last_function
ffffffff81000400 T _etext
ffffffff81000800 D some_data
ffffffffc0100010 t first [mod_a]
ffffffffc0100040 t second\t[mod_a]
ffffffffc0100080 d data [mod_a]
ffffffffc0200000 t other [mod_b]
ffffffffc0300000 t bpf_prog_6deef7357e7b4530_probe [bpf]
ffffffffc0300100 t ftrace_trampoline [__builtin__ftrace]
garbage
ffffffff81000900 T
";
const MODULES: &str = "\
mod_a 16384 0 - Live 0xffffffffc0100000
mod_b 4096 1 mod_a, Live 0xffffffffc01ff000 (OE)
";

type Row<'a> = (u64, Option<(&'a str, Option<&'a str>, u64, u64, KernelKind)>);

fn check(symbols: &KernelSymbols, table: &[Row<'_>]) {
    for (address, expected) in table {
        let found = symbols.lookup(*address).map(|s| (s.name, s.module, s.offset, s.relative_address, s.kind));
        assert_eq!(found, *expected, "{address:#x}");
    }
}

#[test]
fn the_best_alias_names_a_function_and_nothing_reaches_beyond_its_text() {
    use KernelKind::{Bpf, Kernel, Module};
    let symbols = KernelSymbols::parse(KALLSYMS.as_bytes(), Some(MODULES.as_bytes()));
    assert_eq!(symbols.state(), KernelState::Available);
    assert_eq!(symbols.counts(), KernelCounts { functions: 8, malformed: 2, ..KernelCounts::default() });
    check(
        &symbols,
        &[
            (0xffff_ffff_80ff_ffff, None),
            (0xffff_ffff_8100_0000, Some(("startup_64", None, 0, 0, Kernel))),
            (0xffff_ffff_8100_00ff, Some(("startup_64", None, 0xff, 0xff, Kernel))),
            (0xffff_ffff_8100_0101, Some(("global_alias", None, 1, 0x101, Kernel))),
            (0xffff_ffff_8100_0204, Some(("strong", None, 4, 0x204, Kernel))),
            (0xffff_ffff_8100_03ff, Some(("last_function", None, 0xff, 0x3ff, Kernel))),
            (0xffff_ffff_8100_0900, None),
            (0xffff_ffff_c010_0011, Some(("first", Some("mod_a"), 1, 0x11, Module))),
            (0xffff_ffff_c010_007f, Some(("second", Some("mod_a"), 0x3f, 0x7f, Module))),
            (0xffff_ffff_c010_0080, None),
            (0xffff_ffff_c01f_ffff, None),
            (0xffff_ffff_c020_0004, Some(("other", Some("mod_b"), 4, 0x1004, Module))),
            (0xffff_ffff_c030_0004, Some(("bpf_prog_6deef7357e7b4530_probe", None, 4, 4, Bpf))),
            (0xffff_ffff_c030_0104, Some(("ftrace_trampoline", None, 4, 0x3f30_0104, Kernel))),
            (u64::MAX, None),
        ],
    );
}

#[test]
fn without_the_list_of_modules_a_module_starts_at_its_first_function() {
    let symbols = KernelSymbols::parse(KALLSYMS.as_bytes(), None);
    let found = symbols.lookup(0xffff_ffff_c010_0041).unwrap();
    assert_eq!((found.name, found.relative_address), ("second", 0x31));
}

#[test]
fn restricted_and_empty_are_states_not_errors() {
    let restricted = "0000000000000000 T _text\n0000000000000000 T do_syscall_64\n0000000000000000 t f [m]\n";
    for (text, state) in [(restricted, KernelState::Restricted), ("", KernelState::Empty)] {
        let mut symbols = KernelSymbols::parse(text.as_bytes(), None);
        assert_eq!(symbols.state(), state);
        assert_eq!(symbols.lookup(0), None);
        symbols.add_ksym(0x1000, 16, "bpf_prog_x", KernelKind::Bpf);
        assert_eq!(symbols.lookup(0x100f).map(|symbol| symbol.name), Some("bpf_prog_x"));
    }
}

#[test]
fn code_that_comes_replaces_what_it_overlaps_and_code_that_goes_has_no_name() {
    let mut symbols = KernelSymbols::parse(b"", None);
    symbols.add_ksym(0x1000, 0x100, "one", KernelKind::Bpf);
    symbols.add_ksym(0x1100, 0x100, "two", KernelKind::Bpf);
    symbols.add_ksym(0x10f0, 0x20, "three", KernelKind::Kernel);
    let name = |symbols: &KernelSymbols, address| symbols.lookup(address).map(|symbol| symbol.name.to_owned());
    assert_eq!(name(&symbols, 0x1000), None);
    assert_eq!(name(&symbols, 0x10f0).as_deref(), Some("three"));
    assert_eq!(name(&symbols, 0x1110), None);
    symbols.remove(0x10f0);
    assert_eq!(name(&symbols, 0x10f0), None);
    symbols.add_ksym(u64::MAX, 0, "empty", KernelKind::Bpf);
    assert_eq!((name(&symbols, u64::MAX), symbols.counts().malformed), (None, 1));
}
