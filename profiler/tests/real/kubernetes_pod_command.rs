//! `everflame pod` on a real node: whom it samples, what its samples are labelled with, and what it refuses in which words; by the API
//! server, by the container runtime's socket, and by cgroups alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::busy_pods::{self, Pod, as_account};
use crate::images::Programs;
use crate::live;
use crate::node::{self, NAME, Node};
use crate::samples::{Sample, of_file};
use crate::servers::wait_for;

const PODS: &str = include_str!("pod-command.yaml");
/// Its pods that run on this node.
const RUNNING: usize = 4;
const PHASE_OF_DONE: [&str; 6] = ["get", "pod", "done", "-n", "kiosk", "-o=jsonpath={.status.phase}"];

/// Who may be asked.
#[derive(Clone, Copy, PartialEq)]
enum Sources {
    Both,
    ApiServer,
    Runtime,
    Nobody,
}

struct Command<'a> {
    node: &'a Node,
    folder: &'a Path,
}

impl Command<'_> {
    /// `everflame pod` with these words, by whom the kubeconfig names.
    fn run_as(&self, kubeconfig: &Path, sources: Sources, words: &[&str]) -> Output {
        let mut command = self.node.network.command(Path::new(env!("CARGO_BIN_EXE_everflame")));
        command.env("KUBECONFIG", kubeconfig).current_dir(self.folder).args(["pod", "--node-name", NAME, "-F", "199"]);
        if matches!(sources, Sources::Runtime | Sources::Nobody) {
            command.args(["--kubernetes", "off"]);
        }
        match sources {
            Sources::Both | Sources::Runtime => command.arg("--cri").arg(self.node.plane.file("runtime.sock")),
            Sources::ApiServer | Sources::Nobody => command.args(["--cri", "off"]),
        };
        command.args(words).output().unwrap()
    }

    fn run(&self, sources: Sources, words: &[&str]) -> Output {
        self.run_as(&self.node.plane.kubeconfig(), sources, words)
    }

    /// Profiles; the samples are of these pods and of nobody else, and say so. With `--split pod` each has its own file.
    fn profile(&self, sources: Sources, words: &[&str], pods: &[&Pod], split: bool) {
        let before: Vec<f64> = pods.iter().map(|pod| pod.seconds()).collect();
        let mut all = [words, &["-d", "3s", "-o", "cpu.pb.gz"]].concat();
        if split {
            all.extend(["--split", "pod"]);
        }
        let output = self.run(sources, &all);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        let (first, containers) = said.split_once(" (").unwrap_or_else(|| panic!("{words:?}: {said}"));
        let named = first.strip_prefix("everflame: profiling pod").map(|names| names.trim_start_matches('s').trim());
        let shown = |pod: &&Pod| if sources == Sources::Nobody { pod.uid.clone() } else { pod.shown() };
        let names: BTreeSet<String> = named.unwrap_or_default().split(", ").map(str::to_owned).collect();
        assert_eq!(names, pods.iter().map(shown).collect(), "{words:?}: {said}");
        if sources != Sources::Nobody {
            let plural = if pods.len() == 1 { "" } else { "s" };
            assert_eq!(containers, format!("{} container{plural})\n", pods.len()), "{words:?}");
        }

        let file = |name: &str| self.folder.join(name);
        let of_part = |pod: &Pod| file(&format!("cpu-{}-{}.pb.gz", pod.namespace, pod.name));
        let files: Vec<PathBuf> =
            if split { pods.iter().map(|pod| of_part(pod)).collect() } else { vec![file("cpu.pb.gz")] };
        assert_eq!(file("cpu.pb.gz").exists(), !split, "{words:?}");
        for path in &files {
            let samples = of_file(path);
            let theirs: Vec<&Pod> =
                if split { pods.iter().copied().filter(|pod| of_part(pod) == *path).collect() } else { pods.to_vec() };
            for sample in &samples {
                assert!(
                    theirs.iter().any(|pod| is_of(sample, pod, sources)),
                    "{words:?}: a stranger: {:?}",
                    sample.labels
                );
            }
            std::fs::remove_file(path).unwrap();
            for pod in theirs {
                let its: Vec<&Sample> = samples.iter().filter(|sample| is_of(sample, pod, sources)).collect();
                let began = before[pods.iter().position(|other| other.uid == pod.uid).unwrap()];
                pod.judge(&words.join(" "), &its, pod.seconds() - began);
            }
        }
    }

    /// Exit code 1, and this one line.
    fn refuses(&self, sources: Sources, words: &[&str], sentence: &str) {
        let output = self.run(sources, &[words, &["-d", "1s", "-o", "cpu.pb.gz"]].concat());
        println!("{:<40} {}", words.join(" "), said(&output).trim_end());
        assert_eq!(said(&output), format!("everflame: {sentence}\n"), "{words:?}");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether it carries all that is known of this pod, and nothing else.
fn is_of(sample: &Sample, pod: &Pod, sources: Sources) -> bool {
    let is_named = match sources {
        Sources::Nobody => ["namespace", "pod", "container"].iter().all(|key| sample.label(key).is_empty()),
        _ => pod.is_named_by(sample),
    };
    is_named && pod.has_done(sample)
}

#[test]
#[ignore = "needs the servers of testservers/, containerd and root: cargo xtask test --real"]
fn pods_are_profiled_by_name_uid_and_selector() {
    let _alone = live::alone();
    let Some(programs) = Programs::find() else { return };
    let Some(node) = node::shared() else { return };
    programs.import(&node);
    for namespace in ["kiosk", "vault"] {
        node.make_namespace(namespace);
    }
    node.apply("pod-command.yaml", PODS);
    wait_for("a pod to end", || (node.plane.ask(&PHASE_OF_DONE) == "Succeeded").then_some(()));
    let pods = busy_pods::running(&node, &["kiosk", "vault"], RUNNING);
    let [c, web_1, web_2, go] = &pods[..] else { panic!("{} pods run", pods.len()) };
    let folder = tempfile::tempdir().unwrap();
    let command = Command { node: &node, folder: folder.path() };

    let of_web = ["-l", "app=web", "-n", "kiosk"];
    command.profile(Sources::Both, &[&web_1.shown()], &[web_1], false);
    command.profile(Sources::ApiServer, &of_web, &[web_1, web_2], true);
    command.profile(Sources::Runtime, &of_web, &[web_1, web_2], false);
    command.profile(Sources::Both, &["-l", "app=twin"], &[c, go], false);
    command.profile(Sources::ApiServer, &["twin", "-n", "vault"], &[go], false);
    command.profile(Sources::Both, &[&go.uid], &[go], false);
    command.profile(Sources::Nobody, &[&c.uid], &[c], false);

    let like_web =
        format!("there is no pod kiosk/web on this node ({NAME}); did you mean {}, {}?", web_1.shown(), web_2.shown());
    let of_container = format!("no container of pod {} that runs is called sidecar; it has server", web_1.shown());
    for (sources, words, sentence) in [
        (Sources::Both, &["kiosk/nobody"][..], "there is no pod kiosk/nobody on this node (node-1)"),
        (Sources::Both, &["kiosk/web"], &like_web),
        (Sources::Both, &["kiosk/done"], "pod kiosk/done has ended (it is Succeeded)"),
        (Sources::Runtime, &["kiosk/done"], "pod kiosk/done has ended"),
        (
            Sources::Both,
            &["kiosk/nowhere"],
            "pod kiosk/nowhere is on no node yet: the scheduler has found no place for it",
        ),
        (Sources::Both, &["kiosk/far"], "pod kiosk/far is on node node-2, and this is node-1: profile it there"),
        (
            Sources::Both,
            &["twin"],
            "2 pods are called twin: kiosk/twin, vault/twin; write one of them as NAMESPACE/POD",
        ),
        (Sources::Both, &[&web_1.shown(), "-c", "sidecar"], &of_container),
        (
            Sources::Both,
            &["-l", "app=shop", "-n", "kiosk"],
            "no pod that runs on this node (node-1) matches -l app=shop in the namespace kiosk",
        ),
    ] {
        command.refuses(sources, words, sentence);
    }

    // These go on with the uids of whatever runs here.
    let forbidden = "everflame: nobody here knows pods by their names (the API server, asked for pods with spec.nodeName=node-1: \
                     pods is forbidden: User \"system:serviceaccount:kiosk:default\" cannot list resource \"pods\" in API group \
                     \"\" at the cluster scope; no container runtime's socket); give a pod's uid instead; here run ";
    let unknown = "01234567-89ab-4cde-8f01-23456789abcd";
    let no_uid = format!("everflame: no pod with the uid {unknown} runs on this node (node-1); here run ");
    let stranger = as_account(&node, "kiosk", "default");
    for (output, beginning) in [
        (command.run_as(&stranger, Sources::ApiServer, &["kiosk/twin"]), forbidden),
        (command.run(Sources::Nobody, &[unknown]), &no_uid),
    ] {
        assert!(said(&output).starts_with(beginning), "{}", said(&output));
        assert_eq!(output.status.code(), Some(1));
    }
    node.plane.ask(&["delete", "node", "node-2"]);
    node.end_namespaces(&["kiosk", "vault"]);
}
