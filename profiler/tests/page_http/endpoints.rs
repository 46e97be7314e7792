//! Every endpoint of `docs/http.md`, against what the history itself answers.

use std::io::Read as _;

use flate2::read::GzDecoder;
use profiler::profile::pprof::decode;
use profiler::serve::{Connections, Source as _};
use serde_json::json;
use store::{Grouping, Label, Match, Query};

use crate::batches::{SECOND, START, crowd};
use crate::client::{get, get_with};
use crate::{serving, serving_these, usual};

const START_MS: u64 = START / 1_000_000;
/// Of the usual history: 30 batches of 10 s.
const END_MS: u64 = START_MS + 300_000;

fn everything() -> Query {
    Query { from_ns: START, to_ns: START + 300 * SECOND, filters: Vec::new() }
}

fn range() -> String {
    format!("from={START_MS}&to={END_MS}")
}

#[test]
fn status_says_who_how_and_since_when() {
    let served = usual();
    let answer = get(served.address, "/api/v1/status");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let mut found = answer.json();
    let now = found.as_object_mut().unwrap().remove("now").unwrap().as_u64().unwrap();
    assert!(now > 1_700_000_000_000);
    let (first, last) = served.kept.reader().unwrap().extent().unwrap().unwrap();
    let expected = json!({
        "node": "node-1", "version": env!("CARGO_PKG_VERSION"), "frequency_hz": 99, "cpus": 2, "lost": 3, "refused": 0,
        "history": {"from": first / 1_000_000, "to": last / 1_000_000 + 1}, "notes": ["<b>a note</b>"],
    });
    assert_eq!(found, expected);
    assert!(served.kept.answering.cpu_ns() > 0);
}

#[test]
fn before_the_first_samples_there_is_a_page_and_a_sentence() {
    let served = serving(0, None, Connections::default());
    assert_eq!(get(served.address, "/api/v1/status").json()["history"], json!(null));
    assert_eq!(get(served.address, "/").status, 200);
    let answer = get(served.address, "/api/v1/labels");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert!(answer.json()["error"].as_str().unwrap().starts_with("there is no history (yet)"));
}

#[test]
fn labels_values_and_series_are_those_of_the_history() {
    let served = usual();
    let reader = served.kept.reader().unwrap();
    let labels = reader.labels(&everything()).unwrap();
    let expected: Vec<_> = labels
        .iter()
        .map(|one| json!({"name": one.label.name(), "values": one.values, "cpu_ns": one.cpu_ns}))
        .collect();
    assert_eq!(expected.len(), 9);
    let found = get(served.address, &format!("/api/v1/labels?{}", range())).json();
    assert_eq!(found, json!({"labels": expected}));

    let values = reader.values(&everything(), Label::Process, 2).unwrap();
    let expected: Vec<_> = values.top.iter().map(|(value, ns)| json!({"value": value, "cpu_ns": ns})).collect();
    let found = get(served.address, &format!("/api/v1/values?label=process&limit=2&{}", range())).json();
    let distinct = values.distinct;
    assert_eq!(found, json!({"values": expected, "distinct": distinct, "other_ns": values.other_ns, "skipped": 0}));
    assert!(values.other_ns > 0 && distinct == 4);

    let series = reader.series(&everything(), Label::Pod, 25 * SECOND, 3).unwrap();
    let expected: Vec<_> = series.top.iter().map(|(value, ns)| json!({"value": value, "cpu_ns": ns})).collect();
    let found = get(served.address, &format!("/api/v1/series?by=pod&limit=3&steps=12&{}", range())).json();
    let whole = json!({"from": START_MS, "step": 25_000, "series": expected, "other": series.other, "skipped": 0});
    assert_eq!(found, whole);
    assert_eq!(found["other"].as_array().unwrap().len(), 12);
}

#[test]
fn ten_thousand_pods_come_in_one_answer_and_the_next_one_is_counted() {
    let served = serving_these(&[crowd(0, 0..10_001)], None, Connections::default());
    let target = |limit: u32| format!("/api/v1/values?label=pod&limit={limit}&{}", range());
    let answer = get(served.address, &target(10_000));
    let found = answer.json();
    let pods = found["values"].as_array().unwrap();
    assert_eq!((pods.len(), found["distinct"].as_u64()), (10_000, Some(10_001)));
    assert_eq!(
        (&pods[0], &pods[9_999]),
        (&json!({"value": "pod-10000", "cpu_ns": 10_001}), &json!({"value": "pod-1", "cpu_ns": 2}))
    );
    assert_eq!((found["other_ns"].as_u64(), found["skipped"].as_u64()), (Some(1), Some(0)));
    assert!(answer.body.len() < 1_000_000, "{} bytes", answer.body.len());
    assert_eq!(get(served.address, &target(10_001)).status, 400);
}

