//! [`Start`]: what a look at a Job's pods means before the profiler runs. Free of I/O.

use std::time::Duration;

use super::manifest::OneShot;
use super::objects::Pod;
use super::refusal::Refusal;
use super::stage::{Stage, stage};

/// How long a Job may be without a pod.
const NO_POD: Duration = Duration::from_secs(20);
/// How long kubelet may say nothing about a pod that is its.
const NOT_TAKEN: Duration = Duration::from_secs(60);

/// What to do after a look.
#[derive(Clone, Debug)]
pub enum Next {
    /// The profiler runs, or ran.
    Follow(Box<Pod>),
    /// It is waited for, in these words.
    Wait(String),
}

/// What is remembered between two looks.
#[derive(Clone, Debug, Default)]
pub struct Start {
    was_seen: bool,
}

impl Start {
    /// What was found, after waiting so long for answers like it; `warning` is what events say, if anything.
    ///
    /// # Errors
    /// What stopped it.
    pub fn look(
        &mut self,
        one_shot: &OneShot,
        found: Option<Pod>,
        waited: Duration,
        warning: &str,
    ) -> Result<Next, Refusal> {
        let node = || one_shot.node.clone();
        let Some(pod) = found else {
            if self.was_seen {
                return Err(Refusal::Deleted { node: node() });
            }
            // The Job's controller says so when its pod is refused.
            if waited > NO_POD || !warning.is_empty() {
                let (job, seconds) = (one_shot.name.clone(), waited.as_secs());
                return Err(Refusal::NoPod { job, seconds, why: warning.to_owned() });
            }
            return Ok(Next::Wait("waiting for the Job's pod".to_owned()));
        };
        self.was_seen = true;
        match stage(&pod)? {
            Stage::Running | Stage::Ended(_) => Ok(Next::Follow(Box::new(pod))),
            Stage::Starting => Ok(Next::Wait(with("starting the profiler's pod, which may pull its image", warning))),
            Stage::Accepted if waited > NOT_TAKEN => {
                Err(Refusal::Silent { node: node(), seconds: NOT_TAKEN.as_secs() })
            }
            Stage::Accepted => Ok(Next::Wait("waiting for kubelet".to_owned())),
        }
    }
}

fn with(what: &str, warning: &str) -> String {
    if warning.is_empty() { what.to_owned() } else { format!("{what} ({warning})") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(statuses: Value) -> Pod {
        serde_json::from_value(json!({"spec": {"nodeName": "n1"}, "status": {"containerStatuses": statuses}})).unwrap()
    }

    /// What comes of looks, each so many seconds after the beginning.
    fn looks(looks: &[(u64, Option<&Pod>, &str)]) -> String {
        let one_shot = OneShot { name: "x".into(), node: "n1".into(), uids: Vec::new(), containers: Vec::new() };
        let mut start = Start::default();
        let mut last = String::new();
        for (seconds, found, warning) in looks {
            last = match start.look(&one_shot, found.cloned(), Duration::from_secs(*seconds), warning) {
                Ok(Next::Follow(_)) => "follow".to_owned(),
                Ok(Next::Wait(what)) => what,
                Err(refusal) => refusal.to_string(),
            };
        }
        last
    }

    #[test]
    fn a_pod_that_comes_is_waited_for_and_one_that_goes_is_not() {
        let accepted = pod(json!([]));
        let pulling = pod(json!([{"name": "everflame", "state": {"waiting": {"reason": "ContainerCreating"}}}]));
        let running = pod(json!([{"name": "everflame", "state": {"running": {}}}]));
        let deleted = "the profiler's pod on node n1 was deleted before it was through";
        for (seen, expected) in [
            (&[(0, None, "")][..], "waiting for the Job's pod"),
            (&[(21, None, "")], "no pod came of the Job x in 21 s"),
            (&[(5, None, "quota")], "no pod came of the Job x in 5 s: quota"),
            (&[(0, None, ""), (50, Some(&accepted), "")], "waiting for kubelet"),
            (
                &[(61, Some(&accepted), "")],
                "node n1 has not taken the profiler's pod for 60 s: kubelet there is away or overloaded",
            ),
            (&[(300, Some(&pulling), "")], "starting the profiler's pod, which may pull its image"),
            (&[(300, Some(&pulling), "slow")], "starting the profiler's pod, which may pull its image (slow)"),
            (&[(40, Some(&running), "")], "follow"),
            // It was there: whatever else is said, it did come.
            (&[(1, Some(&pulling), ""), (2, None, "")], deleted),
            (&[(1, Some(&pulling), ""), (40, None, "slow")], deleted),
        ] {
            assert_eq!(looks(seen), expected, "{seen:?}");
        }
    }
}
