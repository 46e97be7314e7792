//! The words in the slab say what the rows say, around every row and page boundary.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod forge;
mod frames;

use forge::{File, Section};
use frames::{EhFrame, USUAL_START};
use unwind::build::{ElfRows, Limits, MAX_CHUNK_WORDS, Placement, Plan, Written, rows_of_elf};
use unwind::rule::{ESCAPE_WORDS, EscapeRule, Kind, PackedRule, RowRule};
use unwind::slab::{PAGE_SHIFT, RULE_BITS, SEGMENT_SHIFT, SEGMENT_WORDS};

/// A slab that only grows, with nothing in its first words.
struct Slab {
    words: Vec<u32>,
    escapes: Vec<(EscapeRule, u32)>,
    escape_places: usize,
}

impl Slab {
    fn new(escape_places: usize) -> Self {
        Self { words: vec![0; 8], escapes: Vec::new(), escape_places }
    }

    /// An extent inside one segment.
    fn extent(&mut self, words: u32) -> u32 {
        let left = SEGMENT_WORDS - self.words.len() % SEGMENT_WORDS;
        if (words as usize) > left {
            self.words.resize(self.words.len() + left, 0);
        }
        let address = self.words.len() as u32;
        self.words.resize(self.words.len() + words as usize, 0xdead_beef);
        address
    }

    /// Loads what is planned, but only the first `chunks` of its rows.
    fn load(&mut self, plan: &Plan, chunks: usize) -> Written {
        let page_table = self.extent(plan.page_table_words());
        let rules = self.extent(plan.rule_words());
        let chunks: Vec<u32> = plan.chunk_words().take(chunks).collect();
        let chunks: Vec<u32> = chunks.into_iter().map(|words| self.extent(words)).collect();
        for rule in plan.escapes().take(self.escape_places) {
            let address = self.extent(ESCAPE_WORDS);
            self.escapes.push((rule, address));
        }
        let (escapes, words) = (&self.escapes, &mut self.words);
        plan.write(
            Placement { page_table, rules, chunks: &chunks },
            &mut |rule| escapes.iter().find(|(known, _)| *known == rule).map(|(_, address)| *address),
            &mut |address, new| words[address as usize..address as usize + new.len()].copy_from_slice(new),
        )
    }

    /// As the unwinder looks a pc up.
    fn lookup(&self, descriptor: &[u32], address: u64) -> RowRule {
        let [page_table, pages, first_page, rules] = descriptor[..4] else { panic!("a descriptor is longer") };
        let page = (address >> PAGE_SHIFT).wrapping_sub(first_page.into());
        if page >= pages.into() {
            return RowRule::GAP;
        }
        let entry = (page_table + page as u32 * 2) as usize;
        let (first, count) = (self.words[entry] as usize, self.words[entry + 1] as usize);
        // The search reads the first row before it looks at their number.
        let count = count.max(1);
        assert_eq!(first >> SEGMENT_SHIFT, (first + count - 1) >> SEGMENT_SHIFT, "a page's rows are in one segment");
        let offset = (address & ((1 << PAGE_SHIFT) - 1)) as u32;
        let rows = &self.words[first..first + count];
        assert_eq!(rows[0] >> RULE_BITS, 0, "a page starts with a row of offset 0");
        assert!(rows.is_sorted_by(|one, other| one >> RULE_BITS < other >> RULE_BITS), "offsets ascend");
        let row = rows[rows.partition_point(|row| row >> RULE_BITS <= offset) - 1];
        let rule = (rules + (row & ((1 << RULE_BITS) - 1)) * 2) as usize;
        let packed = PackedRule(u64::from(self.words[rule]) | u64::from(self.words[rule + 1]) << 32);
        if packed.kind() != Kind::Escape as u8 {
            return RowRule::Packed(packed);
        }
        let (rule, _) = self.escapes.iter().find(|(_, address)| *address == packed.operand()).expect("it has a record");
        RowRule::Escape(*rule)
    }
}

/// Compares around every `step`-th row.
fn compare(rows: &ElfRows, plan: &Plan, step: usize) -> u64 {
    let mut slab = Slab::new(usize::MAX);
    let written = slab.load(plan, usize::MAX);
    assert_eq!(written.escapes_refused, 0);
    let mut probes = 0;
    for row in rows.iter().step_by(step) {
        let page = row.address & !((1 << PAGE_SHIFT) - 1);
        for address in [row.address - 1, row.address, row.address + 1, page.wrapping_sub(1), page] {
            assert_eq!(slab.lookup(&written.descriptor, address), rows.lookup(address), "at {address:#x}");
            probes += 1;
        }
    }
    probes
}

