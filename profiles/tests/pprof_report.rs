//! Profile → table, top, folded lines, picture, result line: exact rows.
#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod pprof_batch;

use pprof_batch::{info, small_batch};
use pprof_proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use profiles::ledger::Ledger;
use profiles::output;
use profiles::page::{self, PageOptions};
use profiles::profile::pprof::encode;
use profiles::profile::{LocationKind, StackCounts};
use profiles::report::StackTable;
use profiles::report::folded::{self, FoldedOptions};
use profiles::report::stack_table::{Owner, StackId};
use profiles::report::summary::{Quality, summary};
use profiles::report::svg;
use profiles::report::top::{TopOptions, render as top};

fn ours() -> Profile {
    encode(&small_batch(), &info()).unwrap()
}

/// Another tool's heap profile: two sample types, addresses as loaded, ids as texts, no default.
fn heap() -> Profile {
    let strings = [
        "",
        "inuse_objects",
        "count",
        "inuse_space",
        "bytes",
        "/opt/app/server",
        "main.main",
        "/src/main.go",
        "main.alloc;x",
        "thread_id",
        "77",
        "/lib/libz.so",
        "process_name",
        "web 1",
    ];
    let line = |function_id: u64, line: i64| Line { function_id, line, column: 0 };
    let label = |key: i64, str: i64| Label { key, str, num: 0, num_unit: 0 };
    Profile {
        string_table: strings.map(str::to_owned).to_vec(),
        sample_type: vec![ValueType { r#type: 1, unit: 2 }, ValueType { r#type: 3, unit: 4 }],
        mapping: vec![
            Mapping { id: 9, memory_start: 0x40_0000, memory_limit: 0x50_0000, filename: 5, ..Mapping::default() },
            Mapping {
                id: 4,
                memory_start: 0x7f00_0000,
                memory_limit: 0x7f10_0000,
                file_offset: 0x2000,
                filename: 11,
                ..Mapping::default()
            },
        ],
        function: vec![
            Function { id: 20, name: 6, system_name: 6, filename: 7, start_line: 3 },
            Function { id: 10, name: 0, system_name: 8, filename: 7, start_line: 9 },
        ],
        location: vec![
            Location {
                id: 5,
                mapping_id: 9,
                address: 0x40_1000,
                line: vec![line(10, 11), line(20, 4)],
                is_folded: false,
            },
            Location { id: 6, mapping_id: 4, address: 0x7f00_0123, ..Location::default() },
        ],
        sample: vec![
            Sample { location_id: vec![5], value: vec![3, 3 << 20], label: vec![label(9, 10)] },
            Sample { location_id: vec![6, 5], value: vec![1, 1 << 20], label: vec![label(12, 13)] },
            Sample { location_id: vec![], value: vec![1, 0], label: vec![] },
        ],
        ..Profile::default()
    }
}

#[test]
fn a_stack_is_root_first_with_inlined_frames_marked_and_unnamed_places_shown() {
    let table = StackTable::from_profile(&ours()).unwrap();
    let shown = |stack: usize| -> Vec<String> {
        let frames = table.frames_of(StackId(stack as u32)).iter().map(|id| {
            let frame = table.frames[id.0 as usize];
            let function = table.function_of(*id).unwrap();
            let inlined = if frame.inlined { " inlined" } else { "" };
            let (file, mapping) = (table.text(function.file), table.text(function.mapping));
            format!("{}|{file}:{}|{mapping}|{}{inlined}", table.name_of(*id), frame.line, function.kind.name())
        });
        frames.collect()
    };
    assert_eq!(
        shown(0),
        [
            "main|src/main.rs:3|server|native",
            "server::outer|src/outer.rs:22|server|native",
            "server::inner|src/inner.rs:12|server|native inlined",
            "do_syscall_64|:0|[kernel.kallsyms]|kernel",
        ]
    );
    assert_eq!(shown(1), ["[unknown] libc.so.6+0x5678|:0|libc.so.6|native"]);
    assert_eq!(shown(2)[0], "[truncated]|:0||marker");
    let named: Vec<bool> = table.functions.iter().map(|function| function.named).collect();
    assert_eq!(named.iter().filter(|named| !**named).count(), 1);
    assert_eq!((table.default_type, table.text(table.main_binary)), (1, "server"));
    assert_eq!((table.total(0), table.total(1)), (5, 50_505_050));
}

#[test]
fn samples_know_their_process_thread_and_why_they_stopped() {
    let table = StackTable::from_profile(&ours()).unwrap();
    let owners: Vec<_> = table
        .samples
        .iter()
        .map(|sample| {
            let Owner { pid, process, tid, thread } = table.owners[sample.owner.unwrap().0 as usize];
            (pid, table.text(process), tid, table.text(thread), table.text(sample.unwind))
        })
        .collect();
    assert_eq!(
        owners,
        [
            (100, "server", 100, "server", ""),
            (100, "server", 101, "worker", "bad_read"),
            (100, "server", 101, "worker", "truncated"),
            (7, "kworker/0:1", 7, "kworker/0:1", ""),
        ]
    );
}

#[test]
fn top_lists_the_hottest_by_process() {
    assert_eq!(
        top(&ours(), &TopOptions::default()).unwrap(),
        " self   total  function (the hottest, by process)
40.0%   40.0%  server: do_syscall_64
20.0%   60.0%  server: server::inner
20.0%   20.0%  server: [unknown] libc.so.6+0x5678
20.0%   20.0%  kworker/0:1: do_syscall_64
 0.0%   60.0%  server: server::outer
 0.0%   40.0%  server: main
 0.0%   20.0%  server: [truncated]
"
    );
}

#[test]
fn top_sums_up_what_it_does_not_list_and_shows_values_on_request() {
    let options = TopOptions { rows: 1, by_process: false, values: true, sample_type: None };
    assert_eq!(
        top(&ours(), &options).unwrap(),
        " self   total        self       total  function (the hottest)
60.0%   60.0%    30.30 ms    30.30 ms  do_syscall_64
40.0%            20.20 ms              (5 more)
"
    );
}

#[test]
fn a_heap_profile_is_read_by_its_last_or_the_chosen_sample_type() {
    let options = |sample_type: Option<&str>| TopOptions {
        sample_type: sample_type.map(str::to_owned),
        by_process: false,
        values: true,
        ..TopOptions::default()
    };
    assert_eq!(
        top(&heap(), &options(None)).unwrap(),
        " self   total        self       total  function (the hottest)
75.0%    100%    3.00 MiB    4.00 MiB  main.alloc;x
25.0%   25.0%    1.00 MiB    1.00 MiB  [unknown] libz.so+0x2123
 0.0%    100%           0    4.00 MiB  main.main
"
    );
    assert_eq!(
        top(&heap(), &options(Some("inuse_objects"))).unwrap(),
        " self   total        self       total  function (the hottest)
60.0%   80.0%           3           4  main.alloc;x
20.0%   20.0%           1           1  [unknown] libz.so+0x2123
 0.0%   80.0%           0           4  main.main
"
    );
    assert_eq!(
        top(&heap(), &options(Some("cpu"))).unwrap_err().to_string(),
        "the profile has no sample type `cpu`; it has: inuse_objects, inuse_space"
    );
}

#[test]
fn another_tools_labels_and_kinds_are_understood() {
    let table = StackTable::from_profile(&heap()).unwrap();
    assert_eq!((table.owners[0].tid, table.text(table.owners[1].process)), (77, "web 1"));
    assert_eq!(table.samples[2].owner, None);
    let kinds: Vec<_> = table.functions.iter().map(|function| (table.text(function.name), function.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("main.alloc;x", LocationKind::Go),
            ("main.main", LocationKind::Go),
            ("[unknown] libz.so+0x2123", LocationKind::Native)
        ]
    );
}

#[test]
fn folded_lines_are_sorted_root_first_and_escape_what_the_format_can_not_hold() {
    let table = StackTable::from_profile(&ours()).unwrap();
    assert_eq!(
        folded::render(&table, 0, FoldedOptions::default()).unwrap(),
        "kworker/0:1;do_syscall_64 1
server;[truncated];server::outer;server::inner;server::outer;server::inner 1
server;[unknown] libc.so.6+0x5678 1
server;main;server::outer;server::inner;do_syscall_64 2
"
    );
    let table = StackTable::from_profile(&heap()).unwrap();
    assert_eq!(
        folded::render(&table, 0, FoldedOptions::default()).unwrap(),
        "[no stack] 1
main.main;main.alloc:x 3
web_1;main.main;main.alloc:x;[unknown] libz.so+0x2123 1
"
    );
    let annotated = FoldedOptions { by_process: false, annotate: true };
    assert_eq!(
        folded::render(&StackTable::from_profile(&ours()).unwrap(), 0, annotated).unwrap(),
        "[truncated];server::outer;server::inner_[i];server::outer;server::inner_[i] 1
[unknown] libc.so.6+0x5678 1
do_syscall_64_[k] 1
main;server::outer;server::inner_[i];do_syscall_64_[k] 2
"
    );
}

#[test]
fn the_picture_holds_every_function_with_its_share() {
    let picture = String::from_utf8(svg::render(&ours(), Some("samples"), "a <host>").unwrap()).unwrap();
    for text in [
        "<title>server::inner (2 samples, 40.00%)</title>",
        "<title>kworker/0:1 (1 samples, 20.00%)</title>",
        "<title>all (5 samples, 100%)</title>",
        "Everflame: a &lt;host&gt;",
        "ledger: due=1980 recorded=5",
    ] {
        assert!(picture.contains(text), "no {text:?} in\n{picture}");
    }
    let empty = Profile { sample: vec![], ..ours() };
    assert_eq!(
        svg::render(&empty, None, "").unwrap_err().to_string(),
        "the profile has no sample with a value above 0"
    );
}

#[test]
fn a_picture_of_no_samples_says_so_and_replaces_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.svg");
    std::fs::write(&file, "an older one").unwrap();
    let empty = Profile { sample: vec![], ..ours() };
    output::write(&empty, &file, "a <host>").unwrap();
    let picture = std::fs::read_to_string(&file).unwrap();
    for text in [">Everflame: a &lt;host&gt;</text>", ">ledger: due=1980 recorded=5", ">no samples</text>\n</svg>\n"] {
        assert!(picture.contains(text), "no {text:?} in\n{picture}");
    }
    let mut gone = ours();
    gone.sample.iter_mut().flat_map(|sample| &mut sample.value).for_each(|value| *value = -1);
    let picture = String::from_utf8(svg::without_samples(&gone, "").unwrap()).unwrap();
    assert!(picture.contains(">no sample with a value above 0</text>"), "{picture}");
}

#[test]
fn what_can_t_be_made_names_its_file_and_leaves_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.html");
    std::fs::write(&file, "an older one").unwrap();
    let nothing = Profile { string_table: vec![String::new()], ..Profile::default() };
    let error = output::write(&nothing, &file, "").unwrap_err();
    assert_eq!(error.to_string(), format!("can't make {}: the profile has no sample type", file.display()));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "an older one");
}

