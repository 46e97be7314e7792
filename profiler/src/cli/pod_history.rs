//! `everflame pod --from-agent`: a pod's profile out of the history that a resident agent keeps, by its page's interface
//! (`docs/http.md`). Nothing is sampled, and no rights on the node are needed.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pprof_proto::{Label, Profile};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::files::Files;
use super::pod_args::Pod;
use super::progress::Progress;
use super::recording::{self, DEFAULT_DURATION};
use super::stop::Stop;
use crate::kubectl::outage::Outage;
use crate::kubectl::parcel::shown;
use crate::output;
use crate::pod::{Refusal, Wanted, Who};
use crate::profile::pprof::{MAX_COMPRESSED_BYTES, decode, join_parts};
use crate::report::thousands;
use crate::serve::Token;

/// One answer; the agent itself gives up after 30 s.
const PATIENCE: Duration = Duration::from_secs(40);
/// How much later than its samples a history may be: an interval is ten seconds, and names may take two minutes.
const LATENESS: Duration = Duration::from_secs(120);
/// How long an agent may not answer while its history is waited for: what it samples meanwhile is kept, and it may be restarted.
const LONGEST_OUTAGE: Duration = Duration::from_secs(120);
/// Between two looks at how far the history is.
const LOOK: Duration = Duration::from_millis(500);

/// How far an agent is.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    node: String,
    now: u64,
    history: Option<Extent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Extent {
    from: u64,
    to: u64,
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

/// The page of an agent.
pub(super) struct Agent {
    client: reqwest::Client,
    base: Url,
    token: Option<Token>,
}

/// A pod that the history has nothing of.
#[derive(Debug, thiserror::Error)]
#[error(
    "the agent on node {node} has no samples of the pod {pod} in these {seconds:.0} s: it is not there, or used no CPU time"
)]
pub(super) struct NoSamples {
    node: String,
    pod: String,
    seconds: f64,
}

pub(super) fn run(words: &Pod, url: &str, wanted: &Wanted) -> anyhow::Result<ExitCode> {
    let Who::Named { namespace, name } = &wanted.who else {
        anyhow::bail!("the history of an agent knows pods by their names: give [NAMESPACE/]POD with --from-agent");
    };
    let outputs = recording::outputs(&words.sampling);
    for path in &outputs {
        output::prepare(path)?;
    }
    let duration = words.sampling.duration.unwrap_or(DEFAULT_DURATION);
    let agent = Agent::new(url, words.page_token_file.as_deref().map(Token::read).transpose()?)?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = Stop::watch().context("cannot watch for Ctrl-C")?;
    let progress = (words.next && std::io::stderr().is_terminal()).then(Progress::start);
    let say = |text: String| {
        if let Some(progress) = &progress {
            progress.say(text);
        }
    };
    let taken = tokio.block_on(async {
        let status = agent.status().await?;
        let (node, range) = agent.range(status, duration, words.next, || stop.wanted(), &say).await?;
        let asked = Asked { name, namespace: namespace.as_deref(), containers: &wanted.containers, node: &node };
        agent.take(&asked, range).await
    });
    if let Some(progress) = &progress {
        progress.end();
    }
    let Taken { profile, title, seconds } = taken?;
    let mut files = Files::default();
    for path in &outputs {
        files.write(&profile, path, &title);
    }
    let samples = thousands(u64::try_from(samples(&profile)).unwrap_or(0));
    let mut text = files.text();
    text += &format!("{seconds:.1} s of the history of {title}: {samples} samples\n");
    text += &recording::hottest(&profile, words.sampling.top, &mut files);
    files.say(&outputs, &text);
    Ok(files.exit_code(ExitCode::SUCCESS))
}

/// How many samples a profile of ours stands for: its first value counts them.
pub(super) fn samples(profile: &Profile) -> i64 {
    profile.sample.iter().filter_map(|sample| sample.value.first()).sum()
}

