//! The labels of a sample, in the words that a back end knows.

use pprof_proto::Label;
use unwind::end::{End, provenance};

use super::tables::Tables;
use crate::profile::{Batch, IdentityIndex, Process, Sample, StringIndex, beginning};

/// Keys of sample labels. Their spelling matters: back ends know `thread id` and `thread name` with a space.
pub mod label {
    /// Process id, a number.
    pub const PID: &str = "pid";
    /// The process's name.
    pub const COMM: &str = "comm";
    /// Thread id, a number.
    pub const THREAD_ID: &str = "thread id";
    /// The thread's name.
    pub const THREAD_NAME: &str = "thread name";
    /// Why the user stack is not complete; absent if it is, or if there is none.
    pub const UNWIND: &str = "unwind";
    /// How the frames were found, such as `table+fp`; absent if by tables alone.
    pub const PROVENANCE: &str = "provenance";
}

/// Longest text taken from an [`Identity`](crate::profile::Identity) into a label, bytes: names in Kubernetes have 253 at most.
pub const MAX_OWNER_BYTES: usize = 256;

/// Keys of the labels that say whose a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerKeys {
    /// Key of the container's id.
    pub container_id: &'static str,
    /// Key of the container's name.
    pub container: &'static str,
    /// Key of the pod's name.
    pub pod: &'static str,
    /// Key of the pod's namespace.
    pub namespace: Option<&'static str>,
}

/// How sample types and labels are called. Samples that differ only in what has no key become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Sample type of the count.
    pub samples: &'static str,
    /// Sample type of the CPU time.
    pub cpu: &'static str,
    /// Key of the process's name.
    pub process_name: Option<&'static str>,
    /// The process's name is the base name of its executable, if that is known, instead of its comm.
    pub named_by_executable: bool,
    /// Key of the process id.
    pub pid: Option<&'static str>,
    /// Key of the thread id.
    pub thread_id: Option<&'static str>,
    /// Key of the thread's name.
    pub thread_name: Option<&'static str>,
    /// Ids are texts instead of numbers.
    pub ids_are_texts: bool,
    /// Whether [`label::UNWIND`] and [`label::PROVENANCE`] are there.
    pub unwinding: bool,
    /// Keys of what is known of the container and pod.
    pub owner: Option<OwnerKeys>,
}

impl Vocabulary {
    /// The profiler's own.
    pub const EVERFLAME: Vocabulary = Vocabulary {
        samples: "samples",
        cpu: "cpu",
        process_name: Some(label::COMM),
        named_by_executable: false,
        pid: Some(label::PID),
        thread_id: Some(label::THREAD_ID),
        thread_name: Some(label::THREAD_NAME),
        ids_are_texts: false,
        unwinding: true,
        owner: None,
    };

    /// The same with namespace, pod and container, where they are known.
    pub const WITH_OWNERS: Vocabulary = Vocabulary {
        owner: Some(OwnerKeys {
            container_id: "container_id",
            container: "container",
            pod: "pod",
            namespace: Some("namespace"),
        }),
        ..Vocabulary::EVERFLAME
    };
}

/// What samples must have in common to become one, besides the stack. What the vocabulary has no word for is left empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Labels {
    /// And whether it is the executable's path.
    name: Option<(StringIndex, bool)>,
    pid: Option<u32>,
    tid: Option<u32>,
    thread_name: Option<StringIndex>,
    end: Option<End>,
    provenance: u8,
    owner: Option<IdentityIndex>,
}

impl Labels {
    pub(super) fn new(vocabulary: &Vocabulary, batch: &Batch, process: &Process, sample: &Sample) -> Labels {
        let by_executable = vocabulary.named_by_executable && !batch.strings.get(process.executable).is_empty();
        Labels {
            name: vocabulary
                .process_name
                .map(|_| if by_executable { (process.executable, true) } else { (process.comm, false) }),
            pid: vocabulary.pid.map(|_| process.pid),
            tid: vocabulary.thread_id.map(|_| sample.tid),
            thread_name: vocabulary.thread_name.map(|_| sample.thread_name),
            end: vocabulary.unwinding.then_some(sample.end),
            provenance: if vocabulary.unwinding { sample.provenance } else { 0 },
            owner: vocabulary.owner.and(process.identity),
        }
    }

    pub(super) fn encode(self, vocabulary: &Vocabulary, batch: &Batch, tables: &mut Tables) -> Vec<Label> {
        let mut labels = Vec::with_capacity(10);
        let mut text = |tables: &mut Tables, key: &str, value: &str| {
            // pprof has no empty text labels: string 0 means that the label is a number.
            if !value.is_empty() {
                labels.push(Label { key: tables.text(key), str: tables.text(value), num: 0, num_unit: 0 });
            }
        };
        if let (Some(key), Some((name, is_path))) = (vocabulary.process_name, self.name) {
            let name = batch.strings.get(name);
            let base = name.rsplit('/').next().unwrap_or(name);
            text(tables, key, if is_path { base } else { name });
        }
        if let (Some(key), Some(name)) = (vocabulary.thread_name, self.thread_name) {
            text(tables, key, batch.strings.get(name));
        }
        if let Some(end) = self.end.filter(|end| end.has_user_part() && *end != End::Complete) {
            text(tables, label::UNWIND, end.name());
        }
        if self.provenance & !provenance::TABLE != 0 {
            text(tables, label::PROVENANCE, &provenance_text(self.provenance));
        }
        let identity = self.owner.and_then(|owner| batch.identities.get(owner.0 as usize));
        if let (Some(keys), Some(identity)) = (vocabulary.owner, identity) {
            let pairs = [
                (Some(keys.container_id), &identity.container_id),
                (Some(keys.container), &identity.container),
                (Some(keys.pod), &identity.pod),
                (keys.namespace, &identity.namespace),
            ];
            for (key, value) in pairs {
                let Some(key) = key else { continue };
                text(tables, key, beginning(value, MAX_OWNER_BYTES));
            }
        }
        for (key, id) in [(vocabulary.pid, self.pid), (vocabulary.thread_id, self.tid)] {
            let (Some(key), Some(id)) = (key, id) else { continue };
            if vocabulary.ids_are_texts {
                labels.push(Label { key: tables.text(key), str: tables.text(&id.to_string()), num: 0, num_unit: 0 });
            } else {
                labels.push(Label { key: tables.text(key), str: 0, num: i64::from(id), num_unit: 0 });
            }
        }
        labels
    }
}

/// The names of bits of [`unwind::end::provenance`], such as `table+fp`.
pub fn provenance_text(bits: u8) -> String {
    let names = [
        (provenance::TABLE, "table"),
        (provenance::FRAME_POINTER, "fp"),
        (provenance::COPIED, "copied"),
        (provenance::STALE, "stale"),
    ];
    let set: Vec<&str> = names.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect();
    set.join("+")
}
