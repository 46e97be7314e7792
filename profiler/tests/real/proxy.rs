//! What stands between an agent and a server and goes wrong as it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How often the listener and the connections look whether something changed.
const LOOK: Duration = Duration::from_millis(5);
/// What a slow reader takes at a time, each [`LOOK`]: 20 kB a second.
const SLOW_BYTES: usize = 100;

/// What the proxy does to new connections.
#[derive(Clone)]
pub(crate) enum Mode {
    /// Everything goes through.
    Pass,
    /// Nobody listens.
    Refuse,
    /// Connections are taken and reset.
    Reset,
    /// Connections are taken, and nothing is read or written.
    BlackHole,
    /// What is sent is read slowly, and never answered.
    SlowReader,
    /// Each request is answered so many times with this text; then everything goes through.
    Answer(&'static str, Arc<AtomicUsize>),
    /// A TLS server; what is inside goes through.
    Tls(Arc<ServerConfig>),
}

impl Mode {
    pub(crate) fn answer(text: &'static str, times: usize) -> Mode {
        Mode::Answer(text, Arc::new(AtomicUsize::new(times)))
    }
}

struct Shared {
    server: String,
    mode: Mutex<(Mode, u64)>,
    /// To be cut when the mode changes: clients keep connections.
    open: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

/// A port of loopback with a [`Mode`].
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    listens: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of `server`, `HOST:PORT`.
    pub(crate) fn new(server: &str, mode: Mode) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            mode: Mutex::new((mode, 0)),
            open: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let listens = std::thread::spawn(move || listen(&of_thread, listener, address));
        Proxy { shared, address, listens: Some(listens) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on, for open connections too: those are cut.
    pub(crate) fn set(&self, mode: Mode) {
        let mut current = self.shared.mode.lock().unwrap();
        *current = (mode, current.1 + 1);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.set(Mode::Refuse);
        let _ = self.listens.take().map(JoinHandle::join);
    }
}

fn listen(shared: &Arc<Shared>, listener: TcpListener, address: SocketAddr) {
    listener.set_nonblocking(true).unwrap();
    let mut listener = Some(listener);
    while !shared.ended.load(Ordering::Relaxed) {
        let (mode, number) = shared.mode.lock().unwrap().clone();
        if matches!(mode, Mode::Refuse) {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).ok();
            let Some(listener) = &listener else { continue };
            listener.set_nonblocking(true).unwrap();
        }
        let Some(Ok((stream, _))) = listener.as_ref().map(TcpListener::accept) else {
            std::thread::sleep(LOOK);
            continue;
        };
        let _ = stream.set_nonblocking(false);
        let current = shared.mode.lock().unwrap();
        if current.1 == number {
            // A reset is sent when the last of a socket's descriptors is closed.
            let kept = if matches!(mode, Mode::Reset) { None } else { stream.try_clone().ok() };
            shared.open.lock().unwrap().extend(kept.as_ref().and_then(|kept| kept.try_clone().ok()));
            let shared = Arc::clone(shared);
            std::thread::spawn(move || {
                serve(&shared, &mode, stream);
                let _ = kept.map(|kept| kept.shutdown(Shutdown::Both));
            });
        }
    }
}

fn serve(shared: &Shared, mode: &Mode, mut stream: TcpStream) {
    match mode {
        Mode::Pass => pass(shared, stream),
        Mode::Refuse => {}
        Mode::Reset => reset(&stream),
        Mode::BlackHole => wait_for_the_cut(&stream),
        Mode::SlowReader => {
            let mut little = [0; SLOW_BYTES];
            while stream.read(&mut little).is_ok_and(|read| read > 0) {
                std::thread::sleep(LOOK);
            }
        }
        Mode::Answer(text, times) => {
            if times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
                return pass(shared, stream);
            }
            if read_request(&mut stream).is_some() {
                let _ = stream.write_all(text.as_bytes());
            }
        }
        Mode::Tls(config) => {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream);
            if let Some(request) = read_request(&mut stream)
                && let Some(answer) = ask(&shared.server, &request)
            {
                let _ = stream.write_all(&answer);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    }
}

/// Until the other side or the proxy ends it.
fn wait_for_the_cut(stream: &TcpStream) {
    let mut byte = [0];
    let began = Instant::now();
    // Peeking takes nothing out of the buffer.
    while stream.peek(&mut byte).is_ok_and(|read| read > 0) && began.elapsed() < Duration::from_secs(600) {
        std::thread::sleep(LOOK);
    }
}

/// Closing with time 0 sends a reset (socket(7), `SO_LINGER`).
fn reset(stream: &TcpStream) {
    use std::os::fd::AsRawFd as _;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is a linger of that size, and the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0);
}

fn pass(shared: &Shared, client: TcpStream) {
    let Ok(server) = TcpStream::connect(&shared.server) else { return };
    shared.open.lock().unwrap().extend(server.try_clone());
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let forth = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    let _ = std::io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(Shutdown::Both);
    let _ = forth.join();
}

/// An HTTP/1.1 request with `content-length`, whole.
fn read_request(stream: &mut impl Read) -> Option<Vec<u8>> {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(head) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if request.len() >= head + 4 + length.unwrap_or(0) {
                return Some(request);
            }
        }
        match stream.read(&mut part) {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => return None,
        }
    }
}

/// The server's whole answer, on a connection of its own.
fn ask(server: &str, request: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(server).ok()?;
    let line = request.windows(2).position(|two| two == b"\r\n")? + 2;
    let request = [&request[..line], b"connection: close\r\n", &request[line..]].concat();
    stream.write_all(&request).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(answer)
}
