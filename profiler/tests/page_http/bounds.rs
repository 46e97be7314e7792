//! Slow, many and impatient clients: each costs a bounded amount, and the others are served.

use std::future::Future as _;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Waker};

use profiler::serve::{Connections, Desk, MAX_AT_ONCE, MAX_WAITING, Refusal, Source};
use store::StoreError;

use crate::client::{connect, get};
use crate::{Kept, serving, tight, usual};

#[test]
fn a_client_that_never_ends_its_request_is_closed() {
    let served = serving(1, None, tight());
    let mut slow = connect(served.address);
    slow.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
    let mut all = Vec::new();
    // Ends because the server closes, with or without a word.
    let _ = slow.read_to_end(&mut all);
    assert!(all.is_empty() || all.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&all));
}

#[test]
fn a_full_house_lets_the_next_one_in_when_somebody_leaves() {
    let served = serving(1, None, tight());
    let idle: Vec<_> = (0..tight().most).map(|_| connect(served.address)).collect();
    // Waits in the kernel's queue until the time for the idle ones' heads is over.
    assert_eq!(get(served.address, "/api/v1/status").status, 200);
    for mut stream in idle {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
}

#[test]
fn a_connection_that_stays_open_answers_one_question_after_the_other() {
    let served = usual();
    let mut stream = connect(served.address);
    for _ in 0..3 {
        write!(stream, "HEAD /api/v1/status HTTP/1.1\r\nHost: {}\r\n\r\n", served.address).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&head));
    }
}

fn desk(served: &crate::Served) -> Desk {
    let source: Arc<Kept> = served.kept.clone();
    Desk::new(source as Arc<dyn Source>)
}

#[test]
fn a_question_that_nobody_waits_for_stops() {
    let served = serving(20, None, Connections::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let desk = desk(&served);
    let (began, has_begun) = channel();
    let (ended, how) = channel();
    let asking = runtime.spawn(async move {
        desk.ask(move |reader| {
            began.send(()).unwrap();
            // Asks for ever, as far as the reader lets it.
            loop {
                if let Err(error) = reader.batches(0, u64::MAX, drop) {
                    ended.send(matches!(error, StoreError::GivenUp)).unwrap();
                    return Ok(());
                }
            }
        })
        .await
    });
    has_begun.recv().unwrap();
    // As when the connection is closed.
    asking.abort();
    assert!(how.recv().unwrap());
}

#[test]
fn more_questions_than_there_is_room_for_are_refused_at_once() {
    let served = serving(1, None, Connections::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let desk = desk(&served);
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(std::sync::Mutex::new(wait));
    let asked: Vec<_> = (0..MAX_AT_ONCE + MAX_WAITING)
        .map(|_| {
            let (desk, wait) = (desk.clone(), wait.clone());
            let mut asking = Box::pin(async move {
                desk.ask(move |_| {
                    let _ = wait.lock().unwrap().recv();
                    Ok(())
                })
                .await
            });
            // Polled once, so that it has its chair.
            let _inside = runtime.enter();
            assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            asking
        })
        .collect();
    let refused = runtime.block_on(desk.ask(|_| Ok(())));
    assert!(matches!(refused, Err(Refusal::Busy)), "{refused:?}");
    drop(end);
    for asking in asked {
        runtime.block_on(asking).unwrap();
    }
    runtime.block_on(desk.ask(|_| Ok(()))).unwrap();
}