#[test]
fn filters_and_ranges_reach_the_history() {
    let served = usual();
    let reader = served.kept.reader().unwrap();
    let two = [(Label::Process, "nginx"), (Label::Process, "cc1")];
    let filters = two.map(|(label, value)| (label, Match::Equals(value.to_owned()))).to_vec();
    let query = Query { filters, ..everything() };
    let expected = reader.values(&query, Label::Thread, 50).unwrap();
    let target = format!("/api/v1/values?label=thread&where=process%3Dnginx&where=process=cc1&{}", range());
    let found = get(served.address, &target).json();
    let sum = |values: &serde_json::Value| -> u64 {
        values.as_array().unwrap().iter().map(|row| row["cpu_ns"].as_u64().unwrap()).sum()
    };
    assert_eq!(sum(&found["values"]), expected.top.iter().map(|(_, ns)| ns).sum::<u64>());
    assert!(sum(&found["values"]) > 0);
    let nothing = get(served.address, "/api/v1/values?label=thread&from=5&to=9").json();
    assert_eq!(nothing, json!({"values": [], "distinct": 0, "other_ns": 0, "skipped": 0}));
}

/// Magic, head and the sum of a column of the container.
fn container(bytes: &[u8]) -> (serde_json::Value, f64) {
    assert_eq!(&bytes[..8], b"EVFPAGE1");
    let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let head: serde_json::Value = serde_json::from_slice(&bytes[16..16 + length]).unwrap();
    let columns = (16 + length).next_multiple_of(8);
    let column = &head["columns"]["rows.value.1"];
    let start = columns + column["offset"].as_u64().unwrap() as usize;
    let values = bytes[start..].chunks_exact(8).take(column["length"].as_u64().unwrap() as usize);
    let sum = values.map(|value| f64::from_le_bytes(value.try_into().unwrap())).sum();
    (head, sum)
}

#[test]
fn a_profile_is_the_pages_container_compressed_or_not() {
    let served = usual();
    let target = format!("/api/v1/profile?{}", range());
    let plain = get(served.address, &target);
    assert_eq!(plain.header("content-type"), Some("application/vnd.everflame.page"));
    let sums = served.kept.reader().unwrap().stacks(&everything(), Grouping::Processes).unwrap();
    let (head, cpu_ns) = container(&plain.body);
    assert_eq!((head["title"].as_str(), cpu_ns as u64), (Some("node-1"), sums.cpu_ns()));
    assert!(cpu_ns > 0.0);

    let packed = get_with(served.address, &target, "Accept-Encoding: br, gzip\r\n");
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);

    let empty = get(served.address, "/api/v1/profile?from=5&to=9");
    assert_eq!((empty.status, container(&empty.body).1), (200, 0.0));
}

#[test]
fn downloads_are_files_of_their_form() {
    let served = usual();
    let sums = served.kept.reader().unwrap().stacks(&everything(), Grouping::Processes).unwrap();
    for (form, kind) in [
        ("pb.gz", "application/octet-stream"),
        ("svg", "image/svg+xml"),
        ("folded", "text/plain; charset=utf-8"),
        ("html", "text/html; charset=utf-8"),
    ] {
        let answer = get(served.address, &format!("/api/v1/download?form={form}&{}", range()));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{form}");
        let name = format!("attachment; filename=\"everflame-node-1-20231114T221320Z.{form}\"");
        assert_eq!(answer.header("content-disposition"), Some(name.as_str()));
        match form {
            "pb.gz" => {
                let profile = decode(&answer.body).unwrap();
                let cpu: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
                assert_eq!(cpu as u64, sums.cpu_ns());
            }
            "folded" => {
                let text = String::from_utf8(answer.body).unwrap();
                let cpu: u64 = text.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
                assert_eq!(cpu, sums.cpu_ns());
            }
            "svg" => assert!(answer.body.starts_with(b"<?xml")),
            _ => assert!(answer.body.starts_with(b"<!doctype html>")),
        }
    }
    let empty = get(served.address, "/api/v1/download?form=svg&from=5&to=9");
    assert_eq!((empty.status, empty.json()), (404, json!({"error": "there are no samples in that range"})));
}
