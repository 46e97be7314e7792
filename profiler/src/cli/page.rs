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

/// Listens and serves until the runtime ends.
pub(super) fn start(
    words: &Words,
    runtime: &Runtime,
    node: &str,
    info: &ProfileInfo,
    source: Arc<dyn Source>,
) -> anyhow::Result<Shown> {
    let listener = runtime
        .block_on(TcpListener::bind(&words.page))
        .with_context(|| format!("cannot listen on {}; choose another address with --page, or off", words.page))?;
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
    use super::*;

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
