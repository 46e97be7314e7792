//! The files in `deploy/` hold what their guides promise, and name only settings that exist. No cluster is needed.

use std::path::Path;

use clap::CommandFactory as _;
use profiler::cli::Arguments;
use profiler::export::address;
use serde_json::{Value, json};

const DAEMON_SETS: [&str; 2] = ["privileged-ds.yaml", "hardened-ds.yaml"];
const EXAMPLES: [&str; 2] = ["job.yaml", "cronjob.yaml"];
/// The measured set; `docs/nodes.md` has what breaks without each.
const CAPABILITIES: [&str; 7] =
    ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "CHECKPOINT_RESTORE", "SYSLOG", "IPC_LOCK"];
/// What the test puts in the place of `$(HOST_IP)`.
const HOST_IP: &str = "192.0.2.1";

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

fn documents(name: &str) -> Vec<Value> {
    let options = serde_saphyr::Options::default();
    serde_saphyr::from_multiple_with_options(&text(name), options).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn one_of_kind(name: &str, kind: &str) -> Value {
    let mut found: Vec<Value> = documents(name).into_iter().filter(|document| document["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{name}: {kind}");
    found.remove(0)
}

fn pod(name: &str) -> Value {
    one_of_kind(name, "DaemonSet")["spec"]["template"].clone()
}

/// The pods of the examples.
fn example(name: &str) -> Value {
    let pointer = if name == "cronjob.yaml" { "/spec/jobTemplate/spec" } else { "/spec" };
    let kind = if name == "cronjob.yaml" { "CronJob" } else { "Job" };
    one_of_kind(name, kind).pointer(pointer).unwrap_or_else(|| panic!("{name}: {pointer}")).clone()
}

fn container(name: &str) -> Value {
    let containers = pod(name)["spec"]["containers"].clone();
    assert_eq!(containers.as_array().map(Vec::len), Some(1), "{name}");
    containers[0].clone()
}

#[test]
fn the_pods_are_what_every_node_needs() {
    let not_in = |key: &str, value: &str| json!({"key": key, "operator": "NotIn", "values": [value]});
    let nowhere = [not_in("eks.amazonaws.com/compute-type", "fargate"), not_in("type", "virtual-kubelet")];
    let probe = |path: &str| json!({"path": path, "port": "metrics"});
    let wanted = [
        ("/spec/hostPID", json!(true)),
        ("/spec/hostNetwork", Value::Null),
        ("/spec/hostIPC", Value::Null),
        ("/spec/enableServiceLinks", json!(false)),
        ("/spec/nodeSelector", json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"})),
        (
            "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
            json!([{"matchExpressions": nowhere}]),
        ),
        ("/spec/tolerations", json!([{"operator": "Exists"}])),
        ("/metadata/annotations/prometheus.io~1scrape", json!("true")),
        ("/metadata/annotations/prometheus.io~1port", json!("9464")),
        ("/metadata/annotations/prometheus.io~1path", json!("/metrics")),
        ("/spec/containers/0/startupProbe/httpGet", probe("/healthz")),
        ("/spec/containers/0/livenessProbe/httpGet", probe("/healthz")),
        ("/spec/containers/0/readinessProbe/httpGet", probe("/readyz")),
        ("/spec/containers/0/ports", json!([{"name": "metrics", "containerPort": 9464}])),
        ("/spec/containers/0/resources/limits", json!({"memory": "1Gi"})),
        ("/spec/containers/0/image", json!(concat!("everflame:", env!("CARGO_PKG_VERSION")))),
        ("/spec/containers/0/securityContext/procMount", Value::Null),
    ];
    for name in DAEMON_SETS {
        let pod = pod(name);
        for (pointer, value) in &wanted {
            assert_eq!(pod.pointer(pointer).unwrap_or(&Value::Null), value, "{name} {pointer}");
        }
    }
}

#[test]
fn rights_are_the_least() {
    for name in DAEMON_SETS {
        let labels = &one_of_kind(name, "Namespace")["metadata"]["labels"];
        for mode in ["enforce", "audit", "warn"] {
            assert_eq!(labels[format!("pod-security.kubernetes.io/{mode}")], "privileged", "{name}");
        }
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
            {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
        ]);
        assert_eq!(one_of_kind(name, "ClusterRole")["rules"], rules, "{name}");
        for volume in pod(name)["spec"]["volumes"].as_array().unwrap() {
            let mounts = container(name)["volumeMounts"].clone();
            let mount = mounts.as_array().unwrap().iter().find(|mount| mount["name"] == volume["name"]).unwrap();
            assert_eq!(volume.get("hostPath").is_some(), mount["readOnly"] == true, "{name}: {volume}");
        }
    }
    let hardened = container("hardened-ds.yaml")["securityContext"].clone();
    let wanted = json!({
        "privileged": false,
        "runAsUser": 0,
        "runAsGroup": 0,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"], "add": CAPABILITIES},
        "seccompProfile": {"type": "RuntimeDefault"},
        "appArmorProfile": {"type": "Unconfined"},
        "seLinuxOptions": {"type": "spc_t"},
    });
    assert_eq!(hardened, wanted);
    let constraints = one_of_kind("openshift-scc.yaml", "SecurityContextConstraints");
    assert_eq!(constraints["allowedCapabilities"], json!(CAPABILITIES));
    assert_eq!(constraints["allowPrivilegedContainer"], false);
    assert_eq!(constraints["users"], json!(["system:serviceaccount:everflame:everflame"]));
}

#[test]
fn the_two_daemon_sets_differ_in_their_security_context_alone() {
    let without = |name: &str| {
        let mut documents = documents(name);
        for document in documents.iter_mut().filter(|document| document["kind"] == "DaemonSet") {
            document["spec"]["template"]["spec"]["containers"][0]["securityContext"] = Value::Null;
        }
        documents
    };
    assert_eq!(without(DAEMON_SETS[0]), without(DAEMON_SETS[1]));
}

#[test]
fn every_setting_exists_and_its_value_is_taken() {
    for name in DAEMON_SETS {
        let container = container(name);
        let mut words: Vec<String> = vec!["everflame".into()];
        words.extend(container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()));
        let command = Arguments::command();
        let agent = command.find_subcommand(&words[1]).unwrap();
        let mut own = Vec::new();
        for variable in container["env"].as_array().unwrap() {
            let variable_name = variable["name"].as_str().unwrap();
            let Some(flag) = agent
                .get_arguments()
                .find(|argument| argument.get_env().is_some_and(|env| env == variable_name))
                .and_then(clap::Arg::get_long)
            else {
                own.push(variable_name.to_owned());
                continue;
            };
            let value = match variable["value"].as_str() {
                Some(value) => value.replace("$(HOST_IP)", HOST_IP),
                None => "from-the-downward-api".to_owned(),
            };
            assert!(!value.contains("$("), "{name}: {variable_name}: only what was set before can be referred to");
            if variable_name == "EVERFLAME_TO" {
                address::parse(&value).unwrap();
            }
            words.push(format!("--{flag}={value}"));
        }
        assert_eq!(own, ["HOST_IP"], "{name}: what is no setting");
        command.try_get_matches_from(&words).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn the_examples_end_by_themselves_and_their_words_are_taken() {
    for name in EXAMPLES {
        let job = example(name);
        assert_eq!(job["backoffLimit"], 0, "{name}");
        let pod = &job["template"]["spec"];
        for (pointer, value) in [
            ("/hostPID", json!(true)),
            ("/restartPolicy", json!("Never")),
            ("/enableServiceLinks", json!(false)),
            ("/containers/0/image", json!(concat!("everflame:", env!("CARGO_PKG_VERSION")))),
            ("/containers/0/securityContext/privileged", json!(true)),
            ("/containers/0/securityContext/readOnlyRootFilesystem", json!(true)),
        ] {
            assert_eq!(pod.pointer(pointer), Some(&value), "{name} {pointer}");
        }
        let container = &pod["containers"][0];
        let mount = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
        let words: Vec<String> =
            container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().into()).collect();
        let files: Vec<&str> = words.iter().filter_map(|word| word.strip_prefix("--output=")).collect();
        // Each run's own: nothing is written over.
        assert!(
            !files.is_empty() && files.iter().all(|file| file.starts_with(mount) && file.contains("$(POD_NAME)")),
            "{name}"
        );
        let words = std::iter::once("everflame".to_owned()).chain(words);
        Arguments::command().try_get_matches_from(words).unwrap_or_else(|error| panic!("{name}: {error}"));
        let allowance = job["activeDeadlineSeconds"].as_u64().unwrap();
        assert!(allowance >= 600 + 60 + 300, "{name}: image, duration, names");
    }
    let rules = one_of_kind("privileged-ds.yaml", "ClusterRole")["rules"].clone();
    assert_eq!(one_of_kind("job.yaml", "ClusterRole")["rules"], rules, "it may be applied beside the agent's");
}

#[test]
fn the_spool_fits_into_its_volume_and_the_end_into_its_grace() {
    let gibibytes = json!("1Gi");
    for name in DAEMON_SETS {
        let (pod, container) = (pod(name), container(name));
        let environment = container["env"].as_array().unwrap();
        let value = |wanted: &str| {
            environment.iter().find(|variable| variable["name"] == wanted).unwrap()["value"].as_str().unwrap()
        };
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["mountPath"] == value("EVERFLAME_SPOOL")).unwrap();
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        assert_eq!(volume["emptyDir"]["sizeLimit"], gibibytes, "{name}: a pod that passes it is evicted");
        assert!(value("EVERFLAME_SPOOL_SIZE").parse::<u64>().unwrap() <= 1024, "{name}");
        let command = Arguments::command();
        let agent = command.find_subcommand("agent").unwrap();
        let end = agent.get_arguments().find(|argument| argument.get_long() == Some("shutdown-timeout")).unwrap();
        let end = end.get_default_values()[0].to_str().unwrap().trim_end_matches('s').parse::<u64>().unwrap();
        assert!(pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap() > end, "{name}");
    }
}

#[test]
fn the_seccomp_profile_lets_a_profiler_work_and_nothing_change_the_node() {
    let profile: Value = serde_json::from_str(&text("seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let groups = profile["syscalls"].as_array().unwrap();
    assert!(groups.iter().all(|group| group["action"] == "SCMP_ACT_ALLOW"));
    let names: Vec<&str> =
        groups.iter().flat_map(|group| group["names"].as_array().unwrap()).map(|name| name.as_str().unwrap()).collect();
    for wanted in ["bpf", "perf_event_open", "membarrier", "openat", "open", "setpriority", "statfs", "clone3"] {
        assert!(names.contains(&wanted), "{wanted}");
    }
    for refused in ["mount", "ptrace", "process_vm_writev", "init_module", "finit_module", "kexec_load", "setns"] {
        assert!(!names.contains(&refused), "{refused}");
    }
}
