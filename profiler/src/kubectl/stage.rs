//! How far a one-shot's pod is, and what stopped it, by its status. Free of I/O.

use super::manifest::CONTAINER;
use super::objects::{ContainerStatus, Pod, Terminated};
use super::parcel::shown;
use super::refusal::Refusal;

/// See the module documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// kubelet has not said anything yet.
    Accepted,
    /// kubelet makes the sandbox, pulls the image, starts the container.
    Starting,
    /// The profiler runs, or ran: its log tells more.
    Running,
    /// It ended, with this exit code.
    Ended(i32),
}

/// Words of kubelet's for an image that will not come by waiting; `ErrImagePull` is followed by `ImagePullBackOff` if it stays.
const NO_IMAGE: [&str; 6] = [
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];
/// Words of kubelet's for a container that can't be made of the image.
const NO_START: [&str; 5] =
    ["CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "StartError"];
/// What the profiler's own last word begins with.
const SAYS: &str = "everflame: ";

/// How far the pod is.
///
/// # Errors
/// What stopped it before the profiler ran.
pub fn stage(pod: &Pod) -> Result<Stage, Refusal> {
    let node = || pod.spec.node_name.clone();
    let status = &pod.status;
    let container = status.container_statuses.iter().find(|container| container.name == CONTAINER);
    if let Some(end) = container.and_then(|container| container.state.terminated.as_ref()) {
        return if never_ran(end) {
            Err(Refusal::Start { node: node(), why: shown(first_of(&[&end.message, &end.reason])) })
        } else {
            Ok(Stage::Ended(end.exit_code))
        };
    }
    // Evicted, OutOfcpu, NodeAffinity, UnexpectedAdmissionError …: kubelet's word on a pod whose container it does not know.
    if status.phase == "Failed" {
        let why = match (&*status.reason, &*status.message) {
            ("", "") => "it failed, and nobody says why".to_owned(),
            (reason, "") => reason.to_owned(),
            ("", message) => message.to_owned(),
            (reason, message) => format!("{reason}, {message}"),
        };
        return Err(Refusal::Rejected { node: node(), why: shown(&why) });
    }
    if let Some(unplaced) =
        status.conditions.iter().find(|condition| condition.kind == "PodScheduled" && condition.status == "False")
    {
        return Err(Refusal::Rejected { node: node(), why: shown(first_of(&[&unplaced.message, &unplaced.reason])) });
    }
    match container {
        None => Ok(Stage::Accepted),
        Some(container) if container.state.running.is_some() => Ok(Stage::Running),
        Some(container) => waiting(pod, container),
    }
}

fn waiting(pod: &Pod, container: &ContainerStatus) -> Result<Stage, Refusal> {
    let node = &pod.spec.node_name;
    let Some(why) = &container.state.waiting else { return Ok(Stage::Starting) };
    let (reason, text) = (&*why.reason, shown(first_of(&[&why.message, &why.reason])));
    if NO_IMAGE.contains(&reason) {
        let image = pod.spec.containers.first().map(|container| shown(&container.image)).unwrap_or_default();
        return Err(Refusal::Image { node: node.clone(), image, why: text });
    }
    if NO_START.contains(&reason) {
        return Err(Refusal::Start { node: node.clone(), why: text });
    }
    Ok(Stage::Starting)
}

/// The runtime could not start it: containerd calls that `StartError`, cri-o `ContainerCannotRun`.
fn never_ran(end: &Terminated) -> bool {
    matches!(&*end.reason, "StartError" | "ContainerCannotRun")
}

/// What is to be said of a profiler that ended with this code and handed nothing over.
pub fn verdict(pod: &Pod, last_said: Option<&str>) -> Refusal {
    let node = pod.spec.node_name.clone();
    let container = pod.status.container_statuses.iter().find(|container| container.name == CONTAINER);
    let end = container.and_then(|container| container.state.terminated.clone()).unwrap_or_default();
    let said = last_said.map(str::to_owned).or_else(|| last_word(&end.message));
    let why = match (&*end.reason, said) {
        ("OOMKilled", _) => {
            "the profiler was killed for using more memory than its container may: take a lower -F, less time or \
            fewer pods"
                .to_owned()
        }
        // Kubelet's word for a pod that took longer than the Job's deadline.
        _ if pod.status.reason == "DeadlineExceeded" => "the profiler was not through at its Job's deadline".to_owned(),
        (_, Some(said)) => said,
        _ => format!("the profiler ended with exit code {} and handed nothing over", end.exit_code),
    };
    Refusal::Profiler { node, why: shown(&why) }
}

/// The last thing that the profiler said of itself.
pub fn last_word(log: &str) -> Option<String> {
    log.lines().rev().find_map(|line| line.strip_prefix(SAYS)).map(str::to_owned)
}

/// The first of these texts that is not empty.
fn first_of<'text>(texts: &[&'text str]) -> &'text str {
    texts.iter().find(|text| !text.is_empty()).copied().unwrap_or("nobody says why")
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
