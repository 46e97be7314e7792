//! Mean, median and 99th percentile.

/// A sorted set of figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn new(mut figures: Vec<f64>) -> Figures {
        figures.sort_by(f64::total_cmp);
        Figures(figures)
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The figure below which `share` of all lie.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let index = ((self.0.len() as f64 - 1.0) * share) as usize;
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }
}
