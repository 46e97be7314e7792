//! Profiles that travel in parts, and what may befall the parts.

use super::*;

/// Bytes that differ from part to part.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 ^ (at / PART_BYTES) as u8).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn opened(lines: &[String]) -> Result<Vec<u8>, Incomplete> {
    let mut parcel = Parcel::default();
    for line in lines {
        parcel.take(line.as_bytes());
    }
    parcel.open()
}

#[test]
fn what_is_wrapped_is_opened_whatever_its_size() {
    for length in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 17] {
        let text = wrap(&bytes(length)).unwrap();
        assert!(text.lines().all(|line| line.len() < MAX_LINE), "{length}");
        assert_eq!(opened(&lines(&text)), Ok(bytes(length)), "{length}");
    }
    assert_eq!(wrap(&vec![0; MAX_COMPRESSED_BYTES + 1]), Err(TooLarge(MAX_COMPRESSED_BYTES + 1)));
}

/// What happens to the lines on their way, and what comes of it.
type Case = (&'static str, fn(&mut Vec<String>), Result<(), Incomplete>);

#[test]
fn parts_may_come_in_any_order_and_twice_and_what_lacks_is_said() {
    let cases: [Case; 13] = [
        ("nothing happens", |_| {}, Ok(())),
        ("reversed", |lines| lines.reverse(), Ok(())),
        ("doubled", |lines| lines.extend(lines.clone()), Ok(())),
        ("with other lines", |lines| lines.insert(1, "everflame: profiling pod x".into()), Ok(())),
        ("no lines", Vec::clear, Err(Incomplete::Nothing)),
        ("truncated before the end", |lines| lines.truncate(2), Err(Incomplete::NoEnd { parts: 2 })),
        ("only the end", |lines| drop(lines.drain(..3)), Err(Incomplete::Parts { missing: 3, of: 3 })),
        ("one lost", |lines| drop(lines.remove(1)), Err(Incomplete::Parts { missing: 1, of: 3 })),
        (
            "one cut",
            |lines| {
                let length = lines[0].len() / 2;
                lines[0].truncate(length);
            },
            Err(Incomplete::Parts { missing: 1, of: 3 }),
        ),
        (
            "one damaged",
            |lines| {
                let last = lines[2].pop().unwrap();
                lines[2].push(if last == 'A' { 'B' } else { 'A' });
            },
            Err(Incomplete::Parts { missing: 1, of: 3 }),
        ),
        (
            "one damaged, and whole the second time",
            |lines| {
                let whole = lines.clone();
                lines[1].truncate(200);
                lines.extend(whole);
            },
            Ok(()),
        ),
        (
            "of another profile",
            |lines| lines[0] = wrap(&[7; 3 * PART_BYTES]).unwrap().lines().next().unwrap().to_owned(),
            Err(Incomplete::Checksum),
        ),
        ("end damaged", |lines| lines[3].push('0'), Err(Incomplete::NoEnd { parts: 3 })),
    ];
    let whole = bytes(2 * PART_BYTES + 100);
    for (name, change, expected) in cases {
        let mut lines = lines(&wrap(&whole).unwrap());
        change(&mut lines);
        assert_eq!(opened(&lines), expected.map(|()| whole.clone()), "{name}");
    }
}

#[test]
fn hostile_sizes_are_damage_and_take_no_memory() {
    let sum = checksum(b"x");
    for line in [
        format!("everflame/1 part 0 {} {sum} eA==", MAX_PARTS + 1),
        format!("everflame/1 part 18446744073709551615 18446744073709551615 {sum} eA=="),
        format!("everflame/1 part 3 3 {sum} eA=="),
        format!("everflame/1 part -1 3 {sum} eA=="),
        format!("everflame/1 part 0 3 {sum} {}", "A".repeat(PART_BYTES * 2)),
        format!("everflame/1 part 0 3 {sum} eA== eA=="),
        format!("everflame/1 part 0 3 {sum} e\u{1b}=="),
        "everflame/1 part 0 3".to_owned(),
        "everflame/1 part".to_owned(),
        "everflame/1 ".to_owned(),
        format!("everflame/1 end 1 {} {sum}", usize::MAX),
        format!("everflame/1 end {} {} {sum}", MAX_PARTS + 1, MAX_COMPRESSED_BYTES + 1),
        format!("everflame/1 end 2 1 {sum}"),
        format!("everflame/1 end 1 1 {}", &sum[1..]),
        format!("everflame/1 end 1 1 {}", "é".repeat(32)),
        "everflame/1 progress 1 2".to_owned(),
        "everflame/1 progress x 2 3".to_owned(),
        "everflame/1 unheard of".to_owned(),
    ] {
        let mut parcel = Parcel::default();
        assert_eq!(parcel.take(line.as_bytes()), Line::Damaged, "{line:.80}");
        assert_eq!(parcel.open(), Err(Incomplete::Nothing), "{line:.80}");
    }
    // Once the end is known, parts of another count are not kept.
    let mut parcel = Parcel::default();
    parcel.take(wrap(b"x").unwrap().lines().last().unwrap().as_bytes());
    assert_eq!(parcel.take(format!("everflame/1 part 7 9 {sum} eA==").as_bytes()), Line::Damaged);
}

#[test]
fn lines_that_are_no_parts_say_what_they_say() {
    let seconds = Duration::from_secs;
    for (line, expected) in [
        (
            progress(seconds(12), seconds(30), 1204),
            Line::Progress { elapsed: seconds(12), of: seconds(30), samples: 1204 },
        ),
        (summary("30.0 s,\n8 CPUs"), Line::Summary("30.0 s, 8 CPUs".into())),
        (
            "everflame: profiling pod x (1 container)\r\n".into(),
            Line::Note("everflame: profiling pod x (1 container)".into()),
        ),
        ("\u{1b}[31mred\u{7}".into(), Line::Note(" [31mred ".into())),
        ("everflame/2 part 0 1".into(), Line::OtherVersion),
        // Cut there, by chance.
        ("everflame/".into(), Line::Note("everflame/".into())),
        (String::new(), Line::Note(String::new())),
    ] {
        assert_eq!(Parcel::default().take(line.as_bytes()), expected, "{line:?}");
    }
    assert_eq!(Parcel::default().take(b"\xff\xfe"), Line::Note("\u{fffd}\u{fffd}".into()));
}

#[test]
fn a_stream_is_cut_into_lines_wherever_its_pieces_end() {
    let text = format!("one\n\ntwo\n{}\nlast", "x".repeat(2 * MAX_LINE));
    for piece in [1, 3, 4096, text.len()] {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for bytes in text.as_bytes().chunks(piece) {
            lines.push(bytes, |line| found.push(line.len()));
        }
        lines.finish(|line| found.push(line.len()));
        assert_eq!(found, [4, 1, 4, MAX_LINE, 4], "{piece}");
    }
}

#[test]
fn a_text_from_elsewhere_moves_no_cursor_and_turns_no_line_around() {
    assert_eq!(shown("a\u{1b}[2J\n\u{202e}b\u{200b}c"), "a [2J ?b?c");
    assert_eq!(shown(&"\u{202e}".repeat(2 * MAX_SHOWN)).chars().count(), MAX_SHOWN);
}
