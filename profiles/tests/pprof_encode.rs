//! Batch → pprof: exact rows, pprof's own checks, sums that survive, the same bytes each time.
#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod pprof_batch;

use pprof_batch::{Builder, info, small_batch};
use pprof_proto::{Label, Profile, validity};
use profiles::ledger::Drop;
use profiles::profile::pprof::{EncodeError, comment_pairs, decode, encode, to_gzip, to_raw};
use profiles::profile::{Batch, LocationIndex, LocationKind, StackIndex};
use unwind::end::{End, provenance};

fn encoded(batch: &Batch) -> Profile {
    let profile = encode(batch, &info()).unwrap();
    assert_eq!(validity::check(&profile), Ok(()));
    profile
}

fn text(profile: &Profile, index: i64) -> &str {
    &profile.string_table[index as usize]
}

fn label_text(profile: &Profile, label: &Label) -> String {
    let key = text(profile, label.key);
    if label.str == 0 { format!("{key}={}", label.num) } else { format!("{key}={}", text(profile, label.str)) }
}

/// `COUNT NANOSECONDS LOCATIONS LABELS` for each sample.
fn rows(profile: &Profile) -> Vec<String> {
    let row = |sample: &pprof_proto::Sample| {
        let labels: Vec<String> = sample.label.iter().map(|label| label_text(profile, label)).collect();
        format!("{:?} {:?} {}", sample.value, sample.location_id, labels.join(","))
    };
    profile.sample.iter().map(row).collect()
}

#[test]
fn samples_with_equal_stacks_and_labels_become_one_and_the_hottest_comes_first() {
    let profile = encoded(&small_batch());
    assert_eq!(
        rows(&profile),
        [
            "[2, 20202020] [1, 2, 3] comm=server,thread name=server,pid=100,thread id=100",
            "[1, 10101010] [4] comm=server,thread name=worker,unwind=bad_read,provenance=table+fp,pid=100,thread id=101",
            "[1, 10101010] [2, 2, 5] comm=server,thread name=worker,unwind=truncated,pid=100,thread id=101",
            "[1, 10101010] [1] comm=kworker/0:1,thread name=kworker/0:1,pid=7,thread id=7",
        ]
    );
}

