//! Starting the servers of `testservers/`, and ending them by their pid.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest that anything is waited for. Two busy CPUs start a collector in 10 s; other work of the same machine may take it thirty
/// times as long. Only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// Shortest time between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// The program of that name in `testservers/`; `None`, after saying why, where it was not built.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("EVERFLAME_TESTSERVERS").map(|folder| Path::new(&folder).join(name));
    match found {
        Some(path) if path.is_file() => return Some(path),
        Some(path) => println!("SKIPPED: {} is not there", path.display()),
        None => println!("SKIPPED: EVERFLAME_TESTSERVERS is not set; cargo xtask test --real builds the servers"),
    }
    assert!(std::env::var_os("CI").is_none(), "these tests can't be skipped in CI");
    None
}

/// Looks again and again until there is something.
pub(crate) fn wait_for<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    wait_at_most(PATIENCE, what, found)
}

/// [`wait_for`] with another patience.
pub(crate) fn wait_at_most<T>(patience: Duration, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        let looks = Instant::now();
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} in vain for {what}");
        // A look that is much work is not to keep a CPU busy.
        std::thread::sleep(looks.elapsed().max(LOOK));
    }
}

/// A port of this host that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server with the folder that it writes into; ended when this goes.
pub(crate) struct Server {
    child: Child,
    /// `HOST:PORT`.
    pub(crate) address: String,
    folder: tempfile::TempDir,
}

impl Server {
    /// One of the servers that take a folder and say `ready HOST:PORT`.
    pub(crate) fn start(name: &str) -> Option<Server> {
        Some(Server::started(name, Command::new(program(name)?), &[]))
    }

    /// [`Server::start`] as that command, with more words.
    pub(crate) fn started(name: &str, mut command: Command, words: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        // They end when their input does, so that none outlives a test that was killed.
        command.arg(folder.path()).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let address = said.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("{name} says {said:?}")).to_owned();
        Server { child, address, folder }
    }

    /// Where it writes.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An OpenTelemetry collector that writes every request to a file.
pub(crate) struct Collector {
    server: Server,
    /// `HOST:PORT` of OTLP over HTTP; `server.address` is that of gRPC.
    pub(crate) http: String,
}

impl Collector {
    pub(crate) fn start() -> Option<Collector> {
        let program = program("collector")?;
        let folder = tempfile::tempdir().unwrap();
        let (grpc, http) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let out = folder.path().display();
        let config = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{grpc}', max_recv_msg_size_mib: 64}}, http: {{endpoint: '{http}'}}}}}}}}\n\
             processors: {{memory_limiter: {{check_interval: 1s, limit_mib: 512}}}}\n\
             exporters:\n  \
               file/json: {{path: '{out}/profiles.json', flush_interval: 20ms}}\n  \
               file/proto: {{path: '{out}/profiles.pb', format: proto, flush_interval: 20ms}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n  \
             pipelines: {{profiles: {{receivers: [otlp], processors: [memory_limiter], exporters: [file/json, file/proto]}}}}\n"
        );
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(&program);
        command.args(["--feature-gates=service.profilesSupport", "--config"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let server = Server { child: command.spawn().unwrap(), address: grpc, folder };
        for address in [&server.address, &http] {
            wait_for("the collector to listen", || TcpStream::connect(address).ok());
        }
        Some(Collector { server, http })
    }

    /// `HOST:PORT` of OTLP over gRPC.
    pub(crate) fn grpc(&self) -> &str {
        &self.server.address
    }

    /// What its file exporter wrote so far, one `ProfilesData` for each request.
    pub(crate) fn written(&self) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(self.server.folder().join("profiles.pb")).unwrap_or_default();
        let (mut rest, mut messages) = (&bytes[..], Vec::new());
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let Some((message, behind)) = behind.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
            messages.push(message.to_vec());
            rest = behind;
        }
        messages
    }
}
