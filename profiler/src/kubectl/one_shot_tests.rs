//! A Job's course, played by a stand-in of an API server, and what comes of it.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::server::{Listener, NODE, Script, play};
use super::*;
use crate::kubectl::parcel::{PART_BYTES, progress, summary, wrap};

fn profile() -> Vec<u8> {
    (0..2 * PART_BYTES + 5).map(|at| at as u8).collect()
}

/// A log with all that there is to it.
fn whole_log() -> String {
    let seconds = Duration::from_secs;
    let begin = format!("everflame: profiling pod x (1 container)\n{}", progress(seconds(1), seconds(30), 5));
    begin
        + &summary("30.0 s, 2 CPUs")
        + "everflame: nothing of y ran on a processor in that time\n"
        + &wrap(&profile()).unwrap()
}

fn without_line(log: &str, beginning: &str) -> String {
    log.lines().filter(|line| !line.starts_with(beginning)).map(|line| format!("{line}\n")).collect()
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": "not found"}})
}

fn running() -> Value {
    json!({"running": {}})
}

fn ended(code: i32) -> Value {
    json!({"terminated": {"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }}})
}

#[tokio::test]
async fn a_profile_is_handed_over_whatever_befalls_the_log() {
    let log = whole_log();
    let cut = log[..log.len() / 2].to_owned();
    let damaged = log.replace("part 1 3 ", "part 1 3 0");
    for (name, states, logs) in [
        ("all goes well", vec![waiting("ContainerCreating"), running()], vec![log.clone()]),
        ("it was quick", vec![ended(0)], vec![log.clone()]),
        ("the connection breaks", vec![running()], vec![cut.clone(), log.clone()]),
        ("the connection breaks, and it has ended then", vec![running(), ended(0)], vec![cut, log.clone()]),
        ("a part is damaged", vec![running(), ended(0)], vec![damaged.clone(), log.clone()]),
        // Each read has something that the other lacks.
        ("the log was rotated", vec![running(), ended(0)], vec![damaged, without_line(&log, "everflame/1 part 0")]),
        ("it failed in the end, and handed over", vec![running(), ended(1)], vec![log]),
    ] {
        let (result, script) = play(Script { states, logs, ..Script::default() }, &Listener::default(), false).await;
        if name == "the log was rotated" {
            // Part 1 is in the second log alone, part 0 in the first.
            assert_eq!(result.map(|found| found.bytes), Ok(profile()), "{name}");
        } else {
            let expected = HandedOver {
                bytes: profile(),
                summary: "30.0 s, 2 CPUs".into(),
                notes: vec![
                    "profiling pod x (1 container)".into(),
                    "nothing of y ran on a processor in that time".into(),
                ],
            };
            assert_eq!(result, Ok(expected), "{name}");
        }
        assert!(script.is_created.load(Ordering::Relaxed) && script.is_deleted.load(Ordering::Relaxed), "{name}");
    }
}

#[tokio::test]
async fn what_stopped_it_is_said_and_the_job_deleted() {
    let log = whole_log();
    let locked = "everflame: the kernel is locked down\n".to_owned();
    for (name, states, logs, expected) in [
        (
            "no image",
            vec![waiting("ErrImagePull"), waiting("ImagePullBackOff")],
            vec![],
            "can't pull the image everflame:0.1.0",
        ),
        ("no start", vec![waiting("CreateContainerError")], vec![], "node n1 can't start the profiler: not found"),
        ("an error there", vec![running(), ended(1)], vec![locked], "on node n1: the kernel is locked down"),
        ("says nothing", vec![ended(137)], vec![String::new()], "ended with exit code 137 and handed nothing over"),
        (
            "a part is lost",
            vec![ended(0)],
            vec![without_line(&log, "everflame/1 part 2")],
            "1 of the profile's 3 parts are missing or damaged",
        ),
        ("another version", vec![running()], vec![log.replace("everflame/1 ", "everflame/2 ")], "of another version"),
    ] {
        let (result, script) = play(Script { states, logs, ..Script::default() }, &Listener::default(), false).await;
        let refusal = result.unwrap_err().to_string();
        assert!(refusal.contains(expected), "{name}: {refusal}");
        assert!(script.is_deleted.load(Ordering::Relaxed), "{name}");
    }
}

/// A log in two: up to what says that it samples, and the rest.
fn log_in_two() -> (String, String) {
    let log = whole_log();
    let (progress, _) = log.match_indices('\n').nth(1).unwrap();
    let (first, rest) = log.split_at(progress + 1);
    assert!(first.contains("progress") && rest.starts_with("everflame/1 summary"), "{first}");
    (first.to_owned(), rest.to_owned())
}

#[tokio::test]
async fn whoever_wants_an_end_gets_what_was_sampled_and_leaves_no_job() {
    let (first, rest) = log_in_two();
    let script = || Script {
        states: vec![running()],
        logs: vec![first.clone()],
        after_deletion: Some(rest.clone()),
        ..Script::default()
    };
    let listener = Listener::impatient();
    let (result, played) = play(script(), &listener, false).await;
    assert_eq!(result.map(|found| found.bytes), Ok(profile()));
    assert!(played.is_deleted.load(Ordering::Relaxed));
    assert!(listener.heard.lock().unwrap().contains(&News::Ending));

    // Whoever wants to keep the Job leaves it.
    let (result, played) = play(script(), &Listener::impatient(), true).await;
    assert_eq!(result, Err(Refusal::Left { namespace: "shop".into(), job: "x".into() }));
    assert!(!played.is_deleted.load(Ordering::Relaxed));

    // A server that fails is asked again, while the log goes on being followed.
    let failing = Script { failing_deletions: Mutex::new(2), ..script() };
    let (result, played) = play(failing, &Listener::impatient(), false).await;
    assert_eq!(result.map(|found| found.bytes), Ok(profile()));
    assert!(played.is_deleted.load(Ordering::Relaxed));
    assert_eq!(*played.reads.lock().unwrap(), 1);
}

#[tokio::test]
async fn whoever_wants_an_end_before_there_are_samples_leaves_no_job_either() {
    let script = |failing| Script {
        states: vec![waiting("ContainerCreating")],
        failing_deletions: Mutex::new(failing),
        ..Script::default()
    };
    let stopped = Err(Refusal::Stopped { node: NODE.into() });
    let while_it_starts: fn(&[News]) -> bool =
        |heard| heard.iter().any(|news| matches!(news, News::Starting(what) if !what.is_empty()));
    for failing in [0, 1] {
        let listener = Listener { wants_an_end: while_it_starts, ..Listener::default() };
        let (result, played) = play(script(failing), &listener, false).await;
        assert_eq!(result, stopped);
        assert!(played.is_deleted.load(Ordering::Relaxed), "{failing}");
    }
    let listener = Listener { wants_an_end: |_| true, ..Listener::default() };
    let (result, played) = play(script(0), &listener, false).await;
    assert_eq!(result, stopped);
    assert!(!played.is_created.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_server_that_is_away_for_a_moment_costs_nothing_and_is_told_of() {
    let script = Script {
        states: vec![running()],
        logs: vec![whole_log()],
        failing_looks: Mutex::new(2),
        failing_reads: Mutex::new(1),
        failing_deletions: Mutex::new(1),
        ..Script::default()
    };
    let listener = Listener::default();
    let (result, played) = play(script, &listener, false).await;
    let found = result.unwrap();
    assert_eq!((found.bytes, found.notes.len()), (profile(), 2));
    assert!(played.is_deleted.load(Ordering::Relaxed));
    let heard = listener.heard.lock().unwrap();
    let away: Vec<_> = heard.iter().filter(|news| matches!(news, News::Away(_))).collect();
    assert_eq!(away.len(), 3, "{heard:?}");
    assert_eq!(away[0], &News::Away("the API server, asked to list the Job's pods: etcd is away".into()));
}

#[tokio::test]
async fn a_log_whose_connection_breaks_is_said_to_be_away_and_does_not_count_as_read() {
    let script =
        Script { states: vec![ended(0)], logs: vec![whole_log()], breaking_reads: Mutex::new(2), ..Script::default() };
    let listener = Listener::default();
    let (result, played) = play(script, &listener, false).await;
    assert_eq!(result.map(|found| found.bytes), Ok(profile()));
    assert_eq!(*played.reads.lock().unwrap(), 3);
    let heard = listener.heard.lock().unwrap();
    let is_of_the_log = |news: &&News| matches!(news, News::Away(why) if why.starts_with("the API server, asked to read the log of the pod x-1: "));
    assert_eq!(heard.iter().filter(is_of_the_log).count(), 2, "{heard:?}");
}

#[tokio::test]
async fn a_job_whose_making_was_answered_too_late_is_not_made_twice_and_not_given_up() {
    let script =
        Script { states: vec![running()], logs: vec![whole_log()], lost_answers: Mutex::new(1), ..Script::default() };
    let (result, _) = play(script, &Listener::default(), false).await;
    assert_eq!(result.map(|found| found.bytes), Ok(profile()));
}

#[tokio::test]
async fn a_pod_that_is_gone_before_it_hands_over_had_samples_if_it_said_so() {
    let samples = |samples| progress(Duration::from_secs(1), Duration::from_secs(30), samples);
    for (log, expected) in
        [(samples(5), Refusal::Deleted { node: NODE.into() }), (samples(0), Refusal::Stopped { node: NODE.into() })]
    {
        let script = Script {
            states: vec![running()],
            logs: vec![log],
            after_deletion: Some(String::new()),
            is_gone_when_deleted: true,
            ..Script::default()
        };
        let (result, _) = play(script, &Listener::impatient(), false).await;
        assert_eq!(result, Err(expected));
    }
}

#[tokio::test]
async fn an_end_that_is_wanted_is_heard_while_the_client_asks_an_overloaded_server_again() {
    let listener = Listener {
        wants_an_end: |heard| heard.iter().any(|news| matches!(news, News::Starting(_))),
        ..Listener::default()
    };
    let script = Script { is_overloaded: true, ..Script::default() };
    // The client's own tries take half a minute.
    let played = tokio::time::timeout(Duration::from_secs(20), play(script, &listener, false)).await;
    let (result, script) = played.expect("it ends at once");
    assert_eq!(result, Err(Refusal::Stopped { node: NODE.into() }));
    assert!(script.is_deleted.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_job_that_stays_is_named_whatever_else_happened() {
    let undeleted = "the Job x in the namespace shop could not be deleted (you may not delete jobs.batch as dev: the role in \
                     docs/kubectl.md gives that right) and goes away by itself";
    let fails = || Script {
        states: vec![ended(1)],
        logs: vec!["everflame: the kernel is locked down\n".into()],
        is_deletion_forbidden: true,
        ..Script::default()
    };
    let (result, _) = play(fails(), &Listener::default(), false).await;
    assert_eq!(result.unwrap_err().to_string(), format!("on node n1: the kernel is locked down; {undeleted}"));
    let (result, _) = play(fails(), &Listener::default(), true).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "on node n1: the kernel is locked down; the Job x in the namespace shop is kept"
    );
    let script =
        Script { states: vec![ended(0)], logs: vec![whole_log()], is_deletion_forbidden: true, ..Script::default() };
    let (result, _) = play(script, &Listener::default(), false).await;
    assert_eq!(result.unwrap().notes.last().map(String::as_str), Some(undeleted));
}
