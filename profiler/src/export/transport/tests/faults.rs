//! Servers for tests: a thread that gives each connection to a function.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// Request line and headers.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }
}

/// Reads one request with `content-length`.
pub(super) fn read_request(stream: &mut impl Read) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let request = Request { head, body: Vec::new() };
            let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
            bytes.drain(..end + 4);
            while bytes.len() < length {
                let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
                bytes.extend_from_slice(&chunk[..count]);
            }
            return Some(Request { body: bytes, ..request });
        }
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
    }
}

/// Serves each connection by `serve`, which gets its number; the port. The thread waits until the test's process ends.
pub(super) fn server(mut serve: impl FnMut(TcpStream, usize) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            serve(stream.unwrap(), number);
        }
    });
    port
}

/// Answers each request with `answer`, one a connection, and keeps the requests.
pub(super) fn answering(answer: impl Into<Vec<u8>>) -> (u16, Arc<Mutex<Vec<Request>>>) {
    let (answer, seen) = (answer.into(), Arc::<Mutex<Vec<Request>>>::default());
    let requests = seen.clone();
    let port = server(move |mut stream, _| {
        let Some(request) = read_request(&mut stream) else { return };
        requests.lock().unwrap().push(request);
        let _ = stream.write_all(&answer);
    });
    (port, seen)
}

/// An HTTP answer with a body.
pub(super) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A port on which nobody listens.
pub(super) fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
