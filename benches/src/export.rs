//! What encoding one interval costs for each wire, on a node with very many containers: CPU time, memory, requests, bytes.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use profiler::export::Encode;
use profiler::export::datadog::{DatadogConfig, DatadogEncoder, Grouping};
use profiler::export::otlp::{MAX_MESSAGE_BYTES, OtlpConfig, OtlpEncoder};
use profiler::export::pyroscope::{PyroscopeConfig, PyroscopeEncoder};
use profiler::ledger::Ledger;
use profiler::profile::pprof::ProfileInfo;
use profiler::profile::{
    Batch, BatchBuilder, Function, FunctionIndex, Identity, IdentityIndex, Line, LocationIndex, LocationKind, Process,
    Sample,
};
use unwind::end::{End, provenance};

use crate::machine;

const PERIOD_NS: u64 = 10_101_010;
/// Frames of each stack, of which the outer half is common to all stacks of a container's program.
const DEPTH: u64 = 30;
/// Programs that the containers run.
const PROGRAMS: u32 = 200;

#[derive(Args)]
pub(crate) struct Options {
    /// Containers, each with one process
    #[arg(long, default_value_t = 10_000)]
    containers: u32,
    /// Samples of the interval
    #[arg(long, default_value_t = 60_000)]
    samples: u32,
}

impl Options {
    pub(crate) fn quick(self) -> Options {
        Options { containers: self.containers.min(500), samples: self.samples.min(3_000) }
    }
}

const EXPLANATION: &str = "\
One interval of made-up samples, encoded once for each wire, without sending. `peak`: how much the process's highest RSS rose, with
the messages in it.";

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    machine::begin("export: encoding an interval for each back end", EXPLANATION);
    let batch = batch(options)?;
    let info = ProfileInfo { frequency_hz: 99, cpus: 2, kernel_release: "6.1".to_owned() };
    let datadog = |grouping| {
        let host = "node".to_owned();
        let (over_unix_socket, remote_symbols, info) = (false, false, info.clone());
        let config = DatadogConfig { host, tags: Vec::new(), grouping, over_unix_socket, remote_symbols, info };
        DatadogEncoder::new(config, Arc::default())
    };
    let otlp = |resource_per_process| {
        let (host, message_bytes) = ("node".to_owned(), MAX_MESSAGE_BYTES);
        let config = OtlpConfig { host, attributes: Vec::new(), resource_per_process, message_bytes };
        OtlpEncoder::new(config, Arc::default())
    };
    let pyroscope =
        PyroscopeConfig { host: "node".to_owned(), labels: Vec::new(), sample_labels: false, info: info.clone() };
    let mut encoders: [(&str, Box<dyn Encode>); 5] = [
        ("datadog, by series", Box::new(datadog(Grouping::Series))),
        ("datadog, whole host", Box::new(datadog(Grouping::WholeHost))),
        ("otlp, by process", Box::new(otlp(true))),
        ("otlp, by service", Box::new(otlp(false))),
        ("pyroscope", Box::new(PyroscopeEncoder::new(pyroscope, Arc::default()))),
    ];
    println!(
        "{} containers, {} samples, {} stacks, {} locations\n",
        options.containers,
        batch.samples.len(),
        batch.stacks.len(),
        batch.locations.len()
    );
    machine::head(&["wire", "CPU s", "µs/container", "messages", "body, KiB", "peak, MiB", "load"]);
    for (name, encoder) in &mut encoders {
        // Writing 5 sets the process's highest resident size back to the present one (Linux 4.0).
        std::fs::write("/proc/self/clear_refs", "5").context("can't reset the highest resident size")?;
        let before = highest_resident_kib()?;
        let start = cpu_seconds()?;
        let messages = encoder.encode(&batch)?;
        let seconds = cpu_seconds()? - start;
        let peak = highest_resident_kib()?.saturating_sub(before);
        let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
        println!(
            "| {name} | {seconds:.3} | {:.1} | {} | {} | {} | {} |",
            seconds * 1e6 / f64::from(options.containers),
            messages.len(),
            bytes >> 10,
            peak >> 10,
            machine::load(),
        );
        anyhow::ensure!(
            messages.iter().map(|message| message.samples).sum::<u64>() == batch.samples.len() as u64,
            "{name} lost samples"
        );
    }
    Ok(())
}