/// A pod's profile out of a history.
pub(super) struct Taken {
    pub(super) profile: Profile,
    /// What it is of.
    pub(super) title: String,
    pub(super) seconds: f64,
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
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Agent { client, base, token })
    }

    /// One pod's profile.
    pub(super) async fn take(&self, asked: &Asked<'_>, range: Extent) -> anyhow::Result<Taken> {
        let found = asked.find(self, range).await?;
        let mut parts = Vec::new();
        // The history's file does not say which container a sample is of: one file for each.
        for container in &found.containers {
            let bytes = self.get("download", range, &[("form", "pb.gz")], &found.filters(Some(container))).await?;
            let mut part = decode(&bytes).with_context(|| format!("{} sent no profile", self.base))?;
            label(&mut part, &found.labels(container));
            parts.push(part);
        }
        let profile = join_parts(&parts)?;
        let title = shown(&format!("pod {}/{} on {}", found.namespace, found.name, found.node));
        Ok(Taken { profile, title, seconds: (range.to - range.from) as f64 / 1000.0 })
    }

    /// Which node it is on, and which time to ask for: the coming time has passed then, or the user wants an end.
    pub(super) async fn range(
        &self,
        status: Status,
        duration: Duration,
        next: bool,
        is_stopped: impl Fn() -> bool,
        say: &dyn Fn(String),
    ) -> anyhow::Result<(String, Extent)> {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        if !next {
            let Some(history) = status.history else {
                anyhow::bail!("the agent on node {} has no history yet: try again in some seconds", status.node);
            };
            anyhow::ensure!(
                history.from <= history.to,
                "the agent on node {} says that its history ends before it begins",
                status.node
            );
            return Ok((status.node, last(history, millis)));
        }
        let from = status.now;
        let to = self.await_history(from, duration, is_stopped, say).await?;
        Ok((status.node, Extent { from, to }))
    }

    /// Waits until the history has come to its end; Ctrl-C ends it where it is. An agent that does not answer for a moment samples on:
    /// the hour that was waited for is there when it does.
    async fn await_history(
        &self,
        from: u64,
        duration: Duration,
        is_stopped: impl Fn() -> bool,
        say: &dyn Fn(String),
    ) -> anyhow::Result<u64> {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (began, wanted) = (Instant::now(), from.saturating_add(millis));
        let (mut has, mut outage) = (from, Outage::default());
        let to = loop {
            let mut pause = LOOK;
            match self.status().await {
                Ok(status) => {
                    outage.over();
                    has = status.history.map_or(has, |history| history.to.max(has));
                }
                Err(error) if outage.lasts(Instant::now()) >= LONGEST_OUTAGE => return Err(error),
                Err(_) => pause = outage.failed(Instant::now()).max(LOOK),
            }
            if has >= wanted {
                break wanted;
            }
            if is_stopped() {
                break has;
            }
            anyhow::ensure!(
                began.elapsed() < duration + LATENESS,
                "the agent's history ends {} s before what was asked for: it is late, or has stopped sampling",
                (wanted - has).div_ceil(1000)
            );
            let away = if outage.is_now() { " · the agent does not answer" } else { "" };
            let (passed, has_seconds) = (began.elapsed().as_secs_f64(), (has - from) as f64 / 1e3);
            say(format!("{passed:.1} s · the history has {has_seconds:.1} s{away}"));
            let until = Instant::now() + pause;
            while Instant::now() < until && !is_stopped() {
                tokio::time::sleep(LOOK).await;
            }
        };
        anyhow::ensure!(to > from, "nothing is in the history yet of the time since the start");
        Ok(to)
    }

    /// How far it is; the name of its node is fit for a terminal.
    pub(super) async fn status(&self) -> anyhow::Result<Status> {
        let status: Status = self.json(self.url("status", None, &[], &[])).await?;
        Ok(Status { node: shown(&status.node), ..status })
    }

    /// A label's values, those that have samples; empty for samples without it.
    async fn values(&self, label: &str, range: Extent, filters: &[String]) -> anyhow::Result<Vec<String>> {
        let url = self.url("values", Some(range), &[("label", label)], filters);
        let found: Values = self.json(url).await?;
        Ok(found.values.into_iter().map(|value| value.value).collect())
    }

    async fn get(
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

    fn url(&self, what: &str, range: Option<Extent>, words: &[(&str, &str)], filters: &[String]) -> Url {
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
        match serde_json::from_slice::<Failure>(&bytes) {
            Ok(failure) => anyhow::bail!("the agent at {} answers: {}", self.base, shown(&failure.error)),
            Err(_) => {
                anyhow::bail!("{} answers with status {status}: it is not the page of an everflame agent", self.base)
            }
        }
    }
}

