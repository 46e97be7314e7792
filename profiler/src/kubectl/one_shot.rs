//! One Job from its making to its end: waits for its pod, follows its log, takes the profile out of it, deletes it.
//!
//! A connection that breaks costs nothing: the log stays as long as the pod, and is read again from its beginning. A server that is
//! away is waited for until the Job's deadline, since the pod samples without it.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::io::AsyncReadExt as _;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::cluster::Cluster;
use super::manifest::{GRACE, OneShot, Settings};
use super::news::{HandedOver, Host, News};
use super::objects::Pod;
use super::outage::Outage;
use super::parcel::{Incomplete, Line, Lines, Parcel, shown};
use super::refusal::Refusal;
use super::stage::{Stage, last_word, stage, verdict};
use super::start::{Next, Start};
use super::tries::Tries;
use crate::identity::watch::innermost;

/// Between two looks at whether the user wants an end, and at the pod where something is about to happen.
const LOOK: Duration = Duration::from_millis(300);
/// Between two looks at a pod that takes long to start: those of 64 nodes are 21 questions a second then.
const LONGEST_LOOK: Duration = Duration::from_secs(3);
/// Between two looks at events, which tell what the status does not.
const BETWEEN_EVENTS: Duration = Duration::from_secs(5);
/// A log without a line for so long is read anew: its connection may be dead. Lines come each second, but not while names are made.
const SILENCE: Duration = Duration::from_secs(60);
/// Most notes of a profiler that are kept.
const MAX_NOTES: usize = 16;
/// How long the deletion at the end is tried; the Job goes away by itself.
const LAST_TRIES: Duration = Duration::from_secs(30);
/// How long a pod may be there after its deletion: its grace, and a kubelet that is late.
const AFTER_DELETION: Duration = GRACE.saturating_add(Duration::from_secs(60));
/// How long an answer may still take once the user wants an end: it may say that there are samples.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// The longest read of a log that is not followed.
const LONGEST_READ: Duration = Duration::from_secs(300);

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
        deadline: Instant::now(),
        is_ending: false,
        is_deleted: false,
        deletion: Outage::default(),
        next_deletion: Instant::now(),
        parcel: Parcel::default(),
        summary: String::new(),
        notes: Vec::new(),
        image: &settings.image,
        is_other_version: false,
        has_samples: false,
    };
    let job: Value = one_shot.job(settings);
    let deadline = job["spec"]["activeDeadlineSeconds"].as_u64().unwrap_or(0);
    course.deadline += Duration::from_secs(deadline) + GRACE;
    if host.is_stopped() {
        return Err(course.stopped());
    }
    host.hears(News::Starting(String::new()));
    let (result, kept) = match cluster.create_job(&settings.namespace, &job).await {
        Ok(()) => (course.see_through().await, "is kept"),
        // An answer that did not come may have been a yes.
        Err(refusal) if refusal.may_pass() => (Err(refusal), "is kept, if it was made"),
        Err(refusal) => return Err(refusal),
    };
    let what_of_the_job = if keep {
        Some(kept.to_owned())
    } else {
        let refusal = course.delete().await;
        refusal.map(|refusal| format!("could not be deleted ({refusal}) and goes away by itself"))
    };
    match (result, what_of_the_job) {
        (Ok(bytes), what) => {
            if let Some(what) = what.filter(|_| !keep) {
                course.notes.push(format!("the Job {} {what}", course.job()));
            }
            Ok(HandedOver { bytes, summary: course.summary, notes: course.notes })
        }
        (Err(refusal), Some(what)) if !matches!(refusal, Refusal::Left { .. }) => {
            Err(Refusal::JobStays { refusal: Box::new(refusal), job: course.job(), what })
        }
        (Err(refusal), _) => Err(refusal),
    }
}

struct Course<'run> {
    cluster: &'run Cluster,
    namespace: &'run str,
    one_shot: &'run OneShot,
    keep: bool,
    host: &'run dyn Host,
    /// Nothing is waited for any longer than that.
    deadline: Instant,
    /// The user wants an end.
    is_ending: bool,
    /// The server has said so: the pod hands over what it has.
    is_deleted: bool,
    /// Of a server that does not delete the Job.
    deletion: Outage,
    next_deletion: Instant,
    parcel: Parcel,
    summary: String,
    notes: Vec<String>,
    image: &'run str,
    is_other_version: bool,
    /// It has said that it has some.
    has_samples: bool,
}

