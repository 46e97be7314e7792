//! Pods under a real kubelet, profiled by the agent in a pod of its own, as the manifests in `deploy/` start it: whose each sample is
//! said to be, against what kernel and API server say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use profiler::profile::pprof::decode;

use crate::images::Programs;
use crate::intake::{Upload, uploads};
use crate::live::{self, Running};
use crate::network::NODE_ADDRESS;
use crate::node::{self, Node};
use crate::servers::{Server, program, wait_for};

/// Samples of pods, at least, and some of each: two seconds of a busy machine are few.
const ENOUGH: u64 = 500;
/// And of the program outside.
const ENOUGH_OF_HOST: u64 = 100;
/// How often threads are looked for in the cgroups; and the API server asked.
const LOOK: Duration = Duration::from_millis(20);
const ASK: Duration = Duration::from_secs(1);
/// Two namespaces, C and Go; one restarts each six seconds, one lives two.
const LOADS: &str = include_str!("pods.yaml");
/// Pod's beginning, then what its samples must carry.
const EXPECTED: [Expected; 4] = [
    Expected { pod: "web-", namespace: "shop", container: "server", workload: "kube_deployment:web", service: "web" },
    Expected {
        pod: "ledger-",
        namespace: "bank",
        container: "books",
        workload: "kube_deployment:ledger",
        service: "ledger-api",
    },
    Expected { pod: "restarting", namespace: "bank", container: "again", workload: "", service: "again" },
    Expected { pod: "brief", namespace: "shop", container: "once", workload: "", service: "once" },
];

struct Expected {
    pod: &'static str,
    namespace: &'static str,
    container: &'static str,
    /// A tag; none for a pod that nobody owns.
    workload: &'static str,
    service: &'static str,
}

/// Thread → containers in whose cgroup the kernel had it; more than one if its number was used again.
type Threads = BTreeMap<i64, BTreeSet<String>>;
/// Container → namespace, pod, container's name, as the kubelet told the API server.
type Containers = BTreeMap<String, (String, String, String)>;

fn look(threads: &Mutex<Threads>) {
    for (container, folder) in node::containers() {
        // Version 1, version 2.
        for file in ["tasks", "cgroup.threads"] {
            for thread in node::numbers(&folder.join(file)) {
                threads.lock().unwrap().entry(thread.into()).or_default().insert(container.clone());
            }
        }
    }
}

fn ask(node: &Node, containers: &mut Containers) {
    for pod in node.list("pods") {
        let text = |pointer: &str| pod.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            for id in [
                &status["containerID"],
                &status["lastState"]["terminated"]["containerID"],
                &status["state"]["terminated"]["containerID"],
            ] {
                if let Some(id) = id.as_str().and_then(|id| id.strip_prefix("containerd://")) {
                    let name = status["name"].as_str().unwrap_or_default().to_owned();
                    containers.insert(id.to_owned(), (text("/metadata/namespace"), text("/metadata/name"), name));
                }
            }
        }
    }
}

/// Samples of a profile by thread.
pub(crate) fn by_thread(upload: &Upload) -> BTreeMap<i64, u64> {
    let profile = decode(upload.form().attachment).unwrap();
    let mut threads = BTreeMap::new();
    for sample in &profile.sample {
        let thread = sample.label.iter().find(|label| profile.string_table[label.key as usize] == "thread id");
        // Datadog gets it as text.
        let thread = thread.and_then(|label| profile.string_table[label.str as usize].parse().ok()).unwrap();
        *threads.entry(thread).or_default() += sample.value[0] as u64;
    }
    threads
}

#[derive(Debug, Default)]
struct Counts {
    right: u64,
    without_pod: u64,
    wrong: u64,
}

/// All samples of containers, by the pod that they are of; and those that carry a container but whose thread was in none that the
/// API server tells of: it is gone before it was looked for, a sandbox's, or runc's on its way in.
struct Judged {
    pods: BTreeMap<String, Counts>,
    /// Of the program outside of all pods.
    host: Counts,
    unseen: u64,
    faults: BTreeSet<String>,
}

