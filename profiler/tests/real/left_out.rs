//! An agent on a real node that is told to leave a namespace out, or to keep to one: what is left out arrives nowhere, costs hits in the
//! kernel and nothing else, and the books balance.

use std::collections::BTreeMap;

use crate::agent::Agent;
use crate::busy_pods;
use crate::images::Programs;
use crate::intake::uploads;
use crate::live;
use crate::node::{self, Node};
use crate::pods::{by_thread, end_agent, manifest, start_agent};
use crate::servers::{Server, program, wait_for};

/// Samples of the pod that is wanted, at least, and hits that the kernel left out.
const ENOUGH: u64 = 100;
const NAMESPACES: [&str; 2] = ["wanted", "unwanted"];
/// One in each.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: wanted}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {name: server, image: "c-load:1", imagePullPolicy: Never}
---
apiVersion: v1
kind: Pod
metadata: {name: batch, namespace: unwanted}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {name: job, image: "c-load:1", imagePullPolicy: Never}
"#;
const EVERFLAME: [&str; 2] = ["daemonset/everflame", "--namespace=everflame"];

/// Those of the agent in its pod, asked through the API server.
fn metrics(node: &Node) -> BTreeMap<String, f64> {
    let words = ["get", "pods", "--namespace=everflame", "-l", "app.kubernetes.io/name=everflame"];
    let pod = node.plane.ask(&[&words[..], &["-o", "jsonpath={.items[0].metadata.name}"]].concat());
    let path = format!("/api/v1/namespaces/everflame/pods/{pod}:9464/proxy/metrics");
    Agent::metrics_in(&node.plane.ask(&["get", "--raw", &path]))
}

fn assert_balances(metrics: &BTreeMap<String, f64>) {
    let sum = |name: &str, words: &[&str]| Agent::sum(metrics, name, words);
    let surplus = sum("everflame_timer_hits_total", &["fate=\"surplus\""]);
    let fates = sum("everflame_timer_hits_total", &[]) - surplus;
    let due = sum("everflame_timer_hits_due_total", &[]);
    assert!(due > 0.0);
    assert_eq!(due + surplus, fates + sum("everflame_timer_hits_dropped_total", &[]), "{metrics:?}");
}

#[test]
#[ignore = "needs the servers of testservers/, containerd and root: cargo xtask test --real"]
fn kubernetes_a_namespace_that_is_left_out_arrives_nowhere() {
    let _alone = live::alone();
    let Some(programs) = Programs::find() else { return };
    let Some(node) = node::shared() else { return };
    let Some(front) = program("datadog") else { return };
    let front = Server::started("datadog", node.network.command(&front), &["0.0.0.0:8126"]);
    programs.import(&node);
    for namespace in NAMESPACES {
        node.make_namespace(namespace);
    }
    node.apply("left-out.yaml", PODS);
    // By name: that of the namespace `unwanted` is the first.
    let pods = busy_pods::running(&node, &NAMESPACES, 2);
    let [unwanted, wanted] = &pods[..] else { panic!("{} pods", pods.len()) };

    for words in [["--exclude-namespace", "unwanted"], ["--namespace", "wanted"]] {
        let before = uploads(front.folder()).len();
        start_agent(&node, "left-out-agent.yaml", &manifest("hardened-ds.yaml", &words), &EVERFLAME);
        let seen = wait_for("samples of what is wanted, and hits that the kernel leaves out", || {
            let metrics = metrics(&node);
            let of_programs = ["part=\"programs\"", "name=\"filtered\""];
            let by_kernel = Agent::sum(&metrics, "everflame_statistics_total", &of_programs);
            let new = uploads(front.folder()).into_iter().skip(before);
            let of_wanted = new.flat_map(|upload| by_thread(&upload)).filter(|(thread, _)| wanted.runs(*thread));
            let of_wanted: u64 = of_wanted.map(|(_, samples)| samples).sum();
            // The books are of whole intervals, and later.
            let in_books = Agent::sum(&metrics, "everflame_timer_hits_total", &["fate=\"filtered\""]);
            (by_kernel >= ENOUGH as f64 && in_books > 0.0 && of_wanted >= ENOUGH).then_some(metrics)
        });
        let of = |name: &str| Agent::sum(&seen, name, &[]);
        println!("{words:?}: {} cgroups left out", of("everflame_cgroups_left_out"));
        assert!(of("everflame_cgroups_left_out") > 0.0, "{words:?}");
        assert_eq!(of("everflame_cgroups_not_left_out_total"), 0.0, "{words:?}");
        assert_balances(&seen);
        end_agent(&node, &EVERFLAME);

        let mut namespaces: BTreeMap<String, u64> = BTreeMap::new();
        for upload in uploads(front.folder()).into_iter().skip(before) {
            let threads = by_thread(&upload);
            let namespace = upload.tag("kube_namespace").unwrap_or_default();
            let stray: Vec<_> = threads.iter().filter(|(thread, _)| unwanted.runs(**thread)).collect();
            assert!(stray.is_empty(), "{words:?}: of {}, in an upload of {namespace:?}: {stray:?}", unwanted.shown());
            assert_ne!(upload.tag("container_id").as_ref(), Some(&unwanted.container_id), "{words:?}");
            *namespaces.entry(namespace).or_default() += threads.values().sum::<u64>();
        }
        println!("{words:?}: samples by namespace: {namespaces:?}");
        assert!(!namespaces.contains_key("unwanted"), "{words:?}: {namespaces:?}");
        if words[0] == "--namespace" {
            assert_eq!(namespaces.keys().collect::<Vec<_>>(), ["wanted"], "and nothing of the machine");
        }
    }
    node.end_namespaces(&NAMESPACES);
}
