//! A whole sink against scripted servers: what comes through, in which order, what is counted, and what an end leaves behind.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender as Release, channel};
use std::time::{Instant, SystemTime};

use unwind::end::End;

use super::super::counters::{Answered, Snapshot};
use super::super::digest::digest;
use super::super::transport::tests::run;
use super::super::transport::{Answer, Sending};
use super::super::{EncodeError, Message, Outcome};
use super::*;
use crate::ledger::Ledger;
use crate::profile::{ProcessIndex, Sample, StackIndex, StringTable};

/// A batch that is known by its number and has `samples` samples.
fn batch(number: u64, samples: usize) -> Arc<Batch> {
    let mut strings = StringTable::default();
    let sample = Sample {
        time_ns: 0,
        weight_ns: 1,
        process: ProcessIndex(0),
        tid: 0,
        thread_name: strings.intern(""),
        cpu: 0,
        stack: StackIndex(0),
        end: End::Complete,
        provenance: 0,
    };
    Arc::new(Batch {
        wall_start_ns: number,
        monotonic_start_ns: 0,
        duration_ns: 1,
        period_ns: 1,
        strings,
        mappings: Vec::new(),
        functions: Vec::new(),
        locations: Vec::new(),
        stacks: Vec::new(),
        processes: Vec::new(),
        identities: Vec::new(),
        samples: vec![sample; samples],
        ledger: Ledger::default(),
    })
}

/// One message for each batch; halves of it down to one sample.
struct Plain;

fn message(number: u64, samples: u64) -> Message {
    let id = digest(&[&number.to_le_bytes(), &samples.to_le_bytes()]);
    Message { id, start_ns: number, samples, headers: Vec::new(), body: vec![0; samples as usize].into() }
}

impl Encode for Plain {
    fn encode(&mut self, batch: &Batch) -> Result<Vec<Message>, EncodeError> {
        match batch.samples.len() as u64 {
            13 => Err(EncodeError { wire: "file", why: "13 samples".into() }),
            14 => panic!("an encoder's bug"),
            samples => Ok(vec![message(batch.wall_start_ns, samples)]),
        }
    }

    fn split(&self, whole: &Message) -> Option<Vec<Message>> {
        let half = whole.samples / 2;
        (half > 0).then(|| vec![message(whole.start_ns, half), message(whole.start_ns, whole.samples - half)])
    }
}

/// Answers as scripted, then with success; notes what was tried.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Option<Answer>>>>,
    /// Number and samples.
    tried: Arc<Mutex<Vec<(u64, u64)>>>,
    /// The message that is never taken.
    never: Option<u64>,
}

impl Script {
    /// `None` is a server that never answers.
    fn new(answers: impl IntoIterator<Item = Option<Answer>>) -> Script {
        Script { answers: Arc::new(Mutex::new(answers.into_iter().collect())), tried: Arc::default(), never: None }
    }

    fn tried(&self) -> Vec<(u64, u64)> {
        self.tried.lock().unwrap().clone()
    }
}

impl Transport for Script {
    fn send<'message>(&'message self, message: &'message Message) -> Sending<'message> {
        self.tried.lock().unwrap().push((message.start_ns, message.samples));
        if self.never == Some(message.start_ns) {
            let outcome = Outcome::Retry(None, "403".into());
            return Box::pin(async { Answer { outcome, answered: Answered::Rejected } });
        }
        let ok = Some(Answer { outcome: Outcome::Delivered, answered: Answered::Ok });
        match self.answers.lock().unwrap().pop_front().unwrap_or(ok) {
            Some(answer) => Box::pin(async { answer }),
            None => Box::pin(pending()),
        }
    }

    fn address(&self) -> &str {
        "script"
    }
}

const NEVER: Duration = Duration::from_secs(1 << 30);

/// Waits end at once, but for [`NEVER`] and the time for last writes, which no wait of `fraction` below equals.
#[derive(Default)]
struct Told(Mutex<Vec<Duration>>);

impl Timing for Told {
    fn wait(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if duration == NEVER || duration == LAST_WRITES {
            return Box::pin(pending());
        }
        self.0.lock().unwrap().push(duration);
        Box::pin(tokio::task::yield_now())
    }

