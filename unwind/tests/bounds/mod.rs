//! Small files made by hand that ask for much: each is cut or refused by a count of what is done, and none by time.

mod go;

use unwind::build::{BuildError, ElfRows, Limits, rows_of_elf};

use crate::forge::{File, Section};
use crate::frames::{EhFrame, USUAL_START};

const TEXT: u64 = 0x1000;
const OTHER: u64 = 0x20_0000;

fn text(bytes: &[u8]) -> Section<'_> {
    Section { name: ".text", address: TEXT, bytes, executable: true }
}

fn data<'a>(name: &'a str, address: u64, bytes: &'a [u8]) -> Section<'a> {
    Section { name, address, bytes, executable: false }
}

fn file(sections: &[Section<'_>]) -> Vec<u8> {
    File { entry: TEXT, sections, with_section_headers: true, eh_frame_header: None }.bytes()
}

fn rows(file: &[u8], limits: Limits) -> ElfRows {
    rows_of_elf(file, &limits).expect("the file is within limits")
}

/// Reading the file takes so much work at least, is done with exactly that much, and refused with less.
fn takes(name: &str, file: &[u8], least: u64) {
    let work = rows(file, Limits::default()).stats.work;
    assert!(work >= least, "{name}: {work} units");
    assert_eq!(rows(file, Limits { work, ..Limits::default() }).stats.work, work, "{name}");
    let less = Limits { work: work - 1, ..Limits::default() };
    let refused = rows_of_elf(file, &less).map(|rows| rows.len());
    assert_eq!(refused, Err(BuildError::TooMuchWork { limit: work - 1 }), "{name}");
}

/// The place of a section's header in the file.
fn header_of(file: &[u8], section: usize) -> usize {
    let headers = file[40..48].try_into().map(u64::from_le_bytes).expect("8 bytes");
    headers as usize + 64 * section
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A function of 64 KiB.
fn call_frames(start: &[u8], program: &[u8]) -> Vec<u8> {
    let frames = EhFrame::new(OTHER).cie("", start).fde(TEXT, 1 << 16, program).terminator().bytes();
    file(&[text(&vec![0xc3; 1 << 16]), data(".eh_frame", OTHER, &frames)])
}

#[test]
fn rows_draw_on_the_work_where_finding_their_rule_takes_long() {
    // breg7 8, and then lit0; plus; for the CFA, rbp, rbx and r12.
    let expression = [&[60, 0x77, 8][..], &[0x30, 0x22].repeat(29)].concat();
    let start = [&USUAL_START, &[0x0f][..], &expression, &[0x10, 6], &expression, &[0x10, 3], &expression];
    let start = [&start.concat()[..], &[0x10, 12], &expression].concat();
    takes("expressions in each row", &call_frames(&start, &[0x41; 1000]), 1000 * 4 * 60);
    // More rules than the cache has slots, each one twice.
    let rules = (0..4096u32).flat_map(|row| [0x41, 0x0e, 0x80 | (row % 16 * 8) as u8, (row / 16 % 128) as u8]);
    takes("rules that are not cached", &call_frames(&USUAL_START, &rules.collect::<Vec<_>>()), 4096 * 4 + 3000 * 16);
}

#[test]
fn entries_draw_on_the_work() {
    let frames = (0..1000).fold(EhFrame::new(OTHER).cie("", &USUAL_START), |frames, _| frames.fde(0, 16, &[]));
    takes(
        "functions that the linker discarded",
        &file(&[text(&[0xc3]), data(".eh_frame", OTHER, &frames.bytes())]),
        36_000,
    );
    // A CIE that holds the beginnings of others, which reach to the end of the section.
    let (inner, size) = (100u32, 8 + 100 * 8 + 100 * 16);
    let mut section = [(4 + inner * 8).to_le_bytes(), [0; 4]].concat();
    for index in 0..inner {
        let at = 8 + index * 8;
        section.extend([(size - at - 4).to_le_bytes(), [0; 4]].concat());
    }
    for index in 0..inner {
        let id_at = section.len() as u32 + 4;
        section.extend([12u32.to_le_bytes(), (id_at - (8 + index * 8)).to_le_bytes(), [0; 4], [0; 4]].concat());
    }
    takes("CIEs that overlap", &file(&[text(&[0xc3]), data(".eh_frame", OTHER, &section)]), 100 * 1600);
}

#[test]
fn rows_of_a_function_that_never_ends_are_bounded() {
    // The CFA moves with each byte of code; the last instruction is none.
    let mut program: Vec<u8> = (0..100).flat_map(|row| [0x41, 0x0e, 16 + row % 2 * 8]).collect();
    program.push(0x3f);
    let file = call_frames(&USUAL_START, &program);
    assert_eq!(rows(&file, Limits::default()).stats.fdes_malformed, 1);
    let refused = rows_of_elf(&file, &Limits { rows: 10, ..Limits::default() }).map(|rows| rows.len());
    assert_eq!(refused, Err(BuildError::TooManyRows { limit: 10 }));
}

/// One stored block of zlib.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let (mut low, mut high) = (1u32, 0u32);
    for byte in bytes {
        low = (low + u32::from(*byte)) % 65521;
        high = (high + low) % 65521;
    }
    let length = bytes.len() as u16;
    let sum = (high << 16 | low).to_be_bytes();
    [&[0x78, 1, 1], &length.to_le_bytes()[..], &(!length).to_le_bytes(), bytes, &sum].concat()
}

#[test]
fn what_a_section_decompresses_to_has_its_own_bound() {
    let frames = EhFrame::new(OTHER).cie("", &USUAL_START).fde(TEXT, 32, &[]).bytes();
    let size = frames.len() as u64;
    // ELFCOMPRESS_ZLIB, size, alignment.
    let section = [1, size, 1].iter().flat_map(|word| word.to_le_bytes()).chain(zlib(&frames)).collect::<Vec<_>>();
    let mut file = file(&[text(&[0xc3; 32]), data(".eh_frame", OTHER, &section)]);
    let flags = header_of(&file, 2) + 8;
    // SHF_COMPRESSED.
    put(&mut file, flags, &0x800u64.to_le_bytes());
    for (decompressed_bytes, fdes) in [(size, 1), (size - 1, 0)] {
        let stats = rows(&file, Limits { decompressed_bytes, ..Limits::default() }).stats;
        assert_eq!((stats.fdes, stats.sections_refused), (fdes, 1 - fdes), "{decompressed_bytes}");
    }
}

#[test]
fn too_many_section_headers_are_as_if_absent_and_counted() {
    let mut file = call_frames(&USUAL_START, &[]);
    // None, .text, .eh_frame, and the names.
    for is_extended in [false, true] {
        if is_extended {
            // The number is the size of section 0, as where it does not fit 16 bits.
            put(&mut file, 60, &[0, 0]);
            let size = header_of(&file, 0) + 32;
            put(&mut file, size, &4u64.to_le_bytes());
        }
        for (sections, fdes) in [(4, 1), (3, 0)] {
            let stats = rows(&file, Limits { sections, ..Limits::default() }).stats;
            assert_eq!((stats.fdes, stats.sections_refused), (fdes, 1 - fdes), "{sections}, extended: {is_extended}");
        }
    }
}

#[test]
fn symbols_draw_on_the_work() {
    let symbol = [&1u32.to_le_bytes()[..], &[2, 0], &1u16.to_le_bytes(), &[0; 16]].concat();
    let symbols = symbol.repeat(1000);
    let mut file = file(&[text(&[0xc3; 32]), data(".symtab", OTHER, &symbols), data(".strtab", OTHER / 2, b"\0f\0")]);
    let (symbols, names) = (header_of(&file, 2), header_of(&file, 3));
    // SHT_SYMTAB with the names in section 3, which is a SHT_STRTAB.
    put(&mut file, symbols + 4, &2u32.to_le_bytes());
    put(&mut file, symbols + 40, &3u32.to_le_bytes());
    put(&mut file, names + 4, &3u32.to_le_bytes());
    takes("symbols", &file, 8000);
    let few = rows(&file, Limits { symbols: 10, ..Limits::default() }).stats;
    assert_eq!((few.symbols_refused, few.work < 1000), (990, true));
}
