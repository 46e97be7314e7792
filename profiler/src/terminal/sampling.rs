//! The threads behind the screen: one drives the engine and cuts an interval every second, one names them and finds out whose they
//! are. The engine never waits: while names take their time its interval becomes longer, and one that is too long is dropped, of
//! which the screen is told as soon as it takes messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::slice::Slice;
use crate::agent::usage;
use crate::engine::{Engine, Interval, Options, Precedence};
use crate::identity::{self, Hierarchy, Identities};
use crate::ledger::Ledger;
use crate::naming::Namer;

/// Length of an interval, and so how often the screen changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest interval while names are waited for: samples take 64 bytes each in it, 100 MB on 256 busy CPUs.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// How long an interval waits for a file's names; later ones are in the next interval.
const NAMES_WAIT: Duration = Duration::from_millis(500);

/// What the threads tell.
pub(super) enum Told {
    /// An interval.
    Slice(Box<Slice>),
    /// An interval that nobody could take.
    Dropped(Box<Ledger>),
    /// Something that people should know.
    Notice(&'static str),
    /// No more will come.
    Ended(anyhow::Result<()>),
}

/// A running engine. Dropped, it ends.
pub(super) struct Sampling {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pub(super) cpus: usize,
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic was told already.
            let _ = thread.join();
        }
    }
}

impl Sampling {
    /// Loads the programs and starts; returns once samples are taken.
    pub(super) fn start<M: From<Told> + Send + 'static>(
        options: Options,
        tokio: tokio::runtime::Handle,
        screen: SyncSender<M>,
    ) -> anyhow::Result<Sampling> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = sync_channel(1);
        let ended = stop.clone();
        // The engine lives and dies in one thread.
        let thread = std::thread::Builder::new()
            .name("everflame-samples".into())
            .spawn(move || {
                let end = End(screen.clone());
                match begin(options.clone(), &tokio, &screen) {
                    Ok((mut engine, intervals)) => {
                        let _ = ready.send(Ok(engine.cpus()));
                        end.with(sample(&mut engine, &options, &intervals, &ended, &screen));
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            })
            .context("cannot start the sampling thread")?;
        let cpus = started.recv().context("the sampling thread ended at once")??;
        Ok(Sampling { stop, thread: Some(thread), cpus })
    }
}

/// Tells the end of a thread, also by panic.
struct End<M: From<Told>>(SyncSender<M>);

impl<M: From<Told>> End<M> {
    fn with(&self, result: anyhow::Result<()>) {
        // An end of the screen is no error for those who talk to it.
        let _ = self.0.send(Told::Ended(result).into());
    }
}

impl<M: From<Told>> Drop for End<M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.with(Err(anyhow::anyhow!("a thread of everflame panicked")));
        }
    }
}

/// What the sampling thread could not tell yet: it does not wait for a screen that a slow line holds up.
#[derive(Default)]
struct Untold {
    dropped: Option<Box<Ledger>>,
    notice: Option<&'static str>,
}

impl Untold {
    fn lost(&mut self, ledger: &Ledger) {
        self.dropped.get_or_insert_default().add(ledger);
    }

    /// Tells what there is room for; the rest the next time.
    fn tell<M: From<Told>>(&mut self, screen: &SyncSender<M>) {
        if let Some(ledger) = &self.dropped
            && !matches!(screen.try_send(Told::Dropped(ledger.clone()).into()), Err(TrySendError::Full(_)))
        {
            self.dropped = None;
        }
        if let Some(words) = self.notice
            && !matches!(screen.try_send(Told::Notice(words).into()), Err(TrySendError::Full(_)))
        {
            self.notice = None;
        }
    }
}

/// Where intervals go, with the CPU time that we took meanwhile; there is room for one while another is being named.
type Intervals = SyncSender<(Interval, u64)>;

