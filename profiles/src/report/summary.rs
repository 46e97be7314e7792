//! The result line of a recording: how long, how much, how complete, and that the books balance.
//!
//! ```text
//! 10.0 s, 2 CPUs, 99 Hz: 1 942 samples, 99.97 % complete, 99.4 % named, 0 lost
//!     (ledger: 1 980 due = 1 942 + 38 idle + 0 dropped + 0 undelivered)
//! ```
//! in one line. What is zero and not always there (own, filtered, surplus, frame pointers) is left out.

use super::numbers::{share, thousands};
use crate::ledger::Ledger;
use crate::profile::pprof::ProfileInfo;
use crate::profile::{Batch, LocationKind, StackCounts};

/// How good a batch's stacks are, in samples and frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// How far they can be trusted.
    pub stacks: StackCounts,
    /// Frames of all samples, user and kernel, without markers.
    pub frames: u64,
    /// Those with a name.
    pub named: u64,
}

impl Quality {
    /// Measures a batch.
    pub fn of(batch: &Batch) -> Quality {
        let per_stack: Vec<(u64, u64)> = batch
            .stacks
            .iter()
            .map(|stack| {
                let locations = stack.locations.iter().filter_map(|location| batch.locations.get(location.0 as usize));
                let code = locations.filter(|location| location.kind != LocationKind::Marker);
                code.fold((0, 0), |(frames, named), location| {
                    (frames + 1, named + u64::from(!location.lines.is_empty()))
                })
            })
            .collect();
        let mut quality = Quality::default();
        for sample in &batch.samples {
            let (frames, named) = per_stack.get(sample.stack.0 as usize).copied().unwrap_or_default();
            quality.frames += frames;
            quality.named += named;
            quality.stacks.add(sample, 1);
        }
        quality
    }
}

/// The result line, without a line break.
pub fn summary(batch: &Batch, info: &ProfileInfo) -> String {
    let quality = Quality::of(batch);
    let (ledger, stacks) = (&batch.ledger, &quality.stacks);
    let seconds = batch.duration_ns as f64 / 1e9;
    let cpus = if info.cpus == 1 { "CPU" } else { "CPUs" };
    let samples = if ledger.recorded == 1 { "sample" } else { "samples" };
    let mut parts = vec![format!("{} {samples}", thousands(ledger.recorded))];
    match share(stacks.complete, stacks.user, 2) {
        Some(share) => parts.push(format!("{share} complete")),
        None => parts.push("no user stacks".to_owned()),
    }
    if stacks.by_frame_pointer > 0 {
        parts.extend(share(stacks.by_frame_pointer, stacks.user, 2).map(|share| format!("{share} by frame pointer")));
    }
    if stacks.stale > 0 {
        parts.extend(share(stacks.stale, stacks.user, 2).map(|share| format!("{share} stale")));
    }
    parts.extend(share(quality.named, quality.frames, 1).map(|share| format!("{share} named")));
    parts.push(format!("{} lost", thousands(ledger.dropped_total().saturating_add(ledger.undelivered))));
    format!(
        "{seconds:.1} s, {} {cpus}, {} Hz: {} ({})",
        info.cpus,
        info.frequency_hz,
        parts.join(", "),
        ledger_text(ledger)
    )
}

/// `ledger: 1 980 due = 1 942 + 38 idle + 0 dropped + 0 undelivered`.
pub fn ledger_text(ledger: &Ledger) -> String {
    let mut text = format!("ledger: {} due", thousands(ledger.due));
    if ledger.surplus > 0 {
        text += &format!(" + {} surplus", thousands(ledger.surplus));
    }
    text += &format!(" = {} + {} idle", thousands(ledger.recorded), thousands(ledger.idle + ledger.idle_undelivered));
    for (count, name) in [(ledger.own, "own"), (ledger.filtered, "filtered")] {
        if count > 0 {
            text += &format!(" + {} {name}", thousands(count));
        }
    }
    text + &format!(" + {} dropped + {} undelivered", thousands(ledger.dropped_total()), thousands(ledger.undelivered))
}

#[cfg(test)]
mod tests {
    use super::ledger_text;
    use crate::ledger::Ledger;

    #[test]
    fn the_ledger_is_an_equation() {
        let plain = Ledger { due: 1_980, recorded: 1_942, idle: 38, ..Ledger::default() };
        assert_eq!(ledger_text(&plain), "ledger: 1 980 due = 1 942 + 38 idle + 0 dropped + 0 undelivered");
        let mut full = Ledger { due: 10, recorded: 4, idle: 3, own: 2, filtered: 1, ..Ledger::default() };
        full.dropped[0] = 1;
        full.dropped[1] = 2;
        full.balance();
        assert_eq!(
            ledger_text(&full),
            "ledger: 10 due + 3 surplus = 4 + 3 idle + 2 own + 1 filtered + 3 dropped + 0 undelivered"
        );
    }
}
