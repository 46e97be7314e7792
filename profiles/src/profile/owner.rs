//! [`Identity`]: whose a process is, in the words that back ends ask for. Data only; the product finds it out.

use std::sync::Arc;

/// Whose samples these are. Every text is empty where it is unknown; nothing here is trusted input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Container id as the runtime writes it: 64 hex digits on Kubernetes, without a scheme such as `containerd://`.
    pub container_id: Arc<str>,
    /// Pod uid with dashes.
    pub pod_uid: Arc<str>,
    /// Pod name.
    pub pod: Arc<str>,
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Container name in the pod, or the runtime's name for a container outside Kubernetes.
    pub container: Arc<str>,
    /// Image as the pod's spec names it.
    pub image: Arc<str>,
    /// Node name.
    pub node: Arc<str>,
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `CronJob` …; a bare pod has none.
    pub workload_kind: Arc<str>,
    /// Name of the workload.
    pub workload: Arc<str>,
    /// Service: never empty in a batch that leaves the agent (the last resort is the executable's name).
    pub service: Arc<str>,
    /// Deployment environment.
    pub environment: Arc<str>,
    /// Version of the service.
    pub version: Arc<str>,
    /// Chosen pod labels, by key.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
}

/// As much of a text as fits into `bytes`, whole characters.
pub fn beginning(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::beginning;

    #[test]
    fn the_beginning_ends_between_characters() {
        let cases = [("", 3, ""), ("abc", 3, "abc"), ("abc", 2, "ab"), ("aé", 2, "a"), ("é", 1, ""), ("é", 0, "")];
        for (text, bytes, expected) in cases {
            assert_eq!(beginning(text, bytes), expected, "{text} {bytes}");
        }
    }
}
