//! What `--statistics` prints at the end of a recording: every counter there is.

use crate::engine::{Engine, Group, Recording, of_programs};

pub(super) fn statistics(engine: &mut Engine) -> String {
    let mut text = String::from("\nverified instructions:");
    for (name, count) in engine.verified_instructions() {
        text += &match count {
            Some(count) => format!(" {name} {count}"),
            None => format!(" {name} unknown"),
        };
    }
    text += "\n";
    if let Ok(hits) = engine.hits_by_pid()
        && !hits.is_empty()
    {
        let mut hits = hits;
        hits.sort_unstable();
        for (pid, count) in hits {
            text += &format!("hits: pid {pid} {count}\n");
        }
    }
    text
}

pub(super) fn of_recording(
    recording: &Recording,
    programs: [u64; profiler_common::COUNTERS],
    names: Vec<(&'static str, u64)>,
) -> String {
    let counters = &recording.counters;
    let mut text = String::new();
    if let Some((mean, median, p99)) = counters.cost() {
        text += &format!("program time per sample: mean {mean} ns, median {median} ns, p99 {p99} ns\n");
    }
    if let Some(share) = counters.kernel_share() {
        text += &format!("finished in the kernel: {:.2} %\n", share * 100.0);
    }
    if counters.kernel_walked_frames > 0 {
        let share = counters.cache_hits as f64 / counters.kernel_walked_frames as f64;
        text += &format!("rule cache: {:.1} % of {} frames\n", share * 100.0, counters.kernel_walked_frames);
    }
    let mut groups = vec![of_programs(&programs)];
    groups.extend(recording.statistics());
    groups.push(("names", names));
    text + &counter_table(&groups)
}

/// A line for each part, with all of its counters: `tables: refused 0, escapes_refused 0, …`.
fn counter_table(groups: &[Group]) -> String {
    let line = |(part, counters): &Group| {
        let counters: Vec<String> = counters.iter().map(|(name, count)| format!("{name} {count}")).collect();
        format!("{part}: {}\n", counters.join(", "))
    };
    groups.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::counter_table;

    #[test]
    fn every_counter_is_on_its_parts_line() {
        let groups = [("tables", vec![("refused", 1), ("grace_periods", 20)]), ("names", vec![("late", 0)])];
        assert_eq!(counter_table(&groups), "tables: refused 1, grace_periods 20\nnames: late 0\n");
    }
}