#[test]
fn the_picture_s_subtitle_has_lines_that_fit_and_is_cut_where_it_has_too_many() {
    let lines_of = |comment: &str| -> Vec<String> {
        let mut profile = ours();
        for text in profile.string_table.iter_mut().filter(|text| text.starts_with("ledger: ")) {
            *text = comment.to_owned();
        }
        let picture = String::from_utf8(svg::render(&profile, Some("samples"), "").unwrap()).unwrap();
        let subtitle = picture.split("<text id=\"subtitle\">").nth(1).unwrap().split("</text>").next().unwrap();
        subtitle
            .split("<tspan x=\"50%\" y=\"")
            .skip(1)
            .map(|span| span.trim_end_matches("</tspan>").to_owned())
            .collect()
    };
    assert_eq!(lines_of("ledger: due=9 idle=0 recorded=10"), ["42\">ledger: due=9 recorded=10"]);
    let words = |count: usize| format!("ledger: {}", vec!["<1234567"; count].join(" "));
    let escaped = |count: usize| vec!["&lt;1234567"; count].join(" ");
    assert_eq!(lines_of(&words(12)), [format!("42\">ledger: {}", escaped(12))]);
    assert_eq!(lines_of(&words(13)), [format!("42\">ledger: {}", escaped(12)), "56\">&lt;1234567".to_owned()]);
    assert_eq!(lines_of(&words(99)), [format!("42\">ledger: {}", escaped(12)), format!("56\">{} …", escaped(13))]);
    let long = "x".repeat(500);
    assert_eq!(lines_of(&format!("ledger: {long}"))[1], format!("56\">{}…", "x".repeat(120)));
}