    fn fraction(&self) -> f64 {
        0.4
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_clock(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(42)
    }
}

fn start(script: &Script, spool: Option<&std::path::Path>) -> (Sink, Arc<Told>) {
    start_with(Box::new(Plain), script, spool)
}

fn start_with(encoder: Box<dyn Encode>, script: &Script, spool: Option<&std::path::Path>) -> (Sink, Arc<Told>) {
    let options = SinkOptions {
        name: "test".into(),
        memory: MemoryLimits { messages: 100, bytes: 1 << 20 },
        spool: spool.map(|folder| SpoolOptions { folder: folder.to_owned(), max_bytes: 1 << 20 }),
        retry: RetryPolicy { give_up_after: 4, ..RetryPolicy::default() },
    };
    let told = Arc::new(Told::default());
    (Sink::start_with(encoder, Box::new(script.clone()), options, told.clone()), told)
}

/// Submits and lets each batch be stored, so that none is dropped.
async fn submit(sink: &Sink, batches: impl IntoIterator<Item = Arc<Batch>>) {
    for batch in batches {
        sink.submit(batch);
        until(|| sink.inbox.capacity() == INBOX_BATCHES).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not happen");
        tokio::task::yield_now().await;
    }
}

/// Everything that came in is somewhere.
fn assert_balanced(snapshot: &Snapshot) {
    let dropped: u64 = DropReason::ALL
        .into_iter()
        .filter(|reason| !matches!(reason, DropReason::InboxFull | DropReason::NotEncoded))
        .map(|reason| snapshot.dropped(reason).samples)
        .sum();
    let waiting = snapshot.in_memory.samples + snapshot.in_spool.samples;
    let out = snapshot.delivered.samples + snapshot.refused.samples + dropped + waiting;
    assert_eq!(snapshot.encoded.samples + snapshot.found.samples, out, "{snapshot:#?}");
}

fn retry(answered: Answered, after: Option<u64>) -> Option<Answer> {
    Some(Answer { outcome: Outcome::Retry(after.map(Duration::from_secs), "down".into()), answered })
}

fn refused() -> Option<Answer> {
    Some(Answer { outcome: Outcome::Refused("no".into()), answered: Answered::Rejected })
}

fn too_large() -> Option<Answer> {
    Some(Answer { outcome: Outcome::TooLarge("413".into()), answered: Answered::Rejected })
}

#[test]
fn a_server_that_comes_back_gets_everything_in_order_and_once() {
    for spooled in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let script = Script::new([
            retry(Answered::Unreachable, None),
            retry(Answered::Timeout, None),
            retry(Answered::Throttled, Some(9)),
            retry(Answered::Unavailable, Some(100_000)),
            retry(Answered::Broken, None),
        ]);
        run(async {
            let (sink, told) = start(&script, spooled.then_some(folder.path()));
            submit(&sink, (1..4).map(|number| batch(number, 2))).await;
            until(|| sink.snapshot().delivered.messages == 3).await;
            let counters = sink.counters();
            let snapshot = sink.shutdown(NEVER).await;
            let stages = [&counters.encoding, &counters.storing, &counters.delivery];
            assert_eq!(stages.map(|stage| stage.times().count), [3, 3, 8], "each batch, and each try");
            let first = vec![(1, 2); 6];
            assert_eq!(script.tried(), [first, vec![(2, 2), (3, 2)]].concat());
            let waits: Vec<_> = told.0.lock().unwrap().iter().map(Duration::as_secs_f64).collect();
            assert_eq!(waits, [0.4, 0.8, 9.0, 600.0, 42.0]);
            assert_eq!((snapshot.delivered.messages, snapshot.delivered.samples, snapshot.delivered.bytes), (3, 6, 6));
            assert_eq!(snapshot.retried(Answered::Throttled), 1);
            assert_eq!(snapshot.retried.iter().sum::<u64>(), 5);
            assert_eq!(snapshot.failures_in_a_row, 0);
            assert_eq!(snapshot.last_success, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(42)));
            assert_balanced(&snapshot);
        });
    }
}

#[test]
fn a_token_that_has_expired_loses_nothing_and_the_renewed_one_brings_everything_in_order() {
    for spooled in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        // More often than a message is given up.
        let script = Script::new(vec![retry(Answered::Rejected, None); 50]);
        run(async {
            let (sink, _) = start(&script, spooled.then_some(folder.path()));
            submit(&sink, (1..4).map(|number| batch(number, 2))).await;
            until(|| sink.snapshot().delivered.messages == 3).await;
            let snapshot = sink.shutdown(NEVER).await;
            assert_eq!(script.tried(), [vec![(1, 2); 51], vec![(2, 2), (3, 2)]].concat());
            assert_eq!((snapshot.retried(Answered::Rejected), snapshot.refused.messages), (50, 0));
            assert_balanced(&snapshot);
        });
    }
}

