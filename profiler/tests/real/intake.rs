//! What the Datadog front's intake and the Pyroscope receiver wrote down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use profiler::export::datadog::Form;
use serde_json::Value;

/// One request to the intake behind the Datadog agent's front.
pub(crate) struct Upload {
    pub(crate) seen: Value,
    pub(crate) body: Vec<u8>,
    /// When the intake had it.
    pub(crate) arrived: SystemTime,
}

impl Upload {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.seen["headers"][name][0].as_str()
    }

    /// The boundary: the same when a request is sent again.
    pub(crate) fn id(&self) -> &str {
        self.header("Content-Type").unwrap()
    }

    pub(crate) fn form(&self) -> Form<'_> {
        Form::read(self.header("Content-Type").unwrap(), &self.body).unwrap()
    }

    pub(crate) fn event(&self) -> Value {
        serde_json::from_slice(self.form().event).unwrap()
    }

    /// The value of a tag.
    pub(crate) fn tag(&self, key: &str) -> Option<String> {
        let event = self.event();
        let tags = event["tags_profiler"].as_str().unwrap().split(',');
        tags.filter_map(|tag| tag.split_once(':')).find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
    }
}

fn numbered(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// In the order of their arrival.
pub(crate) fn uploads(folder: &Path) -> Vec<Upload> {
    let read = |path: &PathBuf| Upload {
        seen: json(path),
        body: std::fs::read(path.with_extension("body")).unwrap(),
        arrived: path.metadata().unwrap().modified().unwrap(),
    };
    numbered(folder).iter().map(read).collect()
}

/// How many there are, without reading them.
pub(crate) fn count(folder: &Path) -> usize {
    numbered(folder).len()
}

/// One profile that was pushed.
pub(crate) struct Push {
    pub(crate) id: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Type and unit → sum over the samples, as google/pprof read them.
    pub(crate) sums: BTreeMap<String, i64>,
    pub(crate) profile: Vec<u8>,
}

/// In the order of their arrival.
pub(crate) fn pushes(folder: &Path) -> Vec<Push> {
    let read = |path: &PathBuf| {
        let seen = json(path);
        let labels = seen["labels"].as_object().unwrap().iter();
        let types = seen["types"].as_array().unwrap().iter().map(|kind| kind.as_str().unwrap().to_owned());
        Push {
            id: seen["id"].as_str().unwrap().to_owned(),
            labels: labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect(),
            sums: types.zip(seen["sums"].as_array().unwrap().iter().map(|sum| sum.as_i64().unwrap())).collect(),
            profile: std::fs::read(path.with_extension("pprof")).unwrap(),
        }
    };
    numbered(folder).iter().map(read).collect()
}