fn rows_and_plan(data: &[u8]) -> (ElfRows, Plan) {
    let limits = Limits::default();
    let rows = rows_of_elf(data, &limits).expect("the file is sound");
    let plan = Plan::new(&rows, &limits).expect("the file is within limits");
    assert!(plan.chunk_words().all(|words| words as usize <= MAX_CHUNK_WORDS));
    (rows, plan)
}

const TEXT: u64 = 0x1000;
/// Where the function with an escape rule is, after all others.
const ESCAPE_AFTER: u64 = 0x9000;

/// A file of one function with this many rows, a page without any, a function of some pages with one row, and one whose CFA is
/// from rbx. Gives the address of the last one, too.
fn made_up(count: u32) -> (Vec<u8>, u64) {
    let dense: Vec<u8> = (0..count).flat_map(|row| [0x42, 0x0e, [16, 24, 32][row as usize % 3]]).collect();
    let dense_bytes = count * 2 + 2;
    let after = (TEXT + u64::from(dense_bytes)).next_multiple_of(0x1000);
    let escape = after + ESCAPE_AFTER;
    let code = vec![0xc3; (escape + 0x100 - TEXT) as usize];
    let address = (escape + 0x100).next_multiple_of(0x1000);
    let frames = EhFrame::new(address)
        .cie("", &USUAL_START)
        .fde(TEXT, dense_bytes, &dense)
        .fde(after + 0x1080, 0x5000, &[0x0e, 40])
        .fde(escape, 0x80, &[0x50, 0x0c, 3, 16, 0x50, 0x0c, 7, 8])
        .terminator()
        .bytes();
    let sections = [
        Section { name: ".text", address: TEXT, bytes: &code, executable: true },
        Section { name: ".eh_frame", address, bytes: &frames, executable: false },
    ];
    let file = File { entry: 0, sections: &sections, with_section_headers: true, eh_frame_header: None };
    (file.bytes(), escape + 16)
}

#[test]
fn words_of_this_executable_say_what_its_rows_say() {
    let (rows, plan) = rows_and_plan(&std::fs::read("/proc/self/exe").expect("every process has an executable"));
    assert!(compare(&rows, &plan, 1) > 5000);
    assert!(plan.words() * 4 < rows.len() as u64 * 6, "{} words for {} rows", plan.words(), rows.len());
}

#[test]
fn words_of_a_file_with_gaps_and_escape_rules_say_what_its_rows_say() {
    let (rows, plan) = rows_and_plan(&made_up(5000).0);
    assert_eq!(plan.escapes().count(), 1);
    assert!(compare(&rows, &plan, 1) > 24_000);
}

#[test]
fn a_large_file_takes_several_chunks() {
    let (rows, plan) = rows_and_plan(&made_up(MAX_CHUNK_WORDS as u32 + 100_000).0);
    assert!(plan.chunk_words().len() > 1);
    assert!(compare(&rows, &plan, 97) > 30_000);
}

#[test]
fn pages_whose_chunk_has_no_place_read_as_gaps() {
    let (rows, plan) = rows_and_plan(&made_up(5000).0);
    let mut slab = Slab::new(usize::MAX);
    let written = slab.load(&plan, 0);
    for row in rows.iter().step_by(50) {
        assert_eq!(slab.lookup(&written.descriptor, row.address), RowRule::GAP, "at {:#x}", row.address);
    }
}

#[test]
fn escape_rules_without_a_place_become_unsupported() {
    let (data, address) = made_up(10);
    let (rows, plan) = rows_and_plan(&data);
    assert!(matches!(rows.lookup(address), RowRule::Escape(_)), "{:?}", rows.lookup(address));
    let mut slab = Slab::new(0);
    let written = slab.load(&plan, usize::MAX);
    assert_eq!((written.escapes_refused, plan.escapes().count()), (1, 1));
    assert_eq!(slab.lookup(&written.descriptor, address), RowRule::UNSUPPORTED);
}

#[test]
fn more_pages_than_the_limit_are_refused() {
    let data = std::fs::read("/proc/self/exe").expect("every process has an executable");
    let rows = rows_of_elf(&data, &Limits::default()).expect("the file is sound");
    let limits = Limits { pages: 1, ..Limits::default() };
    let refused = Plan::new(&rows, &limits).expect_err("it has more pages");
    assert!(refused.to_string().ends_with("pages of code, more than 1"), "{refused}");
}
