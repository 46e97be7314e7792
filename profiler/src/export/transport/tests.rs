//! Both clients against servers that misbehave, on loopback: each fault and what it comes to.

mod faults;
mod grpc;
mod http;
mod tls;

use std::future::Future;
use std::time::Duration;

use super::{Answer, open};
use crate::export::address;
use crate::export::counters::Answered;
use crate::export::settings::SinkSettings;
use crate::export::{Message, Outcome};

/// Runs a test's future to its end.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn message(body: impl Into<bytes::Bytes>) -> Message {
    let headers = vec![("content-type".to_owned(), "application/x-protobuf".to_owned())];
    Message { id: [7; 16], start_ns: 1, samples: 1, headers, body: body.into() }
}

/// Time-outs that a test can wait for.
fn settings(address: &str) -> SinkSettings {
    SinkSettings {
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_millis(700),
        ..SinkSettings::new(address::parse(address).unwrap())
    }
}

fn send(settings: &SinkSettings, message: &Message) -> Answer {
    let address::Address::Server(server) = &settings.address else { panic!("a server") };
    run(async { open(settings, server.wire).unwrap().send(message).await })
}

fn delivered() -> Answer {
    Answer { outcome: Outcome::Delivered, answered: Answered::Ok }
}

/// That it is to be retried after `after`, and that the text says so.
fn assert_retry(answer: &Answer, answered: Answered, after: Option<u64>, says: &str) {
    let Outcome::Retry(asked, text) = &answer.outcome else { panic!("{says}: {answer:?}") };
    assert_eq!((answer.answered, *asked), (answered, after.map(Duration::from_secs)), "{text}");
    assert!(text.contains(says), "{says:?} is not in {text:?}");
}
