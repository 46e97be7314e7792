//! `everflame kubectl`: pods of a cluster from anywhere. Out of a resident agent's history where there is one with a page
//! (`kubectl_agent`), else by a Job for each node; either way one profile, or one for each pod.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use futures_util::future::join_all;
use pprof_proto::Profile;

use super::files::{Files, beside};
use super::kubectl_args::Kubectl;
use super::kubectl_display::Display;
use super::progress::Progress;
use super::recording;
use super::say::say;
use super::stop::Stop;
use crate::kubectl::manifest::{OneShot, Settings};
use crate::kubectl::news::HandedOver;
use crate::kubectl::{Cluster, NodePods, Refusal, Target, one_shot, owners, target, yaml};
use crate::output;
use crate::pod::{Wanted, Who};
use crate::profile::pprof::{decode, join};
use crate::serve::Token;

/// What agents and one-shots sample with if nothing is said.
const DEFAULT_FREQUENCY: u32 = 99;

pub(super) fn run(words: &Kubectl) -> anyhow::Result<ExitCode> {
    let wanted = Wanted::parse(words.pod.as_deref(), words.namespace.as_deref(), words.selector.as_deref(), &[])?;
    for (word, namespace) in [
        ("--in-namespace", words.one_shot.in_namespace.as_deref()),
        ("--agent-namespace", Some(&*words.cluster.agent_namespace)),
    ] {
        Wanted::parse(Some("x"), namespace, None, &[]).context(word)?;
    }
    // Now: a file that can't be read is a mistake, and no reason to start a pod instead of asking the agent.
    let token_file = words.cluster.page_token_file.as_deref().filter(|_| may_ask_agents(words));
    let token = token_file.map(Token::read).transpose()?;
    let outputs = if words.output.is_empty() {
        vec![PathBuf::from("cpu.pb.gz"), PathBuf::from("cpu.html")]
    } else {
        words.output.clone()
    };
    anyhow::ensure!(
        words.split.is_none() || !outputs.iter().any(|path| path == Path::new(output::STANDARD)),
        "--split writes several files, and standard output is one: name a file with -o"
    );
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("everflame-net")
        .enable_all()
        .build()
        .context("cannot start the network threads")?;
    if words.one_shot.print_manifest {
        let found = tokio.block_on(found(words, &wanted))?;
        super::print::print(manifests(words, &found)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for path in &outputs {
        output::prepare(path)?;
    }
    let stop = Stop::watch().context("cannot watch for Ctrl-C")?;
    let (found, mut results) = tokio.block_on(async {
        let found = found(words, &wanted).await?;
        let results = profiles(words, &found, token, &stop).await;
        anyhow::Ok((found, results))
    })?;
    let mut failed: Vec<anyhow::Error> = std::mem::take(&mut results.failed);
    if results.profiles.is_empty() {
        let last = failed.pop();
        failed.iter().for_each(|error| say(super::sentence(error)));
        let (text, ends) = without_profile(&results.lines, last);
        let mut files = Files::default();
        files.say(&outputs, &text);
        return ends.map(|()| files.exit_code(ExitCode::SUCCESS));
    }
    let is_whole = failed.is_empty();
    failed.iter().for_each(|error| say(super::sentence(error)));
    let written = write(words, &outputs, &results, &title(&found.nodes))?;
    Ok(if written && is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is said where there is nothing to write, and whether that is an error: it is not, of pods that had nothing to do.
fn without_profile(lines: &[String], failed: Option<anyhow::Error>) -> (String, anyhow::Result<()>) {
    let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let ends = match failed {
        Some(error) => Err(error),
        None if lines.is_empty() => Err(anyhow::anyhow!("nothing of these pods was sampled")),
        None => {
            text += "no file is written: there are no samples\n";
            Ok(())
        }
    };
    (text, ends)
}

/// Whether the agents on the nodes could have what is asked for.
fn may_ask_agents(words: &Kubectl) -> bool {
    let own = &words.one_shot;
    let samples_otherwise = words.frequency.is_some() || words.user_only || words.kernel_only;
    !own.one_shot && own.node.is_none() && !own.print_manifest && !samples_otherwise
}

/// What was found in the cluster.
struct Found {
    /// `None` where nothing had to be asked.
    cluster: Option<Cluster>,
    nodes: Vec<NodePods>,
    /// The pods' namespace.
    namespace: String,
}

/// Not before the cluster is connected: a credential plugin may ask for a password on this terminal.
fn asking() -> Progress {
    let progress = Progress::start();
    progress.say("asking the cluster which pods are meant".to_owned());
    progress
}

async fn found(words: &Kubectl, wanted: &Wanted) -> anyhow::Result<Found> {
    let cluster_words = &words.cluster;
    let connect = || Cluster::connect(cluster_words.kubeconfig.as_deref(), cluster_words.context.as_deref());
    let namespace_of = |cluster: &Cluster, given: Option<&str>| given.unwrap_or(cluster.namespace()).to_owned();
    let (cluster, namespace, nodes) = match &wanted.who {
        Who::Uids(uids) => {
            let Some(node) = &words.one_shot.node else {
                anyhow::bail!("a uid does not say where the pod is: give its name, or --node as well")
            };
            anyhow::ensure!(words.container.is_empty(), "containers are known by the pod's name, not by its uid");
            let cluster = if words.one_shot.print_manifest { None } else { Some(connect().await?) };
            let here = cluster.as_ref().map_or("default", Cluster::namespace);
            let namespace = words.namespace.as_deref().unwrap_or(here).to_owned();
            let of_uid = |uid: &String| Target {
                namespace: String::new(),
                name: String::new(),
                cgroup_uid: uid.clone(),
                containers: Vec::new(),
            };
            (cluster, namespace, vec![NodePods { node: node.clone(), pods: uids.iter().map(of_uid).collect() }])
        }
        Who::Named { namespace, name } => {
            let cluster = connect().await?;
            let _progress = asking();
            let namespace = namespace_of(&cluster, namespace.as_deref());
            let Some(pod) = cluster.pod(&namespace, name).await? else {
                return Err(Refusal::NoSuchPod { namespace, name: name.clone() }.into());
            };
            let named = target::on_node(target::named(&pod)?, words.one_shot.node.as_deref())?;
            (Some(cluster), namespace, vec![named])
        }
        Who::Selected { namespace, text, .. } => {
            let cluster = connect().await?;
            let progress = asking();
            let namespace = namespace_of(&cluster, namespace.as_deref());
            let selected = target::selected(&cluster.pods(&namespace, text).await?, &namespace, text)?;
            progress.end();
            for refusal in &selected.refused {
                say(format_args!("left out: {refusal}"));
            }
            (Some(cluster), namespace, selected.nodes)
        }
    };
    Ok(Found { cluster, nodes, namespace })
}

fn settings(words: &Kubectl, namespace: &str) -> Settings {
    let of_code = [(words.user_only, "--user-only"), (words.kernel_only, "--kernel-only")];
    Settings {
        namespace: words.one_shot.in_namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        image: words.one_shot.image.clone(),
        tolerations: words.one_shot.toleration.clone(),
        service_account: words.one_shot.service_account.clone(),
        duration: words.duration,
        frequency: words.frequency.unwrap_or(DEFAULT_FREQUENCY),
        words: of_code.into_iter().filter(|(given, _)| *given).map(|(_, word)| word.to_owned()).collect(),
    }
}

fn one_shot(words: &Kubectl, group: &NodePods) -> Result<OneShot, Refusal> {
    Ok(OneShot {
        // Chosen here, so that it can be deleted whatever becomes of the answer.
        name: format!("everflame-{:010x}", rand::random::<u64>() >> 24),
        node: group.node.clone(),
        uids: group.pods.iter().map(|pod| pod.cgroup_uid.clone()).collect(),
        containers: target::container_ids(&group.pods, &words.container)?,
    })
}

fn manifests(words: &Kubectl, found: &Found) -> anyhow::Result<String> {
    let settings = settings(words, &found.namespace);
    let mut documents = Vec::new();
    for group in &found.nodes {
        documents.push(yaml::document(&one_shot(words, group)?.job(&settings)));
    }
    Ok(documents.join("---\n"))
}

/// What came of all nodes.
#[derive(Default)]
pub(super) struct Results {
    pub(super) profiles: Vec<Profile>,
    /// A line for each node or pod.
    pub(super) lines: Vec<String>,
    pub(super) failed: Vec<anyhow::Error>,
}

async fn profiles(words: &Kubectl, found: &Found, token: Option<Token>, stop: &Stop) -> Results {
    let Some(cluster) = &found.cluster else { return Results::default() };
    let display = Display::new(stop.clone(), &found.nodes);
    let common = Common { words, cluster, settings: settings(words, &found.namespace), token, display };
    let all = join_all(found.nodes.iter().map(|group| common.of_node(group))).await;
    common.display.end();
    let mut results = Results::default();
    for result in all {
        match result {
            Ok(mut one) => {
                results.profiles.append(&mut one.profiles);
                results.lines.append(&mut one.lines);
                results.failed.append(&mut one.failed);
            }
            Err(error) => results.failed.push(error),
        }
    }
    results
}

/// What all nodes have in common.
pub(super) struct Common<'run> {
    pub(super) words: &'run Kubectl,
    pub(super) cluster: &'run Cluster,
    settings: Settings,
    /// Of the agents' pages.
    pub(super) token: Option<Token>,
    pub(super) display: Display,
}

impl Common<'_> {
    async fn of_node(&self, group: &NodePods) -> anyhow::Result<Results> {
        if may_ask_agents(self.words) {
            match self.reach_agent(group).await {
                // From here on its errors are the result's: whoever has waited for an hour does not want another one sampled.
                Ok(Some(reached)) => return self.ask_agent(reached, group).await,
                Err(error) if !self.display.is_stopped() => {
                    let why = super::sentence(&error);
                    self.display.note(&format!("{why}; starting a pod of our own on node {}", group.node));
                }
                Ok(None) | Err(_) => {}
            }
        }
        // Not everybody may read nodes, and a Job says later what is in its way.
        if let Ok(Some(node)) = self.cluster.node(&group.node).await {
            target::refuse_node(&node)?;
        }
        let (one_shot, settings) = (one_shot(self.words, group)?, &self.settings);
        match self.cluster.would_take(&settings.namespace, &one_shot.pod(settings)).await {
            // Who may make Jobs need not be allowed to make pods.
            Ok(()) => {}
            Err(refusal) if refusal.is_rbac() => {}
            Err(refusal) => return Err(refusal.into()),
        }
        let (keep, namespace) = (self.words.one_shot.keep, &settings.namespace);
        let host = self.display.of_node(&group.node, &one_shot.name, namespace);
        let handed_over = one_shot::run(self.cluster, settings, &one_shot, keep, &host).await?;
        if keep {
            self.display.note(&format!("the Job {} in the namespace {namespace} is kept", one_shot.name));
        }
        read(&handed_over, &group.node, &self.with_restarts(group).await)
    }

    /// The same pods with the containers that they have by now: of one that was restarted the new ids are to be known as well. One
    /// question for all pods of a node, which may be a thousand.
    async fn with_restarts(&self, group: &NodePods) -> Vec<Target> {
        let found = match (&self.words.selector, &*group.pods) {
            (Some(selector), [first, ..]) => {
                self.cluster.pods_on(&first.namespace, selector, &group.node).await.unwrap_or_default()
            }
            (None, [named]) if !named.name.is_empty() => {
                self.cluster.pod(&named.namespace, &named.name).await.ok().flatten().into_iter().collect()
            }
            _ => Vec::new(),
        };
        target::with_restarts(&group.pods, &found)
    }
}

fn read(handed_over: &HandedOver, node: &str, pods: &[Target]) -> anyhow::Result<Results> {
    let mut profile = decode(&handed_over.bytes).with_context(|| format!("node {node} handed no profile over"))?;
    owners::label(&mut profile, pods);
    let named = |text: &String| pods.iter().fold(text.clone(), |text, pod| text.replace(&pod.cgroup_uid, &pod.shown()));
    let is_news = |text: &&String| !text.starts_with("profiling ");
    let mut lines: Vec<String> =
        handed_over.notes.iter().filter(is_news).map(|text| format!("{node}: {}", named(text))).collect();
    lines.push(format!("{node}: {}", handed_over.summary));
    Ok(Results { profiles: vec![profile], lines, failed: Vec::new() })
}

/// Whether everything could be written.
fn write(words: &Kubectl, outputs: &[PathBuf], results: &Results, title: &str) -> anyhow::Result<bool> {
    let whole = join(&results.profiles)?;
    let mut files = Files::default();
    if words.split.is_some() {
        for part in owners::split(&whole) {
            for path in outputs {
                files.write(&part.profile, &beside(path, &part.name), &part.title);
            }
        }
    } else {
        for path in outputs {
            files.write(&whole, path, title);
        }
    }
    let mut text = files.text();
    for line in &results.lines {
        text += &format!("{line}\n");
    }
    text += &recording::hottest(&whole, words.top, &mut files);
    files.say(outputs, &text);
    Ok(!files.has_failed())
}

/// What a page of the profile calls itself.
fn title(nodes: &[NodePods]) -> String {
    let pods: Vec<&Target> = nodes.iter().flat_map(|group| &group.pods).collect();
    match (&*pods, nodes) {
        ([one], [group]) => format!("pod {} on {}", one.shown(), group.node),
        (several, [group]) => format!("{} pods on {}", several.len(), group.node),
        (several, _) => format!("{} pods on {} nodes", several.len(), nodes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_had_nothing_to_do_are_a_result_and_their_lines_come_before_an_error() {
        let idle = ["no samples of shop/web-1".to_owned(), "no samples of shop/web-2".to_owned()];
        let (text, ends) = without_profile(&idle, None);
        assert_eq!(
            text,
            "no samples of shop/web-1\nno samples of shop/web-2\nno file is written: there are no samples\n"
        );
        ends.unwrap();
        let (text, ends) = without_profile(&idle[..1], Some(anyhow::anyhow!("the agent has gone")));
        assert_eq!((&*text, &*ends.unwrap_err().to_string()), ("no samples of shop/web-1\n", "the agent has gone"));
        let (text, ends) = without_profile(&[], None);
        assert_eq!((&*text, &*ends.unwrap_err().to_string()), ("", "nothing of these pods was sampled"));
    }
}
