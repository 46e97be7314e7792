//! Batches made by hand.

use super::*;
use crate::doctor::Verdict;
use crate::ledger::Ledger;
use crate::profile::{BatchBuilder, Process};

/// One sample for each end, in a stack of the leaf's file and the outermost frame's; `None` is code in no file.
fn batch(samples: &[(Option<&str>, End)]) -> Batch {
    let mut builder = BatchBuilder::new();
    let (name, program, none) = (builder.text("server"), builder.text("/bin/server"), builder.text(""));
    let process = builder.process(Process {
        pid: 7,
        start_time_ns: 1,
        comm: name,
        executable: program,
        cgroup_id: 0,
        cgroup: none,
        identity: None,
    });
    for (time, (file, end)) in samples.iter().enumerate() {
        let leaf = builder.mapping("/lib/libc.so.6", "");
        let leaf = builder.location(LocationKind::Native, Some(leaf), 16);
        let kind = if file.is_some() { LocationKind::Native } else { LocationKind::Jit };
        let outer = file.map(|file| builder.mapping(file, ""));
        let outer = builder.location(kind, outer, 32);
        let marker = builder.location(LocationKind::Marker, None, *end as u64);
        let stack = builder.stack(vec![leaf, outer, marker]).unwrap();
        builder.push(Sample {
            time_ns: time as u64,
            weight_ns: 10,
            process,
            tid: 7,
            thread_name: name,
            cpu: 0,
            stack,
            end: *end,
            provenance: 1,
        });
    }
    builder.finish(10, Ledger::default())
}

#[test]
fn causes_are_counted_by_file_and_reason_the_most_frequent_first() {
    let batch = batch(&[
        (Some("/bin/server"), End::Complete),
        (Some("/bin/jvm"), End::NoRows),
        (Some("/bin/jvm"), End::NoRows),
        (None, End::NoMapping),
        (Some("/bin/server"), End::NoUser),
        (Some("/bin/server"), End::FramePointerZero),
    ]);
    let cause = |file: &str, end| Cause { file: file.into(), end };
    assert_eq!(causes(&batch), (5, vec![(cause("/bin/jvm", End::NoRows), 2), (cause("[anon]", End::NoMapping), 1)]));
    let checks = checks(&batch, 1);
    assert_eq!(checks.len(), 2);
    assert_eq!(checks[0].found, "40.0 % of 5 user stacks reach their entry point");
    assert_eq!(checks[1].found, "40.0 % end in /bin/jvm: no_rows");
    assert_eq!(checks[1].verdict, Verdict::Warn);
    assert!(checks[1].fix.contains("unwind tables"));
}

#[test]
fn an_idle_machine_is_no_failure() {
    let checks = checks(&batch(&[(None, End::NoUser)]), 10);
    assert_eq!((checks.len(), checks[0].verdict), (1, Verdict::Ok));
}