#[test]
fn the_head_says_what_was_measured_and_what_became_of_it() {
    let profile = encoded(&small_batch());
    let types: Vec<_> =
        profile.sample_type.iter().map(|kind| (text(&profile, kind.r#type), text(&profile, kind.unit))).collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!(text(&profile, profile.default_sample_type), "cpu");
    assert_eq!(profile.period_type, Some(profile.sample_type[1]));
    assert_eq!(
        (profile.period, profile.time_nanos, profile.duration_nanos),
        (10_101_010, 1_700_000_000_000_000_000, 10_000_000_000)
    );
    let comments: Vec<String> = profile.comment.iter().map(|comment| text(&profile, *comment).to_owned()).collect();
    // A reason that is new gets its own pair, without this test being told.
    let dropped = |drop: &Drop| match drop {
        Drop::RingFull => "dropped.ring_full=2".to_owned(),
        Drop::Malformed => "dropped.malformed=1".to_owned(),
        other => format!("dropped.{}=0", other.name()),
    };
    let dropped: Vec<String> = Drop::ALL.iter().map(dropped).collect();
    assert_eq!(
        comments,
        [
            concat!("everflame: version=", env!("CARGO_PKG_VERSION")),
            "sampling: hz=99 period_ns=10101010 cpus=2",
            "kernel: release=6.1.0-test",
            &format!(
                "ledger: due=1980 recorded=5 idle=1970 idle_undelivered=0 own=0 filtered=0 {} undelivered=2 surplus=0",
                dropped.join(" ")
            ),
            "ends: no_user=1 complete=2 truncated=1 bad_read=1",
            "stacks: user=4 complete=2 by_frame_pointer=0 stale=0",
        ]
    );
    assert_eq!(
        comment_pairs(&comments, "sampling"),
        Some(vec![("hz", "99"), ("period_ns", "10101010"), ("cpus", "2")])
    );
    assert_eq!(comment_pairs(&comments, "samp"), None);
}

#[test]
fn mappings_are_the_files_own_addresses_with_the_main_binary_first_and_say_truly_what_is_known() {
    let profile = encoded(&small_batch());
    let rows: Vec<_> = profile
        .mapping
        .iter()
        .map(|mapping| {
            let has =
                [mapping.has_functions, mapping.has_filenames, mapping.has_line_numbers, mapping.has_inline_frames];
            let range = (mapping.memory_start, mapping.memory_limit, mapping.file_offset);
            assert_eq!(range, (0, u64::MAX, 0));
            (mapping.id, text(&profile, mapping.filename), text(&profile, mapping.build_id), has)
        })
        .collect();
    assert_eq!(
        rows,
        [
            (1, "/usr/bin/server", "bb22", [true, true, true, true]),
            (2, "/usr/lib/libc.so.6", "aa11", [false, false, false, false]),
            (3, "[kernel.kallsyms]", "", [true, false, false, false]),
        ]
    );
}

#[test]
fn locations_keep_address_and_inlining_innermost_first() {
    let profile = encoded(&small_batch());
    let rows: Vec<_> = profile
        .location
        .iter()
        .map(|location| {
            let lines = location.line.iter().map(|line| {
                let function = &profile.function[line.function_id as usize - 1];
                let (name, system) = (text(&profile, function.name), text(&profile, function.system_name));
                format!("{name}|{system}|{}:{}|{}", text(&profile, function.filename), line.line, function.start_line)
            });
            (location.id, location.mapping_id, location.address, lines.collect::<Vec<_>>().join(" in "))
        })
        .collect();
    let expected = [
        (1, 3, 0x40, "do_syscall_64|do_syscall_64|:0|0"),
        (
            2,
            1,
            0x1234,
            "server::inner|_ZN6server5innerE|src/inner.rs:12|10 in server::outer|_ZN6server5outerE|src/outer.rs:22|20",
        ),
        (3, 1, 0x1000, "main|main|src/main.rs:3|1"),
        (4, 2, 0x5678, ""),
        (5, 0, 0, "[truncated]|[truncated]|:0|0"),
    ];
    assert_eq!(rows, expected.map(|(id, mapping, address, lines)| (id, mapping, address, lines.to_owned())));
}

#[test]
fn bytes_come_back_in_both_forms_and_are_the_same_each_time() {
    let profile = encoded(&small_batch());
    assert_eq!(decode(&to_gzip(&profile)).unwrap(), profile);
    assert_eq!(decode(&to_raw(&profile)).unwrap(), profile);
    assert_eq!(to_gzip(&profile), to_gzip(&encoded(&small_batch())));
    assert_eq!(to_gzip(&profile)[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0], "no time in gzip's head");
}

#[test]
fn things_that_are_twice_in_a_batch_are_once_in_the_profile() {
    let mut builder = Builder::new();
    let process = builder.process(1, "p", "/bin/p");
    for _ in 0..2 {
        let mapping = builder.mapping("/bin/p", "cc");
        let function = builder.function("f", "f", "", 0);
        let location = builder.location(LocationKind::Native, Some(mapping), 1, &[(function, 2)]);
        let stack = builder.stack(&[location, location]);
        builder.sample(process, 1, "p", stack, End::Complete, provenance::TABLE);
    }
    let profile = encoded(&builder.0);
    assert_eq!(rows(&profile), ["[2, 20202020] [1, 1] comm=p,thread name=p,pid=1,thread id=1"]);
    assert_eq!((profile.mapping.len(), profile.function.len(), profile.location.len()), (1, 1, 1));
}

#[test]
fn what_no_sample_uses_is_left_out() {
    let mut builder = Builder::new();
    let mapping = builder.mapping("/bin/unused", "");
    let function = builder.function("unused", "unused", "", 0);
    let location = builder.location(LocationKind::Native, Some(mapping), 1, &[(function, 2)]);
    builder.stack(&[location]);
    let profile = encoded(&builder.0);
    assert_eq!((profile.mapping.len(), profile.function.len(), profile.location.len()), (0, 0, 0));
    assert!(!profile.string_table.iter().any(|text| text.contains("unused")));
}

#[test]
fn the_samplers_own_root_marker_is_not_doubled() {
    let mut builder = Builder::new();
    let name = builder.function("[truncated]", "[truncated]", "", 0);
    let marker = builder.location(LocationKind::Marker, None, 0, &[(name, 0)]);
    let code = builder.location(LocationKind::Unknown, None, 9, &[]);
    let stack = builder.stack(&[code, marker]);
    let process = builder.process(1, "", "");
    builder.sample(process, 1, "", stack, End::Truncated, 0);
    assert_eq!(rows(&encoded(&builder.0)), ["[1, 10101010] [1, 2] unwind=truncated,pid=1,thread id=1"]);
}

#[test]
fn the_main_binary_is_that_of_the_process_with_the_most_cpu_time() {
    let mut builder = Builder::new();
    let mappings = [("/bin/a", 1), ("/bin/b", 3), ("/bin/c", 2)].map(|(name, samples)| {
        let mapping = builder.mapping(name, "");
        let location = builder.location(LocationKind::Native, Some(mapping), 1, &[]);
        let stack = builder.stack(&[location]);
        let process = builder.process(samples, "p", name);
        for _ in 0..samples {
            builder.sample(process, 1, "p", stack, End::Complete, 1);
        }
        name
    });
    let profile = encoded(&builder.0);
    let order: Vec<&str> = profile.mapping.iter().map(|mapping| text(&profile, mapping.filename)).collect();
    assert_eq!(order, [mappings[1], mappings[0], mappings[2]]);
}

#[test]
fn an_index_that_leads_nowhere_is_an_error() {
    let mut batch = small_batch();
    batch.samples[0].stack = StackIndex(99);
    assert_eq!(encode(&batch, &info()), Err(EncodeError { table: "stack", index: 99 }));
    let mut batch = small_batch();
    batch.stacks[0].locations[1] = LocationIndex(77);
    assert_eq!(encode(&batch, &info()), Err(EncodeError { table: "location", index: 77 }));
}

/// Marsaglia's xorshift: the same numbers on each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn sums_survive_whatever_the_batch() {
    let mut random = Random(0x5eed);
    for round in 0..200 {
        let mut builder = Builder::new();
        let mapping = builder.mapping("/bin/p", "");
        let kernel = builder.mapping("[kernel.kallsyms]", "");
        let places: Vec<LocationIndex> = (0..1 + random.below(6))
            .map(|place| {
                let function = builder.function(&format!("f{}", place % 3), "s", "", 0);
                let lines = vec![(function, place as u32); random.below(3) as usize];
                let mapping = [None, Some(mapping), Some(kernel)][random.below(3) as usize];
                builder.location(LocationKind::Native, mapping, place, &lines)
            })
            .collect();
        let stacks: Vec<StackIndex> = (0..1 + random.below(5))
            .map(|_| {
                let depth = random.below(4);
                let stack: Vec<_> = (0..depth).map(|_| places[random.below(places.len() as u64) as usize]).collect();
                builder.stack(&stack)
            })
            .collect();
        let processes = [builder.process(1, "one", "/bin/p"), builder.process(2, "two", "")];
        for _ in 0..random.below(50) {
            let process = processes[random.below(2) as usize];
            let stack = stacks[random.below(stacks.len() as u64) as usize];
            let end = End::ALL[random.below(End::ALL.len() as u64) as usize];
            builder.sample(process, random.below(3) as u32, "t", stack, end, random.below(16) as u8);
        }
        let batch = builder.0;
        let profile = decode(&to_gzip(&encoded(&batch))).unwrap();
        let count = batch.samples.len() as i64;
        let sum = |index: usize| profile.sample.iter().map(|sample| sample.value[index]).sum::<i64>();
        assert_eq!((sum(0), sum(1)), (count, count * 10_101_010), "round {round}");
        let by_process = |pid: i64| {
            let of_pid = profile.sample.iter().filter(|sample| {
                sample.label.iter().any(|label| text(&profile, label.key) == "pid" && label.num == pid)
            });
            of_pid.map(|sample| sample.value[0]).sum::<i64>()
        };
        for (position, pid) in [(0, 1), (1, 2)] {
            let expected = batch.samples.iter().filter(|sample| sample.process == processes[position]).count() as i64;
            assert_eq!(by_process(pid), expected, "round {round}, pid {pid}");
        }
        let ids: Vec<u64> = profile.location.iter().map(|location| location.id).collect();
        assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>(), "round {round}");
    }
}
