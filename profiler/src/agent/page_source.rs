//! [`PageSource`]: what the live page is told of the agent.

use std::sync::Arc;

use store::Reader;

use super::history::History;
use super::status::Status;
use crate::serve::{Answering, Moment, Source};

/// See the module documentation.
pub struct PageSource {
    /// The agent's numbers.
    pub status: Arc<Status>,
    /// Its history; `None` if it keeps none.
    pub history: Option<History>,
}

impl Source for PageSource {
    fn reader(&self) -> Option<Reader> {
        self.history.as_ref()?.reader()
    }

    fn moment(&self) -> Moment {
        let mut notes = match &self.history {
            Some(history) => history.notes(),
            None => vec!["The history is off: there is nothing to show.".to_owned()],
        };
        let numbers = self.status.numbers();
        let (in_force, wanted) = numbers.frequency_hz;
        if in_force < wanted {
            notes.push(format!(
                "{in_force} instead of {wanted} samples a second are taken, to keep the processor limit."
            ));
        }
        let (_, samples_dropped) = numbers.intervals_dropped;
        let lost = numbers.ledger.dropped_total() + samples_dropped;
        Moment { frequency_hz: in_force, cpus: numbers.cpus.0, lost, notes }
    }

    fn answering(&self) -> Arc<Answering> {
        Arc::clone(&self.status.answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_a_lowered_rate_are_told() {
        let source = PageSource { status: Arc::default(), history: None };
        {
            let mut numbers = source.status.numbers();
            numbers.ledger.dropped = [1, 0, 2, 0];
            numbers.intervals_dropped = (1, 40);
            numbers.frequency_hz = (49, 99);
            numbers.cpus = (2, 2);
        }
        let notes = vec![
            "The history is off: there is nothing to show.".to_owned(),
            "49 instead of 99 samples a second are taken, to keep the processor limit.".to_owned(),
        ];
        assert_eq!(source.moment(), Moment { frequency_hz: 49, cpus: 2, lost: 43, notes });
    }
}
