//! `everflame doctor`: reads the facts, has them judged, prints the findings. Its exit code is 1 when one of them is a failure.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::FromArgMatches as _;

use super::agent_args::Agent;
use super::args::Doctor;
use super::progress::during;
use crate::doctor::kernel::{Gate, Start};
use crate::doctor::{Check, Verdict, delivery, facts, incomplete, json, kernel, network, node, rights, text, worst};
use crate::engine::{Engine, Options};
use crate::identity::watch;

/// How long `--top` records.
const RECORDING: Duration = Duration::from_secs(3);
/// How many causes `--top` shows.
const MAX_CAUSES: usize = 10;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let Some(sourced) = super::agent::resolved()? else { return Ok(ExitCode::from(2)) };
    let words = Doctor::from_arg_matches(&sourced.matches)?;
    super::machine::raise_file_limit();
    let mut checks = during("looking at this machine", || of_machine(&words));
    checks.extend(during("starting the profiler", || of_start(&words)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the network thread")?;
    checks.extend(during("asking the API server, the container runtime and the sinks", || {
        runtime.block_on(of_network(&words))
    }));
    super::print::print(if words.json { json(&checks)? + "\n" } else { text(&checks) })?;
    Ok(if worst(&checks) == Verdict::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What files and system calls tell.
fn of_machine(words: &Doctor) -> Vec<Check> {
    let proc_root = &words.agent.proc_root;
    let platform = facts::platform(proc_root);
    let (release, machine) = facts::kernel();
    let (effective, seccomp) = facts::own_rights();
    let lockdown = facts::lockdown(proc_root);
    let (paranoid, kptr_restrict) = facts::sysctls();
    let gate = Gate { effective, seccomp, lockdown: lockdown.as_deref(), platform: &platform };
    let ((processes, maps), (map_files, mapped)) = facts::other_processes(proc_root);
    let cgroup_root = &words.agent.cgroup_root;
    vec![
        kernel::system(&platform),
        kernel::release(&release, &machine),
        kernel::btf(facts::btf()),
        kernel::lockdown(lockdown.as_deref(), &platform),
        rights::capabilities(effective, &platform),
        rights::seccomp(seccomp),
        kernel::bpf(facts::try_bpf(), &gate),
        kernel::perf_event(facts::try_perf_event(), paranoid, &gate),
        kernel::memory_lock(&facts::memory_lock(paranoid), kernel::version(&release), &gate),
        kernel::open_files(facts::open_files()),
        kernel::tracefs(),
        kernel::kernel_symbols(facts::kallsyms(), kptr_restrict, &gate),
        rights::host_pid(facts::pid_namespace(), &platform),
        rights::processes(&processes, &maps, effective, &platform),
        rights::map_files(&map_files, &mapped, &platform),
        node::cgroups(&facts::cgroups(cgroup_root), &cgroup_root.display().to_string(), platform.in_pod),
    ]
}

/// The start that the agent makes, and with `--top` a short recording.
fn of_start(words: &Doctor) -> Vec<Check> {
    let options = Options {
        frequency_hz: words.agent.frequency,
        unwind_bytes: words.agent.unwind_memory << 20,
        proc_root: words.agent.proc_root.clone(),
        ..Options::default()
    };
    let mut engine = match Engine::new(options) {
        Ok(engine) => engine,
        Err(error) => return vec![kernel::start(&Start::Failed(error.to_string()))],
    };
    let ready = Start::Ready {
        programs: engine.verified_instructions().len(),
        cpus: engine.cpus(),
        online: engine.online_cpus(),
    };
    let mut checks = vec![kernel::start(&ready)];
    if words.top {
        checks.extend(record(engine).unwrap_or_else(|error| vec![kernel::start(&Start::Failed(error.to_string()))]));
    }
    checks
}

fn record(mut engine: Engine) -> Result<Vec<Check>, crate::engine::EngineError> {
    let _precedence = crate::engine::Precedence::take();
    engine.start()?;
    let end = Instant::now() + RECORDING;
    while Instant::now() < end {
        std::thread::sleep(engine.round());
        engine.tick()?;
    }
    let recording = engine.finish()?;
    Ok(incomplete::checks(&recording.interval.batch, MAX_CAUSES))
}

/// The API server, the container runtime, the sinks, and what the agent needs of its own machine to serve them.
async fn of_network(words: &Doctor) -> Vec<Check> {
    let agent = &words.agent;
    let platform = facts::platform(&agent.proc_root);
    let variable = |name: &str| std::env::var(name).ok();
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = watch::node_name(agent.node_name.as_deref(), variable, &hostname);
    let given = agent.node_name.is_some() || watch::node_name(None, variable, "").as_ref() != "";
    let api = if agent.kubernetes == "off" { node::Api::Off } else { network::api_server(&name).await };
    let choice = agent.cri.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
    let runtime = network::runtime(&choice, Path::new("/")).await;
    let has_api_server = matches!(&api, node::Api::Asked { pods: node::ApiAnswer::Granted, .. });
    let mut checks = vec![
        node::node_name(&name, given, platform.in_pod),
        node::api_server(&api, &name, platform.in_pod),
        node::runtime(&runtime, has_api_server),
    ];
    match super::sink_words::settings(agent, variable) {
        Err(error) => checks.push(delivery::bad_sinks(&error.to_string())),
        Ok(sinks) if sinks.is_empty() => checks.push(delivery::no_sink()),
        Ok(sinks) => {
            for settings in &sinks {
                let wire = match &settings.address {
                    crate::export::address::Address::Server(server) => server.wire,
                    crate::export::address::Address::Folder(_) => None,
                };
                let answer = network::sink(settings).await;
                checks.push(delivery::sink(&settings.address.to_string(), wire, &answer, &platform));
            }
        }
    }
    let spool = agent.spool.as_ref().map(|path| (path.display().to_string(), facts::folder(path)));
    let spool = spool.as_ref().map(|(path, state)| (path.as_str(), state));
    checks.push(delivery::spool(spool, agent.spool_size << 20));
    checks.extend(of_page(agent).await);
    checks
}

/// Where people and probes ask, and the history behind the page.
async fn of_page(agent: &Agent) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, setting, address) in [("listen", "--listen", &agent.listen), ("page", "--page", &agent.page.page)] {
        if address != "off" {
            checks.push(delivery::listen(name, setting, address, &network::listen(address).await));
        }
    }
    // auto finds another place by itself.
    if agent.page.store != "off" && agent.page.store != "auto" {
        let state = facts::folder(Path::new(&agent.page.store));
        checks.push(delivery::history(&agent.page.store, &state, agent.page.store_size));
    }
    checks
}
