//! Mean, median and percentiles of a set of figures.

/// A sorted set of figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn new(mut figures: Vec<f64>) -> Figures {
        figures.sort_by(f64::total_cmp);
        Figures(figures)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// NaN without figures.
    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The middle one, or the mean of the two in the middle; NaN without figures.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        let at = |index: usize| self.0.get(index).copied().unwrap_or(f64::NAN);
        if self.0.len().is_multiple_of(2) { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 } else { at(middle) }
    }

    /// The figure below which `share` of all lie: of 100 figures and 0.99, the 99th; NaN without figures.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let index = ((self.0.len() as f64 - 1.0) * share) as usize;
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }

    /// The smallest; NaN without figures.
    pub(crate) fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    /// The largest; NaN without figures.
    pub(crate) fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_figures_of_the_set_whatever_its_order() {
        let hundred = Figures::new((1..=100).rev().map(f64::from).collect());
        let table = [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)];
        for (share, figure) in table {
            assert_eq!(hundred.at(share), figure, "{share}");
        }
        assert_eq!((hundred.least(), hundred.most(), hundred.count()), (1.0, 100.0, 100));
    }

    #[test]
    fn the_median_of_an_even_number_of_figures_is_between_the_two_in_the_middle() {
        let table: [(&[f64], f64, f64); 4] = [
            (&[7.0], 7.0, 7.0),
            (&[4.0, 1.0], 2.5, 2.5),
            (&[9.0, 1.0, 2.0], 2.0, 4.0),
            (&[8.0, 1.0, 2.0, 5.0], 3.5, 4.0),
        ];
        for (figures, median, mean) in table {
            let figures = Figures::new(figures.to_vec());
            assert_eq!((figures.median(), figures.mean()), (median, mean));
        }
    }

    #[test]
    fn no_figures_give_no_number() {
        let none = Figures::default();
        let all = [none.mean(), none.median(), none.at(0.5), none.least(), none.most()];
        assert!(all.iter().all(|figure| figure.is_nan()));
    }
}