#[test]
fn no_name_makes_the_picture_ill_formed_or_reaches_the_terminal_as_a_command() {
    const HOSTILE: &str = "\x1b[2J<\u{fffe}&\u{ffff}\u{9b}\x01\x7f\u{202e}";
    let mut profile = ours();
    for text in profile.string_table.iter_mut().filter(|text| !["", "samples", "cpu", "comm"].contains(&text.as_str()))
    {
        *text += HOSTILE;
    }
    let picture = String::from_utf8(svg::render(&profile, Some("samples"), HOSTILE).unwrap()).unwrap();
    // What XML 1.0 takes of those: the three white ones.
    let is_refused =
        |letter: char| (letter.is_control() && !"\n\r\t".contains(letter)) || matches!(letter, '\u{fffe}' | '\u{ffff}');
    assert!(!picture.contains(is_refused), "{picture:?}");
    assert!(picture.contains("server::inner?[2J&lt;?&amp;????"), "{picture}");
    let table = top(&profile, &TopOptions { values: true, ..TopOptions::default() }).unwrap();
    assert!(
        !table.contains(|letter: char| letter != '\n' && (letter.is_control() || letter == '\u{202e}')),
        "{table:?}"
    );
    assert!(table.contains("server?[2J<?&?????: server::inner?[2J<?&?????\n"), "{table}");
    let wanted = TopOptions { sample_type: Some("x".to_owned()), ..TopOptions::default() };
    profile.string_table.iter_mut().filter(|text| *text == "samples").for_each(|text| *text += HOSTILE);
    let error = top(&profile, &wanted).unwrap_err().to_string();
    assert!(!error.contains(char::is_control) && error.contains("samples?[2J"), "{error:?}");
}

