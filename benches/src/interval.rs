//! A mean and the interval in which the true one lies, by Student's t distribution.
//!
//! The figures must be independent of each other; pairs of measurements are compared by the interval of their differences. What
//! is asked is exact for normally distributed figures, and close for 30 figures or more of nearly any kind.

use std::f64::consts::PI;

/// How sure the interval is: its upper end alone is passed once in 40 times.
pub(crate) const CONFIDENCE: f64 = 0.95;
/// Halvings until the critical value is found, from a range of 2¹⁰: far below a float's precision.
const HALVINGS: u32 = 64;

/// A mean with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) mean: f64,
    /// Half the interval's width; infinite for fewer than two figures.
    pub(crate) half_width: f64,
    pub(crate) count: usize,
}

impl Interval {
    /// The two-sided interval of [`CONFIDENCE`].
    pub(crate) fn of(figures: &[f64]) -> Interval {
        let count = figures.len();
        let mean = figures.iter().sum::<f64>() / count as f64;
        let squares = figures.iter().map(|figure| (figure - mean).powi(2)).sum::<f64>();
        let half_width = match count.checked_sub(1) {
            None | Some(0) => f64::INFINITY,
            Some(freedom) => {
                let variance = squares / freedom as f64;
                critical(freedom as u32) * (variance / count as f64).sqrt()
            }
        };
        Interval { mean, half_width, count }
    }

    pub(crate) fn upper(&self) -> f64 {
        self.mean + self.half_width
    }

    pub(crate) fn lower(&self) -> f64 {
        self.mean - self.half_width
    }
}

/// The t that is not passed, on either side, with the probability of [`CONFIDENCE`].
fn critical(freedom: u32) -> f64 {
    let (mut low, mut high) = (0.0, 1024.0);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if within(middle, freedom) < CONFIDENCE { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// The probability that |t| is at most this: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
fn within(t: f64, freedom: u32) -> f64 {
    let angle = (t / f64::from(freedom).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    // cos θ + 2/3 cos³ θ + 2/3 · 4/5 cos⁵ θ …, or 1 + 1/2 cos² θ + 1/2 · 3/4 cos⁴ θ …, up to the power freedom − 2.
    let mut power = freedom % 2;
    let (mut term, mut sum) = (if odd { cosine } else { 1.0 }, 0.0);
    while power + 2 <= freedom {
        sum += term;
        term *= f64::from(power + 1) / f64::from(power + 2) * cosine * cosine;
        power += 2;
    }
    if odd { (angle + sine * sum) * 2.0 / PI } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_values_are_those_of_the_printed_tables() {
        // To the four digits behind the point that tables give.
        let table = [
            (1, 12.7062),
            (2, 4.3027),
            (3, 3.1824),
            (4, 2.7764),
            (9, 2.2622),
            (10, 2.2281),
            (29, 2.0452),
            (30, 2.0423),
            (59, 2.0010),
            (120, 1.9799),
        ];
        for (freedom, value) in table {
            assert_eq!((critical(freedom) * 1e4).round() / 1e4, value, "{freedom} degrees of freedom");
        }
    }

    #[test]
    fn an_interval_is_the_critical_value_times_the_standard_error() {
        // Mean 3, variance 2.5, standard error √(2.5 / 5).
        let interval = Interval::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((interval.mean, interval.count), (3.0, 5));
        assert_eq!((interval.half_width * 1e3).round() / 1e3, 1.963);
        assert_eq!((interval.upper() * 1e3).round(), 4963.0);
        assert_eq!((interval.lower() * 1e3).round(), 1037.0);
    }

    #[test]
    fn equal_figures_are_sure_and_one_alone_says_nothing() {
        assert_eq!(Interval::of(&[2.0; 30]), Interval { mean: 2.0, half_width: 0.0, count: 30 });
        assert_eq!(Interval::of(&[2.0]).half_width, f64::INFINITY);
        assert_eq!(Interval::of(&[]).half_width, f64::INFINITY);
    }
}
