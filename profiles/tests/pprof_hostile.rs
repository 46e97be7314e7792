//! Reading files that nobody should trust: no panic, no unbounded memory, and a reason.

mod pprof_batch;

use std::io::Write;

use pprof_batch::{info, small_batch};
use pprof_proto::{Function, Line, Location, Profile, Sample, ValueType};
use profiles::output::{OutputFormat, render};
use profiles::profile::pprof::{
    DecodeError, MAX_COMMENT_BYTES, MAX_COMMENTS, MAX_COMPRESSED_BYTES, MAX_MESSAGES, MAX_NUMBERS,
    MAX_UNCOMPRESSED_BYTES, decode, encode, to_gzip, to_raw,
};
use profiles::report::StackTable;
use profiles::report::stack_table::MAX_STACK_FRAMES;
use profiles::report::top::{TopOptions, render as top};

/// Makes everything of a profile that passed; none of it may panic.
fn use_it(profile: &Profile) {
    for format in [OutputFormat::Folded, OutputFormat::Svg, OutputFormat::Html, OutputFormat::Pprof] {
        let _ = render(profile, format, "t");
    }
    let _ = top(profile, &TopOptions::default());
}

#[test]
fn a_file_cut_at_any_byte_never_panics() {
    let profile = encode(&small_batch(), &info()).unwrap();
    let (raw, gzip) = (to_raw(&profile), to_gzip(&profile));
    for length in 0..raw.len() {
        if let Ok(profile) = decode(&raw[..length]) {
            use_it(&profile);
        }
    }
    for length in 0..gzip.len() {
        assert!(decode(&gzip[..length]).is_err(), "gzip cut at {length} of {}", gzip.len());
    }
}

#[test]
fn flipped_bits_never_panic() {
    let raw = to_raw(&encode(&small_batch(), &info()).unwrap());
    for bit in 0..raw.len() * 8 {
        let mut broken = raw.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        if let Ok(profile) = decode(&broken) {
            use_it(&profile);
        }
    }
}

#[test]
fn many_flipped_bits_with_a_fixed_seed_never_panic() {
    let raw = to_raw(&encode(&small_batch(), &info()).unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..500 {
        let mut broken = raw.clone();
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bit = (state >> 33) as usize % (broken.len() * 8);
            broken[bit / 8] ^= 1 << (bit % 8);
        }
        if let Ok(profile) = decode(&broken) {
            use_it(&profile);
        }
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_in_memory() {
    let too_large = vec![0; MAX_COMPRESSED_BYTES + 1];
    assert!(
        matches!(decode(&too_large), Err(DecodeError::FileTooLarge { bytes }) if bytes == MAX_COMPRESSED_BYTES + 1)
    );

    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..=MAX_UNCOMPRESSED_BYTES >> 20 {
        bomb.write_all(&zeros).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 4 << 20, "{} bytes", bomb.len());
    assert!(matches!(decode(&bomb), Err(DecodeError::UnpacksTooLarge)));

    // Two bytes each: a sample that is empty.
    let swarm = [0x12, 0].repeat(MAX_MESSAGES + 1);
    assert!(matches!(decode(&swarm), Err(DecodeError::TooManyMessages)));
    // One location whose lines are as many.
    let mut lines = vec![0x22];
    prost::encoding::encode_varint(2 * MAX_MESSAGES as u64, &mut lines);
    lines.extend([0x22, 0].repeat(MAX_MESSAGES));
    assert!(matches!(decode(&lines), Err(DecodeError::TooManyMessages)));
}

#[test]
fn one_list_of_more_numbers_than_memory_should_hold_is_refused() {
    // A sample with one list of locations.
    let mut list = vec![0x0a];
    prost::encoding::encode_varint(MAX_NUMBERS as u64 + 1, &mut list);
    list.resize(list.len() + MAX_NUMBERS + 1, 1);
    let mut sample = vec![0x12];
    prost::encoding::encode_varint(list.len() as u64, &mut sample);
    sample.extend(list);
    assert!(matches!(decode(&sample), Err(DecodeError::TooManyNumbers)));
}

#[test]
fn comments_that_would_be_much_text_are_refused() {
    let with = |length: usize, times: usize| Profile {
        sample_type: vec![ValueType { r#type: 0, unit: 0 }],
        string_table: vec![String::new(), "x".repeat(length)],
        comment: vec![1; times],
        ..Profile::default()
    };
    let longest = MAX_COMMENT_BYTES / 4;
    assert_eq!(decode(&to_raw(&with(longest, 4))).unwrap().comment.len(), 4);
    assert!(matches!(decode(&to_raw(&with(longest, 5))), Err(DecodeError::TooManyComments)));
    assert!(matches!(decode(&to_raw(&with(0, MAX_COMMENTS + 1))), Err(DecodeError::TooManyComments)));
}

#[test]
fn zstd_is_named() {
    let error = decode(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0]).unwrap_err();
    assert_eq!(error.to_string(), "it is compressed with zstd; unpack it first (`zstd -d`)");
}

/// `lines` lines in one location that each of `samples` samples names `times` times.
fn expanding(lines: usize, times: usize, samples: usize) -> Profile {
    Profile {
        string_table: ["", "n", "f"].map(str::to_owned).to_vec(),
        sample_type: vec![ValueType { r#type: 1, unit: 1 }],
        function: vec![Function { id: 1, name: 2, ..Function::default() }],
        location: vec![Location {
            id: 1,
            line: vec![Line { function_id: 1, ..Line::default() }; lines],
            ..Location::default()
        }],
        sample: vec![Sample { location_id: vec![1; times], value: vec![1], label: vec![] }; samples],
        ..Profile::default()
    }
}

#[test]
fn a_stack_that_expands_too_far_keeps_its_leaf_and_is_counted() {
    let table = StackTable::from_profile(&expanding(1_000, 20, 3)).unwrap();
    assert_eq!(table.cut_stacks, 3);
    assert_eq!(table.stacks.len(), 1);
    let frames = &table.stacks[0];
    assert_eq!(frames.len(), MAX_STACK_FRAMES + 1);
    assert_eq!(table.name_of(frames[0]), "[truncated]");
    assert_eq!(table.name_of(frames[frames.len() - 1]), "f");

    let whole = StackTable::from_profile(&expanding(1_024, 16, 1)).unwrap();
    assert_eq!((whole.cut_stacks, whole.stacks[0].len()), (0, MAX_STACK_FRAMES));
}

#[test]
fn values_that_can_not_be_summed_up_are_refused_or_shown_never_a_panic() {
    let mut profile = expanding(1, 1, 4);
    for sample in &mut profile.sample {
        sample.value = vec![i64::MAX];
    }
    assert!(render(&profile, OutputFormat::Svg, "t").is_err());
    let text = render(&profile, OutputFormat::Folded, "t").unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), format!("f {}\n", i128::from(i64::MAX) * 4));
    assert_eq!(StackTable::from_profile(&profile).unwrap().total(0), i64::MAX);
    use_it(&profile);
}
