//! Each of pprof's refusals, and what it allows though one might not think so.
#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

use pprof_proto::validity::{Invalid, check, parse};
use pprof_proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use prost::Message;

/// One sample in `f` at 0x10 of `/bin/x`.
fn valid() -> Profile {
    let strings = ["", "cpu", "nanoseconds", "/bin/x", "f", "f.c", "pid"];
    Profile {
        string_table: strings.map(str::to_owned).to_vec(),
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        period_type: Some(ValueType { r#type: 1, unit: 2 }),
        mapping: vec![Mapping { id: 1, memory_limit: u64::MAX, filename: 3, ..Mapping::default() }],
        function: vec![Function { id: 1, name: 4, system_name: 4, filename: 5, start_line: 7 }],
        location: vec![Location {
            id: 1,
            mapping_id: 1,
            address: 0x10,
            line: vec![Line { function_id: 1, line: 8, column: 0 }],
            is_folded: false,
        }],
        sample: vec![Sample {
            location_id: vec![1],
            value: vec![5],
            label: vec![Label { key: 6, str: 0, num: 42, num_unit: 0 }],
        }],
        time_nanos: 1,
        ..Profile::default()
    }
}

fn index(field: &'static str, index: i64) -> Invalid {
    Invalid::StringIndex { field, index, table_length: 7 }
}

#[test]
fn a_valid_profile_passes_and_survives_its_bytes() {
    assert_eq!(check(&valid()), Ok(()));
    assert_eq!(parse(&valid().encode_to_vec()), Ok(valid()));
}

type Break = fn(&mut Profile);

/// What is done to the valid profile, and the error it gives.
fn refusals() -> Vec<(Break, Invalid)> {
    vec![
        (|p| p.string_table[0] = "x".to_owned(), Invalid::FirstString("x".to_owned())),
        (|p| p.string_table.clear(), Invalid::StringIndex { field: "mapping.filename", index: 3, table_length: 0 }),
        (|p| p.mapping[0].filename = 7, index("mapping.filename", 7)),
        (|p| p.mapping[0].build_id = -1, index("mapping.build_id", -1)),
        (|p| p.function[0].name = 7, index("function.name", 7)),
        (|p| p.function[0].system_name = i64::MAX, index("function.system_name", i64::MAX)),
        (|p| p.function[0].filename = i64::MIN, index("function.filename", i64::MIN)),
        (|p| p.sample_type[0].r#type = 7, index("value_type.type", 7)),
        (|p| p.sample_type[0].unit = 7, index("value_type.unit", 7)),
        (|p| p.period_type = Some(ValueType { r#type: 7, unit: 0 }), index("value_type.type", 7)),
        (|p| p.sample[0].label[0].key = 7, index("label.key", 7)),
        (|p| p.sample[0].label[0].str = -7, index("label.str", -7)),
        (|p| p.sample[0].label[0].num_unit = 7, index("label.num_unit", 7)),
        (|p| p.drop_frames = 7, index("drop_frames", 7)),
        (|p| p.keep_frames = 7, index("keep_frames", 7)),
        (|p| p.comment = vec![0, 7], index("comment", 7)),
        (|p| p.default_sample_type = 7, index("default_sample_type", 7)),
        (|p| p.doc_url = 7, index("doc_url", 7)),
        (|p| p.sample_type.clear(), Invalid::NoSampleType),
        (|p| p.sample[0].value.clear(), Invalid::ValueCount { values: 0, types: 1 }),
        (|p| p.sample[0].value.push(6), Invalid::ValueCount { values: 2, types: 1 }),
        (|p| p.sample[0].location_id.push(2), Invalid::UnknownLocation(2)),
        (|p| p.sample[0].location_id[0] = 0, Invalid::UnknownLocation(0)),
        (|p| p.mapping[0].id = 0, Invalid::MappingIdZero),
        (|p| p.mapping.push(p.mapping[0]), Invalid::MappingIdTwice(1)),
        (|p| p.function[0].id = 0, Invalid::FunctionIdZero),
        (|p| p.function.push(p.function[0]), Invalid::FunctionIdTwice(1)),
        (|p| (p.location[0].id, p.sample[0].location_id[0]) = (0, 0), Invalid::LocationIdZero),
        (|p| p.location.push(p.location[0].clone()), Invalid::LocationIdTwice(1)),
        (|p| p.location[0].line[0].function_id = 0, Invalid::UnknownFunction { location: 1, function: 0 }),
        (|p| p.location[0].line[0].function_id = 9, Invalid::UnknownFunction { location: 1, function: 9 }),
    ]
}

#[test]
fn each_refusal_of_pprof_has_its_own_error() {
    for (number, (break_it, expected)) in refusals().into_iter().enumerate() {
        let mut profile = valid();
        break_it(&mut profile);
        assert_eq!(check(&profile), Err(expected.clone()), "case {number}");
        assert_eq!(parse(&profile.encode_to_vec()), Err(expected), "case {number}, from bytes");
    }
}

fn allowed() -> Vec<Break> {
    vec![
        |p| p.location[0].mapping_id = 0,
        |p| p.location[0].mapping_id = 77,
        |p| p.sample.clear(),
        |p| p.sample[0].location_id.clear(),
        |p| p.location[0].line.clear(),
        |p| p.period = 0,
        |p| p.period_type = None,
        // A text label's number half is not looked at.
        |p| p.sample[0].label[0] = Label { key: 6, str: 4, num: 0, num_unit: 99 },
        |p| p.mapping[0].id = u64::MAX,
    ]
}

#[test]
fn what_pprof_allows_passes() {
    for (number, change) in allowed().into_iter().enumerate() {
        let mut profile = valid();
        change(&mut profile);
        assert_eq!(check(&profile), Ok(()), "case {number}");
        assert_eq!(parse(&profile.encode_to_vec()).as_ref(), Ok(&profile), "case {number}, from bytes");
    }
}

#[test]
fn what_shows_only_in_the_bytes_is_refused_too() {
    let bytes = valid().encode_to_vec();
    assert_eq!(parse(b""), Err(Invalid::Empty));
    assert_eq!(parse(&[bytes.clone(), bytes.clone()].concat()), Err(Invalid::Concatenated));
    // string_table as a varint; a text cut short; a text that is not UTF-8.
    for broken in [&[0x30, 1][..], &[0x32, 5, b'a'], &[0x32, 1, 0xff]] {
        assert!(matches!(parse(broken), Err(Invalid::Wire(_))), "{broken:?}");
    }
    // A field that no version knows is skipped.
    assert_eq!(parse(&[&bytes[..], &[0xa0, 0x06, 1]].concat()), Ok(valid()));
}

#[test]
fn two_profiles_of_which_one_has_no_time_pass_the_concatenation_check_as_in_pprof() {
    let mut second = valid();
    second.time_nanos = 0;
    let both = [valid().encode_to_vec(), second.encode_to_vec()].concat();
    // The tables are joined, so that the first profile's sample lacks a value.
    assert_eq!(parse(&both), Err(Invalid::ValueCount { values: 1, types: 2 }));
}

#[test]
fn truncated_and_flipped_bytes_never_panic() {
    let bytes = valid().encode_to_vec();
    for length in 0..bytes.len() {
        let _ = parse(&bytes[..length]);
    }
    for bit in 0..bytes.len() * 8 {
        let mut broken = bytes.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        if let Ok(profile) = parse(&broken) {
            assert_eq!(check(&profile), Ok(()), "bit {bit}");
        }
    }
}

/// pprof's words for a refusal. What it can't decode at all it tries as a text format of old, and then says only this.
fn words_of_pprof(invalid: &Invalid) -> String {
    match invalid {
        Invalid::FirstString(_) | Invalid::StringIndex { .. } | Invalid::Wire(_) => {
            "unrecognized profile format".to_owned()
        }
        Invalid::UnknownLocation(_) => "sample has nil location".to_owned(),
        Invalid::UnknownFunction { location, .. } => format!("location id: {location} has a line with nil function"),
        other => other.to_string(),
    }
}

/// What `go tool pprof` says to the bytes: `Ok` if it reads them. `None`, with the reason printed, if there is no Go; in
/// continuous integration (`CI` is set) that is a failure.
fn real_pprof(bytes: &[u8], name: &str) -> Option<Result<(), String>> {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).unwrap();
    let command =
        std::process::Command::new("go").args(["tool", "pprof", "-symbolize=none", "-raw"]).arg(&path).output();
    match command {
        Ok(output) if output.status.success() => Some(Ok(())),
        Ok(output) => Some(Err(String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "can't be skipped in CI: `go tool pprof`: {error}");
            eprintln!("skipped: `go tool pprof` can't be run here: {error}");
            None
        }
    }
}

#[test]
fn the_real_pprof_refuses_the_same_for_the_same_reason() {
    let mut bytes: Vec<(Vec<u8>, Invalid)> = Vec::new();
    for (break_it, expected) in refusals() {
        let mut profile = valid();
        break_it(&mut profile);
        bytes.push((profile.encode_to_vec(), expected));
    }
    let once = valid().encode_to_vec();
    bytes.push((Vec::new(), Invalid::Empty));
    bytes.push(([once.clone(), once].concat(), Invalid::Concatenated));
    for (number, (bytes, expected)) in bytes.into_iter().enumerate() {
        let Some(said) = real_pprof(&bytes, "refused.pb") else { return };
        let words = words_of_pprof(&expected);
        assert!(said.as_ref().is_err_and(|said| said.contains(&words)), "case {number}: {words:?} is not in {said:?}");
    }
}

#[test]
fn the_real_pprof_allows_the_same() {
    for (number, change) in allowed().into_iter().enumerate() {
        let mut profile = valid();
        change(&mut profile);
        let Some(said) = real_pprof(&profile.encode_to_vec(), "allowed.pb") else { return };
        assert_eq!(said, Ok(()), "case {number}");
    }
}
