//! The history's counters for `/metrics`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::history::History;
use super::metrics::Sheet;

/// Reads [`History`] when it is scraped.
#[derive(Debug)]
pub struct HistoryCollector(pub History);

impl Collector for HistoryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (counters, behind, bytes) = (self.0.counters(), self.0.behind(), self.0.bytes());
        let mut sheet = Sheet(&mut encoder);
        let batches = [
            ("written", counters.batches),
            ("failed", counters.batches_failed),
            ("refused", counters.batches_refused),
            ("behind", behind.0),
        ];
        sheet.counter(
            "everflame_history_batches",
            "Intervals, by whether they got into the history",
            "fate",
            &batches,
        )?;
        let samples = [
            ("written", counters.samples),
            ("failed", counters.samples_failed),
            ("refused", counters.samples_refused),
            ("behind", behind.1),
        ];
        sheet.counter("everflame_history_samples", "Samples in them", "fate", &samples)?;
        let troubles = [
            ("index_failures", counters.index_failures),
            ("indexes_remade", counters.indexes_remade),
            ("set_aside", counters.set_aside),
            ("removals_failed", counters.removals_failed),
            ("frames_cut", counters.frames_cut),
            ("texts_cut", counters.texts_cut),
            ("syncs_failed", counters.syncs_failed),
        ];
        sheet.counter("everflame_history_troubles", "What went wrong with the history", "what", &troubles)?;
        let written = &[("", counters.bytes)];
        sheet.counter("everflame_history_written_bytes", "Bytes written to segments", "", written)?;
        let removed = &[("", counters.segments_removed)];
        let help = "Segments removed by age or size";
        sheet.counter("everflame_history_segments_removed", help, "", removed)?;
        let cut = &[("", counters.bytes_cut)];
        let help = "Bytes of unfinished intervals cut off after a crash";
        sheet.counter("everflame_history_cut_bytes", help, "", cut)?;
        sheet.gauge("everflame_history_disk_bytes", "Bytes of the history's files", bytes as f64)
    }
}
