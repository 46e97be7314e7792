//! Slow, many and impatient clients: each costs a bounded amount, and the others are served.

use std::future::Future as _;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Waker};

use bytes::Bytes;
use profiler::serve::{Connections, Desk, MAX_AT_ONCE, MAX_WAITING, Refusal, Source, Tray, serve_one};
use store::StoreError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::batches::START;
use crate::client::{connect, get, parse};
use crate::{Kept, page_of, serving, tight, usual};

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
        desk.ask(Tray::Sums, move |reader| {
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
                desk.ask(Tray::Sums, move |_| {
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
    let refused = runtime.block_on(desk.ask(Tray::Sums, |_| Ok(())));
    assert!(matches!(refused, Err(Refusal::Busy)), "{refused:?}");
    assert_eq!(served.kept.answering.refused(), 1);
    drop(end);
    for asking in asked {
        runtime.block_on(asking).unwrap();
    }
    runtime.block_on(desk.ask(Tray::Sums, |_| Ok(()))).unwrap();
}

#[test]
fn answers_that_nobody_reads_leave_no_room_for_more_of_their_kind_and_for_others_they_do() {
    let served = serving(1, None, Connections::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let desk = desk(&served);
    for (tray, other) in [(Tray::Stacks, Tray::Sums), (Tray::Sums, Tray::Stacks)] {
        let before = desk.answering().refused();
        let most = tray.most_unread();
        let ask = |bytes: usize| {
            let answering = Arc::clone(desk.answering());
            runtime.block_on(desk.ask(tray, move |_| Ok(answering.hold(tray, Bytes::from(vec![0; bytes])))))
        };
        let almost = ask(most - 1).unwrap();
        // However large: how large an answer is shows when it is made.
        let large = ask(most).unwrap();
        assert_eq!(desk.answering().unread_bytes(tray), 2 * most - 1);
        assert!(matches!(ask(1), Err(Refusal::Unread)), "{tray:?}");
        assert_eq!(desk.answering().refused() - before, 1);
        runtime.block_on(desk.ask(other, |_| Ok(()))).unwrap();
        drop(almost);
        assert!(matches!(ask(1), Err(Refusal::Unread)), "{tray:?}");
        drop(large);
        assert_eq!(desk.answering().unread_bytes(tray), 0);
        drop(ask(1).unwrap());
    }
}

#[test]
fn an_answer_is_unread_until_its_client_has_all_of_it_or_goes() {
    /// What the connection holds: less than an answer.
    const PIPE_BYTES: usize = 64;
    let served = usual();
    let answering = &served.kept.answering;
    let page = page_of(&served.kept, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let from = START / 1_000_000;
    for (question, tray) in
        [("profile?", Tray::Stacks), ("download?form=folded&", Tray::Stacks), ("values?label=thread&", Tray::Sums)]
    {
        let target = format!("/api/v1/{question}from={from}&to={}", from + 300_000);
        for reads_on in [true, false] {
            let page = Arc::clone(&page);
            runtime.block_on(async {
                let (mut client, server) = tokio::io::duplex(PIPE_BYTES);
                let serving = tokio::spawn(serve_one(server, page, Connections::default()));
                let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                client.write_all(request.as_bytes()).await.unwrap();
                let mut all = Vec::new();
                let length = loop {
                    all.push(client.read_u8().await.unwrap());
                    if let Some(answer) = parse(&all) {
                        assert_eq!(answer.status, 200, "{target}");
                        break answer.header("content-length").unwrap().parse::<usize>().unwrap();
                    }
                };
                assert!(length > 2 * PIPE_BYTES, "{target}: {length}");
                assert_eq!(answering.unread_bytes(tray), length, "{target}");
                if reads_on {
                    client.read_to_end(&mut all).await.unwrap();
                    assert_eq!(parse(&all).unwrap().body.len(), length, "{target}");
                }
                drop(client);
                serving.await.unwrap();
            });
            assert_eq!((answering.unread_bytes(Tray::Stacks), answering.unread_bytes(Tray::Sums)), (0, 0), "{target}");
        }
    }
}

#[test]
fn who_is_refused_for_what_others_leave_unread_is_told_to_come_again_and_counted() {
    let served = usual();
    let left = served.kept.answering.hold(Tray::Stacks, Bytes::from(vec![0; Tray::Stacks.most_unread()]));
    for target in ["/api/v1/profile", "/api/v1/download?form=pb.gz"] {
        let answer = get(served.address, target);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{target}");
        assert_eq!(answer.json()["error"], "too many answers are not read yet; try again", "{target}");
    }
    assert_eq!(get(served.address, "/api/v1/values?label=pod").status, 200);
    assert_eq!(get(served.address, "/api/v1/status").json()["refused"], 2);
    drop(left);
    assert_eq!(get(served.address, "/api/v1/profile").status, 200);
}
