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
//! ```

use unwind::end::End;

use crate::ledger::Drop;
use crate::profile::Batch;

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

/// Reads a comment of this form back: the pairs of the first one called `name`, in order.
pub fn comment_pairs<'text>(comments: &'text [String], name: &str) -> Option<Vec<(&'text str, &'text str)>> {
    let line = comments.iter().find_map(|comment| comment.strip_prefix(name)?.strip_prefix(": "))?;
    line.split(' ').map(|pair| pair.split_once('=')).collect()
}
