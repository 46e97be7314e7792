//! The Job, word for word; and that every field of it exists.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::*;
use crate::kubectl::yaml;

const UID: &str = "f2e1d3c4-1234-4abc-8def-0123456789a1";

fn settings() -> Settings {
    Settings {
        namespace: "shop".into(),
        image: DEFAULT_IMAGE.into(),
        tolerations: Vec::new(),
        service_account: None,
        duration: Duration::from_secs(30),
        frequency: 99,
        words: Vec::new(),
    }
}

fn one_shot() -> OneShot {
    OneShot { name: "everflame-0123456789".into(), node: "n1".into(), uids: vec![UID.into()], containers: Vec::new() }
}

#[test]
fn a_pod_that_is_deleted_has_the_time_that_naming_may_take() {
    let naming = crate::naming::unhurried();
    assert!(GRACE >= naming.wait + Duration::from_secs(30), "{naming:?}");
}

#[test]
fn the_job_is_this() {
    let expected = r#"apiVersion: batch/v1
kind: Job
metadata:
  labels:
    app.kubernetes.io/managed-by: kubectl-everflame
    app.kubernetes.io/name: everflame-one-shot
    sidecar.istio.io/inject: "false"
  name: everflame-0123456789
  namespace: shop
spec:
  activeDeadlineSeconds: 930
  backoffLimit: 0
  template:
    metadata:
      annotations:
        cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
        linkerd.io/inject: disabled
      labels:
        app.kubernetes.io/managed-by: kubectl-everflame
        app.kubernetes.io/name: everflame-one-shot
        sidecar.istio.io/inject: "false"
    spec:
      automountServiceAccountToken: false
      containers:
        - args:
            - pod
            - "--hand-over"
            - "--kubernetes=off"
            - "--cri=off"
            - "--node-name=n1"
            - "--duration=30000ms"
            - "--frequency=99"
            - f2e1d3c4-1234-4abc-8def-0123456789a1
          image: "everflame:0.1.0"
          imagePullPolicy: IfNotPresent
          name: everflame
          resources:
            limits:
              memory: "1Gi"
            requests:
              cpu: "100m"
              memory: "128Mi"
          securityContext:
            privileged: true
            readOnlyRootFilesystem: true
            runAsUser: 0
          terminationMessagePolicy: FallbackToLogsOnError
          volumeMounts:
            - mountPath: "/host/sys/fs/cgroup"
              name: cgroups
              readOnly: true
      enableServiceLinks: false
      hostPID: true
      nodeName: n1
      restartPolicy: Never
      terminationGracePeriodSeconds: 180
      tolerations:
        - operator: Exists
      volumes:
        - hostPath:
            path: "/sys/fs/cgroup"
            type: Directory
          name: cgroups
  ttlSecondsAfterFinished: 600
"#;
    assert_eq!(yaml::document(&one_shot().job(&settings())), expected);
}

#[test]
fn what_is_asked_for_is_in_it() {
    let asked = Settings {
        image: "registry.example/everflame@sha256:00".into(),
        tolerations: ["dedicated=db:NoExecute", "gpu:NoSchedule", "spot"].map(|text| text.parse().unwrap()).into(),
        service_account: Some("profiler".into()),
        duration: Duration::from_millis(1500),
        frequency: 997,
        words: vec!["--user-only".into()],
        ..settings()
    };
    let job = OneShot { containers: vec!["aa11".into()], ..one_shot() }.job(&asked);
    let spec = &job["spec"]["template"]["spec"];
    assert_eq!(spec["serviceAccountName"], "profiler");
    assert_eq!(spec["containers"][0]["image"], "registry.example/everflame@sha256:00");
    let tolerations = json!([
        {"key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoExecute"},
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists"},
    ]);
    assert_eq!(spec["tolerations"], tolerations);
    let words = &spec["containers"][0]["args"].as_array().unwrap()[5..];
    assert_eq!(words, ["--duration=1500ms", "--frequency=997", "--user-only", "--container=aa11", UID]);
    assert_eq!(job["spec"]["activeDeadlineSeconds"], 901);
}

#[test]
fn every_field_exists_and_the_pod_is_the_job_s() {
    let settings = Settings { tolerations: vec!["a=b:NoExecute".parse().unwrap()], ..settings() };
    let (job, pod) = (one_shot().job(&settings), one_shot().pod(&settings));
    let typed: Job = serde_json::from_value(job.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), job, "a field that does not exist is lost");
    let typed: Pod = serde_json::from_value(pod.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), pod);
    assert_eq!(pod["spec"], job["spec"]["template"]["spec"]);
}

#[test]
fn the_words_are_taken_by_the_program() {
    use clap::Parser as _;
    let asked = Settings { words: vec!["--user-only".into()], ..settings() };
    let job = OneShot { containers: vec!["0123456789ab".into()], ..one_shot() }.job(&asked);
    let words = job["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap().clone();
    let words = words.iter().map(|word| word.as_str().unwrap().to_owned());
    let parsed = crate::cli::Arguments::try_parse_from(std::iter::once("everflame".to_owned()).chain(words));
    assert!(parsed.is_ok(), "{parsed:?}");
}

#[test]
fn what_is_no_toleration_is_refused() {
    for text in ["", "=x", ":NoSchedule", "a:Never", "a:", "a=b:c:NoExecute"] {
        assert!(text.parse::<Toleration>().is_err(), "{text}");
    }
}
