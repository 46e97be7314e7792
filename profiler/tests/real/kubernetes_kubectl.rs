//! `kubectl everflame` against a real API server and a real node: by a Job and by the agent that runs there; what stops it, in which
//! words; and that nothing of it stays.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::busy_pods::{self, Pod, as_account};
use crate::images::Programs;
use crate::live;
use crate::node::{self, Node};
use crate::samples::{Sample, of_file};
use crate::servers::wait_for;

const PODS: &str = include_str!("kubectl.yaml");
const NAMESPACES: [&str; 2] = ["stall", "strict"];
/// Words of the manifest's agent, and those for a test with a page.
const AGENT: (&str, &str) = (
    r#"args: ["agent"]"#,
    r#"args: ["agent", "--cpu-limit", "50", "--page", "127.0.0.1:7654", "--store", "/var/spool/everflame/history"]"#,
);
const EVERFLAME: [&str; 2] = ["daemonset/everflame", "--namespace=everflame"];

struct Cluster<'a> {
    node: &'a Node,
    folder: &'a Path,
}

impl Cluster<'_> {
    /// `kubectl everflame`, by whom the kubeconfig names.
    fn command(&self, kubeconfig: &Path, words: &[&str]) -> Command {
        let mut command = self.node.network.command(Path::new(env!("CARGO_BIN_EXE_everflame")));
        command.env("KUBECONFIG", kubeconfig).current_dir(self.folder).arg("kubectl").args(words);
        command.args(["-o", "cpu.pb.gz"]).stdin(Stdio::null());
        command
    }

    /// Succeeds; what it wrote is of these pods and nobody else, and says so. Returns what it said.
    fn profile(&self, kubeconfig: &Path, words: &[&str], pods: &[&Pod], split: bool) -> (String, String) {
        self.profile_for("3s", kubeconfig, words, pods, split)
    }

    fn profile_for(
        &self,
        time: &str,
        kubeconfig: &Path,
        words: &[&str],
        pods: &[&Pod],
        split: bool,
    ) -> (String, String) {
        let before: Vec<f64> = pods.iter().map(|pod| pod.seconds()).collect();
        let output = self.command(kubeconfig, &[words, &["-d", time]].concat()).output().unwrap();
        let said = said(&output);
        print!("{said}");
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        self.check(words, pods, &before, split);
        (String::from_utf8(output.stdout).unwrap(), said)
    }

    fn check(&self, words: &[&str], pods: &[&Pod], before: &[f64], split: bool) {
        let whole = self.folder.join("cpu.pb.gz");
        assert_eq!(whole.exists(), !split, "{words:?}");
        let of_part = |pod: &Pod| self.folder.join(format!("cpu-{}.pb.gz", pod.shown().replace('/', "-")));
        let mut seen = 0;
        for (pod, before) in pods.iter().zip(before) {
            let samples = of_file(&if split { of_part(pod) } else { whole.clone() });
            let its: Vec<&Sample> = samples.iter().filter(|sample| pod.is_named_by(sample)).collect();
            seen += its.len();
            let stranger = samples.iter().find(|sample| !pods.iter().any(|pod| pod.is_named_by(sample)));
            assert!(stranger.is_none(), "{words:?}: a stranger: {:?}", stranger.map(|sample| &sample.labels));
            assert!(!split || its.len() == samples.len(), "{words:?}: another pod's");
            pod.judge(&words.join(" "), &its, pod.seconds() - before);
        }
        assert!(seen > 0);
        for pod in pods {
            let _ = std::fs::remove_file(of_part(pod));
        }
        let _ = std::fs::remove_file(whole);
    }

    /// Exit code 1, and a last line that begins and ends so.
    fn refuses(&self, kubeconfig: &Path, words: &[&str], begins: &str, ends: &str) {
        let output = self.command(kubeconfig, &[words, &["-d", "1s"]].concat()).output().unwrap();
        let said = said(&output);
        let last = said.lines().last().unwrap_or_default();
        println!("{:<44} {last}", words.join(" "));
        let sentence = last.strip_prefix("everflame: ").unwrap_or_default();
        assert!(sentence.starts_with(begins) && sentence.ends_with(ends), "{words:?}: {said}");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(!self.folder.join("cpu.pb.gz").exists(), "{words:?}");
        self.no_job_is_left();
    }

    fn jobs(&self) -> String {
        self.node.plane.ask(&[
            "get",
            "jobs,pods",
            "--all-namespaces",
            "-l",
            "app.kubernetes.io/name=everflame-one-shot",
            "-o",
            "name",
        ])
    }

    fn no_job_is_left(&self) {
        wait_for("the Job and its pod to be deleted", || self.jobs().is_empty().then_some(()));
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The pods' namespaces with the pods, of which those on strange nodes are said to run.
fn start(node: &Node) -> Vec<Pod> {
    for namespace in NAMESPACES {
        node.make_namespace(namespace);
    }
    node.plane.ask(&["label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted"]);
    node.apply("kubectl.yaml", PODS);
    for pod in ["on-windows", "on-fargate"] {
        let running = r#"{"status":{"phase":"Running"}}"#;
        node.plane.ask(&["patch", "pod", pod, "-n", "stall", "--subresource=status", "--type=merge", "-p", running]);
    }
    busy_pods::running(node, &NAMESPACES, 3)
}

/// The role of the guide, for an account; its kubeconfig.
fn with_the_guide_s_role(node: &Node) -> PathBuf {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kubectl.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let (_, role) = guide.split_once("```yaml\n").unwrap();
    let (role, _) = role.split_once("```").unwrap();
    node.apply("role.yaml", role);
    node.plane.ask(&["create", "serviceaccount", "user", "-n", "stall"]);
    let user = "system:serviceaccount:stall:user";
    node.plane.ask(&[
        "create",
        "clusterrolebinding",
        "user",
        "--clusterrole=everflame-user",
        &format!("--user={user}"),
    ]);
    may(node, user, "create", "pods/portforward");
    as_account(node, "stall", "user")
}

/// Waits until the authorizer has heard of a role.
fn may(node: &Node, user: &str, verb: &str, what: &str) {
    wait_for("a role to be in force", || {
        let words = ["auth", "can-i", verb, what, "-n", "stall", "--as", user];
        node.plane.kubectl(&words).status.success().then_some(())
    });
}

/// kubectl finds the program by its link; the manifest that it prints says what was asked for, and is taken.
fn is_a_plugin(cluster: &Cluster<'_>, pod: &Pod) {
    let plane = &cluster.node.plane;
    let links = plane.file("plugins");
    std::fs::create_dir(&links).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_everflame"), links.join("kubectl-everflame")).unwrap();
    let path = format!("{}:{}", links.display(), std::env::var("PATH").unwrap());
    let mut command = cluster.node.network.command(&plane.file("kubectl"));
    command.env("KUBECONFIG", plane.kubeconfig()).env("HOME", plane.folder()).env("PATH", path);
    let (image, toleration) = ("registry.example/x:1", "dedicated=db:NoExecute");
    command.args(["everflame", "-n", &pod.namespace, &pod.name, "--print-manifest", "--image", image]);
    let output = command.args(["--toleration", toleration, "--service-account", "profiler"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    let jobs: Vec<Value> =
        serde_saphyr::from_multiple_with_options(&printed, serde_saphyr::Options::default()).unwrap();
    let [job] = &*jobs else { panic!("{printed}") };
    let spec = &job["spec"]["template"]["spec"];
    assert_eq!((&spec["containers"][0]["image"], &spec["serviceAccountName"]), (&json!(image), &json!("profiler")));
    let tolerated = json!([{"key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoExecute"}]);
    assert_eq!(spec["tolerations"], tolerated);
    let file = plane.file("printed.yaml");
    std::fs::write(&file, printed).unwrap();
    let taken = plane.ask(&["apply", "--dry-run=server", "--validate=strict", "-f", &file.display().to_string()]);
    assert!(taken.starts_with("job.batch/everflame-") && taken.ends_with(" created (server dry run)\n"), "{taken}");
}

/// The last ten seconds of a pod out of the agent's history, asked for beside the agent, where its page listens.
fn is_in_the_agent_s_history(cluster: &Cluster<'_>, pod: &Pod) {
    let shown = pod.shown();
    let words = ["--", "/everflame", "pod", "--from-agent", "http://127.0.0.1:7654", &shown, "-d", "10s", "-o", "-"];
    let output = cluster.node.plane.kubectl(&[&["exec"], &EVERFLAME[..], &words[..]].concat());
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains(" of the history of "), "{}", said(&output));
    std::fs::write(cluster.folder.join("cpu.pb.gz"), output.stdout).unwrap();
    // Of all the time that it has had.
    cluster.check(&["--from-agent", &shown], &[pod], &[0.0], false);
}

/// Ctrl-C in the middle: what there is is written, and the Job is deleted.
fn ends_by_ctrl_c(cluster: &Cluster<'_>, pod: &Pod) {
    let before = pod.seconds();
    let words = [&*pod.shown(), "-d", "3m"];
    let mut command = cluster.command(&cluster.node.plane.kubeconfig(), &words);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("sampling") {
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "{said}");
    }
    let began = pod.seconds();
    wait_for("the pod to get some processor time", || (pod.seconds() > began + 1.0).then_some(()));
    // SAFETY: the pid is of a child that nobody has waited for.
    assert_eq!(unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) }, 0);
    lines.read_to_string(&mut said).unwrap();
    print!("{said}");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    cluster.check(&words, &[pod], &[before], false);
    cluster.no_job_is_left();
}

