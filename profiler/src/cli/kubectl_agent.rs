//! The part of `everflame kubectl` that takes a node's pods out of the history of the agent there.

use anyhow::Context as _;

use super::agent_page::{Agent, Extent, Status, is_unreached};
use super::kubectl::{Common, Results};
use super::patience::{LONGEST_OUTAGE, Patience};
use super::pod_history::{Asked, NoSamples, Taken, samples};
use crate::kubectl::NodePods;
use crate::kubectl::resident::{Bridge, Resident, resident};
use crate::profile::pprof::join_parts;
use crate::report::thousands;

/// An agent that has answered.
pub(super) struct Reached {
    resident: Resident,
    /// Its page is there as long as this is.
    _bridge: Bridge,
    agent: Agent,
    status: Status,
}

impl Common<'_> {
    /// `None` where no agent with a page runs.
    pub(super) async fn reach_agent(&self, group: &NodePods) -> anyhow::Result<Option<Reached>> {
        let agents = self.cluster.agents(&self.words.cluster.agent_namespace, &group.node).await?;
        let Some(resident) = resident(&agents) else { return Ok(None) };
        let bridge = Bridge::to(self.cluster, &resident).await?;
        let agent = Agent::new(&format!("http://{}", bridge.address), self.token.clone())?;
        let status = agent.status().await?;
        Ok(Some(Reached { resident, _bridge: bridge, agent, status }))
    }

    /// The coming time of all pods, once it has passed.
    pub(super) async fn ask_agent(&self, reached: Reached, group: &NodePods) -> anyhow::Result<Results> {
        let Reached { resident, _bridge, agent, status } = reached;
        let display = &self.display;
        let is_stopped = || display.is_stopped();
        let say = |text: String| display.say(&group.node, text);
        let mut patience = Patience::new(LONGEST_OUTAGE, &is_stopped, &say);
        let range = agent.range(status, self.words.duration, true, &mut patience).await;
        let (node, range) =
            range.with_context(|| format!("agent {}/{} on node {}", resident.namespace, resident.pod, group.node))?;
        let mut results = of_pods(&agent, group, &self.words.container, &node, range, &mut patience).await;
        // Each says what was due on the whole node: as several nodes' they would be added up.
        if !results.profiles.is_empty() {
            results.profiles = vec![join_parts(&results.profiles)?];
        }
        Ok(results)
    }
}

