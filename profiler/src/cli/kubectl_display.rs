//! What is shown while nodes are profiled: one line on a terminal, elsewhere a line for each step.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::progress::Progress;
use super::say::say;
use super::stop::Stop;
use crate::kubectl::NodePods;
use crate::kubectl::manifest::KEPT_AFTER_END;
use crate::kubectl::news::{Host, News};
use crate::report::thousands;

/// Nodes that the line names; more are counted.
const MAX_SHOWN: usize = 3;

/// See the module documentation.
pub(super) struct Display {
    stop: Stop,
    progress: Option<Progress>,
    nodes: Mutex<BTreeMap<String, State>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    /// What it does, which changes seldom.
    step: String,
    /// How far it is.
    text: String,
}

impl Display {
    pub(super) fn new(stop: Stop, nodes: &[NodePods]) -> Display {
        let progress = std::io::stderr().is_terminal().then(Progress::start);
        let nodes = nodes.iter().map(|group| (group.node.clone(), State::default())).collect();
        Display { stop, progress, nodes: Mutex::new(nodes) }
    }

    pub(super) fn end(&self) {
        if let Some(progress) = &self.progress {
            progress.end();
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.wanted()
    }

    /// A line that stays.
    pub(super) fn note(&self, text: &str) {
        match &self.progress {
            Some(progress) => progress.above(&format!("everflame: {text}")),
            None => say(text),
        }
    }

    /// How far the agent's history of a node is.
    pub(super) fn say(&self, node: &str, text: String) {
        self.is_at(node, State { step: "waiting for the resident agent's history".to_owned(), text });
    }

    pub(super) fn of_node<'display>(&'display self, node: &str, job: &str, namespace: &str) -> NodeDisplay<'display> {
        let job = format!("{job} in the namespace {namespace}");
        NodeDisplay { display: self, node: node.to_owned(), job }
    }

    fn is_at(&self, node: &str, state: State) {
        let mut nodes = self.lock();
        let before = nodes.insert(node.to_owned(), state.clone());
        let line = line(&nodes);
        drop(nodes);
        match &self.progress {
            Some(progress) => progress.say(line),
            None if before.is_none_or(|before| before.step != state.step) => {
                say(format_args!("{node}: {}", state.step));
            }
            None => {}
        }
    }

    /// Whole after each statement.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `n1: sampling 12.0 s of 30.0 s · 1 204 samples | n2: …`
fn line(nodes: &BTreeMap<String, State>) -> String {
    let one = |(node, state): (&String, &State)| {
        let text = if state.text.is_empty() { &state.step } else { &state.text };
        if text.is_empty() { node.clone() } else { format!("{node}: {text}") }
    };
    let mut parts: Vec<String> = nodes.iter().take(MAX_SHOWN).map(one).collect();
    if nodes.len() > MAX_SHOWN {
        parts.push(format!("{} more nodes", nodes.len() - MAX_SHOWN));
    }
    parts.join(" | ")
}

/// The part of one node that runs a Job.
pub(super) struct NodeDisplay<'display> {
    display: &'display Display,
    node: String,
    job: String,
}

impl Host for NodeDisplay<'_> {
    fn is_stopped(&self) -> bool {
        self.display.is_stopped()
    }

    fn hears(&self, news: News) {
        if news == News::Ending {
            let minutes = KEPT_AFTER_END.as_secs() / 60;
            self.display.note(&format!(
                "ending early: the Job {} is being deleted, and what it has sampled is fetched; Ctrl-C again leaves at once (a Job \
                that is left ends when its recording is over, at the latest at its deadline, and is removed {minutes} minutes later)",
                self.job
            ));
        }
        self.display.is_at(&self.node, state(news));
    }
}

fn state(news: News) -> State {
    let step = |text: &str| State { step: text.to_owned(), text: String::new() };
    match news {
        News::Starting(text) if text.is_empty() => step("creating a Job"),
        News::Starting(text) => step(&text),
        News::Sampling { elapsed, of, .. } if elapsed >= of && !of.is_zero() => step("naming functions"),
        News::Sampling { elapsed, of, samples } => {
            let (elapsed, of, samples) = (elapsed.as_secs_f64(), of.as_secs_f64(), thousands(samples));
            let text = format!("sampling {elapsed:.0} s of {of:.0} s · {samples} samples");
            State { step: format!("sampling {of:.0} s"), text }
        }
        News::Fetching(parts) => {
            State { step: "fetching the profile".to_owned(), text: format!("fetching the profile · {parts} parts") }
        }
        News::Away(why) => step(&format!("{why}; trying again")),
        News::Ending => step("ending early"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_line_says_where_each_node_is() {
        let seconds = Duration::from_secs;
        let sampling = |elapsed| News::Sampling { elapsed: seconds(elapsed), of: seconds(30), samples: 1204 };
        for (news, step, text) in [
            (News::Starting(String::new()), "creating a Job", ""),
            (News::Starting("waiting for kubelet".into()), "waiting for kubelet", ""),
            (sampling(12), "sampling 30 s", "sampling 12 s of 30 s · 1 204 samples"),
            (sampling(30), "naming functions", ""),
            (News::Fetching(7), "fetching the profile", "fetching the profile · 7 parts"),
            (News::Away("the API server is away".into()), "the API server is away; trying again", ""),
            (News::Ending, "ending early", ""),
        ] {
            assert_eq!(state(news), State { step: step.into(), text: text.into() });
        }
        let mut nodes = BTreeMap::new();
        nodes.insert("n1".to_owned(), state(sampling(12)));
        nodes.insert("n2".to_owned(), state(News::Ending));
        assert_eq!(line(&nodes), "n1: sampling 12 s of 30 s · 1 204 samples | n2: ending early");
        for number in 3..9 {
            nodes.insert(format!("n{number}"), State::default());
        }
        assert!(line(&nodes).ends_with(" | n3 | 5 more nodes"), "{}", line(&nodes));
    }
}
