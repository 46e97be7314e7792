//! The words in the slab say what the rows say, around every row and page boundary.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use unwind::build::{ElfRows, Limits, MAX_CHUNK_WORDS, Placement, Plan, Written, rows_of_elf};
use unwind::rule::{ESCAPE_WORDS, EscapeRule, Kind, PackedRule, Row, RowRule};
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

    fn load(&mut self, plan: &Plan) -> Written {
        let page_table = self.extent(plan.page_table_words());
        let rules = self.extent(plan.rule_words());
        let chunks: Vec<u32> = plan.chunk_words().collect();
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
    let written = slab.load(plan);
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

fn check(path: &str) {
    let Ok(data) = std::fs::read(path) else {
        println!("skipped: {path} is not on this machine");
        return;
    };
    let limits = Limits::default();
    let rows = rows_of_elf(&data, &limits).expect("the file is sound");
    let plan = Plan::new(&rows, &limits).expect("the file is within limits");
    assert!(compare(&rows, &plan, 1) > 5000, "{path}");
    assert!(plan.words() * 4 < rows.len() as u64 * 6, "{path}: {} words for {} rows", plan.words(), rows.len());
    assert!(plan.chunk_words().all(|words| words as usize <= MAX_CHUNK_WORDS), "{path}");
}

#[test]
fn words_of_this_executable_say_what_its_rows_say() {
    check("/proc/self/exe");
}

#[test]
fn words_of_libraries_say_what_their_rows_say() {
    check("/lib/x86_64-linux-gnu/libc.so.6");
    check("/lib/x86_64-linux-gnu/libcrypto.so.3");
}

#[test]
fn the_largest_library_here_takes_several_chunks() {
    let data = std::process::Command::new("rustc").args(["--print", "sysroot"]).output().ok();
    let directory = data.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let files = std::fs::read_dir(format!("{}/lib", directory.trim())).into_iter().flatten().flatten();
    let driver = files.map(|file| file.path()).find(|path| path.to_string_lossy().contains("librustc_driver"));
    let Some(data) = driver.and_then(|path| std::fs::read(path).ok()) else {
        println!("skipped: no rustc here");
        return;
    };
    let limits = Limits::default();
    let rows = rows_of_elf(&data, &limits).expect("the file is sound");
    let plan = Plan::new(&rows, &limits).expect("the file is within limits");
    assert!(plan.chunk_words().len() > 1);
    assert!(compare(&rows, &plan, 13) > 100_000);
}

#[test]
fn escape_rules_without_a_place_become_unsupported() {
    let data = std::fs::read("/proc/self/exe").expect("every process has an executable");
    let limits = Limits::default();
    let rows = rows_of_elf(&data, &limits).expect("the file is sound");
    let plan = Plan::new(&rows, &limits).expect("the file is within limits");
    let is_escape = |row: &Row| matches!(row.rule, RowRule::Escape(_));
    let Some(row) = rows.iter().find(is_escape) else {
        println!("skipped: this executable has no escape rule");
        return;
    };
    let mut slab = Slab::new(0);
    let written = slab.load(&plan);
    assert_eq!(written.escapes_refused as usize, plan.escapes().count());
    assert_eq!(slab.lookup(&written.descriptor, row.address), RowRule::UNSUPPORTED);
}

#[test]
fn more_pages_than_the_limit_are_refused() {
    let data = std::fs::read("/proc/self/exe").expect("every process has an executable");
    let rows = rows_of_elf(&data, &Limits::default()).expect("the file is sound");
    let limits = Limits { pages: 1, ..Limits::default() };
    let refused = Plan::new(&rows, &limits).expect_err("it has more pages");
    assert!(refused.to_string().ends_with("pages of code, more than 1"), "{refused}");
}
