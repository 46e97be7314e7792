//! Lanes, deadlines, bounds and precedence of the threads.

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::patience::until;
use super::workers::{Lane, PoolOptions, Report, Ticket, Workers};

const DEADLINE: Duration = Duration::from_secs(1000);
const ONE: Lane = Some((0, 1));
const OTHER: Lane = Some((0, 2));

fn workers(threads: usize, abandoned: usize) -> Workers<u32> {
    Workers::new(PoolOptions { name: "test", threads, queue: 4, deadline: DEADLINE, abandoned })
}

/// A job that says when it begins, and ends when it is told to.
fn held(workers: &mut Workers<u32>, lane: Lane, value: u32) -> (Ticket, Sender<()>) {
    let ((begun, begins), (end, ends)) = (channel(), channel());
    let ticket = workers.submit(lane, move || {
        begun.send(()).unwrap();
        let _ = ends.recv();
        value
    });
    begins.recv_timeout(Duration::from_secs(60)).unwrap();
    (ticket.unwrap(), end)
}

/// Reports as of `now`, waited for until there are so many.
fn reports(workers: &mut Workers<u32>, count: usize, now: Instant) -> Vec<(Ticket, Report<u32>)> {
    let mut all = Vec::new();
    until("all is told", || {
        all.extend(workers.take(now));
        let is_enough = all.len() >= count;
        if !is_enough {
            workers.wait(Duration::from_secs(1));
        }
        is_enough.then_some(())
    });
    all
}

#[test]
fn smaller_jobs_go_first_and_equal_ones_in_order() {
    let mut workers = workers(1, 0);
    let (_, end) = held(&mut workers, None, 0);
    let tickets = [30, 10, 20, 10].map(|size| workers.submit_sized(None, size, move || 0).unwrap());
    end.send(()).unwrap();
    let done: Vec<Ticket> = reports(&mut workers, 5, Instant::now()).into_iter().map(|(ticket, _)| ticket).collect();
    assert_eq!(done[1..], [1, 3, 2, 0].map(|at: usize| tickets[at]));
}

#[test]
fn a_lane_is_served_in_order_and_does_not_hold_the_others() {
    let mut workers = workers(2, 0);
    let (first, end) = held(&mut workers, ONE, 1);
    let behind = workers.submit(ONE, || 2).unwrap();
    let beside = workers.submit(OTHER, || 3).unwrap();
    let now = Instant::now();
    assert_eq!(reports(&mut workers, 1, now), [(beside, Report::Done(3))]);
    end.send(()).unwrap();
    assert_eq!(reports(&mut workers, 2, now), [(first, Report::Done(1)), (behind, Report::Done(2))]);
    assert_eq!(workers.stuck(), 0);
}

#[test]
fn a_stuck_job_is_told_once_its_lane_is_cleared_and_its_thread_replaced() {
    let mut workers = workers(1, 1);
    let (stuck, end) = held(&mut workers, ONE, 1);
    let behind = workers.submit(ONE, || 2).unwrap();
    let elsewhere = workers.submit(OTHER, || 3).unwrap();
    assert_eq!(workers.take(Instant::now()), []);
    let late = Instant::now() + DEADLINE;
    let told = reports(&mut workers, 3, late);
    assert_eq!(
        told,
        [(stuck, Report::Stuck), (behind, Report::Dropped), (elsewhere, Report::Done(3))],
        "the only thread was replaced"
    );
    end.send(()).unwrap();
    assert_eq!(reports(&mut workers, 1, late), [(stuck, Report::Done(1))], "an answer that comes late still counts");
    assert_eq!(workers.stuck(), 1);
}

#[test]
fn no_more_threads_are_given_up_than_the_bound() {
    let mut workers = workers(1, 0);
    let (stuck, end) = held(&mut workers, ONE, 1);
    let elsewhere = workers.submit(OTHER, || 3).unwrap();
    let late = Instant::now() + DEADLINE;
    assert_eq!(workers.take(late), [(stuck, Report::Stuck)]);
    assert_eq!(workers.take(late), [], "told once");
    end.send(()).unwrap();
    let now = Instant::now();
    assert_eq!(reports(&mut workers, 2, now), [(stuck, Report::Done(1)), (elsewhere, Report::Done(3))]);
}

/// Niceness of our threads of that name (proc(5), /proc/pid/stat, field 19).
fn niceness_of(name: &str) -> Vec<i64> {
    let of_thread = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(") ")?;
        before.ends_with(&format!("({name}")).then(|| after.split(' ').nth(16)?.parse().ok()).flatten()
    };
    std::fs::read_dir("/proc/self/task").unwrap().flatten().filter_map(of_thread).collect()
}

#[test]
fn threads_that_the_engine_starts_do_not_share_its_precedence() {
    let ours = std::thread::Builder::new().name("names-the-test".into()).spawn(|| {
        let _precedence = crate::engine::Precedence::take();
        let options = PoolOptions { name: "worker-niceness", threads: 1, queue: 4, deadline: DEADLINE, abandoned: 0 };
        let mut workers = Workers::new(options);
        let (_, end) = held(&mut workers, ONE, 1);
        let seen = (niceness_of("names-the-test"), niceness_of("worker-niceness"));
        end.send(()).unwrap();
        seen
    });
    let (engine, worker) = ours.unwrap().join().unwrap();
    // Without the permission for it the engine has no precedence, and there was nothing to give up.
    let expected = if engine == [-10] { vec![0] } else { engine };
    assert_eq!(worker, expected);
}

#[test]
fn a_full_queue_refuses_and_a_panic_ends_the_job_only() {
    let mut workers = workers(1, 0);
    let (first, end) = held(&mut workers, None, 1);
    let panics = workers.submit(None, || panic!("a test")).unwrap();
    let others: Vec<Ticket> = (0..3).map(|value| workers.submit(None, move || value).unwrap()).collect();
    assert_eq!(workers.submit(None, || 9), None);
    end.send(()).unwrap();
    let told = reports(&mut workers, 5, Instant::now());
    assert_eq!(
        told,
        [
            (first, Report::Done(1)),
            (panics, Report::Panicked),
            (others[0], Report::Done(0)),
            (others[1], Report::Done(1)),
            (others[2], Report::Done(2)),
        ]
    );
}
