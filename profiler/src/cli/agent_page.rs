//! [`Agent`]: the page of a resident agent, asked by its interface (`docs/http.md`).

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::kubectl::parcel::shown;
use crate::profile::pprof::MAX_COMPRESSED_BYTES;
use crate::serve::{LONGEST_LIFE, LONGEST_SILENCE, Token};

/// Until an agent that takes connections is reached.
const CONNECTING: Duration = Duration::from_secs(10);
/// Until the next bytes of an answer: somewhat longer than the agent takes for the first ones at worst, so that it is the one that says
/// why there are none. A whole answer may take much longer over a slow link, as long as the agent keeps the connection.
const PATIENCE: Duration = LONGEST_SILENCE.saturating_add(Duration::from_secs(10));

/// How far an agent is.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    pub(super) node: String,
    pub(super) now: u64,
    pub(super) history: Option<Extent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Extent {
    pub(super) from: u64,
    pub(super) to: u64,
}

#[derive(Debug, Deserialize)]
struct Values {
    values: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Value {
    value: String,
}

#[derive(Debug, Deserialize)]
struct Failure {
    error: String,
}

/// An agent that has no time, or what is before it says so (502 to 504): another try may get an answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Busy(String);

/// Whether nobody answers at all: so it is with the next question.
pub(super) fn is_unreached(error: &anyhow::Error) -> bool {
    error.is::<reqwest::Error>()
}

/// Whether the same question may be answered the next time.
pub(super) fn may_pass(error: &anyhow::Error) -> bool {
    is_unreached(error) || error.is::<Busy>()
}

/// The page of an agent.
pub(super) struct Agent {
    client: reqwest::Client,
    base: Url,
    token: Option<Token>,
}

/// Its address.
impl fmt::Display for Agent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.base.clone();
        // Neither fails where there is a host, which every `http` address has; a password is nobody's business.
        let _ = (shown.set_password(None), shown.set_username(""));
        fmt::Display::fmt(&shown, formatter)
    }
}

impl Agent {
    pub(super) fn new(url: &str, token: Option<Token>) -> anyhow::Result<Agent> {
        let text = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let base = Url::parse(&text).with_context(|| format!("--from-agent {url} is no address"))?;
        anyhow::ensure!(
            matches!(base.scheme(), "http" | "https") && base.has_host(),
            "--from-agent {url}: give the page's address, such as http://127.0.0.1:7654"
        );
        // Once for the whole process; an error says that somebody else was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECTING)
            .read_timeout(PATIENCE)
            .timeout(LONGEST_LIFE);
        if base.scheme() == "http" {
            // The image has no certificates, and a client that looks for the system's fails where there are none.
            client = client.tls_certs_only([]);
        }
        let client = client.build().context("cannot make an HTTP client")?;
        Ok(Agent { client, base, token })
    }

    /// How far it is; the name of its node is fit for a terminal.
    pub(super) async fn status(&self) -> anyhow::Result<Status> {
        let status: Status = self.json(self.url("status", None, &[], &[])).await?;
        Ok(Status { node: shown(&status.node), ..status })
    }

    /// A label's values, those that have samples; empty for samples without it.
    pub(super) async fn values(&self, label: &str, range: Extent, filters: &[String]) -> anyhow::Result<Vec<String>> {
        let url = self.url("values", Some(range), &[("label", label)], filters);
        let found: Values = self.json(url).await?;
        Ok(found.values.into_iter().map(|value| value.value).collect())
    }

    pub(super) async fn get(
        &self,
        what: &str,
        range: Extent,
        words: &[(&str, &str)],
        filters: &[String],
    ) -> anyhow::Result<Vec<u8>> {
        self.bytes(self.url(what, Some(range), words, filters)).await
    }

    async fn json<T: DeserializeOwned>(&self, url: Url) -> anyhow::Result<T> {
        let bytes = self.bytes(url).await?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not the page of an everflame agent", self.base))
    }

    pub(super) fn url(&self, what: &str, range: Option<Extent>, words: &[(&str, &str)], filters: &[String]) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1", what]);
        }
        if range.is_some() || !words.is_empty() {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(words);
            if let Some(range) = range {
                query.append_pair("from", &range.from.to_string()).append_pair("to", &range.to.to_string());
            }
            query.extend_pairs(filters.iter().map(|filter| ("where", filter)));
        }
        url
    }

    async fn bytes(&self, url: Url) -> anyhow::Result<Vec<u8>> {
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        let unreached = || format!("no agent's page answers at {}", self.base);
        let mut response = request.send().await.with_context(unreached)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.with_context(unreached)? {
            anyhow::ensure!(
                bytes.len() + chunk.len() <= MAX_COMPRESSED_BYTES,
                "{} sends more than {MAX_COMPRESSED_BYTES} bytes: ask for less time",
                self.base
            );
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(bytes);
        }
        anyhow::ensure!(
            status != reqwest::StatusCode::UNAUTHORIZED,
            "{} asks for a token: give --page-token-file",
            self.base
        );
        let why = match serde_json::from_slice::<Failure>(&bytes) {
            Ok(failure) => format!("the agent at {} answers: {}", self.base, shown(&failure.error)),
            Err(_) => format!("{} answers with status {status}: it is not the page of an everflame agent", self.base),
        };
        Err(if (502..=504).contains(&status.as_u16()) { Busy(why).into() } else { anyhow::Error::msg(why) })
    }
}
