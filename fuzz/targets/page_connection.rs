//! A connection to the page, whatever is sent over it: it ends, its memory is bounded, what comes back is HTTP, and without the token
//! nobody is let in. The first byte says whether there is a token, and into pieces of how many bytes the rest is cut.
#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use profiler::profile::pprof::ProfileInfo;
use profiler::serve::{Answering, Connections, Gate, Moment, Page, Settings, Source, Token, serve_one};
use profiler::store::{Limits, Reader, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};

/// What the connection may hold in each direction: less than an answer, so that the server has to wait for its client.
const PIPE_BYTES: usize = 4 << 10;
/// Of one connection, answers in the making included.
const MOST_BYTES: usize = 16 << 20;
/// The client has said everything and hung up long before.
const LONGEST: Duration = Duration::from_secs(10);
const LETS_IN: &[u8] = b"HTTP/1.1 200 ";

/// The system's allocator, with the most that was in use at once.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An agent whose history is empty.
struct Empty(Store);

impl Source for Empty {
    fn reader(&self) -> Option<Reader> {
        Some(self.0.reader())
    }

    fn moment(&self) -> Moment {
        Moment { frequency_hz: 99, cpus: 2, lost: 3, notes: vec!["a \"note\"".to_owned()] }
    }

    fn answering(&self) -> Arc<Answering> {
        Arc::default()
    }
}

struct Served {
    runtime: Runtime,
    open: Arc<Page>,
    with_token: Arc<Page>,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("everflame-fuzz-page-{}", std::process::id()));
    let store = Store::open(&folder, Limits::default()).expect("a folder of our own");
    // The files stay open; nothing is left when the fuzzer ends, however it ends.
    std::fs::remove_dir_all(&folder).expect("a folder of our own");
    let source: Arc<dyn Source> = Arc::new(Empty(store));
    let page = |token| {
        let info = ProfileInfo { frequency_hz: 99, cpus: 2, kernel_release: String::new() };
        let settings = Settings { node: "node".to_owned(), info, gate: Gate { token }, source: Arc::clone(&source) };
        Arc::new(Page::new(settings))
    };
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    Served { runtime, open: page(None), with_token: page(Some(Token::make())) }
});

/// What a client finds out by reading until the end.
#[derive(Default)]
struct Heard {
    beginning: Vec<u8>,
    let_in: bool,
}

/// Sends the bytes, hangs up, and reads to the end, all at once.
async fn talk(page: Arc<Page>, piece: usize, bytes: &[u8]) -> Heard {
    let (client, server) = tokio::io::duplex(PIPE_BYTES);
    let (mut reading, mut writing) = tokio::io::split(client);
    let say = async {
        for piece in bytes.chunks(piece) {
            if writing.write_all(piece).await.is_err() {
                break;
            }
        }
        let _ = writing.shutdown().await;
    };
    let hear = async {
        let (mut heard, mut last, mut buffer) = (Heard::default(), Vec::new(), [0; PIPE_BYTES]);
        loop {
            let read = reading.read(&mut buffer).await.unwrap_or(0);
            if read == 0 {
                return heard;
            }
            let missing = LETS_IN.len().saturating_sub(heard.beginning.len());
            heard.beginning.extend_from_slice(&buffer[..read.min(missing)]);
            // With the end of what came before, in which it may begin.
            last.extend_from_slice(&buffer[..read]);
            heard.let_in |= last.windows(LETS_IN.len()).any(|window| window == LETS_IN);
            last.drain(..last.len().saturating_sub(LETS_IN.len() - 1));
        }
    };
    let bounds = Connections { life: 2 * LONGEST, ..Connections::default() };
    let ((), (), heard) = tokio::join!(serve_one(server, page, bounds), say, hear);
    heard
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let (asks_for_token, piece) = (first & 1 == 1, usize::from(first >> 1) + 1);
    let page = if asks_for_token { &SERVED.with_token } else { &SERVED.open };
    let before = IN_USE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let talking = async { tokio::time::timeout(LONGEST, talk(Arc::clone(page), piece, bytes)).await };
    let heard = SERVED.runtime.block_on(talking).expect("the connection ends");
    let used = MOST.load(Ordering::Relaxed).saturating_sub(before);
    assert!(used <= MOST_BYTES, "{used} bytes for one connection");
    let beginning = b"HTTP/1.";
    assert!(heard.beginning.iter().zip(beginning).all(|(found, expected)| found == expected));
    assert!(!(asks_for_token && heard.let_in), "somebody was let in without the token");
});