#[test]
fn the_result_line_counts_what_is_complete_named_and_lost() {
    let batch = small_batch();
    // 4 user samples: 2 complete. 4 + 4 frames of the complete stack's three places are named, libc's is not.
    let stacks = StackCounts { user: 4, complete: 2, by_frame_pointer: 0, stale: 0 };
    let quality = Quality { stacks, frames: 10, named: 9 };
    assert_eq!(Quality::of(&batch), quality);
    assert_eq!(
        summary(&batch, &info()),
        "10.0 s, 2 CPUs, 99 Hz: 5 samples, 50.00 % complete, 90.0 % named, 5 lost \
         (ledger: 1 980 due = 5 + 1 970 idle + 3 dropped + 2 undelivered)"
    );
}

#[test]
fn stacks_by_frame_pointer_are_counted_apart_and_kernel_threads_not_at_all() {
    use unwind::end::{End, provenance};
    let mut batch = small_batch();
    for (sample, (end, bits)) in batch.samples.iter_mut().zip([
        (End::Complete, provenance::TABLE),
        (End::Complete, provenance::TABLE | provenance::FRAME_POINTER),
        (End::FramePointerZero, provenance::FRAME_POINTER),
        (End::Complete, provenance::TABLE | provenance::COPIED),
    ]) {
        (sample.end, sample.provenance) = (end, bits);
    }
    batch.ledger = Ledger { due: 1_980, recorded: 1_942, idle: 38, ..Ledger::default() };
    assert_eq!(
        summary(&batch, &info()),
        "10.0 s, 2 CPUs, 99 Hz: 1 942 samples, 50.00 % complete, 50.00 % by frame pointer, 90.0 % named, 0 lost \
         (ledger: 1 980 due = 1 942 + 38 idle + 0 dropped + 0 undelivered)"
    );
    batch.samples.retain(|sample| sample.end == End::NoUser);
    batch.ledger = Ledger { due: 1, recorded: 1, ..Ledger::default() };
    assert_eq!(
        summary(&batch, &profiles::profile::pprof::ProfileInfo { cpus: 1, ..info() }),
        "10.0 s, 1 CPU, 99 Hz: 1 sample, no user stacks, 100 % named, 0 lost \
         (ledger: 1 due = 1 + 0 idle + 0 dropped + 0 undelivered)"
    );
}

#[test]
fn the_page_says_the_same_of_complete_stacks_and_of_the_ledger_as_the_result_line() {
    use unwind::end::{End, provenance};
    let mut batch = small_batch();
    for (sample, (end, bits)) in batch.samples.iter_mut().zip([
        (End::Complete, provenance::TABLE),
        (End::Complete, provenance::TABLE | provenance::FRAME_POINTER),
        (End::Complete, provenance::TABLE | provenance::STALE),
        (End::Complete, provenance::TABLE | provenance::COPIED),
        (End::NoUser, provenance::STALE),
    ]) {
        (sample.end, sample.provenance) = (end, bits);
    }
    batch.ledger = Ledger { due: 20, recorded: 5, idle: 7, idle_undelivered: 8, ..Ledger::default() };
    let line = summary(&batch, &info());
    assert!(line.contains("50.00 % complete, 25.00 % by frame pointer, 25.00 % stale"), "{line}");
    assert!(line.contains("ledger: 20 due = 5 + 15 idle + 0 dropped"), "{line}");

    let table = StackTable::from_profile(&encode(&batch, &info()).unwrap()).unwrap();
    let head = String::from_utf8_lossy(&page::container(&table, &PageOptions::default()).unwrap()).into_owned();
    for fact in [
        r#""label":"Complete stacks","value":"50.00 %""#,
        r#""label":"Ledger","value":"20 due = 5 recorded + 15 idle + 0 dropped + 0 undelivered""#,
    ] {
        assert!(head.contains(fact), "no {fact} in\n{head}");
    }
}
