//! A small table, byte for byte where the page depends on it.

use flate2::read::DeflateDecoder;
use std::collections::BTreeMap;
use std::io::Read;

use super::{MAX_CONTAINER_BYTES, PageError, PageOptions, container, render};
use crate::profile::LocationKind;
use crate::report::StackTable;
use crate::report::stack_table::{
    Frame, FrameId, FunctionId, Owner, OwnerId, SampleType, StackId, StackSample, TableFunction, TextId,
};

const HOSTILE: &str = "</script><script>alert(1)</script><!--";

fn table() -> StackTable {
    let strings = ["", "main", "parse", "src/p.rs", "server", "worker", "bad_read", HOSTILE];
    let function = |name: u32, kind: LocationKind| TableFunction {
        name: TextId(name),
        file: TextId(if name == 2 { 3 } else { 0 }),
        start_line: if name == 2 { 7 } else { -1 },
        mapping: TextId(4),
        kind,
        named: name != 7,
    };
    let frame = |function: u32, line: i64, inlined: bool| Frame { function: FunctionId(function), line, inlined };
    let sample = |stack: u32, owner: Option<u32>, unwind: u32, samples: i64| StackSample {
        stack: StackId(stack),
        owner: owner.map(OwnerId),
        unwind: TextId(unwind),
        values: vec![samples, samples * 10],
    };
    StackTable {
        strings: strings.map(str::to_owned).to_vec(),
        functions: vec![
            function(1, LocationKind::Native),
            function(2, LocationKind::Go),
            function(7, LocationKind::Unknown),
        ],
        // `parse` on two lines is one box, `parse` inlined another one.
        frames: vec![frame(0, 5, false), frame(1, 8, false), frame(1, 9, false), frame(1, 9, true), frame(2, 0, false)],
        stacks: vec![
            vec![FrameId(0), FrameId(1)],
            vec![FrameId(0), FrameId(2)],
            vec![FrameId(0), FrameId(3)],
            vec![FrameId(4)],
            vec![],
        ],
        owners: vec![Owner { pid: 10, process: TextId(4), tid: 11, thread: TextId(5) }],
        samples: vec![
            sample(0, Some(0), 0, 2),
            sample(1, Some(0), 0, 1),
            sample(2, Some(0), 0, 7),
            sample(3, None, 6, 20),
            sample(0, Some(0), 0, 3),
            sample(4, None, 0, 1),
            sample(4, None, 0, -1),
        ],
        sample_types: vec![
            SampleType { name: "samples".into(), unit: "count".into() },
            SampleType { name: "cpu".into(), unit: "nanoseconds".into() },
        ],
        default_type: 1,
        time_ns: 1_772_444_467_000_000_000,
        duration_ns: 10_000_000_000,
        period: 10,
        comments: vec![
            "sampling: hz=99 period_ns=10 cpus=2".into(),
            "kernel: release=6.12.9".into(),
            "ledger: due=40 recorded=33 idle=3 idle_undelivered=1 own=0 filtered=0 dropped.ring_full=1 undelivered=2 surplus=0".into(),
            // Of the five complete ones two are by frame pointer or stale.
            "ends: complete=5 no_user=3 no_memory=1 bad_read=1".into(),
            "stacks: user=6 complete=3 by_frame_pointer=1 stale=1".into(),
        ],
        main_binary: TextId(4),
        cut_stacks: 0,
    }
}

fn options() -> PageOptions {
    PageOptions { title: HOSTILE.to_owned(), ..PageOptions::default() }
}

/// The head, and a column by name as numbers.
fn read(bytes: &[u8]) -> (serde_json::Value, impl Fn(&str) -> Vec<f64> + use<>) {
    assert_eq!(&bytes[..8], b"EVFPAGE1");
    let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let head: serde_json::Value = serde_json::from_slice(&bytes[16..16 + length]).unwrap();
    let body = bytes[(16 + length).next_multiple_of(8)..].to_vec();
    let places = head["columns"].clone();
    let column = move |name: &str| {
        let place = &places[name];
        let (offset, length) = (place["offset"].as_u64().unwrap() as usize, place["length"].as_u64().unwrap() as usize);
        assert_eq!(offset % 8, 0, "{name}");
        if place["type"] == "u16" {
            let words = body[offset..offset + length * 2].chunks(2);
            words.map(|word| f64::from(u16::from_le_bytes(word.try_into().unwrap()))).collect()
        } else if place["type"] == "u32" {
            let words = body[offset..offset + length * 4].chunks(4);
            words.map(|word| f64::from(u32::from_le_bytes(word.try_into().unwrap()))).collect()
        } else {
            let words = body[offset..offset + length * 8].chunks(8);
            words.map(|word| f64::from_le_bytes(word.try_into().unwrap())).collect()
        }
    };
    (head, column)
}

