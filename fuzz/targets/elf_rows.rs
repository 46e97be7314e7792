//! Unwind tables from any bytes: `.eh_frame`, `.debug_frame`, `.gopclntab`, PLTs, and their words for the slab.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unwind::build::{Limits, Placement, Plan, rows_of_elf};

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let Ok(rows) = rows_of_elf(data, &limits) else { return };
    assert_eq!(rows.iter().len(), rows.len());
    let mut before = None;
    for row in rows.iter() {
        assert!(before.is_none_or(|address| address < row.address), "rows in order, one per address");
        before = Some(row.address);
        assert_eq!(rows.lookup(row.address), row.rule);
    }
    let Ok(plan) = Plan::new(&rows, &limits) else { return };
    let chunks: Vec<u32> = plan.chunk_words().map(|_| 0).collect();
    let at = Placement { page_table: 0, rules: 0, chunks: &chunks };
    let mut words = 0;
    plan.write(at, &mut |_| None, &mut |_, part| words += part.len() as u64);
    assert_eq!(words, plan.words(), "as many words as were asked for");
});
