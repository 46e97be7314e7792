//! The page's server as a browser, a script and a scanner meet it: real connections, a real history.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails here")]

#[path = "../../../store/tests/store/batches.rs"]
#[expect(dead_code, reason = "made for the store's own tests, which use all of it")]
mod batches;
mod bounds;
mod client;
mod endpoints;
mod hostile;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use profiler::profile::Batch;
use profiler::profile::pprof::ProfileInfo;
use profiler::serve::{Answering, Connections, Gate, Moment, Page, Settings, Source, Token, serve};
use store::{Limits, Reader, Store};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use batches::Maker;

/// What the page shows in these tests.
pub(crate) struct Kept {
    store: Option<Store>,
    pub(crate) answering: Arc<Answering>,
}

impl Source for Kept {
    fn reader(&self) -> Option<Reader> {
        self.store.as_ref().map(Store::reader)
    }

    fn moment(&self) -> Moment {
        Moment { frequency_hz: 99, cpus: 2, lost: 3, notes: vec!["<b>a note</b>".to_owned()] }
    }

    fn answering(&self) -> Arc<Answering> {
        Arc::clone(&self.answering)
    }
}

/// A server on a port of its own, for as long as this lives.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) kept: Arc<Kept>,
    _runtime: Runtime,
    _folder: tempfile::TempDir,
}

pub(crate) fn serving(batches: u64, token: Option<Token>, bounds: Connections) -> Served {
    let mut maker = Maker::new(1);
    let batches: Vec<Batch> = (0..batches).map(|_| maker.batch()).collect();
    serving_these(&batches, token, bounds)
}

/// A server of these batches; there is no history without any.
pub(crate) fn serving_these(batches: &[Batch], token: Option<Token>, bounds: Connections) -> Served {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = (!batches.is_empty()).then(|| {
        let mut store = Store::open(folder.path(), Limits::default()).unwrap();
        for batch in batches {
            store.append(batch).unwrap();
        }
        store
    });
    let kept = Arc::new(Kept { store, answering: Arc::default() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(serve(listener, page_of(&kept, token), bounds));
    Served { address, kept, _runtime: runtime, _folder: folder }
}

/// The page of a history.
pub(crate) fn page_of(kept: &Arc<Kept>, token: Option<Token>) -> Arc<Page> {
    let info = ProfileInfo { frequency_hz: 99, cpus: 2, kernel_release: "6.1.0".to_owned() };
    let source: Arc<dyn Source> = kept.clone();
    Arc::new(Page::new(Settings { node: "node-1".to_owned(), info, gate: Gate { token }, source }))
}

/// The usual server: 30 batches of 10 s.
pub(crate) fn usual() -> Served {
    serving(30, None, Connections::default())
}

/// Bounds that a test can wait for.
pub(crate) fn tight() -> Connections {
    Connections {
        most: 2,
        head_bytes: 8 << 10,
        head_time: Duration::from_millis(200),
        life: Duration::from_millis(600),
    }
}
