//! Validated settings out of the words of `everflame agent`, and the run itself.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use profiler_common::filter;
use prometheus_client::registry::Registry;

use super::agent::variable;
use super::agent_args::Agent;
use super::stop::Stop;
use crate::agent::excluded::ExcludedCgroups;
use crate::agent::history::History;
use crate::agent::history_metrics::HistoryCollector;
use crate::agent::left_out::LeftOut;
use crate::agent::owners::Owners;
use crate::agent::page_source::PageSource;
use crate::agent::sink_metrics::SinkCollector;
use crate::agent::sinks::Common;
use crate::agent::stages::StageCollector;
use crate::agent::status::Status;
use crate::agent::uploads::Uploads;
use crate::agent::{self, Consume, Identify, Settings};
use crate::engine::{Engine, Options, Target};
use crate::export::address::Address;
use crate::export::counters::{Amount, DropReason, Snapshot};
use crate::export::delivery::Sinks;
use crate::export::file::try_folder;
use crate::export::text::TextCounters;
use crate::identity::{self, ApiServer, Hierarchy, Identities, LabelSelector, Selector, SelectorOptions, watch};
use crate::profile::pprof::ProfileInfo;
use crate::sampler::hierarchy::CgroupHierarchy;

/// Which of the two commands with the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Delivers; logs what it does.
    Agent,
    /// For people at a terminal: an address, a live line.
    Live,
}

async fn start_sinks(
    words: &Agent,
    node: &str,
    info: &ProfileInfo,
    texts: Arc<TextCounters>,
    needed: bool,
) -> anyhow::Result<Sinks> {
    let settings = super::sink_words::settings(words, variable)?;
    if settings.is_empty() && !needed {
        return Ok(Sinks::default());
    }
    if settings.is_empty() {
        if words.page.is_on() {
            // Else the next sentence hides that the address is none.
            super::page::check(&words.page.page).await?;
            anyhow::bail!(
                "the page would have nothing to show, and profiles go nowhere: leave out --store off, or give --to ADDRESS"
            );
        }
        anyhow::bail!(
            "nowhere to send profiles: give --to ADDRESS, such as --to datadog+http://127.0.0.1:8126 or --to file:///var/lib/everflame; or --page 127.0.0.1:7654 to look at them here"
        );
    }
    for sentence in super::sink_secrets::shared(words, &settings) {
        tracing::warn!("{sentence}");
    }
    let common = Common {
        host: node.to_owned(),
        tags: super::sink_words::tags(words, variable)?.0,
        whole_host: words.whole_node,
        info: info.clone(),
        spool: words.spool.clone(),
        spool_bytes: (words.spool_size << 20) / settings.len() as u64,
        texts,
    };
    let mut sinks = Sinks::default();
    for settings in &settings {
        let sink = agent::sinks::start(settings, &common).await?;
        match unwritable(&settings.address).await {
            None => tracing::info!(sink = sink.name(), "profiles go here"),
            Some(why) => {
                tracing::warn!(
                    sink = sink.name(),
                    "{why}; profiles are kept in memory, the latest ones, and tried again"
                );
            }
        }
        sinks.add(sink);
    }
    Ok(sinks)
}

/// How long a folder may take to be tried: one on a dead file system takes for ever, and others wait to start.
const FOLDER_PATIENCE: Duration = Duration::from_secs(2);

/// Why a folder can't be written, if it is one. No reason not to start: it may come, and other sinks are to get theirs.
async fn unwritable(address: &Address) -> Option<String> {
    let Address::Folder(folder) = address.clone() else { return None };
    let shown = folder.path.display().to_string();
    let (told, tried) = tokio::sync::oneshot::channel();
    // No thread of the runtime's, whose end would wait for it.
    let thread = std::thread::Builder::new().name("everflame-folder".into()).spawn(move || {
        // Nobody listens any more if it took too long.
        let _ = told.send(try_folder(&folder));
    });
    if let Err(error) = thread {
        return Some(format!("cannot start a thread that tries {shown}: {error}"));
    }
    match tokio::time::timeout(FOLDER_PATIENCE, tried).await {
        Ok(tried) => tried.ok()?.err(),
        Err(_) => Some(format!("{shown} does not answer")),
    }
}

/// Threads for the network: they mostly wait.
const NETWORK_THREADS: usize = 1;