/// The last so many milliseconds of a history; all of a shorter one.
fn last(history: Extent, millis: u64) -> Extent {
    Extent { from: history.to.saturating_sub(millis).max(history.from), to: history.to }
}

/// What is asked of an agent.
pub(super) struct Asked<'words> {
    pub(super) name: &'words str,
    pub(super) namespace: Option<&'words str>,
    pub(super) containers: &'words [String],
    pub(super) node: &'words str,
}

/// What its history has of it.
struct Found {
    namespace: String,
    name: String,
    /// Those that were asked for; all if none was, with an empty name for samples whose container is not known.
    containers: Vec<String>,
    node: String,
}

impl Asked<'_> {
    async fn find(&self, agent: &Agent, range: Extent) -> anyhow::Result<Found> {
        let namespaces = agent.values("namespace", range, &[format!("pod={}", self.name)]).await?;
        let namespace = self.namespace_of(namespaces, range)?;
        let mut found =
            Found { namespace, name: self.name.to_owned(), containers: Vec::new(), node: self.node.to_owned() };
        let mut has = agent.values("container", range, &found.filters(None)).await?;
        if self.containers.is_empty() {
            found.containers = has;
            return Ok(found);
        }
        found.containers = self.containers.iter().filter(|name| has.contains(name)).cloned().collect();
        if found.containers.is_empty() {
            has.retain(|name| !name.is_empty());
            has.iter_mut().for_each(|name| *name = shown(name));
            let pod = shown(&format!("pod {}/{}", found.namespace, found.name));
            return Err(Refusal::NoContainer { pod, wanted: self.containers.to_vec(), has }.into());
        }
        Ok(found)
    }

    /// The one namespace that is meant, out of those that have a pod of that name.
    fn namespace_of(&self, mut namespaces: Vec<String>, range: Extent) -> anyhow::Result<String> {
        let pod = |namespace: &str| format!("{namespace}/{}", self.name);
        namespaces.retain(|namespace| !namespace.is_empty());
        if let Some(wanted) = self.namespace {
            namespaces.retain(|namespace| namespace == wanted);
        }
        namespaces.sort_unstable();
        match &*namespaces {
            [one] => Ok(one.clone()),
            [] => Err(NoSamples {
                node: self.node.to_owned(),
                pod: self.namespace.map_or_else(|| self.name.to_owned(), pod),
                seconds: (range.to - range.from) as f64 / 1000.0,
            }
            .into()),
            several => Err(Refusal::Ambiguous {
                name: self.name.to_owned(),
                pods: several.iter().map(|namespace| shown(&pod(namespace))).collect(),
            }
            .into()),
        }
    }
}

impl Found {
    /// As the interface writes them.
    fn filters(&self, container: Option<&str>) -> Vec<String> {
        let mut filters = vec![format!("pod={}", self.name), format!("namespace={}", self.namespace)];
        filters.extend(container.map(|name| format!("container={name}")));
        filters
    }

    /// What every sample of a container has.
    fn labels<'found>(&'found self, container: &'found str) -> Vec<(&'found str, &'found str)> {
        let mut labels = vec![("namespace", &*self.namespace), ("pod", &*self.name), ("container", container)];
        labels.retain(|(_, value)| !value.is_empty());
        labels
    }
}

/// Gives every sample these labels: the history's file says what was asked for in its question alone.
fn label(profile: &mut Profile, labels: &[(&str, &str)]) {
    for (key, value) in labels {
        let next = profile.string_table.len() as i64;
        profile.string_table.extend([(*key).to_owned(), (*value).to_owned()]);
        for sample in &mut profile.sample {
            sample.label.push(Label { key: next, str: next + 1, num: 0, num_unit: 0 });
        }
    }
}

#[cfg(test)]
#[path = "pod_history_tests.rs"]
mod tests;
