//! Rows as words of the slab: what extents they need, then what goes into them. See [`slab`](crate::slab) for the layout.
//!
//! Two steps, because word addresses are known only once the extents are allocated: [`Plan::new`] says how many words each
//! extent takes, [`Plan::write`] gives the words.

use std::collections::HashMap;

use super::intern::GAP;
use super::limits::{BuildError, Limits};
use super::rows::ElfRows;
use crate::rule::{EscapeRule, PackedRule, RowRule};
use crate::slab::{DESCRIPTOR_WORDS, PAGE_SHIFT, RULE_BITS, SEGMENT_WORDS};

/// Most words of one row chunk. Half a segment, so that a large executable fits the rest of segments that others began.
pub const MAX_CHUNK_WORDS: usize = SEGMENT_WORDS / 2;

/// One page: where its rows begin among all rows, and how many there are.
#[derive(Clone, Copy, Debug)]
struct Page {
    first: u32,
    count: u32,
}

/// What an executable's tables take in the slab.
#[derive(Debug)]
pub struct Plan {
    pages: Vec<Page>,
    first_page: u64,
    /// All pages' rows, `offset : 12 | rule : 20`.
    rows: Vec<u32>,
    /// Index of each chunk's first row word; the last one ends with `rows`.
    chunk_starts: Vec<u32>,
    /// The gap rule, then the others by how often they are used: words that are zero read as gaps.
    rules: Vec<RowRule>,
}

/// Where the extents are: word addresses. They may be parts of one larger extent, as suits small executables.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// [`Plan::page_table_words`] words.
    pub page_table: u32,
    /// [`Plan::rule_words`] words.
    pub rules: u32,
    /// One for each of [`Plan::chunk_words`].
    pub chunks: &'a [u32],
}

/// What [`Plan::write`] leaves for the caller to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// The executable's descriptor, to be written last.
    pub descriptor: [u32; DESCRIPTOR_WORDS as usize],
    /// Escape rules that got no place and became unsupported.
    pub escapes_refused: u32,
}

impl Plan {
    /// Lays the rows out.
    ///
    /// # Errors
    /// [`BuildError::TooManyPages`] and [`BuildError::TooManyRows`]. No rows give a plan of no pages.
    pub fn new(rows: &ElfRows, limits: &Limits) -> Result<Self, BuildError> {
        let (numbers, rules) = by_frequency(rows);
        let mut plan = Self { pages: Vec::new(), first_page: 0, rows: Vec::new(), chunk_starts: Vec::new(), rules };
        let (Some(first), Some(last)) = (rows.rows.first(), rows.rows.last()) else { return Ok(plan) };
        let page_of = |offset: u32| offset >> PAGE_SHIFT;
        let (first_page, last_page) = (page_of(first.offset), page_of(last.offset.saturating_sub(1)));
        let count = u64::from(last_page.saturating_sub(first_page)) + 1;
        if count > limits.pages as u64 {
            return Err(BuildError::TooManyPages { pages: count, limit: limits.pages });
        }
        // The base is a multiple of the page size.
        plan.first_page = (rows.base >> PAGE_SHIFT) + u64::from(first_page);
        plan.rows.reserve(rows.rows.len() + count as usize / 2);
        plan.chunk_starts.push(0);
        let number = |rule: u32| numbers.get(rule as usize).copied().unwrap_or(0);
        // The rule carried into a page; whole pages of one rule share a word.
        let mut carried = number(GAP);
        let mut shared = HashMap::<u32, u32>::new();
        let mut remaining = rows.rows.iter().copied().peekable();
        for page in first_page..=last_page {
            let start = plan.rows.len() as u32;
            plan.rows.push(carried);
            while let Some(row) = remaining.next_if(|row| page_of(row.offset) == page) {
                let (offset, rule) = (row.offset & ((1 << PAGE_SHIFT) - 1), number(row.rule));
                if offset == 0 {
                    plan.rows.truncate(start as usize);
                }
                plan.rows.push(offset << RULE_BITS | rule);
                carried = rule;
            }
            plan.close_page(start, &mut shared);
        }
        if plan.rows.len() > limits.rows.saturating_add(limits.pages) {
            return Err(BuildError::TooManyRows { limit: limits.rows });
        }
        plan.rows.shrink_to_fit();
        Ok(plan)
    }

    fn close_page(&mut self, start: u32, shared: &mut HashMap<u32, u32>) {
        let count = self.rows.len() as u32 - start;
        if count == 1
            && let Some(word) = self.rows.last().copied()
        {
            if let Some(first) = shared.get(&word) {
                self.rows.truncate(start as usize);
                self.pages.push(Page { first: *first, count });
                return;
            }
            shared.insert(word, start);
        }
        let chunk_start = self.chunk_starts.last().copied().unwrap_or(0);
        if self.rows.len() as u32 - chunk_start > MAX_CHUNK_WORDS as u32 {
            self.chunk_starts.push(start);
        }
        self.pages.push(Page { first: start, count });
    }

