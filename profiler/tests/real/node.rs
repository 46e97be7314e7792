//! A whole Kubernetes node: control plane, kubelet, containerd and runc, in a network namespace of its own. One for all tests of this
//! process: its start costs more than most of them.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::ControlPlane;
use crate::images;
use crate::leaving::Leaving;
use crate::network::{self, NODE_ADDRESS, Network};
use crate::servers::{program, wait_for};

/// Also the name in the cluster.
pub(crate) const NAME: &str = "node-1";
/// The kubelet may take so long to end all pods; then they are killed.
const GOOD_ORDER: Duration = Duration::from_secs(60);
const PAUSE: &str = "docker.io/library/pause:1";
/// Debian's package containernetworking-plugins.
const NETWORK_PLUGINS: &str = "/usr/lib/cni";
/// Where the kubelet's cgroups are: version 1, and version 2.
const PODS_CGROUPS: [&str; 2] = ["/sys/fs/cgroup/pids/kubepods", "/sys/fs/cgroup/kubepods"];
/// Containers may lock so much memory without CAP_IPC_LOCK, bytes: what distributions give at the least.
const LOCKED_MEMORY: u32 = 64 << 10;

static SHARED: Mutex<Option<Node>> = Mutex::new(None);

/// The node while one test has it.
pub(crate) struct Shared(MutexGuard<'static, Option<Node>>);

/// The node of all tests; `None`, after saying why, where a part is missing.
pub(crate) fn shared() -> Option<Shared> {
    let mut node = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if node.is_none() {
        *node = Some(started()?);
        // SAFETY: the function may be called at any time, also without a node.
        unsafe { libc::atexit(end_shared) };
    }
    Some(Shared(node))
}

/// By a thread that lives as long as the process: the node's programs end with the thread that started them.
fn started() -> Option<Node> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = tell.send(Node::start());
        loop {
            std::thread::park();
        }
    });
    told.recv().unwrap()
}

/// Statics are not dropped at a process's end.
extern "C" fn end_shared() {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl Deref for Shared {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.say_logs();
        }
    }
}

/// Ended when this goes, with every container.
pub(crate) struct Node {
    pub(crate) plane: ControlPlane,
    /// The thing that `plane` runs in; goes after it.
    pub(crate) network: Network,
    leaving: Leaving,
    /// Images that it has.
    imported: Mutex<BTreeSet<String>>,
}

impl Node {
    /// Ready to run pods.
    fn start() -> Option<Node> {
        program("kubernetes")?;
        for needed in ["/usr/bin/containerd", "/usr/sbin/runc", NETWORK_PLUGINS] {
            if !Path::new(needed).exists() {
                println!("SKIPPED: {needed} is not there; cargo xtask test --real installs it");
                assert!(std::env::var_os("CI").is_none(), "these tests can't be skipped in CI");
                return None;
            }
        }
        // A second kubelet would end the pods of the first.
        let lives = |folder: &Path| !numbers(&folder.join("cgroup.procs")).is_empty();
        assert!(
            !containers().iter().any(|(_, folder)| lives(folder)),
            "this machine is a Kubernetes node: not the place for a test's"
        );
        let network = Network::new();
        let plane = ControlPlane::start_in(Some(&network))?;
        let leaving = Leaving::begin(plane.folder(), network.name());
        let mut node = Node { plane, network, leaving, imported: Mutex::default() };
        node.start_runtime();
        node.start_kubelet();
        wait_for("the node to be ready", || {
            let words = ["get", "node", NAME, "-o", "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}"];
            (node.plane.kubectl(&words).stdout == b"True").then_some(())
        });
        Some(node)
    }

    fn start_runtime(&mut self) {
        let file = |name: &str| self.plane.file(name).display().to_string();
        std::fs::create_dir(self.plane.file("cni")).unwrap();
        std::fs::write(self.plane.file("cni/pods.conflist"), network::of_pods(&self.plane.file("cni"))).unwrap();
        // Without CAP_SYS_RESOURCE, as in many a sandbox, nobody's oom_score_adj can be lowered.
        let config = format!(
            "version = 2\nroot = '{}'\nstate = '{}'\n[grpc]\naddress = '{}'\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = '{}'\n\
             [plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '{PAUSE}'\ndisable_apparmor = true\n\
             restrict_oom_score_adj = true\n\
             [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '{NETWORK_PLUGINS}'\nconf_dir = '{}'\n",
            file("runtime"),
            file("runtime-state"),
            file("runtime.sock"),
            file("opt"),
            file("cni"),
        );
        std::fs::write(self.plane.file("containerd.toml"), config).unwrap();
        let words = [
            format!("--memlock={LOCKED_MEMORY}:{LOCKED_MEMORY}"),
            "/usr/bin/containerd".to_owned(),
            format!("--config={}", file("containerd.toml")),
        ];
        self.plane.spawn_program("containerd", &self.network.command(Path::new("/usr/bin/prlimit")), &words);
        wait_for("containerd", || self.ctr(&["version"]).then_some(()));
        let pause = images::pause(self.plane.folder());
        self.import(PAUSE, &pause, &[]);
    }

