//! The hardened manifest's pod with each of its capabilities taken away in turn, and one with the seccomp profile of `deploy/`, as real
//! pods at one time, each asked for the same recording: what breaks. `docs/nodes.md` has the table.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures::{Flavour, build_or_skip};
use serde_json::{Value, json};

use crate::images::Programs;
use crate::live::{self, Running};
use crate::node::{self, Node};
use crate::samples::{Sample, count, of_file};
use crate::servers::wait_for;

const NAMESPACE: &str = "everflame-rights";
/// What `deploy/seccomp.json` is called on a node.
const SECCOMP: &str = "everflame.json";
/// Whom nothing else belongs to.
const ANOTHER_USER: u32 = 65534;
/// Samples of each program in each recording, at least.
const ENOUGH: u64 = 20;
/// The programs' functions, root first.
const SPINS: [&str; 4] = ["main", "level_1", "level_20", "burn"];
const READS: [&str; 2] = ["main", "read_loop"];
const NEEDS: &str = "run as root, or grant it \
    (setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_checkpoint_restore,cap_syslog,cap_ipc_lock+ep \
    /everflame)";

/// What is seen of the programs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    plain: bool,
    /// From a file that its user alone can read.
    unreadable: bool,
    /// From a file that was deleted.
    deleted: bool,
    /// Kernel functions, below a program that makes system calls.
    kernel: bool,
}

const ALL: Seen = Seen { plain: true, unreadable: true, deleted: true, kernel: true };

/// What a recording comes to without a capability.
enum Outcome {
    /// It is written, and shows this.
    Written(Seen),
    /// Refused in this sentence.
    Refused(String),
    /// The same, of which the beginning and the end are known.
    RefusedBetween(&'static str, &'static str),
}

/// What a pod is that the manifest's is not.
#[derive(Clone, Copy)]
enum Change {
    Nothing,
    /// A capability.
    Without(&'static str),
    /// The profile of `deploy/` instead of the runtime's.
    OwnSeccomp,
}

impl Change {
    /// The pod's name.
    fn pod(self) -> String {
        match self {
            Change::Nothing => "with-all".to_owned(),
            Change::Without(capability) => format!("without-{}", capability.to_lowercase().replace('_', "-")),
            Change::OwnSeccomp => "with-own-seccomp".to_owned(),
        }
    }

    fn file(self) -> String {
        format!("{}.pb.gz", self.pod())
    }
}

/// The change, and what is right with it.
fn expected() -> [(Change, Outcome); 9] {
    let needs = |name: &str| Outcome::Refused(format!("everflame: profiling needs CAP_{name}: {NEEDS}\n"));
    let ring = (
        "everflame: mmap of ",
        " bytes for a perf ring: Operation not permitted (os error 1); with a low RLIMIT_MEMLOCK, CAP_IPC_LOCK is needed\n",
    );
    [
        (Change::Nothing, Outcome::Written(ALL)),
        (Change::OwnSeccomp, Outcome::Written(ALL)),
        (Change::Without("BPF"), needs("BPF")),
        (Change::Without("PERFMON"), needs("PERFMON")),
        (Change::Without("SYS_PTRACE"), needs("SYS_PTRACE")),
        // A deleted file is found by /proc/PID/map_files, which is the other user's.
        (Change::Without("DAC_READ_SEARCH"), Outcome::Written(Seen { unreadable: false, deleted: false, ..ALL })),
        (Change::Without("CHECKPOINT_RESTORE"), Outcome::Written(Seen { deleted: false, ..ALL })),
        (Change::Without("SYSLOG"), Outcome::Written(Seen { kernel: false, ..ALL })),
        (Change::Without("IPC_LOCK"), Outcome::RefusedBetween(ring.0, ring.1)),
    ]
}

/// Another user's programs on the node, outside of all pods.
struct Load {
    plain: Running,
    unreadable: Running,
    deleted: Running,
    calls: Running,
    folder: tempfile::TempDir,
}

impl Load {
    fn start() -> Option<Load> {
        let (spins, calls) = (build_or_skip("chain", Flavour::OmitFp)?, build_or_skip("syscalls", Flavour::OmitFp)?);
        let folder = tempfile::tempdir().unwrap();
        allow(folder.path(), 0o755);
        let copy = |name: &str, of: &Path, mode: u32| {
            let file = folder.path().join(name);
            std::fs::copy(of, &file).unwrap();
            chown(&file, Some(ANOTHER_USER), Some(ANOTHER_USER)).unwrap();
            allow(&file, mode);
            file
        };
        let load = Load {
            plain: run(&copy("plain", &spins, 0o755)),
            unreadable: run(&copy("unreadable", &spins, 0o500)),
            deleted: run(&copy("deleted", &spins, 0o755)),
            calls: run(&copy("calls", &calls, 0o755)),
            folder,
        };
        std::fs::remove_file(load.folder.path().join("deleted")).unwrap();
        Some(load)
    }

