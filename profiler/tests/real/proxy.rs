//! What stands between an agent and a server and goes wrong as it is told.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};

/// How often the listener and the connections look whether something changed.
const LOOK: Duration = Duration::from_millis(5);
/// What a slow reader takes at a time, each [`LOOK`]: 20 kB a second.
const SLOW_BYTES: usize = 100;
/// Largest segment that a slow reader takes; a client's own buffer grows with it.
const SLOW_SEGMENT: libc::c_int = 536;

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
    /// What is sent is read slowly, and never answered; only as a proxy's first mode. Counts the bytes that a client handed to its
    /// kernel on one connection, at most: fewer than it had to say are a client that could not go on.
    SlowReader(Arc<AtomicUsize>),
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
        if matches!(mode, Mode::SlowReader(_)) {
            narrow(&listener);
        }
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
    let mut is_narrow = matches!(shared.mode.lock().unwrap().0, Mode::SlowReader(_));
    let mut listener = Some(listener);
    while !shared.ended.load(Ordering::Relaxed) {
        let (mode, number) = shared.mode.lock().unwrap().clone();
        // Small buffers are a listener's for good.
        if matches!(mode, Mode::Refuse) || (is_narrow && !matches!(mode, Mode::SlowReader(_))) {
            (listener, is_narrow) = (None, false);
        }
        if listener.is_none() && !matches!(mode, Mode::Refuse) {
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
        Mode::SlowReader(handed_over) => read_slowly(stream, handed_over),
        Mode::Answer(text, times) => {
            if times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
                return pass(shared, stream);
            }
            if read_request(&mut stream).is_some() {
                let _ = stream.write_all(text.as_bytes());
            }
        }
        Mode::Tls(config) => pass_inside(shared, config, stream),
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

/// Until the client ends it.
fn read_slowly(mut stream: TcpStream, handed_over: &AtomicUsize) {
    let (mut little, mut read) = ([0; SLOW_BYTES], 0);
    while let Ok(more @ 1..) = stream.read(&mut little) {
        read += more;
        handed_over.fetch_max(read + unread(&stream), Ordering::Relaxed);
        std::thread::sleep(LOOK);
    }
}

/// Bytes that the other side has handed to its kernel and nobody has read here: those in its queue and in ours (proc(5),
/// `/proc/net/tcp`).
fn unread(stream: &TcpStream) -> usize {
    let (ours, theirs) = (in_hex(stream.local_addr().unwrap()), stream.peer_addr().map(in_hex).unwrap_or_default());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queues = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        let (sending, received) = fields.nth(1)?.split_once(':')?;
        let queue = if (local, remote) == (&*theirs, &*ours) {
            sending
        } else if (local, remote) == (&*ours, &*theirs) {
            received
        } else {
            return None;
        };
        usize::from_str_radix(queue, 16).ok()
    });
    queues.sum()
}

/// An address as the kernel's tables show it.
fn in_hex(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("{address} is not of loopback's IPv4") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

/// Makes the kernel keep next to nothing for who connects here, so that a request does not fit between client and reader.
fn narrow(listener: &TcpListener) {
    // 1 is raised to the smallest that there is (socket(7)).
    set_option(listener, libc::SOL_SOCKET, libc::SO_RCVBUF, &1);
    set_option(listener, libc::IPPROTO_TCP, libc::TCP_MAXSEG, &SLOW_SEGMENT);
}

/// Closing with time 0 sends a reset (socket(7), `SO_LINGER`).
fn reset(stream: &TcpStream) {
    set_option(stream, libc::SOL_SOCKET, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 });
}

fn set_option<T>(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: &T) {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is readable for that length, and the descriptor is open.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), length) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

fn pass(shared: &Shared, client: TcpStream) {
    let Ok(server) = TcpStream::connect(&shared.server) else { return };
    shared.open.lock().unwrap().extend(server.try_clone());
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let forth = std::thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    let _ = io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(Shutdown::Both);
    let _ = forth.join();
}

/// [`pass`] for what is inside TLS.
fn pass_inside(shared: &Shared, config: &Arc<ServerConfig>, mut client: TcpStream) {
    let mut secure = ServerConnection::new(Arc::clone(config)).unwrap();
    // A client that does not believe the certificate ends it here.
    if secure.complete_io(&mut client).is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(&shared.server) else { return };
    shared.open.lock().unwrap().extend(server.try_clone());
    let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let secure = Arc::new(Mutex::new(secure));
    let of_thread = Arc::clone(&secure);
    let forth = std::thread::spawn(move || {
        let _ = decrypt(&of_thread, from_client, &to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let _ = encrypt(&secure, server, &client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = forth.join();
}

fn decrypt(secure: &Mutex<ServerConnection>, mut from: TcpStream, mut to: &TcpStream) -> io::Result<()> {
    // The handshake may have read beyond its own end.
    let (mut part, mut read) = ([0_u8; 16 << 10], 0);
    loop {
        let (mut fresh, mut plain) = (&part[..read], Vec::<u8>::new());
        loop {
            let mut secure = secure.lock().unwrap();
            if !fresh.is_empty() {
                secure.read_tls(&mut fresh)?;
            }
            let state = secure.process_new_packets().map_err(io::Error::other)?;
            let known = plain.len();
            plain.resize(known + state.plaintext_bytes_to_read(), 0);
            secure.reader().read_exact(&mut plain[known..])?;
            if fresh.is_empty() {
                break;
            }
        }
        to.write_all(&plain)?;
        read = from.read(&mut part)?;
        if read == 0 {
            return Ok(());
        }
    }
}

fn encrypt(secure: &Mutex<ServerConnection>, mut from: TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut part = [0; 16 << 10];
    loop {
        let read = from.read(&mut part)?;
        let mut secure = secure.lock().unwrap();
        if read == 0 {
            secure.send_close_notify();
        }
        secure.writer().write_all(&part[..read])?;
        while secure.wants_write() {
            secure.write_tls(&mut to)?;
        }
        if read == 0 {
            return Ok(());
        }
    }
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
