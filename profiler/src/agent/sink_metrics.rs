//! What became of uploads, by sink, for `/metrics`.

use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::export::counters::{Amount, Answered, Counters, DropReason, Snapshot};

/// Reads the sinks' counters when it is scraped; outlives the sinks.
#[derive(Debug)]
pub struct SinkCollector(pub Vec<(String, Arc<Counters>)>);

type Rows<'row> = Vec<(&'row str, &'static str, u64)>;

fn by_fate<'row>(name: &'row str, seen: &Snapshot, part: fn(&Amount) -> u64) -> Rows<'row> {
    let amounts =
        [("encoded", seen.encoded), ("found", seen.found), ("delivered", seen.delivered), ("refused", seen.refused)];
    let dropped = DropReason::ALL.into_iter().map(|reason| (reason.name(), seen.dropped(reason)));
    amounts.into_iter().chain(dropped).map(|(fate, amount)| (name, fate, part(&amount))).collect()
}

impl Collector for SinkCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sinks: Vec<(&str, Snapshot)> =
            self.0.iter().map(|(name, counters)| (name.as_str(), counters.snapshot())).collect();
        let fates = |part: fn(&Amount) -> u64| -> Rows<'_> {
            sinks.iter().flat_map(|(name, seen)| by_fate(name, seen, part)).collect()
        };
        let mut counters = |name: &str, help: &str, label: &'static str, rows: &Rows<'_>| -> Result<(), fmt::Error> {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (sink, value_name, value) in rows {
                let labels = [("sink", *sink), (label, *value_name)];
                ConstCounter::new(*value).encode(metric.encode_family(&labels)?)?;
            }
            Ok(())
        };
        let messages = fates(|amount| amount.messages);
        counters("everflame_sink_messages", "Messages to a sink, by what became of them", "fate", &messages)?;
        let samples = fates(|amount| amount.samples);
        counters("everflame_sink_samples", "Samples in them", "fate", &samples)?;
        let retried = sinks
            .iter()
            .flat_map(|(name, seen)| Answered::ALL.into_iter().map(|why| (*name, why.name(), seen.retried(why))));
        counters("everflame_sink_retries", "Tries that are repeated, by the answer", "answer", &retried.collect())?;
        let troubles = sinks.iter().flat_map(|(name, seen)| {
            [
                (*name, "errors", seen.spool_errors),
                (*name, "torn", seen.spool_torn),
                (*name, "damaged_segments", seen.spool_damaged_segments),
                (*name, "set_aside", seen.spool_set_aside),
            ]
        });
        counters("everflame_spool_troubles", "What went wrong with a spool", "what", &troubles.collect())?;

        let mut totals = |name: &str, help: &str, of: fn(&Snapshot) -> u64| -> Result<(), fmt::Error> {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (sink, seen) in &sinks {
                ConstCounter::new(of(seen)).encode(metric.encode_family(&[("sink", *sink)])?)?;
            }
            Ok(())
        };
        let help = "Messages that came of halving what a server found too large";
        totals("everflame_sink_splits", help, |seen| seen.split)?;
        let help = "Bytes of damaged segments; how many messages they were nobody knows";
        totals("everflame_spool_damaged_bytes", help, |seen| seen.spool_damaged_bytes)?;

        let mut gauges = |name: &str, help: &str, of: fn(&Snapshot) -> f64| -> Result<(), fmt::Error> {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (sink, seen) in &sinks {
                ConstGauge::new(of(seen)).encode(metric.encode_family(&[("sink", *sink)])?)?;
            }
            Ok(())
        };
        gauges("everflame_sink_memory_messages", "Messages that wait in memory", |seen| {
            seen.in_memory.messages as f64
        })?;
        gauges("everflame_sink_memory_bytes", "Bytes that wait in memory", |seen| seen.in_memory.bytes as f64)?;
        gauges("everflame_spool_messages", "Messages that wait on disk", |seen| seen.in_spool.messages as f64)?;
        gauges("everflame_spool_disk_bytes", "Bytes of the spool's files", |seen| seen.spool_disk_bytes as f64)?;
        gauges("everflame_sink_failures_in_a_row", "Failed tries since the last answer", |seen| {
            seen.failures_in_a_row as f64
        })?;
        gauges("everflame_sink_last_success_seconds", "Unix time of the last delivery, 0 = never", |seen| {
            let since = seen.last_success.unwrap_or(UNIX_EPOCH).duration_since(UNIX_EPOCH);
            since.unwrap_or_default().as_secs_f64()
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::agent::metrics::render;

    #[test]
    fn every_count_of_a_sink_is_there_with_its_name() {
        let sinks = vec![("file:///x".to_owned(), Arc::new(Counters::default()))];
        // Taken apart by name: what is new does not compile until it is known where it is shown.
        let Snapshot {
            encoded: _,
            found: _,
            delivered: _,
            refused: _,
            dropped: _,
            retried: _,
            split: _,
            in_memory: _,
            in_spool: _,
            spool_disk_bytes: _,
            spool_errors: _,
            spool_torn: _,
            spool_damaged_segments: _,
            spool_damaged_bytes: _,
            spool_set_aside: _,
            failures_in_a_row: _,
            last_success: _,
        } = sinks[0].1.snapshot();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(SinkCollector(sinks)));
        let text = render(&registry).unwrap();
        for name in [
            "everflame_sink_messages_total{sink=\"file:///x\",fate=\"encoded\"} 0",
            "everflame_sink_samples_total{sink=\"file:///x\",fate=\"gave_up\"} 0",
            "everflame_sink_retries_total{sink=\"file:///x\",answer=\"timeout\"} 0",
            "everflame_sink_splits_total{sink=\"file:///x\"} 0",
            "everflame_spool_damaged_bytes_total{sink=\"file:///x\"} 0",
            "everflame_spool_troubles_total{sink=\"file:///x\",what=\"set_aside\"} 0",
            "everflame_sink_last_success_seconds{sink=\"file:///x\"} 0.0",
        ] {
            assert!(text.lines().any(|line| line == name), "{name} is missing in\n{text}");
        }
    }
}
