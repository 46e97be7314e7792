//! A sink whose address does not say what it speaks, and whose server is away at the start. It is asked again until it answers.
//!
//! Until then nothing can be encoded: intervals are dropped and counted (`not_encoded`). To end the agent instead would make it
//! start again and again, on each node, until the server is back, and profile nothing meanwhile.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::task::JoinHandle;

use super::sinks::{self, Common, Parts};
use crate::export::address::Server;
use crate::export::counters::Answered;
use crate::export::retry::{Backoff, RetryPolicy};
use crate::export::settings::SinkSettings;
use crate::export::transport::{self, Answer, Sending, Transport};
use crate::export::{Encode, EncodeError, Message, Outcome};
use crate::profile::Batch;

/// The parts once they are known; shared by both halves of the sink and the task that asks.
#[derive(Default)]
struct Decided {
    encoder: OnceLock<Mutex<Box<dyn Encode>>>,
    transport: OnceLock<Box<dyn Transport>>,
}

/// Parts that become those of a wire as soon as the server says which. In a tokio runtime only.
pub(super) fn parts(settings: &SinkSettings, server: &Server, common: &Common) -> Parts {
    let (decided, address) = (Arc::<Decided>::default(), server.to_string());
    let asking = tokio::spawn(ask(settings.clone(), server.clone(), common.clone(), Arc::clone(&decided)));
    Parts {
        encoder: Box::new(LateEncoder { decided: Arc::clone(&decided), address: address.clone() }),
        transport: Box::new(LateTransport { decided, address, asking }),
    }
}

async fn ask(settings: SinkSettings, server: Server, common: Common, decided: Arc<Decided>) {
    let mut backoff = Backoff::new(RetryPolicy::default());
    let mut said = String::new();
    loop {
        tokio::time::sleep(backoff.failed(None, rand::random())).await;
        let found = match transport::ask(&settings, &server).await {
            Ok(wire) => sinks::parts(&settings, Some(wire), &common).map(|parts| (wire, parts)),
            Err(error) => Err(error),
        };
        match found {
            Ok((wire, parts)) => {
                tracing::info!(sink = %server, ?wire, "the server has said what it speaks");
                let _ = decided.transport.set(parts.transport);
                let _ = decided.encoder.set(Mutex::new(parts.encoder));
                return;
            }
            Err(error) => {
                let text = error.to_string();
                if text != said {
                    tracing::warn!("{text}. It is asked again; until it answers, what it should get is lost");
                    said = text;
                }
            }
        }
    }
}

struct LateEncoder {
    decided: Arc<Decided>,
    address: String,
}

impl Encode for LateEncoder {
    fn encode(&mut self, batch: &Batch) -> Result<Vec<Message>, EncodeError> {
        match self.decided.encoder.get() {
            Some(encoder) => encoder.lock().unwrap_or_else(PoisonError::into_inner).encode(batch),
            None => {
                let why =
                    format!("{} has not answered yet; with a wire in its address, profiles would wait", self.address);
                Err(EncodeError { wire: "an unknown wire", why })
            }
        }
    }

    fn split(&self, message: &Message) -> Option<Vec<Message>> {
        self.decided.encoder.get()?.lock().unwrap_or_else(PoisonError::into_inner).split(message)
    }
}

struct LateTransport {
    decided: Arc<Decided>,
    address: String,
    asking: JoinHandle<()>,
}

impl Transport for LateTransport {
    /// An earlier run's messages wait in the spool.
    fn send<'message>(&'message self, message: &'message Message) -> Sending<'message> {
        match self.decided.transport.get() {
            Some(transport) => transport.send(message),
            None => Box::pin(async {
                let text = format!("{} has not said yet what it speaks", self.address);
                Answer { outcome: Outcome::Retry(None, text), answered: Answered::Unreachable }
            }),
        }
    }

    fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for LateTransport {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use unwind::end::End;

    use super::*;
    use crate::export::address;
    use crate::export::counters::DropReason;
    use crate::ledger::Ledger;
    use crate::profile::pprof::ProfileInfo;
    use crate::profile::{BatchBuilder, Process, Sample};

    /// A server that closes connections without a word while it is `away`, else is a Datadog agent; its port.
    fn server(away: Arc<AtomicBool>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if away.load(Ordering::Relaxed) {
                    continue;
                }
                let mut head = Vec::new();
                while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                    let mut chunk = [0; 4096];
                    match stream.read(&mut chunk) {
                        Ok(0) | Err(_) => break,
                        Ok(count) => head.extend_from_slice(&chunk[..count]),
                    }
                }
                let body =
                    if head.starts_with(b"GET /info ") { r#"{"endpoints":["/profiling/v1/input"]}"# } else { "" };
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes());
                // Closing with bytes unread would send RST.
                let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        port
    }

    /// One sample of a process that belongs to nobody.
    fn batch() -> Arc<Batch> {
        let mut builder = BatchBuilder::new();
        let text = builder.text("x");
        let process = builder.process(Process {
            pid: 1,
            start_time_ns: 1,
            comm: text,
            executable: text,
            cgroup_id: 0,
            cgroup: text,
            identity: None,
        });
        let stack = builder.stack(Vec::new()).unwrap();
        builder.push(Sample {
            time_ns: 1,
            weight_ns: 10,
            process,
            tid: 1,
            thread_name: text,
            cpu: 0,
            stack,
            end: End::Complete,
            provenance: 0,
        });
        Arc::new(builder.finish(10, Ledger { due: 1, recorded: 1, ..Ledger::default() }))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_comes_later_gets_what_is_sampled_from_then_on() {
        let away = Arc::new(AtomicBool::new(true));
        let address = format!("http://127.0.0.1:{}", server(Arc::clone(&away)));
        let settings = SinkSettings::new(address::parse(&address).unwrap());
        let common = Common {
            host: "node-1".to_owned(),
            tags: Vec::new(),
            whole_host: false,
            info: ProfileInfo { frequency_hz: 99, cpus: 1, kernel_release: "6.1".to_owned() },
            spool: None,
            spool_bytes: 0,
            texts: Arc::default(),
        };
        let sink = sinks::start(&settings, &common).await.unwrap();
        assert_eq!(sink.name(), address);
        sink.submit(batch());
        while sink.snapshot().dropped(DropReason::NotEncoded).samples == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        away.store(false, Ordering::Relaxed);
        while sink.snapshot().delivered.samples == 0 {
            sink.submit(batch());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let ended = sink.shutdown(Duration::from_secs(60)).await;
        assert_eq!(ended.refused.messages, 0, "{ended:?}");
        assert!(ended.delivered.messages >= 1, "{ended:?}");
    }
}