pub(super) fn run(words: &Agent, shape: Shape) -> anyhow::Result<ExitCode> {
    super::capabilities::check()?;
    super::log::start(&words.log_format, &words.log_level);
    super::machine::raise_file_limit();
    let stop = Stop::watch().context("cannot watch for SIGTERM")?;
    let status = Arc::new(Status::default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(NETWORK_THREADS)
        .thread_name("everflame-net")
        .enable_all()
        .build()
        .context("cannot start the network threads")?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(agent::metrics::StatusCollector(Arc::clone(&status))));
    let node = watch::node_name(words.node_name.as_deref(), variable, &super::machine::host());
    let info = ProfileInfo {
        frequency_hz: words.frequency,
        cpus: crate::sampler::cpus::online()?.len() as u32,
        kernel_release: super::machine::kernel_release(),
    };
    let kept = super::history::open(&words.page)?;
    if let Some(kept) = &kept {
        registry.register_collector(Box::new(HistoryCollector(kept.history.clone())));
    }
    let texts = Arc::clone(&status.texts);
    let sinks = runtime.block_on(start_sinks(words, &node, &info, texts, kept.is_none()))?;
    let counters: Vec<_> = sinks.iter().map(|sink| (sink.name().to_owned(), sink.counters())).collect();
    registry.register_collector(Box::new(SinkCollector(counters.clone())));
    let history = kept.as_ref().map(|kept| kept.history.clone());
    let is_history_troubled = history.as_ref().is_some_and(History::is_troubled);
    registry.register_collector(Box::new(StageCollector { status: Arc::clone(&status), sinks: counters, history }));
    if words.listen != "off" {
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(&words.listen))
            .with_context(|| format!("cannot listen on {}; choose another with --listen, or off", words.listen))?;
        tracing::info!(address = %words.listen, "metrics and health are served");
        runtime.spawn(agent::http::serve(listener, Arc::clone(&status), registry));
    }
    let (selector, options) = owners(words, &node)?;
    let mut settings = settings(words)?;
    let chooses = !selector.takes_everything() || !words.exclude_cgroup.is_empty();
    if words.cgroup.is_none() && chooses {
        settings.engine.filter |= filter::CGROUPS_DENIED;
    }
    let mut shown = None;
    if words.page.is_on() {
        let history = kept.as_ref().map(|kept| kept.history.clone());
        let source = PageSource { status: Arc::clone(&status), history };
        shown = Some(super::page::start(&words.page, &runtime, &node, &info, Arc::new(source))?);
    }
    let sinks = Arc::new(sinks);
    let to_sinks = Arc::clone(&sinks);
    // Encoding runs on tokio's blocking threads, which a submit starts.
    let handle = runtime.handle().clone();
    let submit = move |batch| {
        let _inside = handle.enter();
        to_sinks.submit(&batch);
    };
    let mut consumers: Vec<Box<dyn Consume>> = Vec::new();
    if sinks.iter().next().is_some() {
        let lost = Arc::clone(&status.uploads_lost);
        consumers.push(Box::new(Uploads::new(Box::new(submit), words.interval, &node, lost)));
    }
    // Deleted at the end, if it is temporary.
    let mut folder = None;
    if let Some(kept) = kept {
        consumers.push(Box::new(kept.keeper));
        folder = Some(kept.folder);
    }
    tracing::info!(hz = settings.engine.frequency_hz, node = &*node, "sampling starts");
    // With --cgroup the set lists what is wanted.
    let left_out = words.cgroup.is_none().then(LeftOut::default);
    let (owners_status, handle) = (Arc::clone(&status), runtime.handle().clone());
    let (excluded, cgroup_root) = (words.exclude_cgroup.clone(), words.cgroup_root.clone());
    let identify = move |engine: &Engine| -> std::io::Result<Box<dyn Identify>> {
        let mount = engine.cgroup_hierarchy().map_or(cgroup_root.as_path(), |found| found.mount.as_path());
        let excluded = ExcludedCgroups::new(&excluded, &[mount, &cgroup_root, Path::new("/sys/fs/cgroup")]);
        for cgroup in excluded.missing(mount) {
            tracing::warn!(cgroup, "the cgroup of --exclude-cgroup is not there; it will be left out if it comes");
        }
        let hierarchy = engine
            .cgroup_hierarchy()
            .map(|found| Hierarchy { directory: found.mount.clone(), has_perf_records: found.has_perf_records });
        let identities = Identities::start(identity::Options { hierarchy, ..options }, &handle)?;
        Ok(Box::new(Owners { identities, selector, excluded, status: owners_status, left_out }))
    };
    let folder_shown = folder.as_ref().map(|folder| (folder, is_history_troubled));
    let line = (shape == Shape::Live).then(|| super::live::start(shown.as_ref(), folder_shown, &status, &stop));
    let result = agent::run(&settings, &status, identify, consumers, &|| stop.wanted());
    drop(line);
    if let Some(sinks) = Arc::into_inner(sinks) {
        tracing::info!("delivering what is left");
        for (sink, seen) in runtime.block_on(sinks.shutdown(words.shutdown_timeout)) {
            let left = seen.in_spool.messages;
            tracing::info!(sink, delivered = seen.delivered.messages, left_on_disk = left, "the sink has ended");
            if let Some(sentence) = not_delivered(&sink, &seen, words.spool.is_some()) {
                tracing::warn!(sink, "{sentence}");
            }
        }
    }
    runtime.shutdown_background();
    result?;
    Ok(ExitCode::SUCCESS)
}