    fn ctr(&self, words: &[&str]) -> bool {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.plane.file("runtime.sock")).args(["--namespace", "k8s.io"]).args(words);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Makes an image of one static program, once; pods name it by `tag`.
    pub(crate) fn import(&self, tag: &str, program: &Path, words: &[&str]) {
        if !self.imported.lock().unwrap().insert(tag.to_owned()) {
            return;
        }
        let image = images::image(self.plane.folder(), tag, program, words);
        assert!(self.ctr(&["images", "import", &image.display().to_string()]), "{tag}");
        std::fs::remove_file(image).unwrap();
    }

    fn start_kubelet(&mut self) {
        let config = serde_json::json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": format!("unix://{}", self.plane.file("runtime.sock").display()),
            "cgroupDriver": "cgroupfs", "failSwapOn": false, "resolvConf": "", "readOnlyPort": 0,
            "podLogsDir": self.plane.file("logs"),
            "volumePluginDir": self.plane.file("volume-plugins"),
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
            "authorization": {"mode": "AlwaysAllow"},
        });
        std::fs::write(self.plane.file("kubelet.json"), config.to_string()).unwrap();
        let file = |name: &str| self.plane.file(name).display().to_string();
        let kubeconfig = format!("--kubeconfig={}", self.plane.kubeconfig().display());
        let controllers = [
            kubeconfig.clone(),
            "--leader-elect=false".to_owned(),
            format!("--service-account-private-key-file={}", file("accounts.key")),
            format!("--root-ca-file={}", file("ca.pem")),
        ];
        let kubelet = [
            kubeconfig.clone(),
            format!("--config={}", file("kubelet.json")),
            format!("--root-dir={}", file("kubelet-data")),
            format!("--cert-dir={}", file("kubelet-keys")),
            format!("--hostname-override={NAME}"),
            format!("--node-ip={NODE_ADDRESS}"),
        ];
        for (name, words) in [
            ("kube-controller-manager", &controllers[..]),
            ("kube-scheduler", &[kubeconfig, "--leader-elect=false".to_owned()]),
            ("kubelet", &kubelet),
        ] {
            let command = self.network.command(&self.plane.file(name));
            self.plane.spawn_program(name, &command, words);
        }
    }

    /// What the API server has of that kind, in all namespaces.
    pub(crate) fn list(&self, kind: &str) -> Vec<Value> {
        let said = self.plane.ask(&["get", kind, "--all-namespaces", "-o", "json"]);
        let list: Value = serde_json::from_str(&said).unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Makes it, and waits until pods can be made in it.
    pub(crate) fn make_namespace(&self, name: &str) {
        self.plane.ask(&["create", "namespace", name]);
        wait_for("a namespace's account", || {
            self.plane.kubectl(&["get", "serviceaccount", "default", "-n", name]).status.success().then_some(())
        });
    }

    /// Ends what a test started, so that the next one has the processors.
    pub(crate) fn end_namespaces(&self, names: &[&str]) {
        for name in names {
            let all = ["delete", "deployments,jobs,pods", "--all", "--force", "--grace-period=0", "-n", name];
            self.plane.ask(&all);
        }
        self.plane.ask(&[&["delete", "namespace", "--wait=false"], names].concat());
    }

    /// Gives manifests to the API server.
    pub(crate) fn apply(&self, name: &str, text: &str) {
        let file = self.plane.file(name);
        std::fs::write(&file, text).unwrap();
        self.plane.ask(&["apply", "--validate=strict", "-f", &file.display().to_string()]);
    }
}

/// Folders of containers' cgroups, with the container's id.
pub(crate) fn containers() -> Vec<(String, PathBuf)> {
    let (mut found, mut folders) = (Vec::new(), PODS_CGROUPS.map(PathBuf::from).to_vec());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                found.push((name, path));
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            }
        }
    }
    found
}

/// Numbers in a cgroup's file.
pub(crate) fn numbers(file: &Path) -> Vec<i32> {
    std::fs::read_to_string(file).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}

impl Node {
    /// The last lines of each program.
    fn say_logs(&self) {
        for name in ["kubelet", "containerd", "kube-controller-manager", "kube-scheduler"] {
            let log = std::fs::read_to_string(self.plane.file(&format!("{name}.log"))).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("{name}:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.say_logs();
        }
        // The kubelet takes everything away in good order, in the usual case.
        let all = [
            "deployments,daemonsets,jobs,pods",
            "--all",
            "--all-namespaces",
            "--force",
            "--grace-period=0",
            "--wait=false",
        ];
        self.plane.kubectl(&[&["delete"], &all[..]].concat());
        let began = Instant::now();
        while !containers().is_empty() && began.elapsed() < GOOD_ORDER {
            std::thread::sleep(Duration::from_millis(100));
        }
        // Before what is left is taken away, since they would start it again.
        self.plane.end();
        self.leaving.end();
    }
}
