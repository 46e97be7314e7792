//! Whose rows make way for whose: a decision on numbers, without the slab.
//!
//! The least recently sampled go first, no more of them than needed, and nobody who is being sampled goes for somebody who is
//! sampled less: with more code on the node than the slab holds, tables would otherwise chase each other for ever.

use super::executable::ExecutableIndex;

/// Who was sampled within this time is in use, ns.
const IN_USE_NS: u64 = 60_000_000_000;
/// Who is in use makes way for somebody who is sampled at least so many times as often.
const TIMES_AS_OFTEN: u32 = 2;
/// Victims that are looked at one by one, whether they are needed at all; each look is a walk over the free stretches.
const MAX_SPARED_LOOKS: usize = 64;

/// An executable with rows in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) index: ExecutableIndex,
    pub(super) last_sampled_ns: u64,
    /// Frames of the last one to two minutes.
    pub(super) recent: u32,
}

/// Why nobody makes way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Those who would have to go are sampled more.
    OthersNeedIt,
    /// It would not fit even without all others.
    NoRoom,
}

/// Who goes for somebody with `recent` frames; `fits` says whether there is room once some are gone. Among `holders` is not the
/// newcomer itself.
pub(super) fn choose(
    mut holders: Vec<Holder>,
    recent: u32,
    now_ns: u64,
    fits: impl Fn(&[Holder]) -> bool,
) -> Result<Vec<Holder>, Refusal> {
    holders.sort_unstable_by_key(|holder| (holder.last_sampled_ns, holder.recent, holder.index));
    let all = holders.clone();
    let in_use = |holder: &Holder| now_ns.saturating_sub(holder.last_sampled_ns) < IN_USE_NS;
    holders.retain(|holder| !in_use(holder) || recent / TIMES_AS_OFTEN > holder.recent);
    if !fits(&holders) {
        return Err(if fits(&all) { Refusal::OthersNeedIt } else { Refusal::NoRoom });
    }
    // Few enough from the front: fitting is monotonous, more room never hurts.
    let (mut few, mut enough) = (0, holders.len());
    while few < enough {
        let middle = (few + enough) / 2;
        if fits(&holders[..middle]) {
            enough = middle;
        } else {
            few = middle + 1;
        }
    }
    holders.truncate(enough);
    // Those before the last may have been too small to help; the most recently sampled are spared first.
    let mut looks = 0;
    let mut at = holders.len();
    while at > 0 && looks < MAX_SPARED_LOOKS {
        at -= 1;
        looks += 1;
        let spared = holders.remove(at);
        if !fits(&holders) {
            holders.insert(at, spared);
        }
    }
    Ok(holders)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000_000;
    const OLD: u64 = NOW - IN_USE_NS;

    /// Executable `slot` of so many words.
    fn holder(slot: u32, last_sampled_ns: u64, recent: u32) -> Holder {
        Holder { index: ExecutableIndex { slot, generation: 0 }, last_sampled_ns, recent }
    }

    /// Chosen slots where slot `n` frees `words[n]` and so many are needed.
    fn chosen(holders: &[Holder], recent: u32, words: &[u64], needed: u64) -> Result<Vec<u32>, Refusal> {
        let fits = |gone: &[Holder]| gone.iter().map(|gone| words[gone.index.slot as usize]).sum::<u64>() >= needed;
        let chosen = choose(holders.to_vec(), recent, NOW, fits)?;
        Ok(chosen.into_iter().map(|holder| holder.index.slot).collect())
    }

    #[test]
    fn the_least_recently_sampled_go_and_no_more_than_needed() {
        let holders = [holder(0, OLD - 1, 0), holder(1, OLD - 3, 0), holder(2, OLD - 2, 0), holder(3, OLD, 0)];
        let words = [10, 10, 10, 10];
        for (needed, wanted) in
            [(0, vec![]), (5, vec![1]), (10, vec![1]), (11, vec![1, 2]), (31, vec![1, 2, 0, 3]), (40, vec![1, 2, 0, 3])]
        {
            assert_eq!(chosen(&holders, 0, &words, needed), Ok(wanted), "{needed}");
        }
        assert_eq!(chosen(&holders, 0, &words, 41), Err(Refusal::NoRoom));
    }

    #[test]
    fn small_ones_that_do_not_help_are_spared() {
        let holders = [holder(0, OLD - 9, 0), holder(1, OLD - 8, 0), holder(2, OLD - 7, 0), holder(3, OLD - 6, 0)];
        assert_eq!(chosen(&holders, 0, &[1, 2, 100, 100], 100), Ok(vec![2]));
        assert_eq!(chosen(&holders, 0, &[1, 2, 100, 100], 102), Ok(vec![1, 2]));
    }

    #[test]
    fn who_is_sampled_stays_unless_the_newcomer_is_sampled_twice_as_often() {
        let holders = [holder(0, NOW, 100), holder(1, NOW, 3), holder(2, OLD, 0)];
        let words = [10, 10, 10];
        for (recent, needed, wanted) in [
            (1, 10, Ok(vec![2])),
            (1, 11, Err(Refusal::OthersNeedIt)),
            (7, 11, Err(Refusal::OthersNeedIt)),
            (8, 11, Ok(vec![2, 1])),
            (8, 21, Err(Refusal::OthersNeedIt)),
            (202, 30, Ok(vec![2, 1, 0])),
            (u32::MAX, 31, Err(Refusal::NoRoom)),
        ] {
            assert_eq!(chosen(&holders, recent, &words, needed), wanted, "{recent} {needed}");
        }
    }
}