/// What a sink did not get, in the words of `/metrics`; `None` if it got everything.
fn not_delivered(sink: &str, seen: &Snapshot, has_spool: bool) -> Option<String> {
    let dropped = DropReason::ALL.into_iter().map(|reason| (reason.name(), seen.dropped(reason)));
    // What was never encoded is in no message.
    let lost = |amount: &Amount| amount.messages > 0 || amount.samples > 0;
    let fates: Vec<String> = std::iter::once(("refused", seen.refused))
        .chain(dropped)
        .filter(|(_, amount)| lost(amount))
        .map(|(fate, amount)| format!("{fate} {}", amount.samples))
        .collect();
    if fates.is_empty() {
        return None;
    }
    // A spool keeps what memory had no room or no time for and nothing else, and a folder has none.
    let in_memory = [DropReason::MemoryFull, DropReason::Ended].into_iter().any(|reason| lost(&seen.dropped(reason)));
    let hint = if in_memory && !has_spool && !sink.starts_with("file:") {
        "; with --spool DIRECTORY what is not delivered waits on disk"
    } else {
        ""
    };
    Some(format!("the sink did not get everything; samples by fate: {}{hint}", fates.join(", ")))
}

/// What is wanted, and where identity looks.
fn owners(words: &Agent, node: &str) -> anyhow::Result<(Selector, identity::Options)> {
    let labels = |flag: &str, text: &Option<String>| match text {
        Some(text) => text.parse::<LabelSelector>().with_context(|| format!("--{flag} {text}")),
        None => Ok(LabelSelector::default()),
    };
    let selector = Selector::new(SelectorOptions {
        namespaces: words.namespace.clone(),
        pods: labels("pod-selector", &words.pod_selector)?,
        containers: words.container.clone(),
        exclude_namespaces: words.exclude_namespace.clone(),
        exclude_pods: labels("exclude-pod-selector", &words.exclude_pod_selector)?,
        exclude_containers: words.exclude_container.clone(),
    });
    let mut label_keys: Vec<String> = Vec::new();
    for key in words.pod_label.iter().map(String::as_str).chain(selector.label_keys()) {
        if !label_keys.iter().any(|known| known == key) {
            label_keys.push(key.to_owned());
        }
    }
    let options = identity::Options {
        proc_root: words.proc_root.clone(),
        cgroup_root: words.cgroup_root.clone(),
        node: Some(node.to_owned()),
        api: if words.kubernetes == "off" { ApiServer::Off } else { ApiServer::Found },
        runtime: words.cri.parse()?,
        label_keys,
        ..identity::Options::default()
    };
    Ok((selector, options))
}

fn settings(words: &Agent) -> anyhow::Result<Settings> {
    let mut bits = 0;
    let (cgroup_hierarchy, cgroups) = match &words.cgroup {
        Some(path) => {
            bits |= filter::CGROUPS;
            let chosen = super::cgroups::find(path, &CgroupHierarchy::mounted(&words.proc_root))?;
            (Some(chosen.hierarchy), chosen.ids)
        }
        None => (None, Vec::new()),
    };
    let online = crate::sampler::cpus::online()?.len().max(1);
    Ok(Settings {
        engine: Options {
            frequency_hz: words.frequency,
            filter: bits,
            cgroups,
            cgroup_hierarchy,
            target: Target::named(words.comm.clone()).without(words.exclude_comm.clone()),
            include_self: words.include_self,
            unwind_bytes: words.unwind_memory << 20,
            proc_root: words.proc_root.clone(),
            ..Options::default()
        },
        symbolizer: symbolizer::Options::default(),
        cpu_limit: words.cpu_limit / 100.0 * online as f64,
        memory_limit: match words.memory_limit {
            Some(mib) => mib << 20,
            None => cgroup_memory_limit(words).unwrap_or(0),
        },
    })
}

/// The limit that the agent's cgroup has, bytes: in the host's hierarchy where the manifests mount it; the own part is where it
/// always is.
pub(super) fn cgroup_memory_limit(words: &Agent) -> Option<u64> {
    let roots = [words.cgroup_root.as_path(), Path::new("/sys/fs/cgroup")];
    roots.into_iter().filter_map(|root| agent::memory::cgroup_limit(&words.proc_root, root)).min()
}

#[cfg(test)]
#[path = "agent_run_tests.rs"]
mod tests;
