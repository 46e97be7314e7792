use super::*;

const NOW: u64 = 1_700_000_000_000;

fn range(from_ms: u64, to_ms: u64, filters: Vec<(Label, Match)>) -> RangeQuestion {
    let query = Query { from_ns: from_ms * NS_PER_MS, to_ns: to_ms * NS_PER_MS, filters };
    RangeQuestion { from_ms, to_ms, query }
}

fn parse(target: &str) -> Result<Question, String> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Question::parse(path, query, NOW).map_err(|refusal| format!("{} {refusal}", refusal.status().as_u16()))
}

#[test]
fn paths_and_parameters_are_questions() {
    let hour = || range(NOW - 3_600_000, NOW, Vec::new());
    let filtered = |filters: &[(Label, Match)]| Question::Profile(range(1, 9, filters.to_vec()));
    let cases = [
        ("/", Question::Document),
        ("/?token=x&y", Question::Document),
        ("/api/v1/status", Question::Status),
        ("/api/v1/status?", Question::Status),
        ("/api/v1/labels", Question::Labels(hour())),
        ("/api/v1/profile?from=5&to=5", Question::Profile(range(5, 5, Vec::new()))),
        ("/api/v1/profile?to=5", Question::Profile(range(0, 5, Vec::new()))),
        ("/api/v1/values?label=pod", Question::Values { range: hour(), label: Label::Pod, limit: 50 }),
        ("/api/v1/values?label=pod&limit=0", Question::Values { range: hour(), label: Label::Pod, limit: 0 }),
        (
            "/api/v1/series?by=process",
            Question::Series { range: hour(), by: Label::Process, step_ms: 18_000, limit: 8 },
        ),
        (
            "/api/v1/series?by=node&from=10&to=20&steps=3&limit=100",
            Question::Series { range: range(10, 20, Vec::new()), by: Label::Node, step_ms: 4, limit: 100 },
        ),
        (
            "/api/v1/series?by=node&from=10&to=10",
            Question::Series { range: range(10, 10, Vec::new()), by: Label::Node, step_ms: 1, limit: 8 },
        ),
        ("/api/v1/download?form=svg", Question::Download { range: hour(), form: Form::Svg }),
        (
            "/api/v1/profile?from=1&to=9&where=pod%3Da%3Db&where=pod^=c&where=thread~%3D%20%E2%82%AC",
            filtered(&[
                (Label::Pod, Match::Equals("a=b".into())),
                (Label::Pod, Match::Prefix("c".into())),
                (Label::Thread, Match::Contains(" €".into())),
            ]),
        ),
        ("/api/v1/profile?from=1&to=9&where=pod=", filtered(&[(Label::Pod, Match::Equals(String::new()))])),
    ];
    for (target, expected) in cases {
        assert_eq!(parse(target), Ok(expected), "{target}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let labels = "there are namespace, workload, pod, container, service, process, thread, executable, node";
    let filter = "a filter is written label=value, label^=value or label~=value";
    let many = format!("/api/v1/labels?{}", "where=pod=a&".repeat(33));
    let long = format!("/api/v1/labels?where=pod={}", "a".repeat(1024));
    let cases = [
        ("", "404 there is nothing here; docs/http.md lists what there is".to_owned()),
        ("/api/v1/", "404 there is nothing here; docs/http.md lists what there is".to_owned()),
        ("/api/v1/status/", "404 there is nothing here; docs/http.md lists what there is".to_owned()),
        ("//api/v1/status", "404 there is nothing here; docs/http.md lists what there is".to_owned()),
        ("/../etc/passwd", "404 there is nothing here; docs/http.md lists what there is".to_owned()),
        ("/api/v1/status?x", "400 unknown parameter `x`".to_owned()),
        ("/api/v1/labels?step=1", "400 unknown parameter `step`".to_owned()),
        ("/api/v1/labels?from=1&from=1", "400 the parameter `from` is given twice".to_owned()),
        ("/api/v1/labels?from=2&to=1", "400 from must not be after to".to_owned()),
        ("/api/v1/labels?from=", "400 from must be a whole number from 0 to 9223372036854".to_owned()),
        ("/api/v1/labels?from=-1", "400 from must be a whole number from 0 to 9223372036854".to_owned()),
        ("/api/v1/labels?from=%2B1", "400 from must be a whole number from 0 to 9223372036854".to_owned()),
        ("/api/v1/labels?from=1.5", "400 from must be a whole number from 0 to 9223372036854".to_owned()),
        ("/api/v1/labels?to=9223372036855", "400 to must be a whole number from 0 to 9223372036854".to_owned()),
        ("/api/v1/values", "400 label is missing: a label's name".to_owned()),
        ("/api/v1/values?label=colour", format!("400 there is no label `colour`; {labels}")),
        ("/api/v1/values?label=pod&limit=10001", "400 limit must be a whole number from 0 to 10000".to_owned()),
        ("/api/v1/series?from=1", "400 by is missing: a label's name".to_owned()),
        ("/api/v1/series?by=pod&steps=0", "400 steps must be a whole number from 1 to 2000".to_owned()),
        ("/api/v1/series?by=pod&steps=2001", "400 steps must be a whole number from 1 to 2000".to_owned()),
        ("/api/v1/series?by=pod&limit=101", "400 limit must be a whole number from 0 to 100".to_owned()),
        ("/api/v1/download", "400 form must be pb.gz, svg, folded or html".to_owned()),
        ("/api/v1/download?form=exe", "400 form must be pb.gz, svg, folded or html".to_owned()),
        ("/api/v1/labels?where=pod", format!("400 {filter}")),
        ("/api/v1/labels?where", format!("400 {filter}")),
        ("/api/v1/labels?where==x", format!("400 there is no label ``; {labels}")),
        ("/api/v1/labels?where=pod!=x", format!("400 there is no label `pod!`; {labels}")),
        (many.as_str(), "400 more than 32 filters".to_owned()),
        (long.as_str(), "400 a filter has 1024 bytes at most".to_owned()),
    ];
    for (target, expected) in cases {
        assert_eq!(parse(target), Err(expected), "{target}");
    }
}

#[test]
fn whatever_is_asked_is_within_bounds() {
    // xorshift: the same everywhere. Words that questions are made of, glued together at random.
    let words = [
        "from=",
        "to=",
        "where=",
        "pod",
        "thread",
        "=",
        "^=",
        "~=",
        "&",
        "&",
        "%",
        "%00",
        "%ff",
        "steps=",
        "limit=",
        "by=",
        "label=",
        "form=",
        "svg",
        "0",
        "1",
        "99999999999999999999",
        "-",
        "+",
        "é",
        "?",
        "#",
        ";",
        "\0",
    ];
    let paths = ["labels", "values", "series", "profile", "download", "status"];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let mut understood = 0;
    for _ in 0..200_000 {
        let path = format!("/api/v1/{}", paths[random(paths.len())]);
        let query: String = (0..random(9)).map(|_| words[random(words.len())]).collect();
        let Ok(question) = Question::parse(&path, Some(&query), NOW) else { continue };
        understood += 1;
        let (range, steps, limit) = match question {
            Question::Document | Question::Status => continue,
            Question::Labels(range) | Question::Profile(range) | Question::Download { range, .. } => (range, 0, 0),
            Question::Values { range, limit, .. } => (range, 0, limit as u64),
            Question::Series { range, step_ms, limit, .. } => {
                ((range.clone()), (range.to_ms - range.from_ms).div_ceil(step_ms), limit as u64)
            }
        };
        assert!(range.from_ms <= range.to_ms && range.query.from_ns == range.from_ms * NS_PER_MS, "{query}");
        assert!(range.query.filters.len() <= MAX_FILTERS && steps <= MAX_STEPS && limit <= MAX_VALUES, "{query}");
    }
    assert!(understood > 1000, "{understood}");
}
