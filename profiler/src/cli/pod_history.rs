//! `everflame pod --from-agent`: a pod's profile out of the history that a resident agent keeps, by its page's interface
//! (`docs/http.md`). Nothing is sampled, and no rights on the node are needed.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pprof_proto::{Label, Profile};

use super::agent_page::{Agent, Extent, Status, may_pass};
use super::files::Files;
use super::patience::{LONGEST_OUTAGE, LOOK, Patience};
use super::pod_args::Pod;
use super::progress::Progress;
use super::recording::{self, DEFAULT_DURATION};
use super::stop::Stop;
use crate::kubectl::parcel::shown;
use crate::output;
use crate::pod::{Refusal, Wanted, Who};
use crate::profile::pprof::{decode, join_parts};
use crate::report::thousands;
use crate::serve::Token;

/// How much later than its samples a history may be: an interval is ten seconds, and names may take two minutes.
const LATENESS: Duration = Duration::from_secs(120);

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
    // Only the waiting can be ended and give something. Otherwise a signal ends the program, as nobody looks during a question.
    let stop = if words.next { Stop::watch().context("cannot watch for Ctrl-C")? } else { Stop::default() };
    let progress = std::io::stderr().is_terminal().then(Progress::start);
    let say = |text: String| {
        if let Some(progress) = &progress {
            progress.say(text);
        }
    };
    say(format!("asking {agent}"));
    // Of a history that is there already nothing is lost by an error: whoever asked can ask again.
    let longest = if words.next { LONGEST_OUTAGE } else { Duration::ZERO };
    let is_stopped = || stop.wanted();
    let mut patience = Patience::new(longest, &is_stopped, &say);
    let taken = tokio.block_on(async {
        let status = agent.status().await?;
        let (node, range) = agent.range(status, duration, words.next, &mut patience).await?;
        let asked = Asked { name, namespace: namespace.as_deref(), containers: &wanted.containers, node: &node };
        patience.say("taking the pod out of the history".to_owned());
        agent.take(&asked, range, &mut patience).await
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
    /// One pod's profile.
    pub(super) async fn take(
        &self,
        asked: &Asked<'_>,
        range: Extent,
        patience: &mut Patience<'_>,
    ) -> anyhow::Result<Taken> {
        loop {
            let error = match asked.take(self, range).await {
                Err(error) if may_pass(&error) => error,
                answer => {
                    patience.answered();
                    return answer;
                }
            };
            let Some(pause) = patience.failed().filter(|_| !patience.is_stopped()) else { return Err(error) };
            patience.say("the agent does not answer".to_owned());
            patience.pause(pause).await;
            patience.say("the agent is asked again".to_owned());
        }
    }

    /// Which node it is on, and which time to ask for: the coming time has passed then, or the user wants an end.
    pub(super) async fn range(
        &self,
        status: Status,
        duration: Duration,
        next: bool,
        patience: &mut Patience<'_>,
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
        let to = self.await_history(from, duration, patience).await?;
        Ok((status.node, Extent { from, to }))
    }

    /// Waits until the history has come to its end; Ctrl-C ends it where it is. An agent that does not answer for a moment samples on:
    /// the hour that was waited for is there when it does.
    async fn await_history(&self, from: u64, duration: Duration, patience: &mut Patience<'_>) -> anyhow::Result<u64> {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (began, wanted) = (Instant::now(), from.saturating_add(millis));
        let mut has = from;
        let to = loop {
            let mut pause = LOOK;
            match self.status().await {
                Ok(status) => {
                    patience.answered();
                    has = status.history.map_or(has, |history| history.to.max(has));
                }
                Err(error) => pause = patience.failed().ok_or(error)?,
            }
            if has >= wanted {
                break wanted;
            }
            if patience.is_stopped() {
                patience.hear();
                break has;
            }
            // Of one that does not answer it is not known.
            anyhow::ensure!(
                patience.is_away() || began.elapsed() < duration + LATENESS,
                "the agent's history ends {} s before what was asked for: it is late, or has stopped sampling",
                (wanted - has).div_ceil(1000)
            );
            let away = if patience.is_away() { " · the agent does not answer" } else { "" };
            let (passed, has_seconds) = (began.elapsed().as_secs_f64(), (has - from) as f64 / 1e3);
            patience.say(format!("{passed:.1} s · the history has {has_seconds:.1} s{away}"));
            patience.pause(pause).await;
        };
        anyhow::ensure!(to > from, "nothing is in the history yet of the time since the start");
        Ok(to)
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
    async fn take(&self, agent: &Agent, range: Extent) -> anyhow::Result<Taken> {
        let found = self.find(agent, range).await?;
        let mut parts = Vec::new();
        // The history's file does not say which container a sample is of: one file for each.
        for container in &found.containers {
            let bytes = agent.get("download", range, &[("form", "pb.gz")], &found.filters(Some(container))).await?;
            let mut part = decode(&bytes).with_context(|| format!("{agent} sent no profile"))?;
            label(&mut part, &found.labels(container));
            parts.push(part);
        }
        let profile = join_parts(&parts)?;
        let title = shown(&format!("pod {}/{} on {}", found.namespace, found.name, found.node));
        Ok(Taken { profile, title, seconds: (range.to - range.from) as f64 / 1000.0 })
    }

    async fn find(&self, agent: &Agent, range: Extent) -> anyhow::Result<Found> {
        // The agent lists the largest fifty, and a name such as `db-0` may be in more.
        let mut filters = vec![format!("pod={}", self.name)];
        filters.extend(self.namespace.map(|namespace| format!("namespace={namespace}")));
        let namespaces = agent.values("namespace", range, &filters).await?;
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