#[test]
fn stacks_become_a_tree_with_the_largest_sibling_first() {
    let (head, column) = read(&container(&table(), &options()).unwrap());
    let none = f64::from(u32::MAX);
    assert_eq!(head["version"], 1);
    assert_eq!(head["kinds"][0], "native");
    // Boxes: main, parse, parse inlined, the unknown one.
    assert_eq!(column("frames.function"), [0.0, 1.0, 1.0, 2.0]);
    assert_eq!(column("frames.inlined"), [0.0, 0.0, 1.0, 0.0]);
    // Root → unknown (200 ns), main (130 ns) → parse inlined (70 ns), parse (60 ns).
    assert_eq!(column("nodes.frame"), [none, 3.0, 0.0, 2.0, 1.0]);
    assert_eq!(column("nodes.depth"), [0.0, 1.0, 1.0, 2.0, 2.0]);
}

/// The nodes below a path, depth first: each node's path.
fn below(path: &[u32], totals: &BTreeMap<Vec<u32>, f64>, out: &mut Vec<Vec<u32>>) {
    out.push(path.to_vec());
    let is_child = |other: &&Vec<u32>| other.len() == path.len() + 1 && other.starts_with(path);
    let mut children: Vec<&Vec<u32>> = totals.keys().filter(is_child).collect();
    children.sort_by(|a, b| totals[*b].total_cmp(&totals[*a]).then(a.cmp(b)));
    for child in children {
        below(child, totals, out);
    }
}

#[test]
fn any_stacks_become_the_tree_of_their_beginnings() {
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut made = table();
    made.stacks = (0..400).map(|_| (0..random(8)).map(|_| FrameId(random(5) as u32)).collect()).collect();
    made.samples = (0..500)
        .map(|_| StackSample {
            stack: StackId(random(400) as u32),
            owner: None,
            unwind: TextId(0),
            values: vec![1, random(3) as i64],
        })
        .collect();

    // Frames 1 and 2 are one box.
    let boxes =
        |stack: &Vec<FrameId>| stack.iter().map(|frame| [0, 1, 1, 2, 3][frame.0 as usize]).collect::<Vec<u32>>();
    let (mut totals, mut own) = (BTreeMap::<Vec<u32>, f64>::new(), BTreeMap::<Vec<u32>, f64>::new());
    for stack in &made.stacks {
        let path = boxes(stack);
        for length in 0..=path.len() {
            totals.entry(path[..length].to_vec()).or_default();
        }
    }
    for sample in &made.samples {
        let (path, value) = (boxes(&made.stacks[sample.stack.0 as usize]), sample.values[1] as f64);
        *own.entry(path.clone()).or_default() += value;
        for length in 0..=path.len() {
            *totals.entry(path[..length].to_vec()).or_default() += value;
        }
    }
    let mut expected = Vec::new();
    below(&[], &totals, &mut expected);
    assert!(expected.len() > 500);

    let (_, column) = read(&container(&made, &options()).unwrap());
    let last = |path: &Vec<u32>| f64::from(path.last().copied().unwrap_or(u32::MAX));
    assert_eq!(column("nodes.frame"), expected.iter().map(last).collect::<Vec<_>>());
    assert_eq!(column("nodes.depth"), expected.iter().map(|path| path.len() as f64).collect::<Vec<_>>());
    let mut found = BTreeMap::<Vec<u32>, f64>::new();
    for (node, value) in column("rows.node").into_iter().zip(column("rows.value.1")) {
        *found.entry(expected[node as usize].clone()).or_default() += value;
    }
    assert_eq!(found, own);
}

#[test]
fn rows_keep_owner_line_and_reason_and_are_merged_only_when_all_are_the_same() {
    let (head, column) = read(&container(&table(), &options()).unwrap());
    let none = f64::from(u32::MAX);
    assert_eq!(column("rows.node"), [0.0, 1.0, 3.0, 4.0, 4.0]);
    assert_eq!(column("rows.owner"), [none, none, 0.0, 0.0, 0.0]);
    assert_eq!(column("rows.line"), [0.0, 0.0, 9.0, 8.0, 9.0]);
    assert_eq!(column("rows.reason"), [0.0, 6.0, 0.0, 0.0, 0.0]);
    assert_eq!(column("rows.value.0"), [1.0, 20.0, 7.0, 5.0, 1.0]);
    assert_eq!(column("rows.value.1"), [10.0, 200.0, 70.0, 50.0, 10.0]);
    assert_eq!(head["notes"], serde_json::json!(["1 samples with a negative value are not shown."]));
}

