//! `everflame config` with nothing but the old agent's variables: what the agent would take is shown, and what it would not is told.

use std::process::Command;

#[test]
fn an_old_agent_s_environment_is_shown_as_it_is_taken() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
    std::fs::create_dir_all(root.path().join("cgroup/pod")).unwrap();
    std::fs::write(root.path().join("proc/self/cgroup"), "0::/pod\n").unwrap();
    std::fs::write(root.path().join("cgroup/pod/memory.max"), "104857600\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_everflame"))
        .arg("config")
        .arg(format!("--proc-root={}", root.path().join("proc").display()))
        .arg(format!("--cgroup-root={}", root.path().join("cgroup").display()))
        .env_clear()
        .env("OTEL_PROFILING_AGENT_COLLECTION_AGENT", "http://me:hidden@10.0.0.1:9126")
        .env("OTEL_PROFILING_AGENT_TAGS", "service:node-1")
        .env("OTEL_PROFILING_AGENT_SAMPLES_PER_SECOND", "20")
        .env("OTEL_PROFILING_AGENT_REPORTER_INTERVAL", "5s")
        .env("OTEL_PROFILING_AGENT_TRACERS", "all")
        .env("KUBERNETES_NODE_NAME", "node-1")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
        .env("EVERFLAME_HEADER", "x-key: hidden")
        .output()
        .unwrap();
    let (shown, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{told}");
    for line in [
        "    \"datadog+http://********@10.0.0.1:9126\",  # environment OTEL_PROFILING_AGENT_COLLECTION_AGENT",
        "    \"otlp+http://collector:4318\",  # environment OTEL_EXPORTER_OTLP_ENDPOINT",
        "tag = [\"service:node-1\"]  # environment OTEL_PROFILING_AGENT_TAGS",
        "frequency = \"20\"  # environment OTEL_PROFILING_AGENT_SAMPLES_PER_SECOND",
        "interval = \"10s\"  # environment OTEL_PROFILING_AGENT_REPORTER_INTERVAL",
        "node-name = \"node-1\"  # environment KUBERNETES_NODE_NAME",
        "memory-limit = \"100\"  # cgroup (104857600 bytes)",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\nis not in\n{shown}");
    }
    for sentence in [
        "OTEL_PROFILING_AGENT_TRACERS is a name of the old agent that has no meaning here",
        "OTEL_PROFILING_AGENT_REPORTER_INTERVAL=5s: one upload covers 10s to 10m here; --interval 10s is taken",
        "the header x-key goes to several hosts (10.0.0.1, collector)",
    ] {
        assert!(told.contains(sentence), "{sentence}\nis not in\n{told}");
    }
    assert!(!shown.contains("hidden") && !told.contains("hidden"), "{shown}{told}");
    assert!(shown.parse::<toml::Table>().is_ok(), "{shown}");
}
