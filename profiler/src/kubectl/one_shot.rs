//! One Job from its making to its end: waits for its pod, follows its log, takes the profile out of it, deletes it.
//!
//! A connection that breaks costs nothing: the log stays as long as the pod, and is read again from its beginning.

use std::pin::pin;
use std::time::Duration;

use futures_util::io::AsyncReadExt as _;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::Cluster;
use super::manifest::{GRACE, OneShot, Settings};
use super::objects::Pod;
use super::parcel::{Incomplete, Line, Lines, Parcel, shown};
use super::refusal::Refusal;
use super::stage::{Stage, last_word, stage, verdict};

/// Between two looks at the pod, and at whether the user wants an end.
const LOOK: Duration = Duration::from_millis(300);
/// How long a Job may be without a pod.
const NO_POD: Duration = Duration::from_secs(20);
/// How long kubelet may say nothing about a pod that is its.
const NOT_TAKEN: Duration = Duration::from_secs(60);
/// Between two looks at events, which tell what the status does not.
const BETWEEN_EVENTS: Duration = Duration::from_secs(5);
/// A log without a line for so long is read anew: its connection may be dead. Lines come each second, but not while names are made.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a log that has ended is read for what is missing.
const READS: u32 = 3;
/// Most notes of a profiler that are kept.
const MAX_NOTES: usize = 16;
/// Answers of a server that is away for a moment, one after the other.
const MAX_FAILURES: u32 = 20;
/// The longest read of a log that is not followed.
const LONGEST_READ: Duration = Duration::from_secs(300);

/// What happens on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It is not sampled yet.
    Starting(String),
    /// It is sampled.
    Sampling {
        /// Since the first sample.
        elapsed: Duration,
        /// How long it shall be.
        of: Duration,
        /// Taken so far.
        samples: u64,
    },
    /// The profile comes: parts that are there.
    Fetching(usize),
    /// The user has ended it; the rest of the way is short.
    Ending,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// The profile: gzipped pprof.
    pub bytes: Vec<u8>,
    /// The profiler's result line.
    pub summary: String,
    /// What else it said.
    pub notes: Vec<String>,
}

/// Who started it, and hears of it.
pub trait Host: Sync {
    /// Whether the user wants an end.
    fn is_stopped(&self) -> bool;
    /// Something happened.
    fn hears(&self, news: News);
}

/// Runs one. The Job is deleted at the end, whatever comes of it, unless it is to be kept.
///
/// # Errors
/// [`Refusal`]: what stopped it.
pub async fn run(
    cluster: &Cluster,
    settings: &Settings,
    one_shot: &OneShot,
    keep: bool,
    host: &dyn Host,
) -> Result<HandedOver, Refusal> {
    let mut course = Course {
        cluster,
        namespace: &settings.namespace,
        one_shot,
        keep,
        host,
        is_ending: false,
        parcel: Parcel::default(),
        summary: String::new(),
        notes: Vec::new(),
        image: &settings.image,
        is_other_version: false,
    };
    let job: Value = one_shot.job(settings);
    let deadline = job["spec"]["activeDeadlineSeconds"].as_u64().unwrap_or(0);
    let deadline = Instant::now() + Duration::from_secs(deadline) + GRACE;
    host.hears(News::Starting(String::new()));
    let result = match cluster.create_job(&settings.namespace, &job).await {
        Ok(()) => course.see_through(deadline).await,
        Err(refusal) => Err(refusal),
    };
    // Also after a failed making: an answer that did not come may have been a yes.
    if !keep
        && !course.is_ending
        && let Err(refusal) = cluster.delete_job(&settings.namespace, &one_shot.name).await
        && result.is_ok()
    {
        course.note(&format!("the Job {} goes away by itself: {refusal}", one_shot.name));
    }
    result.map(|bytes| HandedOver { bytes, summary: course.summary, notes: course.notes })
}