fn judge(uploads: &[Upload], host: &Running, threads: &Threads, containers: &Containers) -> Judged {
    let mut judged = Judged { pods: BTreeMap::new(), host: Counts::default(), unseen: 0, faults: BTreeSet::new() };
    let mut ids = BTreeSet::new();
    for upload in uploads.iter().filter(|upload| ids.insert(upload.id().to_owned())) {
        let tag = |key: &str| upload.tag(key).unwrap_or_default();
        let said = (tag("kube_namespace"), tag("pod_name"), tag("kube_container_name"));
        let (said_id, service) = (tag("container_id"), tag("service"));
        for (thread, samples) in by_thread(upload) {
            if thread == i64::from(host.pid()) {
                // Where this is a container itself, it has that one's id.
                let of_no_pod = said.0.is_empty() && said.1.is_empty() && said.2.is_empty();
                if of_no_pod && !containers.contains_key(&said_id) {
                    judged.host.right += samples;
                } else {
                    judged.host.wrong += samples;
                    judged.faults.insert(format!("the host's program: {said:?} {said_id}"));
                }
                continue;
            }
            let is_in = threads.get(&thread).filter(|those| those.len() == 1).and_then(|those| those.first());
            let Some((id, truth)) = is_in.and_then(|id| Some((id, containers.get(id)?))) else {
                judged.unseen += if said_id.is_empty() { 0 } else { samples };
                continue;
            };
            let counts = judged.pods.entry(truth.1.clone()).or_default();
            // Between the fork of a container's process and its exec it is runc, which keeps its own name.
            let of_runtime = service.starts_with("runc");
            let expected = EXPECTED.iter().find(|pod| truth.1.starts_with(pod.pod) && truth.0 == pod.namespace);
            let as_expected = expected.is_none_or(|expected| {
                let workload = expected.workload.split_once(':');
                truth.2 == expected.container
                    && (service == expected.service || of_runtime)
                    && workload.is_none_or(|(key, name)| tag(key) == name)
            });
            if said.1.is_empty() && said_id.is_empty() && of_runtime {
                // Before runc has put itself into the container's cgroup it is the host's.
                judged.unseen += samples;
            } else if said.1.is_empty() && (said_id.is_empty() || said_id == *id) {
                counts.without_pod += samples;
                judged.faults.insert(format!("{truth:?} {id}: nothing but {said_id:?} {service}"));
            } else if said == *truth && said_id == *id && as_expected {
                counts.right += samples;
            } else {
                counts.wrong += samples;
                judged.faults.insert(format!("{truth:?} {id}: {said:?} {said_id} {service}"));
            }
        }
    }
    judged
}

/// A manifest of `deploy/`, with an interval and a budget for a test, so that all samples are wanted, and with more words.
pub(crate) fn manifest(name: &str, more: &[&str]) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    let text = std::fs::read_to_string(file).unwrap();
    let words = [&["agent", "--interval", "10s", "--cpu-limit", "50"], more].concat();
    let (is, for_test) = (r#"args: ["agent"]"#, format!("args: {words:?}"));
    assert!(text.contains(is));
    text.replace(is, &for_test)
}

pub(crate) fn start_agent(node: &Node, name: &str, text: &str, daemon_set: &[&str]) {
    node.apply(name, text);
    let words = [&["rollout", "status", "--timeout=280s"], daemon_set].concat();
    node.plane.ask(&words);
}

/// As an upgrade does it: SIGTERM, then what is left is delivered.
pub(crate) fn end_agent(node: &Node, daemon_set: &[&str]) {
    node.plane.ask(&[&["delete", "--cascade=foreground", "--wait", "--timeout=280s"], daemon_set].concat());
}

