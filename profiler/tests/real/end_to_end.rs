//! A C program under `everflame agent`, shipped to a Datadog front, a collector, a Pyroscope receiver and a folder at once.

use std::collections::{BTreeMap, BTreeSet};

use fixtures::{Flavour, build_or_skip};
use profiler::profile::pprof::decode;

use crate::agent::{Agent, files};
use crate::intake::{pushes, uploads};
use crate::live::Running;
use crate::otlp::spelled_out;
use crate::otlp_stacks::{Stacks, attributes, pprof_stacks, stacks};
use crate::recorded;
use crate::servers::{Collector, Server, wait_for};

/// Samples of the C program that are compared.
const ENOUGH: u64 = 200;

/// A stack of functions, leaf first → how often.
type Functions = BTreeMap<String, u64>;

/// The C program's stacks in a profile.
fn of_chain(raw: &recorded::Raw) -> Functions {
    let mut functions = Functions::new();
    for (row, times) in raw.iter().filter(|(row, _)| recorded::is_chain(row)) {
        let (values, stack) = row.split_once(" | ").unwrap();
        let count: u64 = values.split(' ').next().unwrap().parse().unwrap();
        *functions.entry(stack.to_owned()).or_default() += count * times;
    }
    functions
}

fn add(sum: &mut Functions, more: Functions) {
    for (stack, count) in more {
        *sum.entry(stack).or_default() += count;
    }
}

#[test]
#[ignore = "needs the servers of testservers/ and root: cargo xtask test --real"]
fn every_sample_of_an_agent_s_life_arrives_at_all_sinks() {
    let _alone = crate::live::alone();
    let (Some(datadog), Some(pyroscope), Some(collector)) =
        (Server::start("datadog"), Server::start("pyroscope"), Collector::start())
    else {
        return;
    };
    let Some(chain) = build_or_skip("chain", Flavour::OmitFp) else { return };
    let _load = Running::fixture(&chain, &[]);
    let folder = tempfile::tempdir().unwrap();
    let to = [
        format!("datadog+http://{}", datadog.address),
        format!("otlp+grpc://{}", collector.grpc()),
        format!("pyroscope+http://{}", pyroscope.address),
        format!("file://{}", recorded::shown(&folder.path().join("profiles"))),
    ];
    let spool = recorded::shown(&folder.path().join("spool"));
    let agent = Agent::start(&folder.path().join("log"), &["--to", &to.join(","), "--spool", &spool]);
    let profiles = folder.path().join("profiles");
    // Beside other work of the machine the program gets less of it.
    wait_for("two intervals and enough of the C program", || {
        let of_chain_in = |file: &std::path::PathBuf| {
            let own = decode(&std::fs::read(file).unwrap()).unwrap();
            of_chain(&recorded::own_raw(&own)).values().sum::<u64>()
        };
        let files = files(&profiles);
        (files.len() >= 2 && files.iter().map(of_chain_in).sum::<u64>() >= ENOUGH).then_some(())
    });
    let status = agent.terminate();
    assert!(status.success(), "{status}");

    let (mut in_files, mut stacks_in_files) = (Functions::new(), Stacks::new());
    let mut samples = 0;
    for file in files(&profiles) {
        let own = recorded::assert_go_reads(&std::fs::read(file).unwrap());
        samples += own.sample.iter().map(|sample| sample.value[0] as u64).sum::<u64>();
        add(&mut in_files, of_chain(&recorded::own_raw(&own)));
        for (stack, (count, nanoseconds)) in pprof_stacks(&own) {
            let sums = stacks_in_files.entry(stack).or_default();
            *sums = (sums.0 + count, sums.1 + nanoseconds);
        }
    }
    let of_chain_in_files: u64 = in_files.values().sum();
    println!("{samples} samples, {of_chain_in_files} of the C program");
    assert!(of_chain_in_files >= ENOUGH);

    // What a busy server answers too late is sent again, under the same id; each counts once.
    let mut ids = BTreeSet::new();
    let (mut seen, mut seen_samples) = (Functions::new(), 0);
    for upload in uploads(datadog.folder()).iter().filter(|upload| ids.insert(upload.id().to_owned())) {
        let own = decode(upload.form().attachment).unwrap();
        seen_samples += own.sample.iter().map(|sample| sample.value[0] as u64).sum::<u64>();
        let chain = of_chain(&recorded::own_raw(&own));
        // Not the other way round: an interval may have nothing of it but a stack from before its first unwind table.
        assert!(chain.is_empty() || upload.tag("service").as_deref() == Some("chain"));
        add(&mut seen, chain);
    }
    assert_eq!((seen_samples, &seen), (samples, &in_files), "Datadog");

    let (mut seen, mut seen_samples) = (Functions::new(), 0);
    for push in pushes(pyroscope.folder()).into_iter().filter(|push| ids.insert(push.id.clone())) {
        seen_samples += push.sums["samples:count"] as u64;
        if push.labels["service_name"] == "chain" {
            add(&mut seen, of_chain(&recorded::go_pprof_raw(&push.profile)));
        }
    }
    assert_eq!((seen_samples, &seen), (samples, &in_files), "Pyroscope");

    let requests: BTreeSet<_> = collector.written().into_iter().collect();
    let requests: Vec<_> = requests.iter().map(|bytes| spelled_out(bytes)).collect();
    assert_eq!(stacks(&requests), stacks_in_files, "OTLP, sample for sample");
    let resources = requests.iter().flat_map(|request| &request.resource_profiles);
    let services = resources.map(|of| attributes(&of.resource.as_ref().unwrap().attributes).remove("service.name"));
    assert!(services.flatten().any(|service| service == "chain"));
}