/// One pod after another, until the agent has gone or the user wants an end: each may take its time, and a node has hundreds.
async fn of_pods(
    agent: &Agent,
    group: &NodePods,
    containers: &[String],
    node: &str,
    range: Extent,
    patience: &mut Patience<'_>,
) -> Results {
    let mut results = Results::default();
    for (number, pod) in group.pods.iter().enumerate() {
        let left = group.pods.len() - number;
        if patience.is_stopped() {
            let not_asked = "that were not asked for, since an end was wanted";
            results.failed.push(anyhow::anyhow!("pods on node {} {not_asked}: {left}", group.node));
            break;
        }
        // Minutes may pass with one that is large or an agent that is busy.
        patience.say(format!("taking pod {} of {} out of the history", number + 1, group.pods.len()));
        let asked = Asked { name: &pod.name, namespace: Some(&pod.namespace), containers, node };
        match agent.take(&asked, range, patience).await {
            Ok(Taken { profile, title, seconds }) => {
                let count = thousands(u64::try_from(samples(&profile)).unwrap_or(0));
                results.lines.push(format!("{seconds:.1} s of the history of {title}: {count} samples"));
                results.profiles.push(profile);
            }
            // One that had nothing to do is no reason to ask all others again.
            Err(error) if error.is::<NoSamples>() => results.lines.push(error.to_string()),
            Err(error) => {
                let (is_gone, others) = (is_unreached(&error), left - 1);
                let not_asked =
                    if is_gone && others > 0 { format!(" ({others} more there not asked for)") } else { String::new() };
                let which = format!("pod {} on node {}{not_asked}", pod.shown(), group.node);
                results.failed.push(error.context(which));
                if is_gone {
                    break;
                }
            }
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Duration;

    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::extract::Query;
    use axum::http::StatusCode;
    use axum::routing::get;
    use futures_util::stream;
    use pprof_proto::{Profile, Sample, ValueType};

    use super::*;
    use crate::cli::sentence;
    use crate::kubectl::Target;
    use crate::profile::pprof::to_gzip;

    type Words = Query<Vec<(String, String)>>;
    const RANGE: Extent = Extent { from: 1_000, to: 31_000 };
    const NEVER: fn() -> bool = || false;
    const SILENT: fn(String) = |_| ();

    /// Of so many samples.
    fn profile(samples: i64) -> Vec<u8> {
        to_gzip(&Profile {
            string_table: ["", "samples", "count"].map(str::to_owned).into(),
            sample_type: vec![ValueType { r#type: 1, unit: 2 }],
            sample: vec![Sample { value: vec![samples], ..Sample::default() }],
            ..Profile::default()
        })
    }

    /// A connection that breaks.
    fn broken() -> Body {
        Body::from_stream(stream::iter([Ok(Bytes::from("x")), Err(std::io::Error::other("broken"))]))
    }

    /// A page whose history has one container of the pods `web-…` and nothing of others; what a download gives is by its number.
    async fn agent(download: impl Fn(u32) -> (StatusCode, Body) + Clone + Send + Sync + 'static) -> Agent {
        let values = |Query(words): Words| async move {
            let has = |beginning: &str| words.iter().any(|(key, value)| key == "where" && value.starts_with(beginning));
            let asked = |label: &str| words.iter().any(|(key, value)| key == "label" && value == label);
            let list = match () {
                () if !has("pod=web-") => "",
                () if asked("container") => r#"{"value":"app"}"#,
                () => r#"{"value":"shop"}"#,
            };
            format!(r#"{{"values":[{list}]}}"#)
        };
        let number = Arc::new(AtomicU32::new(0));
        let download = move || {
            let answer = download(number.fetch_add(1, Ordering::Relaxed));
            async move { answer }
        };
        let router = Router::new().route("/api/v1/values", get(values)).route("/api/v1/download", get(download));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Agent::new(&url, None).unwrap()
    }

    fn group(pods: &[&str]) -> NodePods {
        let pod = |name: &&str| Target {
            namespace: "shop".into(),
            name: (*name).to_owned(),
            cgroup_uid: String::new(),
            containers: Vec::new(),
        };
        NodePods { node: "n1".into(), pods: pods.iter().map(pod).collect() }
    }

    /// Samples of each profile, lines, and what failed.
    fn words(results: &Results) -> (Vec<i64>, Vec<String>, Vec<String>) {
        let profiles = results.profiles.iter().map(samples).collect();
        (profiles, results.lines.clone(), results.failed.iter().map(sentence).collect())
    }

    #[tokio::test]
    async fn an_answer_that_fails_is_asked_for_again_and_nothing_is_lost() {
        let agent = agent(|number| match number {
            0 => (StatusCode::OK, broken()),
            1 => (StatusCode::SERVICE_UNAVAILABLE, Body::from(r#"{"error":"too many questions at once"}"#)),
            _ => (StatusCode::OK, Body::from(profile(7))),
        })
        .await;
        let said = RefCell::new(Vec::new());
        let say = |text: String| said.borrow_mut().push(text);
        let mut patience = Patience::new(Duration::from_secs(60), &NEVER, &say);
        let results = of_pods(&agent, &group(&["web-1", "db-0", "web-2"]), &[], "n1", RANGE, &mut patience).await;
        let (profiles, lines, failed) = words(&results);
        let taking = |number: u32| format!("taking pod {number} of 3 out of the history");
        let outage = ["the agent does not answer", "the agent is asked again"].map(str::to_owned);
        assert_eq!(*said.borrow(), [&[taking(1)], &outage[..], &outage, &[taking(2), taking(3)]].concat());
        assert_eq!((profiles, failed), (vec![7, 7], Vec::new()));
        assert!(lines[1].starts_with("the agent on node n1 has no samples of the pod shop/db-0"), "{lines:?}");
    }

    #[tokio::test]
    async fn an_agent_that_has_gone_is_not_asked_for_the_others_and_one_that_is_busy_is() {
        let pods = group(&["web-1", "web-2", "web-3"]);
        let gone = agent(|number| (StatusCode::OK, if number == 0 { Body::from(profile(7)) } else { broken() })).await;
        let mut patience = Patience::new(Duration::ZERO, &NEVER, &SILENT);
        let (profiles, _, failed) = words(&of_pods(&gone, &pods, &[], "n1", RANGE, &mut patience).await);
        let begins = "pod shop/web-2 on node n1 (1 more there not asked for): no agent's page answers at http";
        assert!(failed.len() == 1 && failed[0].starts_with(begins), "{failed:?}");
        assert_eq!(profiles, [7]);
        let busy = agent(|number| match number {
            1 => (StatusCode::SERVICE_UNAVAILABLE, Body::from(r#"{"error":"too many questions at once"}"#)),
            _ => (StatusCode::OK, Body::from(profile(7))),
        })
        .await;
        let (profiles, _, failed) = words(&of_pods(&busy, &pods, &[], "n1", RANGE, &mut patience).await);
        assert_eq!(profiles, [7, 7]);
        let is_said = |text: &String| {
            text.starts_with("pod shop/web-2 on node n1: ") && text.ends_with("answers: too many questions at once")
        };
        assert!(failed.len() == 1 && is_said(&failed[0]), "{failed:?}");
    }

    #[tokio::test]
    async fn an_end_that_is_wanted_leaves_the_other_pods_and_one_that_has_ended_the_waiting_does_not() {
        let pods = group(&["web-1", "web-2", "web-3"]);
        let is_wanted = Arc::new(AtomicBool::new(false));
        let wanted = is_wanted.clone();
        let agent = agent(move |_| {
            wanted.store(true, Ordering::Relaxed);
            (StatusCode::OK, Body::from(profile(7)))
        })
        .await;
        let is_stopped = || is_wanted.load(Ordering::Relaxed);
        let mut patience = Patience::new(Duration::ZERO, &is_stopped, &SILENT);
        let (profiles, _, failed) = words(&of_pods(&agent, &pods, &[], "n1", RANGE, &mut patience).await);
        let not_asked = "pods on node n1 that were not asked for, since an end was wanted: 2";
        assert_eq!((profiles, failed), (vec![7], vec![not_asked.to_owned()]));
        patience.hear();
        let (profiles, _, failed) = words(&of_pods(&agent, &pods, &[], "n1", RANGE, &mut patience).await);
        assert_eq!((profiles, failed), (vec![7, 7, 7], Vec::new()));
    }
}
