//! What a profile says about itself in its comments: how it was measured, and what became of every timer hit.
//!
//! One form for people and programs, since viewers print every comment: a name, then `key=value` pairs in a fixed order.
//!
//! ```text
//! everflame: version=0.1.0
//! sampling: hz=99 period_ns=10101010 cpus=2
//! kernel: release=6.1.0
//! ledger: due=1980 recorded=1942 idle=38 idle_undelivered=0 own=0 filtered=0 dropped.ring_full=0 … undelivered=0 surplus=0
//! ends: complete=1940 bad_read=2
//! stacks: user=1942 complete=1938 by_frame_pointer=2 stale=0
//! ```
//!
//! `ends` counts every sample by how its walk ended; `stacks` those with a user part by [`StackCounts`], as the result line does.

use hashbrown::{HashMap, HashSet};
use unwind::end::End;

use crate::ledger::Drop;
use crate::profile::{Batch, StackCounts};

/// What a profile says of its measurement and a batch does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileInfo {
    /// Samples per second and CPU that were asked for.
    pub frequency_hz: u32,
    /// Online CPUs.
    pub cpus: u32,
    /// The kernel's release, as `uname -r` says it.
    pub kernel_release: String,
}

/// The comments, in order.
pub(super) fn comments(batch: &Batch, counts: &[u64], info: &ProfileInfo) -> Vec<String> {
    let ledger = &batch.ledger;
    let mut ledger_line = format!(
        "ledger: due={} recorded={} idle={} idle_undelivered={} own={} filtered={}",
        ledger.due, ledger.recorded, ledger.idle, ledger.idle_undelivered, ledger.own, ledger.filtered
    );
    for (drop, count) in Drop::ALL.iter().zip(ledger.dropped) {
        ledger_line += &format!(" dropped.{}={count}", drop.name());
    }
    ledger_line += &format!(" undelivered={} surplus={}", ledger.undelivered, ledger.surplus);
    let mut comments = vec![
        format!("everflame: version={}", env!("CARGO_PKG_VERSION")),
        format!("sampling: hz={} period_ns={} cpus={}", info.frequency_hz, batch.period_ns, info.cpus),
        format!("kernel: release={}", info.kernel_release),
        ledger_line,
    ];
    let ends = ends(batch, counts);
    if !ends.is_empty() {
        comments.push(format!("ends: {}", ends.join(" ")));
        comments.push(stacks(batch, counts));
    }
    comments
}

/// How many samples' stacks ended how; only what occurred, in the order of [`End::ALL`].
fn ends(batch: &Batch, stand_for: &[u64]) -> Vec<String> {
    let mut counts = [0_u64; End::ALL.len()];
    for (sample, stands_for) in batch.samples.iter().zip(super::encode::stand_for(stand_for)) {
        counts[sample.end as usize] += stands_for;
    }
    let counted = End::ALL.iter().zip(counts).filter(|(_, count)| *count > 0);
    counted.map(|(end, count)| format!("{}={count}", end.name())).collect()
}

fn stacks(batch: &Batch, stand_for: &[u64]) -> String {
    let mut counts = StackCounts::default();
    for (sample, stands_for) in batch.samples.iter().zip(super::encode::stand_for(stand_for)) {
        counts.add(sample, stands_for);
    }
    let StackCounts { user, complete, by_frame_pointer, stale } = counts;
    format!("stacks: user={user} complete={complete} by_frame_pointer={by_frame_pointer} stale={stale}")
}

/// Most pairs of a comment of ours, which has 17 at most: a line with more is somebody else's.
const MAX_PAIRS: usize = 64;

/// Reads a comment of this form back: the pairs of the first one called `name`, in order.
pub fn comment_pairs<'text>(comments: &'text [String], name: &str) -> Option<Vec<(&'text str, &'text str)>> {
    let line = comments.iter().find_map(|comment| comment.strip_prefix(name)?.strip_prefix(": "))?;
    let mut pairs = line.split(' ');
    let found: Option<Vec<_>> = pairs.by_ref().take(MAX_PAIRS).map(|pair| pair.split_once('=')).collect();
    found.filter(|_| pairs.next().is_none())
}

/// Which values of ours are added up over machines, all of a comment if none is named; of the others those that differ are listed.
const SUMMED: [(&str, &[&str]); 4] = [("ledger", &[]), ("ends", &[]), ("stacks", &[]), ("sampling", &["cpus"])];

/// Those of them that count a profile's own samples: they are added up over parts of one machine as well, where all else is the
/// machine's and said by each part.
const OF_SAMPLES: [&str; 2] = ["ends", "stacks"];