fn begin<M: From<Told> + Send + 'static>(
    options: Options,
    tokio: &tokio::runtime::Handle,
    screen: &SyncSender<M>,
) -> anyhow::Result<(Engine, Intervals)> {
    let proc_root = options.proc_root.clone();
    let mut engine = Engine::new(options)?;
    let symbolizer = symbolizer::Options { wait: NAMES_WAIT, ..symbolizer::Options::default() };
    let namer = Namer::new(symbolizer, &proc_root).context("cannot start the symbolizer")?;
    let hierarchy = engine
        .cgroup_hierarchy()
        .map(|found| Hierarchy { directory: found.mount.clone(), has_perf_records: found.has_perf_records });
    let options = identity::Options { proc_root, hierarchy, ..identity::Options::default() };
    let identities = Identities::start(options, tokio).context("cannot start looking for pods")?;
    engine.announce_to(identities.listener());
    let (intervals, waiting) = sync_channel(1);
    let screen = screen.clone();
    std::thread::Builder::new()
        .name("everflame-names".into())
        .spawn(move || {
            let _end = End(screen.clone());
            name(namer, identities, &waiting, &screen);
        })
        .context("cannot start the naming thread")?;
    engine.start()?;
    Ok((engine, intervals))
}

fn sample<M: From<Told>>(
    engine: &mut Engine,
    options: &Options,
    intervals: &Intervals,
    stop: &AtomicBool,
    screen: &SyncSender<M>,
) -> anyhow::Result<()> {
    let _precedence = Precedence::take();
    let mut cut_at = Instant::now();
    let (mut used_ns, mut noticed) = (usage::cpu_ns(), false);
    let (mut waiting, mut untold) = (None, Untold::default());
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(engine.round());
        engine.tick()?;
        let now = Instant::now();
        if now - cut_at < INTERVAL {
            continue;
        }
        // One that found no room before is offered again; the next one is not cut before it is taken.
        let offered = match waiting.take() {
            Some(before) => before,
            None => {
                cut_at = now;
                let interval = engine.cut()?;
                let used_before = std::mem::replace(&mut used_ns, usage::cpu_ns() + engine.counters().program_ns);
                (interval, used_ns.saturating_sub(used_before))
            }
        };
        match intervals.try_send(offered) {
            Ok(()) => {}
            Err(TrySendError::Full((interval, _))) if now - cut_at > LONGEST_INTERVAL => {
                untold.lost(&interval.batch.ledger);
            }
            Err(TrySendError::Full(offered)) => waiting = Some(offered),
            // The naming thread tells its own end.
            Err(TrySendError::Disconnected(_)) => return Ok(()),
        }
        let gone = |pid: &u32| !options.proc_root.join(pid.to_string()).exists();
        if !noticed && !options.pids.is_empty() && options.pids.iter().all(gone) {
            noticed = true;
            untold.notice = Some("every process that was asked for has ended; q quits");
        }
        untold.tell(screen);
    }
    Ok(())
}

/// Until the sampling thread has ended. Nobody is waited for: who is not known yet is in one of the next intervals.
fn name<M: From<Told>>(
    mut namer: Namer,
    mut identities: Identities,
    waiting: &Receiver<(Interval, u64)>,
    screen: &SyncSender<M>,
) {
    while let Ok((mut interval, own_cpu_ns)) = waiting.recv() {
        namer.name(&mut interval);
        identities.cgroups_made(&interval.cgroups);
        // Asks for those that are missing.
        identities.pending(&interval.batch, Instant::now());
        identities.identify(&mut interval.batch, Instant::now());
        let slice = Slice { own_cpu_ns, ..Slice::of(&interval.batch) };
        // Waits for room: then intervals find none here, and become longer.
        if screen.send(Told::Slice(Box::new(slice)).into()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_told_later_and_all_of_it() {
        let (screen, messages) = sync_channel::<Told>(1);
        let mut untold = Untold::default();
        untold.tell(&screen);
        screen.try_send(Told::Notice("nothing was told before")).unwrap();
        for recorded in [3, 4] {
            untold.lost(&Ledger { due: recorded, recorded, ..Ledger::default() });
            untold.tell(&screen);
        }
        untold.notice = Some("the end");
        let mut told = Vec::new();
        for _ in 0..4 {
            match messages.try_recv() {
                Ok(Told::Dropped(ledger)) => told.push(format!("dropped {}", ledger.recorded)),
                Ok(Told::Notice(words)) => told.push(words.to_owned()),
                _ => {}
            }
            untold.tell(&screen);
        }
        assert_eq!(told, ["nothing was told before", "dropped 7", "the end"]);
        // A screen that is gone is not waited for either.
        drop(messages);
        untold.lost(&Ledger::default());
        untold.tell(&screen);
        assert!(untold.dropped.is_none());
    }
}
