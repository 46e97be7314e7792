//! By what history can be asked: labels of samples, and filters on them.

use super::bytes::Malformed;
use super::dictionary::Table;
use super::entry::{self, identity_place};
use super::tables::Tables;

/// A property of a sample's thread, process or owner. Every sample has each of them, if only as an empty text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// Kubernetes namespace.
    Namespace,
    /// Name of the workload (Deployment, StatefulSet …).
    Workload,
    /// Pod.
    Pod,
    /// Container in the pod, or the runtime's name for one outside Kubernetes.
    Container,
    /// Service.
    Service,
    /// The process's name (its main thread's comm).
    Process,
    /// The thread's name.
    Thread,
    /// Path of the executable.
    Executable,
    /// Node.
    Node,
}

impl Label {
    /// Every label.
    pub const ALL: [Label; 9] = [
        Label::Namespace,
        Label::Workload,
        Label::Pod,
        Label::Container,
        Label::Service,
        Label::Process,
        Label::Thread,
        Label::Executable,
        Label::Node,
    ];

    /// The name used in questions and answers.
    pub fn name(self) -> &'static str {
        match self {
            Label::Namespace => "namespace",
            Label::Workload => "workload",
            Label::Pod => "pod",
            Label::Container => "container",
            Label::Service => "service",
            Label::Process => "process",
            Label::Thread => "thread",
            Label::Executable => "executable",
            Label::Node => "node",
        }
    }

    /// The label of a name.
    pub fn from_name(name: &str) -> Option<Label> {
        Self::ALL.into_iter().find(|label| label.name() == name)
    }

    /// A thread's value of this label; empty if it has none.
    pub(super) fn of_thread(self, tables: &Tables, thread: u32) -> Result<&str, Malformed> {
        value(tables, self.text_of_thread(tables, thread)?)
    }

    /// The same as the text's number, for [`value`].
    pub(super) fn text_of_thread(self, tables: &Tables, thread: u32) -> Result<Option<u32>, Malformed> {
        let thread = tables.thread(thread)?;
        if self == Label::Thread {
            return Ok(Some(thread.name));
        }
        let process = entry::process(tables.get(Table::Processes, thread.process)?)?;
        let place = match self {
            Label::Process => return Ok(Some(process.comm.0)),
            Label::Executable => return Ok(Some(process.executable.0)),
            Label::Thread => return Ok(Some(thread.name)),
            Label::Namespace => identity_place::NAMESPACE,
            Label::Workload => identity_place::WORKLOAD,
            Label::Pod => identity_place::POD,
            Label::Container => identity_place::CONTAINER,
            Label::Service => identity_place::SERVICE,
            Label::Node => identity_place::NODE,
        };
        let Some(identity) = process.identity else { return Ok(None) };
        entry::identity_text(tables.get(Table::Identities, identity.0)?, place).map(Some)
    }
}

/// A label's value: a text of the owners, or none, which is empty.
pub(super) fn value(tables: &Tables, text: Option<u32>) -> Result<&str, Malformed> {
    text.map_or(Ok(""), |number| tables.text(Table::OwnerTexts, number))
}

/// What a label's value must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// This text, whole.
    Equals(String),
    /// A text that begins so.
    Prefix(String),
    /// A text with this somewhere in it.
    Contains(String),
}

impl Match {
    /// Whether a value is like that.
    pub fn holds(&self, value: &str) -> bool {
        match self {
            Match::Equals(text) => value == text,
            Match::Prefix(text) => value.starts_with(text.as_str()),
            Match::Contains(text) => value.contains(text.as_str()),
        }
    }
}

/// A question's range and filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// From this time on: wall clock, ns since the Unix epoch.
    pub from_ns: u64,
    /// Up to, but not including, this time.
    pub to_ns: u64,
    /// A sample must satisfy every label that is named here, by one of the label's matches.
    pub filters: Vec<(Label, Match)>,
}

impl Query {
    pub(super) fn contains(&self, time_ns: u64) -> bool {
        self.from_ns <= time_ns && time_ns < self.to_ns
    }

    /// Whether a thread satisfies the filters.
    pub(super) fn allows(&self, tables: &Tables, thread: u32) -> Result<bool, Malformed> {
        for label in Label::ALL {
            let mut of_label = self.filters.iter().filter(|(of, _)| *of == label).peekable();
            if of_label.peek().is_some() {
                let value = label.of_thread(tables, thread)?;
                if !of_label.any(|(_, wanted)| wanted.holds(value)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_a_name_of_its_own() {
        for label in Label::ALL {
            assert_eq!(Label::from_name(label.name()), Some(label));
        }
        assert_eq!(Label::from_name("colour"), None);
    }

    #[test]
    fn matches_are_whole_at_the_beginning_or_anywhere() {
        let cases = [
            (Match::Equals("web".into()), [true, false, false, false]),
            (Match::Prefix("web".into()), [true, true, false, false]),
            (Match::Contains("web".into()), [true, true, true, false]),
            (Match::Equals(String::new()), [false, false, false, true]),
        ];
        for (wanted, expected) in cases {
            assert_eq!(["web", "web-7", "my-web", ""].map(|value| wanted.holds(value)), expected, "{wanted:?}");
        }
    }
}
