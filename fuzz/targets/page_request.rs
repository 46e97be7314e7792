//! A request to the page: its target in the first line, a header in each further one. What is let in and understood is within bounds.
#![no_main]

use http::Request;
use libfuzzer_sys::fuzz_target;
use profiler::serve::{Gate, MAX_FILTERS, Question, RangeQuestion};

const NOW_MS: u64 = 1_700_000_000_000;

fn check(range: &RangeQuestion) {
    assert!(range.from_ms <= range.to_ms && range.query.from_ns <= range.query.to_ns);
    assert!(range.query.filters.len() <= MAX_FILTERS);
}

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let mut request = Request::builder().uri(target);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        request = request.header(name, value.get(1..).unwrap_or_default());
    }
    let Ok(request) = request.body(()) else { return };
    let (head, ()) = request.into_parts();
    let _ = Gate::default().judge(&head);
    match Question::parse(head.uri.path(), head.uri.query(), NOW_MS) {
        Ok(Question::Labels(range) | Question::Profile(range)) => check(&range),
        Ok(Question::Download { range, .. } | Question::Values { range, .. }) => check(&range),
        Ok(Question::Series { range, step_ms, .. }) => {
            check(&range);
            assert!((range.to_ms - range.from_ms).div_ceil(step_ms) <= profiler::serve::MAX_STEPS);
        }
        Ok(Question::Document | Question::Status) | Err(_) => {}
    }
});
