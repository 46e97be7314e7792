//! `everflame pod`: one pod of this node, or some, by name, uid or selector.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use profiler_common::filter;

use super::pod_args::Pod;
use super::pod_follow::PodCompanion;
use super::progress::during;
use super::recording;
use super::say::say;
use crate::identity::{self, ApiServer, Hierarchy, watch};
use crate::pod::{Choice, Followed, PodCgroup, Roster, Sources, Tree, Wanted, Who, WordsError, choose};
use crate::profile::pprof::Vocabulary;
use crate::sampler::hierarchy::CgroupHierarchy;

pub(super) fn run(words: &Pod) -> anyhow::Result<ExitCode> {
    let wanted = wanted(words)?;
    if let Some(url) = &words.from_agent {
        return super::pod_history::run(words, url, &wanted);
    }
    super::capabilities::check()?;
    let mut settings =
        recording::settings(&words.sampling, super::selection::of_code(&words.code, words.sampling.frequency));
    settings.hand_over = words.hand_over;
    if words.hand_over {
        settings.outputs.clear();
    }
    anyhow::ensure!(
        words.split.is_none() || !settings.outputs.iter().any(|path| path == Path::new(crate::output::STANDARD)),
        "--split writes several files, and standard output is one: name a file with -o"
    );
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("everflame-net")
        .enable_all()
        .build()
        .context("cannot start the network threads")?;
    let sources = sources(words)?;
    let roster = during("asking which pods are here", || tokio.block_on(Roster::ask(&sources, &wanted)));
    let (place, all) = pods_here(&settings.options.proc_root);
    let choice = choose(&wanted, &roster, &all)?;
    if let Who::Uids(uids) = &wanted.who
        && choice.pods.len() < uids.len()
    {
        say(format_args!("of {} pods {} run on this node", uids.len(), choice.pods.len()));
    }
    let Some(place) = place else {
        anyhow::bail!("no cgroup hierarchy is mounted here: pods are known by their cgroups")
    };
    settings.options.filter |= filter::CGROUPS;
    settings.options.cgroups = choice.cgroups.iter().map(|cgroup| cgroup.id).collect();
    settings.title = title(&choice, &sources.node);
    settings.vocabulary = Vocabulary::WITH_OWNERS;
    let tree =
        Tree { hierarchy: Hierarchy { directory: place.mount.clone(), has_perf_records: place.has_perf_records } };
    settings.options.cgroup_hierarchy = Some(place);
    let options = identity::Options {
        proc_root: settings.options.proc_root.clone(),
        node: Some(sources.node),
        api: sources.api,
        runtime: sources.runtime,
        label_keys: wanted.label_keys(),
        ..identity::Options::default()
    };
    let followed = Followed::new(wanted, choice, &all);
    let mut companion = PodCompanion::new(followed, tree, tokio, options, words.split.is_some());
    recording::run(&settings, &mut companion)
}

fn wanted(words: &Pod) -> Result<Wanted, WordsError> {
    let (namespace, selector) = (words.namespace.as_deref(), words.selector.as_deref());
    match &*words.pod {
        [] => Wanted::parse(None, namespace, selector, &words.container),
        [one] => Wanted::parse(Some(one), namespace, selector, &words.container),
        several => Wanted::of_uids(several, &words.container),
    }
}

fn sources(words: &Pod) -> anyhow::Result<Sources> {
    let node = watch::node_name(words.node_name.as_deref(), |name| std::env::var(name).ok(), &super::machine::host());
    let api = if words.kubernetes == "off" { ApiServer::Off } else { ApiServer::Found };
    Ok(Sources { node: node.to_string(), api, runtime: words.cri.parse()? })
}

/// The first hierarchy with pods in it, else the first of all, and the pods' cgroups.
fn pods_here(proc_root: &Path) -> (Option<CgroupHierarchy>, Vec<PodCgroup>) {
    let mounted = CgroupHierarchy::mounted(proc_root);
    for place in &mounted {
        let hierarchy = Hierarchy { directory: place.mount.clone(), has_perf_records: place.has_perf_records };
        let found = Tree { hierarchy }.all();
        if !found.is_empty() {
            return (Some(place.clone()), found);
        }
    }
    (mounted.into_iter().next(), Vec::new())
}

fn title(choice: &Choice, node: &str) -> String {
    match &*choice.pods {
        [one] => format!("pod {} on {node}", one.shown()),
        several => format!("{} pods on {node}", several.len()),
    }
}
