//! `profile_seq`: the number of a profile in its series, from which a gap can be seen.

use std::collections::HashMap;

/// Most series whose number is remembered, about 60 bytes each. Beyond, the half that was longest ago begins again at 0.
pub const MAX_SEQUENCES: usize = 65_536;

/// The last number of each series.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// By digest of the series: start of the interval and number.
    last: HashMap<[u8; 16], (u64, u64)>,
}

impl Sequences {
    /// The number of the series' profile that starts at `start_ns`, from 0; the same again for the same start.
    pub(super) fn number(&mut self, series: [u8; 16], start_ns: u64) -> u64 {
        if self.last.len() >= MAX_SEQUENCES && !self.last.contains_key(&series) {
            self.forget_half();
        }
        let (last_start, number) = self.last.entry(series).or_insert((start_ns, 0));
        if *last_start != start_ns {
            (*last_start, *number) = (start_ns, *number + 1);
        }
        *number
    }

    fn forget_half(&mut self) {
        let mut starts: Vec<(u64, [u8; 16])> = self.last.iter().map(|(series, (start, _))| (*start, *series)).collect();
        starts.sort_unstable();
        for (_, series) in &starts[..starts.len() / 2] {
            self.last.remove(series);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interval_of_a_series_has_the_next_number_and_keeps_it() {
        let mut sequences = Sequences::default();
        let numbers = [(1, 10), (1, 10), (2, 10), (1, 20), (1, 20), (2, 40)]
            .map(|(series, start)| sequences.number([series; 16], start));
        assert_eq!(numbers, [0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn series_without_number_are_bounded_and_the_oldest_are_forgotten() {
        let mut sequences = Sequences::default();
        let name = |number: usize| (number as u128).to_le_bytes();
        for number in 0..MAX_SEQUENCES {
            sequences.number(name(number), number as u64);
        }
        assert_eq!(sequences.number(name(MAX_SEQUENCES), 1 << 40), 0);
        assert_eq!(sequences.last.len(), MAX_SEQUENCES / 2 + 1);
        assert_eq!(sequences.number(name(MAX_SEQUENCES - 1), 1 << 40), 1, "a young one goes on");
        assert_eq!(sequences.number(name(0), 1 << 40), 0, "an old one begins again");
    }
}