#[test]
fn a_message_that_alone_is_refused_for_ever_goes_once_it_costs_others() {
    for spooled in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let script = Script { never: Some(1), ..Script::default() };
        run(async {
            let (sink, _) = start(&script, spooled.then_some(folder.path()));
            // More than memory or spool hold.
            let last = 150;
            submit(&sink, (1..=last).map(|number| batch(number, 20_000))).await;
            until(|| script.tried().last() == Some(&(last, 20_000))).await;
            let snapshot = sink.shutdown(NEVER).await;
            assert_eq!(snapshot.dropped(DropReason::GaveUp).messages, 1);
            let full = [DropReason::MemoryFull, DropReason::SpoolFull].map(|reason| snapshot.dropped(reason).messages);
            assert!(full.iter().sum::<u64>() > 0, "there was room for all");
            assert_eq!(snapshot.delivered.messages + full.iter().sum::<u64>(), last - 1);
            assert_balanced(&snapshot);
        });
    }
}

#[test]
fn what_is_refused_is_counted_and_does_not_hold_up_the_next() {
    let script = Script::new([refused(), refused()]);
    run(async {
        let (sink, _) = start(&script, None);
        submit(&sink, (1..4).map(|number| batch(number, number as usize))).await;
        let snapshot = sink.shutdown(NEVER).await;
        assert_eq!(script.tried(), [(1, 1), (2, 2), (3, 3)]);
        assert_eq!((snapshot.refused.messages, snapshot.refused.samples), (2, 3));
        assert_eq!((snapshot.delivered.messages, snapshot.delivered.samples), (1, 3));
        assert_balanced(&snapshot);
    });
}

#[test]
fn what_is_too_large_is_split_until_it_fits_or_can_not_be_split() {
    let script = Script::new([too_large(), too_large(), too_large(), retry(Answered::Internal, None)]);
    run(async {
        let (sink, _) = start(&script, None);
        submit(&sink, [batch(1, 5), batch(2, 1)]).await;
        let snapshot = sink.shutdown(NEVER).await;
        // 5 = 2 + 3, 2 = 1 + 1, the first 1 can't be split; the second one is tried twice.
        assert_eq!(script.tried(), [(1, 5), (1, 2), (1, 1), (1, 1), (1, 1), (1, 3), (2, 1)]);
        assert_eq!((snapshot.split, snapshot.dropped(DropReason::TooLarge).samples), (2, 1));
        assert_eq!((snapshot.delivered.messages, snapshot.delivered.samples), (3, 5));
        assert_balanced(&snapshot);
    });
}

#[test]
fn a_message_that_breaks_the_server_again_and_again_is_given_up_for_those_behind_it() {
    let mut answers = vec![retry(Answered::Internal, None); 3];
    answers.insert(1, retry(Answered::Unavailable, None));
    answers.push(retry(Answered::Internal, None));
    let script = Script::new(answers);
    run(async {
        let (sink, _) = start(&script, None);
        submit(&sink, [batch(1, 3), batch(2, 1)]).await;
        let snapshot = sink.shutdown(NEVER).await;
        assert_eq!(script.tried(), [(1, 3), (1, 3), (1, 3), (1, 3), (1, 3), (2, 1)], "502 does not count");
        assert_eq!((snapshot.dropped(DropReason::GaveUp).messages, snapshot.delivered.messages), (1, 1));
        assert_balanced(&snapshot);
    });
}

#[test]
fn a_server_that_never_answers_slows_nobody_and_what_it_did_not_take_comes_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let hole = Script::new([None]);
    let healthy = Script::default();
    run(async {
        let mut sinks = Sinks::default();
        sinks.add(start(&hole, Some(folder.path())).0);
        sinks.add(start(&healthy, None).0);
        for number in 0..50 {
            sinks.submit(&batch(number, 1));
            let stored = || sinks.iter().all(|sink| sink.inbox.capacity() == INBOX_BATCHES);
            until(stored).await;
        }
        until(|| healthy.tried().len() == 50).await;
        assert_eq!(hole.tried(), [(0, 1)]);
        let ended = sinks.shutdown(Duration::ZERO).await;
        let [one, other] = ended.as_slice() else { panic!("two sinks") };
        let dead = if one.1.delivered.messages == 0 { &one.1 } else { &other.1 };
        assert_eq!((dead.in_spool.messages, dead.in_memory.messages), (50, 0));
        assert_balanced(dead);
    });

    let back = Script::default();
    run(async {
        let (sink, _) = start(&back, Some(folder.path()));
        submit(&sink, [batch(50, 1)]).await;
        let snapshot = sink.shutdown(NEVER).await;
        assert_eq!(back.tried(), (0..51).map(|number| (number, 1)).collect::<Vec<_>>());
        assert_eq!((snapshot.found.messages, snapshot.delivered.messages), (50, 51));
        assert_balanced(&snapshot);
    });
}

