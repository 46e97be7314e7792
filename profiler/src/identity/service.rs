//! Which service a process belongs to, in which environment and version: one documented precedence (`docs/identity.md`).
//!
//! A pure function. Each of the three texts is the first that is not empty; they may come from different sources.

use std::sync::Arc;

use super::environment::{Declared, ProcessEnvironment, acceptable};

/// Everything that may tell, strongest first.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a> {
    /// The process's own environment.
    pub environment: Option<&'a ProcessEnvironment>,
    /// Labels `tags.datadoghq.com/CONTAINER.service`, `.env`, `.version`; Docker's `com.datadoghq.tags.service` …
    pub container_tags: Option<&'a Declared>,
    /// Labels `tags.datadoghq.com/service`, `env`, `version`.
    pub pod_tags: Option<&'a Declared>,
    /// Annotations `resource.opentelemetry.io/service.name` …
    pub annotations: Option<&'a Declared>,
    /// Labels `app.kubernetes.io/name` and `version`.
    pub recommended_labels: Option<&'a Declared>,
    /// Name of the Deployment, StatefulSet, CronJob …
    pub workload: &'a str,
    /// Name of the container.
    pub container: &'a str,
    /// Path of the executable.
    pub executable: &'a str,
    /// The main thread's comm, for a process whose executable nobody saw.
    pub comm: &'a str,
    /// Whether it is a thread of the kernel's.
    pub kernel_thread: bool,
}

/// The service of the kernel's own threads.
pub const KERNEL: &str = "kernel";
/// The service of a process of which nothing is known, not even a name.
pub const UNKNOWN: &str = "unknown";

/// The three texts; the service is never empty.
pub fn resolve(sources: &Sources<'_>) -> Declared {
    let named = executable_name(sources.executable);
    let mut found = Declared::default();
    if is_runtime(named) {
        // A shim is told another service name for each container (containerd's `OTEL_SERVICE_NAME=containerd-shim-ID`), and one
        // that runs in the pod's cgroup is no part of the application.
        found.service = named.into();
        return found;
    }
    let environment = sources.environment.map(|environment| (&environment.datadog, &environment.opentelemetry));
    let (datadog, opentelemetry) = environment.unzip();
    let declared = [
        datadog,
        opentelemetry,
        sources.container_tags,
        sources.pod_tags,
        sources.annotations,
        sources.recommended_labels,
    ];
    for source in declared.into_iter().flatten() {
        found.fill_from(source);
    }
    if found.service.is_empty() {
        found.service = last_resorts(sources, named);
    }
    found
}

fn last_resorts(sources: &Sources<'_>, named: &str) -> Arc<str> {
    if sources.kernel_thread {
        // One comm per CPU and work queue would make hundreds of services.
        return KERNEL.into();
    }
    let names = [sources.workload, sources.container, named, sources.comm];
    names.into_iter().find_map(acceptable).unwrap_or_else(|| UNKNOWN.into())
}

/// The file name of an executable's path, without what the kernel appends to a file that is gone; runc runs from a memory file
/// (`/memfd:runc_cloned:/proc/self/exe`) or a copy named `/runc`.
fn executable_name(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    if path.starts_with("/memfd:runc") {
        return "runc";
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.starts_with("containerd-shim") { "containerd-shim" } else { name }
}

/// Container machinery that runs in, or is started with the environment of, what it contains.
fn is_runtime(name: &str) -> bool {
    matches!(name, "containerd-shim" | "runc" | "crun" | "conmon" | "conmonrs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(service: &str, environment: &str, version: &str) -> Declared {
        Declared { service: service.into(), environment: environment.into(), version: version.into() }
    }

    #[test]
    fn the_precedence_is_that_of_the_documentation() {
        let process = ProcessEnvironment {
            datadog: declared("1", "", ""),
            opentelemetry: declared("2", "", ""),
            ..ProcessEnvironment::default()
        };
        let only_otel = ProcessEnvironment { opentelemetry: declared("2", "", ""), ..ProcessEnvironment::default() };
        let empty = ProcessEnvironment::default();
        let tags = ["3", "4", "5", "6"].map(|service| declared(service, "", ""));
        let all = Sources {
            environment: Some(&process),
            container_tags: Some(&tags[0]),
            pod_tags: Some(&tags[1]),
            annotations: Some(&tags[2]),
            recommended_labels: Some(&tags[3]),
            workload: "7",
            container: "8",
            executable: "/usr/bin/9",
            comm: "10",
            kernel_thread: false,
        };
        // Take the strongest away, again and again.
        let mut at = all;
        let weaken: [fn(&mut Sources<'_>); 10] = [
            |_| {},
            |_| {},
            |at| at.environment = None,
            |at| at.container_tags = None,
            |at| at.pod_tags = None,
            |at| at.annotations = None,
            |at| at.recommended_labels = None,
            |at| at.workload = "",
            |at| at.container = "",
            |at| at.executable = "",
        ];
        for (step, weaken) in weaken.into_iter().enumerate() {
            weaken(&mut at);
            if step == 1 {
                at.environment = Some(&only_otel);
            }
            assert_eq!(&*resolve(&at).service, (step + 1).to_string());
        }
        at.comm = "";
        at.environment = Some(&empty);
        assert_eq!(&*resolve(&at).service, UNKNOWN);
    }

    #[test]
    fn each_text_comes_from_the_strongest_source_that_has_it() {
        let process = ProcessEnvironment {
            datadog: declared("", "prod", ""),
            opentelemetry: declared("cart", "qa", ""),
            ..ProcessEnvironment::default()
        };
        let tags = declared("x", "y", "1.0");
        let sources = Sources { environment: Some(&process), pod_tags: Some(&tags), ..Sources::default() };
        assert_eq!(resolve(&sources), declared("cart", "prod", "1.0"));
    }

    #[test]
    fn container_machinery_keeps_its_own_name_whatever_it_was_told() {
        let shim = ProcessEnvironment {
            opentelemetry: declared("containerd-shim-0123", "prod", ""),
            ..ProcessEnvironment::default()
        };
        let cases = [
            ("/usr/bin/containerd-shim-runc-v2", "containerd-shim"),
            ("/memfd:runc_cloned:/proc/self/exe (deleted)", "runc"),
            ("/usr/bin/conmon", "conmon"),
            ("/usr/sbin/nginx", "containerd-shim-0123"),
        ];
        for (executable, service) in cases {
            let sources = Sources { environment: Some(&shim), executable, workload: "web", ..Sources::default() };
            assert_eq!(&*resolve(&sources).service, service, "{executable}");
        }
    }

    #[test]
    fn executables_are_named_as_people_know_them() {
        let cases = [
            // Executable, comm, kernel thread, service.
            ("/usr/sbin/nginx (deleted)", "nginx", false, "nginx"),
            ("/app/my service", "x", false, "my service"),
            ("", "kworker/3:1-events", true, KERNEL),
            ("", "sh", false, "sh"),
            ("/", "", false, UNKNOWN),
            ("/bin/\u{1b}[31m", "evil", false, "evil"),
        ];
        for (executable, comm, kernel_thread, service) in cases {
            let sources = Sources { executable, comm, kernel_thread, ..Sources::default() };
            assert_eq!(&*resolve(&sources).service, service, "{executable}");
        }
    }
}
