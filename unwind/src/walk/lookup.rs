//! From an address to its rule: mapping, page, row, rule, in the slab.
//!
//! Constraint: searches have fixed step counts and compare by arithmetic; absent tables read as zero, which is a gap.

use super::state::Walk;
use crate::end::End;
use crate::rule::PackedRule;
use crate::slab::{
    CHUNK_MAPPINGS, DESCRIPTOR_NOT_LOADED, MAX_CHUNKS, PAGE_SHIFT, ROOT_ENTRY_WORDS, RULE_BITS, SEGMENT_SHIFT, Segment,
    Slab, TABLE_HEADER_WORDS, double_word, less_or_equal, word,
};

/// The rule for `address`: mapping, page, row, rule. Absent tables read as zero, which is a gap.
#[inline(always)]
pub fn find_rule<S: Slab>(slab: &S, walk: &mut Walk, address: u64) -> Result<PackedRule, End> {
    if address.wrapping_sub(walk.map_start) >= walk.map_bytes {
        find_mapping(slab, walk, address)?;
    }
    if walk.page_table == 0 {
        if walk.flags & DESCRIPTOR_NOT_LOADED != 0 {
            return Err(End::NoTable);
        }
        return Ok(PackedRule(0));
    }
    let elf_address = address.wrapping_sub(walk.map_bias);
    let page = (elf_address >> PAGE_SHIFT).wrapping_sub(walk.first_page as u64);
    if page >= walk.pages as u64 {
        return Ok(PackedRule(0));
    }
    let at = walk.page_table.wrapping_add(page as u32 * 2);
    let pages = slab.segment(at >> SEGMENT_SHIFT).ok_or(End::NoTable)?;
    let first = word(pages, at);
    let rows_here = word(pages, at.wrapping_add(1)) as u64;
    let rows = slab.segment(first >> SEGMENT_SHIFT).ok_or(End::NoTable)?;
    let offset = elf_address & ((1 << PAGE_SHIFT) - 1);
    let wanted = (offset << RULE_BITS) | ((1 << RULE_BITS) - 1);
    let mut low = 0u64;
    let mut stride = 1u64 << (PAGE_SHIFT - 1);
    while stride > 0 {
        let next = low + stride;
        let fits = less_or_equal(next + 1, rows_here)
            & less_or_equal(word(rows, first.wrapping_add(next as u32)) as u64, wanted);
        low += stride * fits;
        stride /= 2;
    }
    let row = word(rows, first.wrapping_add(low as u32));
    let rule_at = walk.rules.wrapping_add((row & ((1 << RULE_BITS) - 1)) * 2);
    let rules = slab.segment(rule_at >> SEGMENT_SHIFT).ok_or(End::NoTable)?;
    Ok(PackedRule(double_word(rules, rule_at)))
}

/// Largest entry of `count` whose start is at most `address`, over entries of `stride_words` words from `base` on.
#[inline(always)]
fn search_starts(segment: &Segment, base: u32, entry_words: u32, count: u64, capacity: u32, address: u64) -> u32 {
    let mut low = 0u64;
    let mut stride = capacity as u64 / 2;
    while stride > 0 {
        let next = low + stride;
        let fits = less_or_equal(next + 1, count)
            & less_or_equal(double_word(segment, base.wrapping_add(next as u32 * entry_words)), address);
        low += stride * fits;
        stride /= 2;
    }
    low as u32
}

/// Finds the executable mapping that holds `address` and keeps it, with its executable's descriptor, in `walk`.
#[inline(always)]
pub fn find_mapping<S: Slab>(slab: &S, walk: &mut Walk, address: u64) -> Result<(), End> {
    let address = address & (u64::MAX >> 1);
    let root_at = walk.process;
    let root = slab.segment(root_at >> SEGMENT_SHIFT).ok_or(End::NoProcess)?;
    let entries = root_at.wrapping_add(TABLE_HEADER_WORDS);
    let chosen = search_starts(root, entries, ROOT_ENTRY_WORDS, word(root, root_at) as u64, MAX_CHUNKS, address);
    let chunk_at = word(root, entries.wrapping_add(chosen * ROOT_ENTRY_WORDS + 2));
    let chunk = slab.segment(chunk_at >> SEGMENT_SHIFT).ok_or(End::NoProcess)?;
    let count = word(chunk, chunk_at);
    let starts = chunk_at.wrapping_add(TABLE_HEADER_WORDS);
    let index = search_starts(chunk, starts, 2, count as u64, CHUNK_MAPPINGS, address);
    let start = double_word(chunk, starts.wrapping_add(index * 2));
    let info = starts.wrapping_add(count.wrapping_mul(2)).wrapping_add(index * 4);
    let bytes = (word(chunk, info) as u64) << 12;
    if address.wrapping_sub(start) >= bytes {
        return Err(End::NoMapping);
    }
    walk.map_start = start;
    walk.map_bytes = bytes;
    walk.map_bias = double_word(chunk, info.wrapping_add(2));
    let descriptor = word(chunk, info.wrapping_add(1));
    walk.descriptor = descriptor;
    let described = slab.segment(descriptor >> SEGMENT_SHIFT).ok_or(End::NoTable)?;
    // Word 0 to 7 of segment 0 are zero for ever, so descriptor 0 needs no branch of its own.
    walk.page_table = word(described, descriptor);
    walk.pages = word(described, descriptor.wrapping_add(1));
    walk.first_page = word(described, descriptor.wrapping_add(2));
    walk.rules = word(described, descriptor.wrapping_add(3));
    walk.flags = word(described, descriptor.wrapping_add(4));
    Ok(())
}