    /// Whether there is nothing to write: the file has no unwind information.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Words of the page table.
    pub fn page_table_words(&self) -> u32 {
        self.pages.len() as u32 * 2
    }

    /// Words of the rules.
    pub fn rule_words(&self) -> u32 {
        self.rules.len() as u32 * 2
    }

    /// Words of each row chunk, at most [`MAX_CHUNK_WORDS`].
    pub fn chunk_words(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        (0..self.chunk_starts.len()).map(|index| self.chunk(index).len() as u32)
    }

    /// All words except the descriptor's and the escape records'.
    pub fn words(&self) -> u64 {
        u64::from(self.page_table_words()) + u64::from(self.rule_words()) + self.rows.len() as u64
    }

    /// First 4 KiB page of code, as ELF address >> 12.
    pub fn first_page(&self) -> u64 {
        self.first_page
    }

    /// 4 KiB pages of code.
    pub fn pages(&self) -> u32 {
        self.pages.len() as u32
    }

    /// The rules that need an escape record each.
    pub fn escapes(&self) -> impl Iterator<Item = EscapeRule> + '_ {
        self.rules.iter().filter_map(|rule| match rule {
            RowRule::Escape(escape) => Some(*escape),
            RowRule::Packed(_) => None,
        })
    }

    fn chunk(&self, index: usize) -> &[u32] {
        let start = self.chunk_starts.get(index).map_or(0, |start| *start as usize);
        let end = self.chunk_starts.get(index + 1).map_or(self.rows.len(), |end| *end as usize);
        self.rows.get(start..end).unwrap_or_default()
    }

    /// Gives the words: `write(word address, words)` is called a few times for each extent. `escape` finds or makes the
    /// record of an escape rule and gives its word address; rules that it has no place for become unsupported.
    pub fn write(
        &self,
        at: Placement<'_>,
        escape: &mut impl FnMut(EscapeRule) -> Option<u32>,
        write: &mut impl FnMut(u32, &[u32]),
    ) -> Written {
        for (index, address) in (0..self.chunk_starts.len()).zip(at.chunks) {
            write(*address, self.chunk(index));
        }
        let mut escapes_refused = 0;
        let mut words = Vec::with_capacity(self.rules.len() * 2);
        for rule in &self.rules {
            let packed = match rule {
                RowRule::Packed(packed) => *packed,
                RowRule::Escape(rule) => match escape(*rule) {
                    Some(address) => PackedRule::escape(address),
                    None => {
                        escapes_refused += 1;
                        PackedRule::plain(crate::rule::Kind::Unsupported)
                    }
                },
            };
            words.extend([packed.0 as u32, (packed.0 >> 32) as u32]);
        }
        write(at.rules, &words);
        words.clear();
        words.reserve(self.pages.len() * 2);
        for page in &self.pages {
            let chunk = self.chunk_starts.partition_point(|start| *start <= page.first).saturating_sub(1);
            let start = self.chunk_starts.get(chunk).copied().unwrap_or(0);
            // A chunk without a place reads as gaps: word 0 of the slab is zero for ever, and rule 0 is the gap rule.
            let entry = at.chunks.get(chunk).map(|address| [address + (page.first - start), page.count]);
            words.extend(entry.unwrap_or([0, 0]));
        }
        write(at.page_table, &words);
        let mut descriptor = [0; DESCRIPTOR_WORDS as usize];
        descriptor[..4].copy_from_slice(&[at.page_table, self.pages(), self.first_page as u32, at.rules]);
        Written { descriptor, escapes_refused }
    }
}

/// New numbers for the rules that are used: 0 for the gap rule, then the most frequent first; and the rules in that order.
fn by_frequency(rows: &ElfRows) -> (Vec<u32>, Vec<RowRule>) {
    let mut counts = vec![0u32; rows.rules.len()];
    for row in &rows.rows {
        if let Some(count) = counts.get_mut(row.rule as usize) {
            *count += 1;
        }
    }
    // Used in any case: pages before their first row carry it in.
    if let Some(gap) = counts.get_mut(GAP as usize) {
        *gap = u32::MAX;
    }
    let mut order: Vec<u32> = (0..rows.rules.len() as u32).filter(|rule| counts[*rule as usize] > 0).collect();
    order.sort_by_key(|rule| std::cmp::Reverse(counts[*rule as usize]));
    let mut numbers = vec![0; rows.rules.len()];
    let mut rules = Vec::with_capacity(order.len());
    for (number, rule) in order.into_iter().enumerate() {
        numbers[rule as usize] = number as u32;
        rules.push(rows.rules[rule as usize]);
    }
    (numbers, rules)
}
