//! The live page that the words ask for: listener, token, address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::page_args::Page as Words;
use super::say::say;
use crate::profile::pprof::ProfileInfo;
use crate::serve::{self, Connections, Gate, Page, Settings, Source, Token};

/// Where people find it.
pub(super) struct Shown {
    /// As it is typed into a browser, without the token.
    pub(super) url: String,
}

fn cannot_listen(address: &str) -> String {
    format!("cannot listen on {address}; choose another address with --page, or off")
}

/// Whether somebody can listen there.
pub(super) async fn check(address: &str) -> anyhow::Result<()> {
    TcpListener::bind(address).await.map(drop).with_context(|| cannot_listen(address))
}

/// Listens and serves until the runtime ends.
pub(super) fn start(
    words: &Words,
    runtime: &Runtime,
    node: &str,
    info: &ProfileInfo,
    source: Arc<dyn Source>,
) -> anyhow::Result<Shown> {
    let listener = runtime.block_on(TcpListener::bind(&words.page)).with_context(|| cannot_listen(&words.page))?;
    let address = listener.local_addr().context("cannot find out the page's address")?;
    let given = words.page_token_file.as_deref().map(Token::read).transpose()?;
    let made = (given.is_none() && !address.ip().is_loopback()).then(Token::make);
    if made.is_some() {
        // Not through the log, whose lines are kept and sent elsewhere.
        let with_token = url(address, node, made.as_ref());
        say(format_args!("the page asks for a token, which is not printed again: {with_token}"));
    }
    let gate = Gate { token: given.or(made) };
    tracing::info!(address = %address, "the page is served");
    let page = Arc::new(Page::new(Settings { node: node.to_owned(), info: info.clone(), gate, source }));
    runtime.spawn(serve::serve(listener, page, Connections::default()));
    Ok(Shown { url: url(address, node, None) })
}

fn url(address: SocketAddr, node: &str, token: Option<&Token>) -> String {
    let host = match address.ip() {
        // Of all addresses of this node its name is the one that others know.
        ip if ip.is_unspecified() => node.to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let query = token.map(|token| format!("?token={}", token.reveal())).unwrap_or_default();
    format!("http://{host}:{}/{query}", address.port())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use store::Reader;

    use super::*;
    use crate::serve::{Answering, Moment};

    /// An agent that keeps no history.
    struct Nothing;

    impl Source for Nothing {
        fn reader(&self) -> Option<Reader> {
            None
        }

        fn moment(&self) -> Moment {
            Moment::default()
        }

        fn answering(&self) -> Arc<Answering> {
            Arc::default()
        }
    }

    /// A page for as long as the runtime lives, and its port.
    fn started(page: &str, token_file: Option<&std::path::Path>) -> anyhow::Result<(Runtime, u16)> {
        let words = Words {
            page: page.to_owned(),
            page_token_file: token_file.map(ToOwned::to_owned),
            store: "off".to_owned(),
            store_size: 0,
            store_age: std::time::Duration::ZERO,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let info = ProfileInfo { frequency_hz: 99, cpus: 1, kernel_release: String::new() };
        let shown = start(&words, &runtime, "node-1", &info, Arc::new(Nothing))?;
        let port = shown.url.trim_end_matches('/').rsplit(':').next().unwrap().parse()?;
        Ok((runtime, port))
    }

    /// The status of an answer, asked for on the loopback.
    fn status(port: u16, target: &str, header: &str) -> u16 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn beyond_loopback_there_is_a_token_that_nobody_has_to_ask_for() {
        for (page, expected) in [("0.0.0.0:0", 401), ("127.0.0.1:0", 200)] {
            let (_runtime, port) = started(page, None).unwrap();
            for target in ["/", "/api/v1/status"] {
                assert_eq!(status(port, target, ""), expected, "{page} {target}");
            }
        }
    }

    #[test]
    fn a_token_that_is_given_is_asked_for_on_the_loopback_too_and_is_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        for page in ["127.0.0.1:0", "0.0.0.0:0"] {
            let (_runtime, port) = started(page, Some(&file)).unwrap();
            for target in ["/", "/api/v1/status"] {
                assert_eq!(status(port, target, ""), 401, "{page} {target}");
                assert_eq!(status(port, target, "Authorization: Bearer 0123456789abcdeX\r\n"), 401, "{page} {target}");
                assert_eq!(status(port, target, "Authorization: Bearer 0123456789abcdef\r\n"), 200, "{page} {target}");
            }
        }
        std::fs::write(&file, "short").unwrap();
        let error = started("127.0.0.1:0", Some(&file)).err().unwrap();
        assert!(error.to_string().contains("must have 16 to 512 letters"), "{error}");
    }

    #[test]
    fn a_port_that_is_taken_is_told_with_the_word_that_chooses_another() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let error = started(&address.to_string(), None).err().unwrap();
        let expected = format!("cannot listen on {address}; choose another address with --page, or off");
        assert_eq!(error.to_string(), expected);
        assert!(format!("{error:#}").contains("Address already in use"), "{error:#}");
    }

    #[test]
    fn the_address_is_one_that_a_browser_takes() {
        for (address, expected) in [
            ("127.0.0.1:7654", "http://127.0.0.1:7654/"),
            ("[::1]:80", "http://[::1]:80/"),
            ("0.0.0.0:7654", "http://node-1:7654/"),
            ("[::]:7654", "http://node-1:7654/"),
        ] {
            assert_eq!(url(address.parse().unwrap(), "node-1", None), expected);
        }
        let token = Token::make();
        let with = url("10.0.0.1:1".parse().unwrap(), "node-1", Some(&token));
        assert_eq!(with, format!("http://10.0.0.1:1/?token={}", token.reveal()));
    }
}