impl Course<'_> {
    async fn see_through(&mut self) -> Result<Vec<u8>, Refusal> {
        let mut pod = self.started().await?;
        let (mut tries, mut failure) = (Tries::default(), None);
        while Instant::now() < self.deadline {
            // The log of what has ended is read without following: there is nothing to wait for.
            failure = self.read(&pod.metadata.name, tries.may_follow()).await.err();
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
            failure = failure.map(Refusal::passing).transpose()?;
            match self.pod().await {
                Ok(Some(found)) => pod = found,
                Ok(None) if self.is_deleted && !self.has_samples => return Err(self.stopped()),
                Ok(None) => return Err(Refusal::Deleted { node: self.one_shot.node.clone() }),
                Err(refusal) => {
                    let refusal = refusal.passing()?;
                    self.bear(tries.unanswered(Instant::now()), &refusal).await?;
                    failure = Some(refusal);
                    continue;
                }
            }
            let ended = match stage(&pod)? {
                Stage::Ended(code) => Some(code),
                _ => None,
            };
            if let Some(refusal) = &failure {
                if let Some(pause) = tries.refused(ended.is_some(), Instant::now()) {
                    self.bear(pause, refusal).await?;
                    continue;
                }
            } else {
                tries.answered();
            }
            if let Some(code) = ended
                && tries.is_over(code != 0 && incomplete == Incomplete::Nothing)
            {
                let unreadable = failure.filter(|_| code == 0);
                return Err(unreadable.unwrap_or_else(|| self.why_nothing(&pod, code, &incomplete)));
            }
            self.look_for_the_end().await?;
            self.pause(LOOK).await;
        }
        Err(failure.unwrap_or_else(|| verdict(&pod, Some("the profiler was not through at its Job's deadline"))))
    }

    fn why_nothing(&self, pod: &Pod, code: i32, incomplete: &Incomplete) -> Refusal {
        if code == 0 && *incomplete != Incomplete::Nothing {
            return Refusal::Lost { node: self.one_shot.node.clone(), why: incomplete.to_string() };
        }
        verdict(pod, self.notes.last().map(String::as_str))
    }

    /// Waits until the profiler runs, or ran.
    async fn started(&mut self) -> Result<Pod, Refusal> {
        let (mut began, mut next_events, mut warning) =
            (Instant::now(), Instant::now() + BETWEEN_EVENTS, String::new());
        let (mut start, mut outage, mut pause) = (Start::default(), Outage::default(), LOOK);
        while Instant::now() < self.deadline {
            let found = match self.pod().await {
                Ok(found) => found,
                Err(refusal) => {
                    let refusal = refusal.passing()?;
                    self.bear(outage.failed(Instant::now()), &refusal).await?;
                    if self.is_deleted || Instant::now() >= self.deadline {
                        return Err(if self.is_deleted { self.stopped() } else { refusal });
                    }
                    // Nobody is to blame for what could not be asked.
                    began = Instant::now();
                    continue;
                }
            };
            outage.over();
            if Instant::now() >= next_events {
                let of = found.as_ref().map_or(&self.one_shot.name, |pod| &pod.metadata.name);
                let warnings = async { Ok(self.cluster.warnings(self.namespace, of).await) };
                let warnings = self.unless_stopped(warnings).await.unwrap_or_default();
                warning = warnings.last().map(|text| shown(text)).unwrap_or_default();
                next_events = Instant::now() + BETWEEN_EVENTS;
            }
            match start.look(self.one_shot, found, Instant::now() - began, &warning)? {
                Next::Follow(pod) => return Ok(*pod),
                Next::Wait(what) => self.host.hears(News::Starting(what)),
            }
            self.look_for_the_end().await?;
            if self.is_deleted {
                return Err(self.stopped());
            }
            self.pause(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_LOOK);
        }
        Err(Refusal::Start {
            node: self.one_shot.node.clone(),
            why: "it was not started at its Job's deadline".to_owned(),
        })
    }

    /// The Job's, if there is one.
    async fn pod(&self) -> Result<Option<Pod>, Refusal> {
        self.unless_stopped(self.cluster.pod_of_job(self.namespace, &self.one_shot.name)).await
    }

    /// Waits for a server that is away, and says so.
    async fn bear(&mut self, pause: Duration, refusal: &Refusal) -> Result<(), Refusal> {
        self.host.hears(News::Away(refusal.to_string()));
        self.look_for_the_end().await?;
        self.pause(pause).await;
        Ok(())
    }

    /// An answer; that of a server that is away if the user begins to want an end and there is none soon. The client itself goes on asking
    /// a server that is overloaded, for half a minute.
    async fn unless_stopped<T>(&self, answer: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let stopped = async {
            while self.is_ending || !self.host.is_stopped() {
                sleep(LOOK).await;
            }
            sleep(LAST_ANSWER).await;
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = stopped => {
                let (doing, why) = ("tell how the profiler is".to_owned(), "no answer so far".to_owned());
                Err(Refusal::Server { doing, why })
            }
        }
    }

    /// Ends early when the user begins to want an end.
    async fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && (self.is_ending || !self.host.is_stopped()) {
            sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Reads the log from its beginning; to its end if it is followed.
    async fn read(&mut self, pod: &str, follow: bool) -> Result<(), Refusal> {
        let stream = self.unless_stopped(self.cluster.log(self.namespace, pod, follow)).await?;
        let (mut stream, mut lines, mut buffer) = (pin!(stream), Lines::default(), vec![0; 64 << 10]);
        let (began, mut heard) = (Instant::now(), Instant::now());
        loop {
            match timeout(LOOK, stream.read(&mut buffer)).await {
                Ok(Ok(0)) => break,
                // Not its end, which the server says.
                Ok(Err(error)) => {
                    let (doing, why) = (format!("read the log of the pod {pod}"), shown(&innermost(&error)));
                    return Err(Refusal::Server { doing, why });
                }
                Ok(Ok(length)) => {
                    heard = Instant::now();
                    lines.push(buffer.get(..length).unwrap_or_default(), |line| self.take(line));
                }
                Err(_) if heard.elapsed() > SILENCE || (!follow && began.elapsed() > LONGEST_READ) => break,
                Err(_) => {}
            }
            self.look_for_the_end().await?;
        }
        lines.finish(|line| self.take(line));
        Ok(())
    }

    fn take(&mut self, line: &[u8]) {
        match self.parcel.take(line) {
            Line::Progress { elapsed, of, samples } => {
                self.has_samples |= samples > 0;
                // While it ends these are old news.
                if !self.is_ending {
                    self.host.hears(News::Sampling { elapsed, of, samples });
                }
            }
            Line::Damaged => {}
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

    /// Ends it if the user wants that, by deleting the Job: its pod is told by SIGTERM to hand over what it has. Until the server has
    /// said yes it samples on, and is asked again.
    async fn look_for_the_end(&mut self) -> Result<(), Refusal> {
        if self.is_deleted || !self.host.is_stopped() || Instant::now() < self.next_deletion {
            return Ok(());
        }
        if self.keep {
            return Err(Refusal::Left { namespace: self.namespace.to_owned(), job: self.one_shot.name.clone() });
        }
        if !self.is_ending {
            self.is_ending = true;
            self.host.hears(News::Ending);
        }
        match self.cluster.delete_job(self.namespace, &self.one_shot.name).await {
            Ok(()) => {
                self.is_deleted = true;
                self.deadline = self.deadline.min(Instant::now() + AFTER_DELETION);
            }
            Err(refusal) => {
                let refusal = refusal.passing()?;
                self.next_deletion = Instant::now() + self.deletion.failed(Instant::now());
                self.host.hears(News::Away(refusal.to_string()));
            }
        }
        Ok(())
    }

    /// Deletes the Job when all is over, if it is there; gives what stands against that.
    async fn delete(&mut self) -> Option<Refusal> {
        let mut outage = Outage::default();
        while !self.is_deleted {
            match self.cluster.delete_job(self.namespace, &self.one_shot.name).await {
                Ok(()) => self.is_deleted = true,
                Err(refusal) if !refusal.may_pass() || outage.lasts(Instant::now()) >= LAST_TRIES => {
                    return Some(refusal);
                }
                Err(_) => sleep(outage.failed(Instant::now())).await,
            }
        }
        None
    }

    fn job(&self) -> String {
        format!("{} in the namespace {}", self.one_shot.name, self.namespace)
    }

    fn stopped(&self) -> Refusal {
        Refusal::Stopped { node: self.one_shot.node.clone() }
    }
}

#[cfg(test)]
#[path = "one_shot_server.rs"]
mod server;
#[cfg(test)]
#[path = "one_shot_tests.rs"]
mod tests;