    /// What a recording shows; samples of each program are enough.
    fn seen(&self, file: &Path) -> Seen {
        let samples = of_file(file);
        let of = |running: &Running| {
            let pid = running.pid().to_string();
            let its: Vec<&Sample> = samples.iter().filter(|sample| sample.label("pid") == pid).collect();
            let hits = count(its.iter().copied());
            assert!(hits >= ENOUGH, "{}: {hits} samples of pid {pid}", file.display());
            its
        };
        Seen {
            plain: nearly_all(&of(&self.plain), |sample| sample.goes_through(&SPINS)),
            unreadable: nearly_all(&of(&self.unreadable), |sample| sample.goes_through(&SPINS)),
            deleted: nearly_all(&of(&self.deleted), |sample| sample.goes_through(&SPINS)),
            kernel: nearly_all(&of(&self.calls), |sample| {
                assert!(!sample.user.iter().any(|name| name == "main") || sample.goes_through(&READS));
                sample.kernel.iter().any(|name| !name.is_empty())
            }),
        }
    }
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What pods do goes before.
fn run(program: &Path) -> Running {
    let user = ANOTHER_USER.to_string();
    let mut command = Command::new("nice");
    // Changing the user takes the signal of a killed test away, and setpriv sets it anew afterwards.
    let user_words = ["--reuid", &user, "--regid", &user, "--clear-groups", "--pdeathsig", "KILL", "--"];
    command.args(["-n", "19", "setpriv"]).args(user_words).arg(program);
    Running::start(&mut command)
}

/// True of nine in ten, or of one in ten at most.
fn nearly_all(samples: &[&Sample], is_so: impl Fn(&Sample) -> bool) -> bool {
    let (all, so) = (count(samples.iter().copied()), count(samples.iter().copied().filter(|sample| is_so(sample))));
    assert!(so * 10 >= all * 9 || so * 10 <= all, "neither all nor none: {so} of {all}");
    so * 10 >= all * 9
}

/// A file of `deploy/`.
fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// The pod of `deploy/hardened-ds.yaml` with a change, which records for some seconds.
fn pod(change: Change, out: &Path) -> Value {
    let text = std::fs::read_to_string(deployed("hardened-ds.yaml")).unwrap();
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(&text, serde_saphyr::Options::default()).unwrap();
    let daemon_set = documents.into_iter().find(|document| document["kind"] == "DaemonSet").unwrap();
    let mut spec = daemon_set["spec"]["template"]["spec"].clone();
    let pod = spec.as_object_mut().unwrap();
    pod.remove("serviceAccountName").unwrap();
    pod.insert("restartPolicy".to_owned(), json!("Never"));
    pod["volumes"].as_array_mut().unwrap().push(json!({"name": "out", "hostPath": {"path": out}}));
    let container = pod["containers"][0].as_object_mut().unwrap();
    for of_the_agent in ["startupProbe", "livenessProbe", "readinessProbe", "ports"] {
        container.remove(of_the_agent).unwrap();
    }
    let file = format!("/out/{}", change.file());
    container.insert("args".to_owned(), json!(["record", "-d", "10s", "-F", "199", "-o", file]));
    container["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "out", "mountPath": "/out"}));
    let security = &mut container["securityContext"];
    match change {
        Change::Nothing => {}
        Change::Without(capability) => {
            let added = security["capabilities"]["add"].as_array_mut().unwrap();
            let before = added.len();
            added.retain(|name| name != capability);
            assert_eq!(added.len() + 1, before, "{capability} is in the set");
        }
        Change::OwnSeccomp => {
            assert_eq!(security["seccompProfile"], json!({"type": "RuntimeDefault"}));
            security["seccompProfile"] = json!({"type": "Localhost", "localhostProfile": SECCOMP});
        }
    }
    let metadata = json!({"name": change.pod(), "namespace": NAMESPACE});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// A pod's, which has ended.
fn exit_code(pods: &[Value], name: &str) -> i64 {
    let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name).unwrap();
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64().unwrap()
}

fn ended(node: &Node, number: usize) -> Vec<Value> {
    wait_for("the recordings to end", || {
        let ours = |pod: &Value| pod["metadata"]["namespace"] == NAMESPACE;
        let pods: Vec<Value> = node.list("pods").into_iter().filter(ours).collect();
        let has_ended = |pod: &&Value| ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase);
        (pods.iter().filter(has_ended).count() == number).then_some(pods)
    })
}

#[test]
#[ignore = "needs the servers of testservers/, containerd and root: cargo xtask test --real"]
fn each_capability_of_the_hardened_manifest_is_needed_and_no_other() {
    let _alone = live::alone();
    let Some(programs) = Programs::find() else { return };
    let Some(load) = Load::start() else { return };
    let Some(node) = node::shared() else { return };
    programs.import(&node);
    node.make_namespace(NAMESPACE);
    let out: PathBuf = node.plane.file("recordings");
    std::fs::create_dir(&out).unwrap();
    // Below the kubelet's --root-dir.
    let profiles = node.plane.file("kubelet-data/seccomp");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::copy(deployed("seccomp.json"), profiles.join(SECCOMP)).unwrap();
    let expected = expected();
    let pods: Vec<Value> = expected.iter().map(|(change, _)| pod(*change, &out)).collect();
    node.apply("rights.json", &json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string());
    let pods = ended(&node, expected.len());

    println!("{:<26} {:>4} {:>6} {:>10} {:>8} {:>6}  says", "pod", "exit", "plain", "unreadable", "deleted", "kernel");
    let mut wrong = Vec::new();
    for (change, outcome) in &expected {
        let name = change.pod();
        let (code, said) = (exit_code(&pods, &name), node.plane.ask(&["logs", &name, "-n", NAMESPACE]));
        let file = out.join(change.file());
        let seen = file.exists().then(|| load.seen(&file));
        let [plain, unreadable, deleted, kernel] = seen.map_or(["-"; 4], |seen| {
            [seen.plain, seen.unreadable, seen.deleted, seen.kernel].map(|named| if named { "named" } else { "no" })
        });
        let says = said.lines().find(|line| code != 0 || line.contains(" samples, ")).unwrap_or_default();
        println!("{name:<26} {code:>4} {plain:>6} {unreadable:>10} {deleted:>8} {kernel:>6}  {says}");
        let is_right = match outcome {
            Outcome::Written(right) => code == 0 && seen == Some(*right),
            Outcome::Refused(sentence) => code == 1 && said == *sentence,
            Outcome::RefusedBetween(begins, ends) => code == 1 && said.starts_with(begins) && said.ends_with(ends),
        };
        if !is_right {
            wrong.push((name, said));
        }
    }
    assert!(wrong.is_empty(), "not as expected: {wrong:?}");
    node.end_namespaces(&[NAMESPACE]);
}
