//! `everflame` alone, as a newcomer starts it: first samples on the page, a clean end, a kill, a second one on the same history.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

#[path = "page_http/client.rs"]
#[expect(dead_code, reason = "made for the tests of the server, which use all of it")]
mod client;
mod live;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use client::get;
use serde_json::Value;

/// From the start to the first interval on the page, and from each to the next: ten seconds at most, and what a slow machine needs
/// besides.
const FIRST: Duration = Duration::from_secs(40);

struct Running {
    child: Child,
    address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(history: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_everflame"))
        .args(["--page", "127.0.0.1:0", "--cpu-limit", "100", "--store"])
        .arg(history)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

impl Running {
    fn start(history: &Path) -> Running {
        let mut child = start(history);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("everflame: http://").and_then(|rest| rest.split('/').next());
        let address = address.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        Running { child, address }
    }

    /// The status once `wanted` holds for it.
    fn status(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.answer("/api/v1/status", wanted)
    }

    /// An answer once `wanted` holds for it.
    fn answer(&self, question: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let (_nobody, tick): (_, Receiver<()>) = channel();
        loop {
            let answer = get(self.address, question).json();
            if wanted(&answer) {
                return answer;
            }
            assert!(began.elapsed() < FIRST, "{question}: {answer}");
            let _ = tick.recv_timeout(Duration::from_millis(100));
        }
    }

    fn end(mut self, signal: i32) -> (Option<i32>, String) {
        // SAFETY: a signal to our own child, which was not waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

/// Set when it goes, so that a test that fails ends as well.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn end_of(status: &Value) -> u64 {
    status["history"]["to"].as_u64().unwrap_or(0)
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn everflame_alone_shows_the_machine_and_survives() {
    let _alone = live::alone();
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("spins-for-page".to_owned())
            .spawn_scoped(scope, || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
            .unwrap();
        let _over = Over(&over);

        let first = Running::start(&history);
        let status = first.status(|status| end_of(status) > 0);
        assert_eq!((status["frequency_hz"].as_u64(), status["lost"].as_u64()), (Some(99), Some(0)));
        assert_eq!(status["notes"], serde_json::json!([]));
        // The first interval is a short one, and a busy machine gives little of it to one thread: later ones count as well.
        first.answer("/api/v1/values?label=thread&where=thread=spins-for-page", |threads| {
            threads["values"][0]["cpu_ns"].as_u64().is_some_and(|cpu_ns| cpu_ns > 300_000_000)
        });
        assert!(get(first.address, "/api/v1/profile").body.starts_with(b"EVFPAGE1"));

        // A second one says whose the history is, and ends.
        let second = start(&history).wait_with_output().unwrap();
        let said = String::from_utf8(second.stderr).unwrap();
        assert_eq!(second.status.code(), Some(1));
        assert!(said.contains(&format!("is in use by another everflame (pid {})", first.child.id())), "{said}");

        // Killed without a word: what was shown is there afterwards.
        let shown = end_of(&first.status(|_| true));
        let (code, _) = first.end(libc::SIGKILL);
        assert_eq!(code, None);
        let again = Running::start(&history);
        let found = end_of(&again.status(|_| true));
        assert!(found >= shown, "{found} {shown}");

        // The interval in hand is written at the end.
        again.status(|status| end_of(status) > found);
        let (code, said) = again.end(libc::SIGINT);
        assert_eq!((code, said.as_str()), (Some(0), ""));
        let last = Running::start(&history);
        assert!(end_of(&last.status(|_| true)) > found);
        assert_eq!(last.end(libc::SIGTERM).0, Some(0));
    });
}