/// What stops it, each in its sentence.
fn refusals(cluster: &Cluster<'_>, web: &Pod, safe: &Pod) {
    let node = cluster.node;
    let (web, safe) = (web.shown(), safe.shown());
    let by_role = ": the role in docs/kubectl.md gives that right";
    for (words, begins, ends) in [
        (&["stall/nobody"][..], "there is no pod nobody in the namespace stall: ", "as NAMESPACE/POD"),
        (&["-l", "app=none", "-n", "stall"], "no pod that runs matches -l app=none in the namespace stall", ""),
        (
            &[&safe],
            "the namespace strict lets no privileged pod in, its Pod Security level is restricted:latest: run the profiler in \
             one that does with --in-namespace (it forbids ",
            ")",
        ),
        (
            &[&web, "--image", "localhost:1/absent:1"],
            "node node-1 can't pull the image localhost:1/absent:1: ",
            "; give one that it can with --image",
        ),
        (
            &[&web, "--node", "elsewhere"],
            &*format!("pod {web} is on node node-1, not on elsewhere"),
            ": leave --node out",
        ),
        (&["stall/on-windows"], "node panes runs Windows: Everflame profiles Linux", ""),
        (&["stall/on-fargate"], "node micro is a Fargate node: it has no kernel that could be profiled", ""),
    ] {
        cluster.refuses(&node.plane.kubeconfig(), words, begins, ends);
    }
    let nobody = as_account(node, "stall", "default");
    let user = "system:serviceaccount:stall:default";
    let may_not = |what: &str| format!("you may not {what} in the namespace stall as {user}");
    cluster.refuses(&nobody, &[&web], &may_not("get pods"), by_role);
    node.plane.ask(&["create", "role", "reader", "--verb=get,list", "--resource=pods", "-n", "stall"]);
    node.plane.ask(&["create", "rolebinding", "reader", "--role=reader", &format!("--user={user}"), "-n", "stall"]);
    may(node, user, "list", "pods");
    cluster.refuses(&nobody, &[&web, "--one-shot"], &may_not("create jobs.batch"), by_role);
}