#[test]
fn an_end_does_not_wait_for_a_dead_server_if_all_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script::new(vec![retry(Answered::Unreachable, None); 100_000]);
    run(async {
        let (sink, _) = start(&script, Some(folder.path()));
        submit(&sink, (0..3).map(|number| batch(number, 1))).await;
        let snapshot = sink.shutdown(NEVER).await;
        assert_eq!((snapshot.in_spool.messages, snapshot.delivered.messages), (3, 0));
        assert!(snapshot.failures_in_a_row > 0);
        assert_balanced(&snapshot);
    });
}

#[test]
fn without_a_disk_an_end_waits_for_its_deadline_and_then_counts_the_loss() {
    let script = Script::new(vec![None]);
    run(async {
        let (sink, told) = start(&script, None);
        submit(&sink, (0..3).map(|number| batch(number, 1))).await;
        until(|| !script.tried().is_empty()).await;
        let snapshot = sink.shutdown(Duration::from_secs(25)).await;
        assert_eq!(*told.0.lock().unwrap(), [Duration::from_secs(25)]);
        assert_eq!((snapshot.dropped(DropReason::Ended).samples, snapshot.in_memory.messages), (3, 0));
        assert_balanced(&snapshot);
    });
}

#[test]
fn a_batch_that_can_not_be_encoded_is_counted_and_the_next_one_goes_on() {
    let script = Script::default();
    run(async {
        let (sink, _) = start(&script, None);
        submit(&sink, [batch(1, 13), batch(2, 14), batch(3, 1)]).await;
        let snapshot = sink.shutdown(NEVER).await;
        assert_eq!(snapshot.dropped(DropReason::NotEncoded).samples, 27);
        assert_eq!(script.tried(), [(3, 1)]);
    });
}

/// Encodes when it is let.
struct Held(Receiver<()>);

impl Encode for Held {
    fn encode(&mut self, batch: &Batch) -> Result<Vec<Message>, EncodeError> {
        self.0.recv().unwrap();
        Plain.encode(batch)
    }

    fn split(&self, _: &Message) -> Option<Vec<Message>> {
        None
    }
}

#[test]
fn submitting_to_a_sink_that_does_not_keep_up_returns_and_counts() {
    let script = Script::default();
    let (release, held): (Release<()>, _) = channel();
    run(async {
        let (sink, _) = start_with(Box::new(Held(held)), &script, None);
        submit(&sink, [batch(0, 1)]).await;
        (1..10).for_each(|number| sink.submit(batch(number, 1)));
        assert_eq!(sink.snapshot().dropped(DropReason::InboxFull).samples, 9 - INBOX_BATCHES as u64);
        (0..10).for_each(|_| release.send(()).unwrap());
        sink.shutdown(NEVER).await;
        assert_eq!(script.tried(), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]);
    });
}

#[test]
fn batches_that_wait_to_be_encoded_at_the_deadline_are_counted() {
    let script = Script::default();
    let (release, held): (Release<()>, _) = channel();
    run(async {
        let (sink, _) = start_with(Box::new(Held(held)), &script, None);
        submit(&sink, [batch(0, 1)]).await;
        (1..4).for_each(|number| sink.submit(batch(number, 1)));
        let counters = sink.counters();
        let ending = tokio::spawn(sink.shutdown(Duration::ZERO));
        // The first is being encoded, and ends in a queue that is closed already.
        tokio::task::yield_now().await;
        until(|| {
            ending.is_finished()
                || release.send(()).is_err()
                || counters.snapshot().dropped(DropReason::NotEncoded).samples > 0
        })
        .await;
        let snapshot = ending.await.unwrap();
        let not_encoded = snapshot.dropped(DropReason::NotEncoded).samples;
        assert_eq!(
            not_encoded + snapshot.dropped(DropReason::Ended).samples + snapshot.delivered.samples,
            4,
            "{snapshot:#?}"
        );
        assert_balanced(&snapshot);
    });
}
