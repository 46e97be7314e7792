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

        let (name, help) = ("everflame_sink_splits", "Messages that came of halving what a server found too large");
        let mut splits = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (sink, seen) in &sinks {
            ConstCounter::new(seen.split).encode(splits.encode_family(&[("sink", *sink)])?)?;
        }

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