#[test]
#[ignore = "needs the servers of testservers/, containerd and root: cargo xtask test --real"]
fn kubectl_everflame_profiles_pods_by_a_job_or_by_the_agent_and_says_what_stops_it() {
    let _alone = live::alone();
    let Some(programs) = Programs::find() else { return };
    let Some(node) = node::shared() else { return };
    programs.import(&node);
    let pods = start(&node);
    let [web_1, web_2, safe] = &pods[..] else { panic!("{} pods run", pods.len()) };
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster { node: &node, folder: folder.path() };
    let of_web = ["-l", "app=web", "-n", "stall"];

    let user = with_the_guide_s_role(&node);

    is_a_plugin(&cluster, web_1);

    // By a Job.
    cluster.profile(&user, &[&web_1.shown()], &[web_1], false);
    cluster.no_job_is_left();
    let (_, said) = cluster.profile(&user, &of_web, &[web_1, web_2], false);
    assert_eq!(said.matches("creating a Job").count(), 1, "two pods of one node: {said}");
    cluster.profile(&user, &[&of_web[..], &["--split", "pod"]].concat(), &[web_1, web_2], true);
    let (_, said) = cluster.profile(&user, &[&safe.shown(), "--in-namespace", "stall", "--keep"], &[safe], false);
    assert!(said.contains("the Job everflame-") && said.contains(" in the namespace stall is kept"), "{said}");
    assert_eq!(cluster.jobs().lines().count(), 2, "a Job and its pod: {}", cluster.jobs());
    node.plane.ask(&["delete", "jobs", "--all", "-n", "stall"]);
    cluster.no_job_is_left();
    ends_by_ctrl_c(&cluster, web_1);

    refusals(&cluster, web_1, safe);

    // By the agent.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/hardened-ds.yaml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    assert!(manifest.contains(AGENT.0));
    node.apply("with-page.yaml", &manifest.replace(AGENT.0, AGENT.1));
    node.plane.ask(&[&["rollout", "status", "--timeout=280s"], &EVERFLAME[..]].concat());
    // It has begun to sample a moment ago, and has all programs of the machine to read.
    let (out, said) = cluster.profile_for("10s", &user, &of_web, &[web_1, web_2], false);
    assert!(out.contains(" of the history of ") && !said.contains("creating a Job"), "{out}{said}");
    let (out, said) = cluster.profile_for("10s", &user, &[&web_1.shown(), "--split", "pod"], &[web_1], true);
    assert!(out.contains(" of the history of ") && !said.contains("creating a Job"), "{out}{said}");
    is_in_the_agent_s_history(&cluster, web_1);
    node.plane.ask(&[&["delete", "--cascade=foreground", "--wait", "--timeout=280s"], &EVERFLAME[..]].concat());
    node.plane.ask(&["delete", "node", "panes", "micro"]);
    node.end_namespaces(&NAMESPACES);
}