/// What several profiles are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A machine each.
    Machines,
    /// The same time of one machine, some of its samples each.
    OneMachine,
}

/// The comments of several profiles as those of one: ours with sums, others as they are, each once.
pub(super) fn joined(profiles: &[Vec<String>], origin: Origin) -> Vec<String> {
    let (mut made, mut others) = (Vec::new(), HashSet::new());
    // Of each of our names whether it could be added up: a file may have a thousand comments of one name.
    let mut sums: HashMap<&str, bool> = HashMap::new();
    for comment in profiles.iter().flatten() {
        let name = comment.split_once(": ").map(|(name, _)| name).filter(|name| is_ours(name));
        let is_summed = name.is_some_and(|name| {
            *sums.entry(name).or_insert_with(|| {
                let sum = sum(name, profiles, origin);
                let is_there = sum.is_some();
                made.extend(sum);
                is_there
            })
        });
        if !is_summed && others.insert(comment.as_str()) {
            made.push(comment.clone());
        }
    }
    made
}

/// One of ours, of all profiles in which it has our form.
fn sum(name: &str, profiles: &[Vec<String>], origin: Origin) -> Option<String> {
    let all: Vec<_> = profiles.iter().filter_map(|comments| comment_pairs(comments, name)).collect();
    (!all.is_empty()).then(|| format!("{name}: {}", pairs_of_all(name, &all, origin).join(" ")))
}

fn is_ours(name: &str) -> bool {
    matches!(name, "everflame" | "sampling" | "kernel" | "ledger" | "ends" | "stacks")
}

fn pairs_of_all(name: &str, all: &[Vec<(&str, &str)>], origin: Origin) -> Vec<String> {
    let is_said_by_each = origin == Origin::OneMachine && !OF_SAMPLES.contains(&name);
    let summed = SUMMED.iter().find(|(known, _)| *known == name).map(|(_, keys)| *keys);
    // In the order in which the keys came.
    let mut keys: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for &(key, value) in all.iter().flatten() {
        let place = *places.entry(key).or_insert(keys.len());
        match keys.get_mut(place) {
            Some((_, values)) => values.push(value),
            None => keys.push((key, vec![value])),
        }
    }
    let pair = |(key, mut values): (&str, Vec<&str>)| {
        let is_summed = summed.is_some_and(|keys| keys.is_empty() || keys.contains(&key));
        let numbers: Option<Vec<u64>> = values.iter().map(|value| value.parse().ok()).collect();
        match numbers.filter(|_| is_summed) {
            // Where they differ, the machine's history has gone on, or forgotten some: the largest knows most.
            Some(numbers) if is_said_by_each => format!("{key}={}", numbers.into_iter().max().unwrap_or(0)),
            Some(numbers) => format!("{key}={}", numbers.into_iter().fold(0, u64::saturating_add)),
            None => {
                values.sort_unstable();
                values.dedup();
                format!("{key}={}", values.join(","))
            }
        }
    };
    keys.into_iter().map(pair).collect()
}

/// The comments of a part of a profile, as if a filter had left out the `others`, samples of the whole's that it does not have. How
/// walks ended is known of the whole only.
pub(super) fn of_part(whole: &[String], others: u64) -> Vec<String> {
    if others == 0 {
        return whole.to_vec();
    }
    let is_of_the_whole = |comment: &&String| !["ends: ", "stacks: "].iter().any(|name| comment.starts_with(name));
    whole.iter().filter(is_of_the_whole).map(|comment| without(comment, others).unwrap_or(comment.clone())).collect()
}

