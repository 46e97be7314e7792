//! The workers that build unwind rows, and what they are at: those of local files, and those of files that may not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use symbolizer::OpenFile;
use unwind::build::{BuildStats, Limits, Plan, rows_of_elf};

use super::executable::{Executable, ExecutableIndex};
use super::mapped_file::with_bytes;
use super::workers::{Lane, PoolOptions, Report, Ticket, Workers};

/// Largest file that rows are built from; it is mapped, not read.
const MAX_FILE_BYTES: u64 = 4 << 30;
/// At 18 M rows a second, the most rows that limits allow take half a second of processor time, and all the work that they allow
/// (`Limits::work`, for files made to be slow) two or three; much longer on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// Builds of files that the kernel serves by itself: one at a time, since they take processor time from what is profiled. Small
/// files first: a program of 10 ms waits for its own rows, not for a compiler's.
const POOL: PoolOptions =
    PoolOptions { name: "everflame-rows", threads: 1, queue: 1024, deadline: DEADLINE, abandoned: 4 };
/// Builds of files that may not answer: a build holds its thread only if the file's device goes silent after its opening.
const SLOW_POOL: PoolOptions = PoolOptions { name: "everflame-slow", threads: 2, abandoned: 8, ..POOL };

enum Input {
    File(Arc<OpenFile>, u64),
    Bytes(&'static [u8]),
}

/// What a worker made of one file.
pub(super) struct Built {
    /// With what was left out, and whether it is a Go program.
    pub(super) result: Result<(Plan, BuildStats, bool), String>,
    pub(super) nanoseconds: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pool {
    Local,
    Slow,
}

struct UnderWay {
    pool: Pool,
    ticket: Ticket,
    index: ExecutableIndex,
    lane: Lane,
    /// Past its deadline: nobody waits for it, but it may still come.
    is_stuck: bool,
}

/// The workers, and what they are at.
pub(super) struct RowBuilders {
    local: Workers<Built>,
    slow: Workers<Built>,
    under_way: Vec<UnderWay>,
}

impl RowBuilders {
    pub(super) fn new() -> RowBuilders {
        RowBuilders { local: Workers::new(POOL), slow: Workers::new(SLOW_POOL), under_way: Vec::new() }
    }

    /// False if too many wait: the next sample asks again.
    pub(super) fn ask(&mut self, index: ExecutableIndex, executable: &Executable) -> bool {
        let input = match &executable.file {
            Some(file) => Input::File(file.clone(), executable.size),
            None => Input::Bytes(super::vdso::image()),
        };
        let work = move || {
            let started = Instant::now();
            let result = build(&input);
            Built { result, nanoseconds: started.elapsed().as_nanos() as u64 }
        };
        let (pool, asked) = match executable.lane {
            None => (Pool::Local, self.local.submit_sized(None, executable.size, work)),
            lane @ Some(_) => (Pool::Slow, self.slow.submit_sized(lane, executable.size, work)),
        };
        let lane = executable.lane;
        self.under_way.extend(asked.map(|ticket| UnderWay { pool, ticket, index, lane, is_stuck: false }));
        asked.is_some()
    }

    /// Whether a build of that lane is past its deadline: another would take another thread.
    pub(super) fn is_stuck_in(&self, lane: Lane) -> bool {
        lane.is_some() && self.under_way.iter().any(|build| build.is_stuck && build.lane == lane)
    }

    /// Builds that somebody waits for.
    pub(super) fn building(&self) -> usize {
        self.under_way.iter().filter(|build| !build.is_stuck).count()
    }

    /// Builds that ever got stuck.
    pub(super) fn stuck(&self) -> u64 {
        self.local.stuck() + self.slow.stuck()
    }

    /// Waits for the next build, but not longer than `timeout`.
    pub(super) fn wait(&self, timeout: Duration) {
        let slow = self.under_way.iter().any(|build| build.pool == Pool::Slow && !build.is_stuck);
        let local = self.under_way.iter().any(|build| build.pool == Pool::Local && !build.is_stuck);
        match (local, slow) {
            (true, _) => self.local.wait(timeout),
            (false, true) => self.slow.wait(timeout),
            (false, false) => {}
        }
    }

    /// What became of builds since the last call.
    pub(super) fn take(&mut self, now: Instant) -> Vec<(ExecutableIndex, Report<Built>)> {
        let local = self.local.take(now).into_iter().map(|(ticket, report)| (Pool::Local, ticket, report));
        let slow = self.slow.take(now).into_iter().map(|(ticket, report)| (Pool::Slow, ticket, report));
        let reports: Vec<_> = local.chain(slow).collect();
        let mut taken = Vec::new();
        for (pool, ticket, report) in reports {
            let found = self.under_way.iter().position(|build| build.pool == pool && build.ticket == ticket);
            let Some(at) = found else { continue };
            let index = self.under_way[at].index;
            if matches!(report, Report::Stuck) {
                self.under_way[at].is_stuck = true;
            } else {
                self.under_way.swap_remove(at);
            }
            taken.push((index, report));
        }
        taken
    }

    /// Any work as a build of that executable.
    #[cfg(test)]
    pub(super) fn submit_slow(
        &mut self,
        lane: Lane,
        index: ExecutableIndex,
        work: impl FnOnce() -> Built + Send + 'static,
    ) {
        let ticket = self.slow.submit(lane, work).unwrap();
        self.under_way.push(UnderWay { pool: Pool::Slow, ticket, index, lane, is_stuck: false });
    }

    /// The same as [`RowBuilders::wait`], also for those that are stuck.
    #[cfg(test)]
    pub(super) fn wait_for_slow(&self, timeout: Duration) {
        self.slow.wait(timeout);
    }
}

fn build(input: &Input) -> Result<(Plan, BuildStats, bool), String> {
    let limits = Limits::default();
    let of_bytes = |bytes: &[u8]| {
        let rows = rows_of_elf(bytes, &limits).map_err(|error| error.to_string())?;
        let plan = Plan::new(&rows, &limits).map_err(|error| error.to_string())?;
        Ok((plan, rows.stats, rows.is_go))
    };
    match input {
        Input::Bytes(bytes) => of_bytes(bytes),
        Input::File(_, size) if *size > MAX_FILE_BYTES => Err(format!("the file has {size} bytes, more than 4 GiB")),
        Input::File(file, _) => with_bytes(file, of_bytes).map_err(|error| format!("cannot map the file: {error}"))?,
    }
}