struct Course<'run> {
    cluster: &'run Cluster,
    namespace: &'run str,
    one_shot: &'run OneShot,
    keep: bool,
    host: &'run dyn Host,
    /// The user wanted an end, and the Job is deleted: its pod hands over what it has.
    is_ending: bool,
    parcel: Parcel,
    summary: String,
    notes: Vec<String>,
    image: &'run str,
    is_other_version: bool,
}

/// How the following of a log ended.
enum Followed {
    /// The log ended, or its connection did.
    Ended,
    /// It could not be followed.
    Refused(Refusal),
}

impl Course<'_> {
    async fn see_through(&mut self, deadline: Instant) -> Result<Vec<u8>, Refusal> {
        let mut pod = self.started().await?;
        let (mut reads, mut failures) = (0, 0);
        while Instant::now() < deadline {
            let follows = reads == 0;
            let followed = self.follow(&pod.metadata.name, follows).await;
            if self.is_other_version {
                let why = format!(
                    "the image {} is of another version than this program: give its own with --image",
                    self.image
                );
                return Err(Refusal::Profiler { node: self.one_shot.node.clone(), why });
            }
            let incomplete = match self.parcel.open() {
                Ok(bytes) => return Ok(bytes),
                Err(incomplete) => incomplete,
            };
            if incomplete == Incomplete::Checksum {
                self.parcel.clear();
            }
            if self.is_ending && follows {
                // The pod is on its way out, and its log with it: one more read is all there is.
                reads = READS - 1;
            }
            if let Followed::Refused(refusal) = followed {
                failures += 1;
                if failures >= MAX_FAILURES || refusal.is_rbac() || matches!(refusal, Refusal::Left { .. }) {
                    return Err(refusal);
                }
            } else {
                failures = 0;
            }
            match self.cluster.pod_of_job(self.namespace, &self.one_shot.name).await {
                Ok(Some(found)) => pod = found,
                Ok(None) if self.is_ending => return Err(self.stopped()),
                Ok(None) => return Err(Refusal::Deleted { node: self.one_shot.node.clone() }),
                Err(refusal) => {
                    failures += 1;
                    if failures >= MAX_FAILURES {
                        return Err(refusal);
                    }
                }
            }
            if let Stage::Ended(code) = stage(&pod)? {
                reads += 1;
                if reads > READS || (code != 0 && reads > 1 && incomplete == Incomplete::Nothing) {
                    return Err(self.why_nothing(&pod, code, &incomplete));
                }
            }
            self.look_for_the_end().await?;
            sleep(LOOK).await;
        }
        Err(verdict(&pod, Some("the profiler was not through at its Job's deadline")))
    }

    fn why_nothing(&self, pod: &Pod, code: i32, incomplete: &Incomplete) -> Refusal {
        if code == 0 && *incomplete != Incomplete::Nothing {
            return Refusal::Lost { node: self.one_shot.node.clone(), why: incomplete.to_string() };
        }
        verdict(pod, self.notes.last().map(String::as_str))
    }

    /// Waits until the profiler runs, or ran.
    async fn started(&mut self) -> Result<Pod, Refusal> {
        let (began, mut next_events, mut warning) = (Instant::now(), Instant::now() + BETWEEN_EVENTS, String::new());
        let mut failures = 0;
        loop {
            let found = match self.cluster.pod_of_job(self.namespace, &self.one_shot.name).await {
                Ok(found) => {
                    failures = 0;
                    found
                }
                Err(refusal) => {
                    failures += 1;
                    if failures >= MAX_FAILURES || refusal.is_rbac() {
                        return Err(refusal);
                    }
                    None
                }
            };
            let waited = began.elapsed();
            let stage = found.as_ref().map(stage).transpose()?;
            if Instant::now() >= next_events {
                let of = found.as_ref().map_or(&self.one_shot.name, |pod| &pod.metadata.name);
                let warnings = self.cluster.warnings(self.namespace, of).await;
                warning = warnings.last().map(|text| shown(text)).unwrap_or_default();
                next_events = Instant::now() + BETWEEN_EVENTS;
            }
            let node = &self.one_shot.node;
            match (stage, found) {
                (Some(Stage::Running | Stage::Ended(_)), Some(pod)) => return Ok(pod),
                (Some(Stage::Starting), _) => {
                    let what = "starting the profiler's pod, which may pull its image";
                    self.host.hears(News::Starting(with(what, &warning)));
                }
                (Some(_), _) if waited > NOT_TAKEN => {
                    return Err(Refusal::Silent { node: node.clone(), seconds: NOT_TAKEN.as_secs() });
                }
                (Some(_), _) => self.host.hears(News::Starting("waiting for kubelet".to_owned())),
                // The Job's controller says so when its pod is refused.
                (None, _) if waited > NO_POD || !warning.is_empty() => {
                    return Err(Refusal::NoPod {
                        job: self.one_shot.name.clone(),
                        seconds: waited.as_secs(),
                        why: warning,
                    });
                }
                (None, _) => self.host.hears(News::Starting("waiting for the Job's pod".to_owned())),
            }
            if self.host.is_stopped() {
                self.end().await?;
                return Err(self.stopped());
            }
            sleep(LOOK).await;
        }
    }

    /// Reads the log from its beginning; to its end if it is followed.
    async fn follow(&mut self, pod: &str, follow: bool) -> Followed {
        let stream = match self.cluster.log(self.namespace, pod, follow).await {
            Ok(stream) => stream,
            Err(refusal) => return Followed::Refused(refusal),
        };
        let (mut stream, mut lines, mut buffer) = (pin!(stream), Lines::default(), vec![0; 64 << 10]);
        let (began, mut heard) = (Instant::now(), Instant::now());
        loop {
            match timeout(LOOK, stream.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(length)) => {
                    heard = Instant::now();
                    lines.push(buffer.get(..length).unwrap_or_default(), |line| self.take(line));
                }
                Err(_) if heard.elapsed() > SILENCE || (!follow && began.elapsed() > LONGEST_READ) => break,
                Err(_) => {}
            }
            if let Err(refusal) = self.look_for_the_end().await {
                return Followed::Refused(refusal);
            }
        }
        lines.finish(|line| self.take(line));
        Followed::Ended
    }

    fn take(&mut self, line: &[u8]) {
        match self.parcel.take(line) {
            // While it ends these are old news.
            Line::Progress { elapsed, of, samples } if !self.is_ending => {
                self.host.hears(News::Sampling { elapsed, of, samples });
            }
            Line::Progress { .. } | Line::Damaged => {}
            Line::Parcel => self.host.hears(News::Fetching(self.parcel.progress().0)),
            Line::Summary(text) => self.summary = text,
            Line::OtherVersion => self.is_other_version = true,
            Line::Note(text) => {
                if let Some(word) = last_word(&text) {
                    self.note(&word);
                }
            }
        }
    }

    fn note(&mut self, text: &str) {
        // A log that is read twice says everything twice.
        if self.notes.len() < MAX_NOTES && !self.notes.iter().any(|known| known == text) {
            self.notes.push(text.to_owned());
        }
    }

    /// Ends it if the user wants that.
    async fn look_for_the_end(&mut self) -> Result<(), Refusal> {
        if self.host.is_stopped() && !self.is_ending { self.end().await } else { Ok(()) }
    }

    /// Deleting the Job deletes its pod, which is told by SIGTERM to hand over what it has.
    async fn end(&mut self) -> Result<(), Refusal> {
        if self.keep {
            return Err(Refusal::Left { namespace: self.namespace.to_owned(), job: self.one_shot.name.clone() });
        }
        self.is_ending = true;
        self.host.hears(News::Ending);
        self.cluster.delete_job(self.namespace, &self.one_shot.name).await
    }

    fn stopped(&self) -> Refusal {
        Refusal::Stopped { node: self.one_shot.node.clone(), job: self.one_shot.name.clone() }
    }
}

fn with(what: &str, warning: &str) -> String {
    if warning.is_empty() { what.to_owned() } else { format!("{what} ({warning})") }
}

#[cfg(test)]
#[path = "one_shot_tests.rs"]
mod tests;