/// A ledger of which so many recorded hits are filtered; `None` if it is none.
fn without(comment: &str, others: u64) -> Option<String> {
    let pairs = comment_pairs(&[comment.to_owned()], "ledger").map(|pairs| {
        let moved = |(key, value): &(&str, &str)| {
            let number: u64 = value.parse().ok()?;
            let number = match *key {
                "recorded" => number.checked_sub(others)?,
                "filtered" => number.checked_add(others)?,
                _ => number,
            };
            Some(format!("{key}={number}"))
        };
        pairs.iter().map(moved).collect::<Option<Vec<_>>>()
    })??;
    Some(format!("ledger: {}", pairs.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::super::file::{MAX_COMMENT_BYTES, MAX_COMMENTS};
    use super::{MAX_PAIRS, Origin, joined, of_part};

    #[test]
    fn what_a_part_does_not_have_is_filtered_and_how_walks_ended_is_left_out() {
        let whole = [
            "kernel: release=6.1.0",
            "ledger: due=10 recorded=8 filtered=1 dropped.ring_full=1",
            "ends: complete=8",
            "stacks: user=8 complete=8 by_frame_pointer=0 stale=0",
            "made by hand",
        ]
        .map(str::to_owned);
        assert_eq!(of_part(&whole, 0), whole);
        assert_eq!(
            of_part(&whole, 3),
            ["kernel: release=6.1.0", "ledger: due=10 recorded=5 filtered=4 dropped.ring_full=1", "made by hand"]
        );
        for strange in ["ledger: broken", "ledger: recorded=2", "ledger: recorded=x"] {
            assert_eq!(of_part(&[strange.to_owned()], 3), [strange]);
        }
    }

    fn of(kernel: &str, due: u64, ends: &str, complete: u64) -> Vec<String> {
        [
            "everflame: version=0.1.0".to_owned(),
            "sampling: hz=99 period_ns=10 cpus=4".to_owned(),
            format!("kernel: release={kernel}"),
            format!("ledger: due={due} recorded=8 dropped.ring_full=1"),
            format!("ends: {ends}"),
            format!("stacks: user=8 complete={complete} by_frame_pointer=0 stale=0"),
            "made by hand".to_owned(),
        ]
        .into()
    }

    #[test]
    fn what_several_machines_say_is_added_up_or_listed() {
        assert_eq!(
            joined(&[of("6.1.0", 10, "complete=8", 8), of("5.10.0", 10, "bad_read=1 complete=7", 7)], Origin::Machines),
            [
                "everflame: version=0.1.0",
                "sampling: hz=99 period_ns=10 cpus=8",
                "kernel: release=5.10.0,6.1.0",
                "ledger: due=20 recorded=16 dropped.ring_full=2",
                "ends: complete=15 bad_read=1",
                "stacks: user=16 complete=15 by_frame_pointer=0 stale=0",
                "made by hand",
            ]
        );
        assert_eq!(joined(&[vec!["ledger: broken".to_owned()]], Origin::Machines), ["ledger: broken"]);
        assert_eq!(joined(&[], Origin::Machines), [""; 0]);
    }

    /// So many distinct pairs.
    fn ledger(pairs: usize) -> String {
        let pairs: Vec<String> = (0..pairs).map(|number| format!("k{number}=1")).collect();
        format!("ledger: {}", pairs.join(" "))
    }

    #[test]
    fn comments_that_somebody_made_long_or_many_stay_what_they_are() {
        let twice = |comment: String| joined(&[vec![comment.clone()], vec![comment]], Origin::Machines);
        assert_eq!(twice(ledger(MAX_PAIRS)), [ledger(MAX_PAIRS).replace("=1", "=2")]);
        assert_eq!(twice(ledger(MAX_PAIRS + 1)), [ledger(MAX_PAIRS + 1)]);
        // The longest that a file may have, and of several files the most.
        let longest = ledger(116_000);
        assert!(longest.len() > MAX_COMMENT_BYTES);
        assert_eq!(twice(longest.clone()), [longest]);
        let of_file =
            |file: usize| -> Vec<String> { (0..MAX_COMMENTS).map(|at| format!("note: {file}.{at}")).collect() };
        let files: Vec<_> = (0..64).map(of_file).collect();
        assert_eq!(joined(&files, Origin::Machines), files.concat());
        let broken = vec![vec!["ledger: broken".to_owned(); MAX_COMMENTS]; 64];
        assert_eq!(joined(&broken, Origin::Machines), ["ledger: broken"]);
        let other = vec![vec!["ledger: broken".to_owned()], vec!["ledger: due=1".to_owned(); MAX_COMMENTS]];
        assert_eq!(joined(&other, Origin::Machines), ["ledger: due=1"]);
    }

    #[test]
    fn what_each_part_says_of_its_machine_is_not_added_up() {
        assert_eq!(
            joined(
                &[of("6.1.0", 10, "complete=8", 8), of("6.1.0", 11, "bad_read=1 complete=7", 7)],
                Origin::OneMachine
            ),
            [
                "everflame: version=0.1.0",
                "sampling: hz=99 period_ns=10 cpus=4",
                "kernel: release=6.1.0",
                "ledger: due=11 recorded=8 dropped.ring_full=1",
                "ends: complete=15 bad_read=1",
                "stacks: user=16 complete=15 by_frame_pointer=0 stale=0",
                "made by hand",
            ]
        );
    }
}