/// CPU time of this process so far: others that want the CPU do not count.
fn cpu_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").context("can't read /proc/self/schedstat")?;
    let first = text.split_whitespace().next().context("/proc/self/schedstat is empty")?;
    Ok(first.parse::<u64>().context("the CPU time is no number")? as f64 / 1e9)
}

fn highest_resident_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("can't read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    line.trim().trim_end_matches(" kB").trim().parse().context("VmHWM is no number")
}

/// Containers of some hundred programs with stacks of their own, each program with a few hundred places.
fn batch(options: &Options) -> anyhow::Result<Batch> {
    let mut builder = BatchBuilder::new();
    let empty = builder.text("");
    let mut processes = Vec::new();
    for number in 0..options.containers {
        let program = format!("/app/program{}", number % PROGRAMS);
        let (comm, executable) = (builder.text(program.trim_start_matches("/app/")), builder.text(&program));
        processes.push(builder.process(Process {
            pid: 1_000 + number,
            start_time_ns: u64::from(number),
            comm,
            executable,
            cgroup_id: u64::from(number),
            cgroup: empty,
            identity: Some(IdentityIndex(number)),
        }));
    }
    for number in 0..options.samples {
        let container = number % options.containers;
        let program = container % PROGRAMS;
        let mapping = builder.mapping(&format!("/app/program{program}"), &format!("{program:040x}"));
        let variant = u64::from(number / options.containers) + u64::from(container) * 7 % 40;
        let place = |depth: u64| if depth < DEPTH / 2 { 0x1000 + variant * 0x100 + depth } else { 0x100_000 + depth };
        let stack: Vec<LocationIndex> =
            (0..DEPTH).map(|depth| builder.location(LocationKind::Native, Some(mapping), place(depth))).collect();
        let stack = builder.stack(stack).context("too many stacks")?;
        builder.push(Sample {
            time_ns: u64::from(number) * 1_000,
            weight_ns: PERIOD_NS,
            process: processes[container as usize],
            tid: 1_000 + container,
            thread_name: empty,
            cpu: 0,
            stack,
            end: End::Complete,
            provenance: provenance::TABLE,
        });
    }
    let mut batch = builder.finish(PERIOD_NS, Ledger::default());
    batch.wall_start_ns = 1_700_000_000_000_000_000;
    batch.duration_ns = 60_000_000_000;
    for number in 0..batch.locations.len() {
        let name = batch.strings.intern(&format!("program::module::function_with_a_usual_name_{number}"));
        let filename = batch.strings.intern(&format!("src/module{}.rs", number % 97));
        batch.functions.push(Function { name, system_name: name, filename, start_line: 1 });
        let function = FunctionIndex(batch.functions.len() as u32 - 1);
        batch.locations[number].lines = vec![Line { function, line: 10, column: 0 }];
    }
    batch.identities = (0..options.containers).map(identity).collect();
    Ok(batch)
}

fn identity(number: u32) -> Identity {
    let text = |text: String| Arc::<str>::from(text);
    Identity {
        container_id: text(format!("{number:064x}")),
        pod_uid: text(format!("00000000-0000-0000-0000-{number:012x}")),
        pod: text(format!("program{}-7d9c-{number}", number % PROGRAMS)),
        namespace: "shop".into(),
        container: "server".into(),
        image: "registry/program:1.2".into(),
        node: "node".into(),
        workload_kind: "Deployment".into(),
        workload: text(format!("program{}", number % PROGRAMS)),
        service: text(format!("program{}", number % PROGRAMS)),
        environment: "prod".into(),
        version: "1.2".into(),
        labels: Vec::new(),
    }
}
