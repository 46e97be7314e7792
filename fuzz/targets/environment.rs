//! `/proc/PID/environ`: wholly the process's choice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::identity::environment::{MAX_VALUE, parse};

fuzz_target!(|data: &[u8]| {
    let found = parse(data);
    for declared in [&found.datadog, &found.opentelemetry] {
        for text in [&declared.service, &declared.environment, &declared.version] {
            assert!(text.len() <= MAX_VALUE && !text.chars().any(char::is_control) && text.trim().len() == text.len());
        }
    }
});