#[test]
fn the_header_says_how_the_profile_was_measured() {
    let (head, _) = read(&container(&table(), &options()).unwrap());
    let facts: Vec<(String, String)> = head["facts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fact| (fact["label"].as_str().unwrap().to_owned(), fact["value"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [
        ("Started", "2026-03-02 09:41:07 UTC"),
        ("Duration", "10.0 s"),
        ("Rate", "99 Hz on 2 CPUs"),
        ("Samples", "34"),
        ("Complete stacks", "50.00 %"),
        // 19 of 39: the inlined `parse` is no place of its own.
        ("Named frames", "48.7 %"),
        ("Kernel", "6.12.9"),
        ("Ledger", "40 due = 33 recorded + 4 idle + 1 dropped + 2 undelivered"),
    ];
    assert_eq!(facts, expected.map(|(label, value)| (label.to_owned(), value.to_owned())));
}

#[test]
fn the_file_holds_the_container_and_no_text_of_the_profile_outside_of_it() {
    let page = String::from_utf8(render(&table(), &options()).unwrap()).unwrap();
    assert!(page.starts_with("<!doctype html>"));
    assert!(!page.contains("alert(1)"));
    assert!(page.contains("default-src 'none'; script-src 'sha256-"));
    assert!(!page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org/").count());
    let (_, after) = page.split_once("data-length=\"").unwrap();
    let (length, after) = after.split_once("\">").unwrap();
    let (data, _) = after.split_once("</script>").unwrap();
    let mut unpacked = Vec::new();
    DeflateDecoder::new(&decode_base64(data)[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked.len(), length.parse::<usize>().unwrap());
    assert_eq!(unpacked, container(&table(), &options()).unwrap());
    assert_eq!(render(&table(), &options()).unwrap(), page.as_bytes(), "the same bytes each time");
}

fn decode_base64(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => u32::from(letter - b'A'),
        b'a'..=b'z' => u32::from(letter - b'a') + 26,
        b'0'..=b'9' => u32::from(letter - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => 0,
    };
    let padding = text.bytes().rev().take_while(|letter| *letter == b'=').count();
    let groups = text.as_bytes().chunks(4).flat_map(|group| {
        let bits = group.iter().fold(0, |bits, letter| bits << 6 | value(*letter));
        bits.to_be_bytes()[1..].to_vec()
    });
    let mut bytes: Vec<u8> = groups.collect();
    bytes.truncate(bytes.len() - padding);
    bytes
}

#[test]
fn tables_that_are_not_consistent_are_refused() {
    type Damage = fn(&mut StackTable);
    let cases: [(Damage, &str); 7] = [
        (|table| table.frames[0].function = FunctionId(9), "the table's frames' function points outside of its table"),
        (|table| table.stacks[0][0] = FrameId(9), "the table's stacks' frame points outside of its table"),
        (|table| table.samples[0].stack = StackId(9), "the table's samples' stack points outside of its table"),
        (|table| table.samples[0].owner = Some(OwnerId(9)), "the table's samples' owner points outside of its table"),
        (|table| table.samples[0].unwind = TextId(99), "the table's text points outside of its table"),
        (|table| table.functions[0].name = TextId(99), "the table's text points outside of its table"),
        (|table| table.sample_types.clear(), "the profile has no sample type"),
    ];
    for (damage, message) in cases {
        let mut damaged = table();
        damage(&mut damaged);
        assert_eq!(render(&damaged, &options()).unwrap_err().to_string(), message);
    }
}

#[test]
fn an_empty_profile_is_a_page_too() {
    let sample_types = table().sample_types;
    let empty = StackTable { strings: vec![String::new()], sample_types, ..StackTable::default() };
    let (_, column) = read(&container(&empty, &PageOptions::default()).unwrap());
    assert_eq!(column("nodes.depth"), [0.0]);
    assert_eq!(column("rows.node"), [0.0; 0]);
}

#[test]
fn a_stack_deeper_than_the_format_counts_is_refused_and_the_deepest_one_is_not() {
    for (frames, fits) in [(65_535, true), (65_536, false)] {
        let mut deep = table();
        deep.stacks[0] = vec![FrameId(0); frames];
        let result = container(&deep, &options());
        assert_eq!(result.is_ok(), fits, "{frames}");
        assert!(fits || matches!(result, Err(PageError::TooDeep)));
    }
}

#[test]
fn errors_name_their_bounds() {
    let error = PageError::TooLarge { bytes: MAX_CONTAINER_BYTES + 1 };
    assert!(error.to_string().contains("1073741824"));
}