#[test]
#[ignore = "needs the servers of testservers/, containerd and root: cargo xtask test --real"]
fn kubernetes_pods_samples_carry_their_pod_under_each_manifest() {
    let _alone = live::alone();
    let Some(programs) = Programs::find() else { return };
    let Some(node) = node::shared() else { return };
    let Some(front) = program("datadog") else { return };
    // Where the manifests look for it: on the node, port 8126.
    let front = Server::started("datadog", node.network.command(&front), &["0.0.0.0:8126"]);
    programs.import(&node);
    for namespace in ["shop", "bank"] {
        node.make_namespace(namespace);
    }

    // The same program as in the pods, outside of them; it leaves them a part of the processors.
    let host = Running::fixture(&programs.c, &[]);

    let everflame = ["daemonset/everflame", "--namespace=everflame"];
    start_agent(&node, "hardened.yaml", &manifest("hardened-ds.yaml", &[]), &everflame);
    let (threads, ended) = (Mutex::new(Threads::new()), AtomicBool::new(false));
    let mut containers = Containers::new();
    let judged = std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                look(&threads);
                std::thread::sleep(LOOK);
            }
        });
        // Also when an assertion fails: the scope waits for the thread.
        let _end = End(&ended);
        node.apply("loads.yaml", LOADS);
        let mut asked = Instant::now();
        wait_for("samples of every pod", || {
            if asked.elapsed() < ASK {
                return None;
            }
            ask(&node, &mut containers);
            asked = Instant::now();
            let judged = judge(&uploads(front.folder()), &host, &threads.lock().unwrap(), &containers);
            let restarted = containers.values().filter(|(_, pod, _)| pod == "restarting").count();
            let of = |pod: &Expected| {
                let counts = judged.pods.iter().filter(|(name, _)| name.starts_with(pod.pod));
                counts.map(|(_, counts)| counts.right).sum::<u64>()
            };
            let of_each: Vec<u64> = EXPECTED.iter().map(of).collect();
            let of_pods = of_each.iter().sum::<u64>() >= ENOUGH && !of_each.contains(&0);
            (restarted >= 2 && of_pods && judged.host.right + judged.host.wrong >= ENOUGH_OF_HOST).then_some(())
        });
        end_agent(&node, &everflame);
        ask(&node, &mut containers);
        ended.store(true, Ordering::Relaxed);
        looks.join().unwrap();
        judge(&uploads(front.folder()), &host, &threads.lock().unwrap(), &containers)
    });
    println!("{:<28} {:>8} {:>8} {:>8}", "pod", "right", "no pod", "wrong");
    let mut sums = Counts::default();
    for (pod, counts) in &judged.pods {
        println!("{pod:<28} {:>8} {:>8} {:>8}", counts.right, counts.without_pod, counts.wrong);
        sums.right += counts.right;
        sums.without_pod += counts.without_pod;
        sums.wrong += counts.wrong;
    }
    println!("{:<28} {:>8} {:>8} {:>8}", "a program outside", judged.host.right, "-", judged.host.wrong);
    println!("{:<28} {:>8} {:>8} {:>8}", "all of pods", sums.right, sums.without_pod, sums.wrong);
    println!(
        "{} samples of sandboxes, of runc and of threads that were gone before they were looked for",
        judged.unseen
    );
    println!("{:?}", judged.faults);
    assert_eq!(sums.wrong, 0, "{:?}", judged.faults);
    assert_eq!(judged.host.wrong, 0, "{:?}", judged.faults);
    drop(host);
    // Of so few samples as a busy machine gives, one is more than the 0.1 % that are allowed.
    let allowed = ((sums.right + sums.without_pod) / 1000).max(1);
    assert!(sums.without_pod <= allowed, "99.9 % are tagged: {:?}", judged.faults);

    // The other ways to start it: the quick start's, that of who has only the old agent's one variable, and all that its guide has.
    let is_web = |id: &String| containers.get(id).is_some_and(|(_, pod, _)| pod.starts_with("web-"));
    let old = include_str!("bare-ds.yaml").replace("NODE_ADDRESS", NODE_ADDRESS);
    let socket = format!("{{path: {},", node.plane.file("runtime.sock").display());
    let whole = include_str!("earlier-ds.yaml").replace("NODE_ADDRESS", NODE_ADDRESS);
    let whole = whole.replace("{path: /run/containerd/containerd.sock,", &socket);
    assert!(whole.contains(&socket));
    for (name, text, daemon_set, named) in [
        ("privileged.yaml", manifest("privileged-ds.yaml", &[]), everflame, true),
        ("bare.yaml", old, ["daemonset/profiler", "--namespace=default"], false),
        ("earlier.yaml", whole, ["daemonset/otel-profiling-agent", "--namespace=default"], true),
    ] {
        let before = uploads(front.folder()).len();
        start_agent(&node, name, &text, &daemon_set);
        let pod = wait_for("an upload of the web pod", || {
            let new = uploads(front.folder()).into_iter().skip(before);
            let mut of_web = new.filter(|upload| upload.tag("container_id").is_some_and(|id| is_web(&id)));
            of_web.next().map(|upload| upload.tag("pod_name"))
        });
        println!("{name}: the web pod's samples arrive with pod_name {pod:?}");
        // The bare one may not ask the API server, and says nothing rather than a guess.
        assert_eq!(pod.map(|pod| pod.starts_with("web-")), named.then_some(true), "{name}");
        end_agent(&node, &daemon_set);
    }
    node.end_namespaces(&["shop", "bank"]);
}

/// Sets a flag when it goes.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
