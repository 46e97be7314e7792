//! Each shape of call-frame information and each kind of code without it, made by hand.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod forge;
mod frames;

use forge::{File, Section};
use frames::{EhFrame, USUAL_START};
use unwind::build::{ElfRows, Limits, rows_of_elf};
use unwind::rule::{EscapeRule, Kind, PackedRule, RowRule, dwarf, escape_flags as flags};

const TEXT: u64 = 0x1000;
const EH_FRAME: u64 = 0x2000;

fn text(bytes: &[u8]) -> Section<'_> {
    Section { name: ".text", address: TEXT, bytes, executable: true }
}

fn eh_frame(bytes: &[u8]) -> Section<'_> {
    Section { name: ".eh_frame", address: EH_FRAME, bytes, executable: false }
}

fn build(sections: &[Section<'_>], entry: u64) -> ElfRows {
    let file = File { entry, sections, with_section_headers: true, eh_frame_header: None };
    rows_of_elf(&file.bytes(), &Limits::default()).expect("the file is sound")
}

/// The rows of one section of call-frame information over 256 bytes of code, as offsets into the code.
fn rows_of(frames: EhFrame) -> Vec<(u64, RowRule)> {
    let rows = build(&[text(&[0xc3; 256]), eh_frame(&frames.bytes())], 0);
    rows.iter().map(|row| (row.address - TEXT, row.rule)).collect()
}

fn sp(offset: u64, fp: u8, rbx: u8, r12: u8) -> RowRule {
    RowRule::Packed(PackedRule::frame(Kind::Sp, offset, fp, rbx, r12))
}

fn fp(offset: u64, fp: u8) -> RowRule {
    RowRule::Packed(PackedRule::frame(Kind::Fp, offset, fp, 0, 0))
}

const PLAIN: EscapeRule =
    EscapeRule { register: 0, flags: 0, inner: 0, outer: 0, return_address: -8, fp: 0, rbx: 0, r12: 0 };

#[test]
fn each_program_comes_to_its_rule() {
    let escape = |rule| RowRule::Escape(rule);
    let cases: Vec<(&str, Vec<u8>, RowRule)> = vec![
        ("nothing said", vec![], sp(8, 0, 0, 0)),
        ("def_cfa_offset", vec![0x0e, 64], sp(64, 0, 0, 0)),
        ("def_cfa_register", vec![0x0e, 16, 0x0d, 6], fp(16, 0)),
        ("rbp saved", vec![0x0e, 16, 0x86, 2], sp(16, 2, 0, 0)),
        ("rbx and r12 saved", vec![0x0e, 32, 0x83, 3, 0x8c, 4], sp(32, 0, 3, 4)),
        ("offset_extended", vec![0x05, 6, 2], sp(8, 2, 0, 0)),
        ("offset_extended_sf", vec![0x11, 6, 2], sp(8, 2, 0, 0)),
        (
            "negative_offset_extended",
            vec![0x2f, 6, 0x7e],
            escape(EscapeRule { register: 7, inner: 8, flags: flags::FP_AT_CFA, fp: 126 * 8, ..PLAIN }),
        ),
        ("def_cfa_sf", vec![0x12, 7, 0x7e], sp(16, 0, 0, 0)),
        ("def_cfa_offset_sf", vec![0x13, 0x7d], sp(24, 0, 0, 0)),
        ("restored", vec![0x86, 2, 0xc6], sp(8, 0, 0, 0)),
        ("restore_extended", vec![0x86, 2, 0x06, 6], sp(8, 0, 0, 0)),
        ("remembered", vec![0x0a, 0x0e, 32, 0x86, 2, 0x0b], sp(8, 0, 0, 0)),
        ("args_size is of no interest", vec![0x2e, 0x20], sp(8, 0, 0, 0)),
        ("rbp undefined is unchanged", vec![0x07, 6], sp(8, 0, 0, 0)),
        ("rbp the same", vec![0x08, 6], sp(8, 0, 0, 0)),
        ("rsp is the CFA", vec![0x14, 7, 0], sp(8, 0, 0, 0)),
        ("rax saved is of no interest", vec![0x80, 2], sp(8, 0, 0, 0)),
        ("return address undefined", vec![0x07, 16], RowRule::END),
        ("slot 255 is packed", vec![0x86, 0xff, 0x01], sp(8, 255, 0, 0)),
        (
            "slot 256 is not",
            vec![0x86, 0x80, 0x02],
            escape(EscapeRule { register: 7, inner: 8, flags: flags::FP_AT_CFA, fp: -2048, ..PLAIN }),
        ),
        (
            "slot 1 is not",
            vec![0x83, 1],
            escape(EscapeRule { register: 7, inner: 8, flags: flags::RBX_AT_CFA, rbx: -8, ..PLAIN }),
        ),
        ("2 GiB of frame", vec![0x0e, 0xf8, 0xff, 0xff, 0xff, 0x07], sp((1 << 31) - 8, 0, 0, 0)),
        ("more is unsupported", vec![0x0e, 0x80, 0x80, 0x80, 0x80, 0x08], RowRule::UNSUPPORTED),
        ("CFA not a multiple of 8", vec![0x0e, 12], escape(EscapeRule { register: 7, inner: 12, ..PLAIN })),
        ("CFA from rbx", vec![0x0c, 3, 16], escape(EscapeRule { register: dwarf::RBX, inner: 16, ..PLAIN })),
        ("CFA from r10", vec![0x0c, 10, 0], escape(EscapeRule { register: 10, ..PLAIN })),
        ("CFA from xmm0", vec![0x0c, 17, 0], RowRule::UNSUPPORTED),
        (
            "return address in rdi",
            vec![0x09, 16, 5],
            escape(EscapeRule { register: 7, inner: 8, flags: flags::RETURN_IN_REGISTER, return_address: 5, ..PLAIN }),
        ),
        (
            "return address elsewhere",
            vec![0x90, 2],
            escape(EscapeRule { register: 7, inner: 8, return_address: -16, ..PLAIN }),
        ),
        ("return address the same", vec![0x08, 16], RowRule::UNSUPPORTED),
        ("rsp saved", vec![0x87, 2], RowRule::UNSUPPORTED),
        ("rbp in another register", vec![0x09, 6, 0], RowRule::UNSUPPORTED),
        ("rbx in another register is approximated", vec![0x09, 3, 0], sp(8, 0, 0, 0)),
        ("rbp is CFA + n", vec![0x14, 6, 2], RowRule::UNSUPPORTED),
        ("rbp by a value expression", vec![0x16, 6, 2, 0x76, 0], RowRule::UNSUPPORTED),
        // breg6 -8; deref, and rbp, rbx, r12 at breg6 0, -16, -24.
        (
            "a realigned stack",
            vec![0x0f, 3, 0x76, 0x78, 0x06, 0x10, 6, 2, 0x76, 0, 0x10, 3, 2, 0x76, 0x70, 0x10, 12, 2, 0x76, 0x68],
            escape(EscapeRule {
                register: 6,
                inner: -8,
                fp: 0,
                rbx: -16,
                r12: -24,
                flags: flags::DEREFERENCE | flags::FP_AT_BASE | flags::RBX_AT_BASE | flags::R12_AT_BASE,
                ..PLAIN
            }),
        ),
        // breg7 40; deref; plus_uconst 8
        (
            "a saved stack pointer",
            vec![0x0f, 5, 0x77, 40, 0x06, 0x23, 8],
            escape(EscapeRule { register: 7, inner: 40, outer: 8, flags: flags::DEREFERENCE, ..PLAIN }),
        ),
        // breg7 16; lit8; plus; const1s -8; plus; lit8; minus
        ("a sum", vec![0x0f, 9, 0x77, 16, 0x38, 0x22, 0x09, 0xf8, 0x22, 0x38, 0x1c], sp(8, 0, 0, 0)),
        // breg6 16, and rbp at breg6 0: the same as CFA - 16.
        ("rbp by an expression from the same base", vec![0x0f, 2, 0x76, 16, 0x10, 6, 2, 0x76, 0], fp(16, 2)),
        ("rbp by an expression from another base", vec![0x10, 6, 2, 0x76, 0], RowRule::UNSUPPORTED),
        (
            "the linker's PLT",
            vec![0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22],
            RowRule::Packed(PackedRule::plt(11)),
        ),
        (
            "the linker's PLT with endbr",
            vec![0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3a, 0x2a, 0x33, 0x24, 0x22],
            RowRule::Packed(PackedRule::plt(10)),
        ),
        // breg7 8; breg9 0; lit8; mul; plus; deref; plus_uconst 8
        ("an indexed stack", vec![0x0f, 10, 0x77, 8, 0x79, 0, 0x38, 0x1e, 0x22, 0x06, 0x23, 8], RowRule::UNSUPPORTED),
        ("a register after an expression", vec![0x0e, 24, 0x0f, 3, 0x76, 0x78, 0x06, 0x0d, 7], sp(24, 0, 0, 0)),
    ];
    for (name, program, expected) in cases {
        let frames = EhFrame::new(EH_FRAME).cie("", &USUAL_START).fde(TEXT, 256, &program);
        assert_eq!(rows_of(frames), [(0, expected), (256, RowRule::GAP)], "{name}");
    }
}

#[test]
fn each_advance_makes_a_row() {
    // advance_loc 1, advance_loc1 2, advance_loc2 3, advance_loc4 4; with the CFA further away each time.
    let program = [0x41, 0x0e, 16, 0x02, 2, 0x0e, 24, 0x03, 3, 0, 0x0e, 32, 0x04, 4, 0, 0, 0, 0x0e, 40];
    let rows = rows_of(EhFrame::new(EH_FRAME).cie("", &USUAL_START).fde(TEXT, 20, &program));
    let expected =
        [(0, sp(8, 0, 0, 0)), (1, sp(16, 0, 0, 0)), (3, sp(24, 0, 0, 0)), (6, sp(32, 0, 0, 0)), (10, sp(40, 0, 0, 0))];
    assert_eq!(rows[..5], expected);
    assert_eq!(rows[5..], [(20, RowRule::GAP)]);
}

#[test]
fn rows_beyond_the_function_are_cut() {
    let program = [0x50, 0x0e, 16, 0x50, 0x0e, 24];
    let rows = rows_of(EhFrame::new(EH_FRAME).cie("", &USUAL_START).fde(TEXT, 20, &program));
    assert_eq!(rows, [(0, sp(8, 0, 0, 0)), (16, sp(16, 0, 0, 0)), (20, RowRule::GAP)]);
}

#[test]
fn functions_come_in_any_order_with_gaps_between_them() {
    let frames = EhFrame::new(EH_FRAME)
        .cie("", &USUAL_START)
        .fde(TEXT + 0x80, 0x10, &[0x0e, 16])
        .terminator()
        .fde(TEXT, 0x25, &[0x0e, 24])
        // Code between 0x25 and 0x30 can only be padding: 0x30 is the next multiple of 16.
        .fde(TEXT + 0x30, 0x10, &[0x0e, 32]);
    let expected = [
        (0, sp(24, 0, 0, 0)),
        (0x30, sp(32, 0, 0, 0)),
        (0x40, RowRule::GAP),
        (0x80, sp(16, 0, 0, 0)),
        (0x90, RowRule::GAP),
    ];
    assert_eq!(rows_of(frames), expected);
}

#[test]
fn short_gaps_are_joined_only_if_they_hold_nothing() {
    for (bytes, joined) in
        [([0xcc; 8], true), ([0x90; 8], true), ([0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], true), ([0xc3; 8], false)]
    {
        let mut code = [0x55; 64];
        code[16..24].copy_from_slice(&bytes);
        let frames = EhFrame::new(EH_FRAME).cie("", &USUAL_START).fde(TEXT, 16, &[]).fde(TEXT + 24, 8, &[]).bytes();
        let rows = build(&[text(&code), eh_frame(&frames)], 0);
        assert_eq!(rows.lookup(TEXT + 20), if joined { sp(8, 0, 0, 0) } else { RowRule::GAP }, "{bytes:x?}");
    }
}

#[test]
fn overlapping_functions_are_cut_where_the_next_begins() {
    let frames = EhFrame::new(EH_FRAME)
        .cie("", &USUAL_START)
        .fde(TEXT, 100, &[0x0e, 16])
        .fde(TEXT + 50, 10, &[0x0e, 24])
        .fde(TEXT + 50, 20, &[0x0e, 32])
        .bytes();
    let rows = build(&[text(&[0xc3; 256]), eh_frame(&frames)], 0);
    assert_eq!(rows.lookup(TEXT + 49), sp(16, 0, 0, 0));
    assert_eq!(rows.lookup(TEXT + 50), sp(32, 0, 0, 0));
    assert_eq!(rows.lookup(TEXT + 70), RowRule::GAP);
    assert_eq!(rows.stats.fdes_overlapping, 2);
}

#[test]
fn what_is_left_out_is_counted() {
    let frames = EhFrame::new(EH_FRAME)
        .cie("", &USUAL_START)
        .fde(0, 16, &[])
        .fde(TEXT, 0, &[])
        .fde(TEXT + 0x10_0000, 16, &[])
        .fde(TEXT + 250, 16, &[])
        // An unknown instruction; a restore without a remember; an operand cut off.
        .fde(TEXT, 16, &[0x3f])
        .fde(TEXT, 16, &[0x0b])
        .fde(TEXT, 16, &[0, 0x0e, 0x80])
        .fde(TEXT + 32, 16, &[])
        .bytes();
    let rows = build(&[text(&[0xc3; 256]), eh_frame(&frames)], 0);
    assert_eq!(rows.stats.fdes, 8);
    assert_eq!(rows.stats.fdes_discarded, 2);
    assert_eq!(rows.stats.outside_code, 2);
    assert_eq!(rows.stats.fdes_malformed, 3);
    assert_eq!(rows.len(), 2);
}

#[test]
fn signal_frames_are_trampolines_whatever_their_program_says() {
    let frames = EhFrame::new(EH_FRAME).cie("S", &USUAL_START).fde(TEXT, 16, &[0x41, 0x0e, 64]);
    assert_eq!(rows_of(frames), [(0, RowRule::SIGNAL), (16, RowRule::GAP)]);
}

#[test]
fn files_without_section_headers_are_read_through_the_program_headers() {
    let frames = EhFrame::new(EH_FRAME).cie("", &USUAL_START).fde(TEXT, 16, &[0x0e, 64]).terminator().bytes();
    // Version 1; the pointer to .eh_frame is pc-relative, 32 bits.
    let header_at = 0x3000u64;
    let mut header = vec![1, 0x1b, 0xff, 0xff];
    header.extend((EH_FRAME.wrapping_sub(header_at + 4) as u32).to_le_bytes());
    header.resize(12, 0);
    let code = [0xc3; 64];
    let header = Section { name: ".eh_frame_hdr", address: header_at, bytes: &header, executable: false };
    let sections = [text(&code), eh_frame(&frames), header];
    let file = File { entry: 0, sections: &sections, with_section_headers: false, eh_frame_header: Some(header_at) };
    let rows = rows_of_elf(&file.bytes(), &Limits::default()).expect("the file is sound");
    let rows: Vec<_> = rows.iter().map(|row| (row.address - TEXT, row.rule)).collect();
    assert_eq!(rows, [(0, sp(64, 0, 0, 0)), (16, RowRule::GAP)]);
}

#[test]
fn trampolines_without_unwind_information_are_found_by_their_bytes() {
    for load in [&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0][..], &[0xb8, 0x0f, 0, 0, 0]] {
        let mut code = vec![0x90; 64];
        code.splice(32..32 + load.len() + 2, load.iter().copied().chain([0x0f, 0x05]));
        let rows = build(&[text(&code)], 0);
        let end = TEXT + 32 + load.len() as u64 + 2;
        // The handler's return address is the first instruction, and it is looked up one byte before.
        let expected = [(TEXT + 31, RowRule::SIGNAL), (end, RowRule::GAP)];
        assert_eq!(rows.iter().map(|row| (row.address, row.rule)).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn the_entry_point_has_no_caller() {
    let frames = EhFrame::new(EH_FRAME).cie("", &USUAL_START).fde(TEXT + 0x40, 0x10, &[]).bytes();
    let code = [0x55; 512];
    let rows = build(&[text(&code), eh_frame(&frames)], TEXT + 0x30);
    assert_eq!(rows.lookup(TEXT + 0x2f), RowRule::GAP);
    assert_eq!(rows.lookup(TEXT + 0x30), RowRule::END);
    assert_eq!(rows.lookup(TEXT + 0x40), sp(8, 0, 0, 0), "up to the next row");
    let rows = build(&[text(&code), eh_frame(&frames)], TEXT + 0x100);
    assert_eq!(rows.lookup(TEXT + 0x13f), RowRule::END, "at most 64 bytes");
    assert_eq!(rows.lookup(TEXT + 0x140), RowRule::GAP);
    let rows = build(&[text(&code), eh_frame(&frames)], TEXT + 0x48);
    assert_eq!(rows.lookup(TEXT + 0x48), sp(8, 0, 0, 0), "what the file says of itself wins");
}

#[test]
fn plt_sections_without_unwind_information_are_known_by_name_and_bytes() {
    let header = [&[0xff, 0x35, 1, 2, 3, 4, 0xff, 0x25, 1, 2, 3, 4, 0x0f, 0x1f, 0x40, 0][..]].concat();
    let entry = [0xff, 0x25, 1, 2, 3, 4, 0x68, 0, 0, 0, 0, 0xe9, 1, 2, 3, 4];
    let entry_endbr = [0xf3, 0x0f, 0x1e, 0xfa, 0x68, 0, 0, 0, 0, 0xe9, 1, 2, 3, 4, 0x66, 0x90];
    let lazy = [&header[..], &entry, &entry].concat();
    let lazy_endbr = [&header[..], &entry_endbr, &entry_endbr].concat();
    let jumps = [[0xff, 0x25, 1, 2, 3, 4, 0x66, 0x90]; 4].concat();
    let at = |rule: RowRule, end: u64| vec![(0, rule), (end, RowRule::GAP)];
    let with_header = |rule: PackedRule| {
        vec![(0, sp(16, 0, 0, 0)), (6, sp(24, 0, 0, 0)), (16, RowRule::Packed(rule)), (48, RowRule::GAP)]
    };
    for (name, bytes, expected) in [
        (".plt", &lazy, with_header(PackedRule::plt(11))),
        (".plt", &lazy_endbr, with_header(PackedRule::plt(9))),
        (".plt.got", &jumps, at(sp(8, 0, 0, 0), 32)),
        (".plt.sec", &jumps, at(sp(8, 0, 0, 0), 32)),
        (".iplt", &jumps, at(sp(8, 0, 0, 0), 32)),
        (".text", &jumps, vec![]),
    ] {
        let rows = build(&[Section { name, address: TEXT, bytes, executable: true }], 0);
        let rows: Vec<_> = rows.iter().map(|row| (row.address - TEXT, row.rule)).collect();
        assert_eq!(rows, expected, "{name}");
    }
}

#[test]
fn start_files_are_known_by_their_sections_names_and_first_and_last_instructions() {
    let body = [0x48, 0x8b, 5, 1, 2, 3, 4, 0x48, 0x85, 0xc0, 0x74, 2, 0xff, 0xd0];
    let (take, give) = ([0x48, 0x83, 0xec, 8], [0x48, 0x83, 0xc4, 8, 0xc3]);
    let glibc = [&take[..], &body, &give].concat();
    let endbr = [&[0xf3, 0x0f, 0x1e, 0xfa][..], &take, &give].concat();
    let musl = [&[0x50][..], &body, &[0x58, 0xc3]].concat();
    let mixed = [&[0x50][..], &body, &give].concat();
    let cut = [&take[..], &give[1..]].concat();
    let expected = |taken: u64, size: usize| {
        let given = size as u64 - 1;
        vec![(0, sp(8, 0, 0, 0)), (taken, sp(16, 0, 0, 0)), (given, sp(8, 0, 0, 0)), (given + 1, RowRule::GAP)]
    };
    for (name, bytes, expected) in [
        (".init", &glibc, expected(4, glibc.len())),
        (".fini", &endbr, expected(8, endbr.len())),
        (".init", &musl, expected(1, musl.len())),
        (".fini", &mixed, vec![]),
        (".fini", &cut, vec![]),
        (".init", &Vec::from(give), vec![]),
        (".text", &glibc, vec![]),
    ] {
        let rows = build(&[Section { name, address: TEXT, bytes, executable: true }], 0);
        let rows: Vec<_> = rows.iter().map(|row| (row.address - TEXT, row.rule)).collect();
        assert_eq!(rows, expected, "{name} {bytes:x?}");
    }
}

#[test]
fn debug_frame_fills_what_eh_frame_leaves() {
    // A CIE of version 4 with 8-byte addresses, and two FDEs at section offset 0.
    let mut debug_frame: Vec<u8> = Vec::new();
    let mut entry = |body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        debug_frame.extend((padded as u32).to_le_bytes());
        debug_frame.extend(body);
        debug_frame.resize(debug_frame.len() + padded - body.len(), 0);
    };
    entry(&[&[0xff, 0xff, 0xff, 0xff, 4, 0, 8, 0, 1, 0x78, 16][..], &USUAL_START].concat());
    for (start, offset) in [(TEXT, 48), (TEXT + 64, 56)] {
        entry(&[&[0; 4][..], &start.to_le_bytes(), &32u64.to_le_bytes(), &[0x0e, offset]].concat());
    }
    let frames = EhFrame::new(EH_FRAME).cie("", &USUAL_START).fde(TEXT + 8, 8, &[0x0e, 16]).bytes();
    let code = [0xc3; 256];
    let section = Section { name: ".debug_frame", address: 0x3000, bytes: &debug_frame, executable: false };
    let rows = build(&[text(&code), eh_frame(&frames), section], 0);
    let rows: Vec<_> = rows.iter().map(|row| (row.address - TEXT, row.rule)).collect();
    let expected = [
        (0, sp(48, 0, 0, 0)),
        (8, sp(16, 0, 0, 0)),
        (16, sp(48, 0, 0, 0)),
        (32, RowRule::GAP),
        (64, sp(56, 0, 0, 0)),
        (96, RowRule::GAP),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn the_new_thread_in_musls_clone_has_no_caller() {
    let clone = [
        0x31, 0xc0, 0xb0, 0x38, 0x49, 0x89, 0xfb, 0x48, 0x89, 0xd7, 0x4c, 0x89, 0xc2, 0x4d, 0x89, 0xc8, 0x4c, 0x8b,
        0x54, 0x24, 0x08, 0x4d, 0x89, 0xd9, 0x48, 0x83, 0xe6, 0xf0, 0x48, 0x83, 0xee, 0x08, 0x48, 0x89, 0x0e, 0x0f,
        0x05, 0x85, 0xc0, 0x75, 0x0f, 0x31, 0xed, 0x5f, 0x41, 0xff, 0xd1, 0x89, 0xc7, 0x31, 0xc0, 0xb0, 0x3c, 0x0f,
        0x05, 0xf4, 0xc3,
    ];
    let mut code = vec![0x55; 16];
    code.extend(clone);
    code.resize(128, 0x55);
    let rows = build(&[text(&code)], 0);
    let rows: Vec<_> = rows.iter().map(|row| (row.address - TEXT - 16, row.rule)).collect();
    assert_eq!(rows, [(0, sp(8, 0, 0, 0)), (41, RowRule::END), (56, sp(8, 0, 0, 0)), (57, RowRule::GAP)]);
}
