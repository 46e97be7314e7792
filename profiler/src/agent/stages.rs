//! Where an interval's time goes, stage by stage, for `/metrics`: one histogram each, filled by the thread that does the work.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::history::History;
use super::status::Status;
use crate::export::counters::Counters;
use crate::latency::Latency;

/// Stages of the agent's own two threads. Those of a sink are in its [`Counters`], the disk's in [`History`].
#[derive(Debug, Default)]
pub struct Stages {
    /// How much later than asked for a round began.
    pub round_late: Latency,
    /// A round: what the kernel wrote is drained, put in order, applied, published.
    pub round: Latency,
    /// The cut of an interval.
    pub cut: Latency,
    /// From the cut until the naming thread has time for the interval.
    pub waiting: Latency,
    /// Names.
    pub naming: Latency,
    /// Whose samples are, with the wait for containers that nobody knows yet.
    pub identity: Latency,
    /// Handing the batch to those who deliver or keep it, merging into an upload included.
    pub hand_on: Latency,
}

/// Reads all stages when it is scraped; outlives the sinks.
#[derive(Debug)]
pub struct StageCollector {
    /// The agent's own.
    pub status: Arc<Status>,
    /// Each sink's, by its name.
    pub sinks: Vec<(String, Arc<Counters>)>,
    /// The history's; `None` if there is none.
    pub history: Option<History>,
}

impl Collector for StageCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Time of each stage, from a round of the engine to an answer";
        let mut metric = encoder.encode_descriptor("everflame_stage_seconds", help, None, MetricType::Histogram)?;
        let Stages { round_late, round, cut, waiting, naming, identity, hand_on } = &self.status.stages;
        let own = [
            ("round_late", round_late),
            ("round", round),
            ("cut", cut),
            ("waiting", waiting),
            ("naming", naming),
            ("identity", identity),
            ("hand_on", hand_on),
        ];
        for (stage, latency) in own {
            histogram(&mut metric, &[("stage", stage)], latency)?;
        }
        if let Some(history) = &self.history {
            histogram(&mut metric, &[("stage", "keeping")], history.writing())?;
        }
        for (sink, counters) in &self.sinks {
            let stages =
                [("encoding", &counters.encoding), ("storing", &counters.storing), ("delivery", &counters.delivery)];
            for (stage, latency) in stages {
                histogram(&mut metric, &[("stage", stage), ("sink", sink.as_str())], latency)?;
            }
        }
        Ok(())
    }
}

fn histogram(
    metric: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    latency: &Latency,
) -> Result<(), fmt::Error> {
    let times = latency.times();
    metric.encode_family(labels)?.encode_histogram::<NoLabelSet>(times.sum_seconds, times.count, &times.buckets, None)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::agent::metrics::render;

    #[test]
    fn each_stage_has_its_own_histogram_and_a_sink_s_say_whose_they_are() {
        let (status, counters) = (Arc::new(Status::default()), Arc::new(Counters::default()));
        status.stages.naming.took(Duration::from_millis(30));
        status.stages.naming.took(Duration::from_secs(60));
        counters.delivery.took(Duration::from_micros(400));
        let mut registry = Registry::default();
        let sinks = vec![("file:///x".to_owned(), counters)];
        registry.register_collector(Box::new(StageCollector { status, sinks, history: Some(History::default()) }));
        let text = render(&registry).unwrap();
        for line in [
            "# TYPE everflame_stage_seconds histogram",
            "everflame_stage_seconds_count{stage=\"naming\"} 2",
            "everflame_stage_seconds_sum{stage=\"naming\"} 60.03",
            "everflame_stage_seconds_bucket{le=\"0.02\",stage=\"naming\"} 0",
            "everflame_stage_seconds_bucket{le=\"0.1\",stage=\"naming\"} 1",
            "everflame_stage_seconds_bucket{le=\"+Inf\",stage=\"naming\"} 2",
            "everflame_stage_seconds_count{stage=\"identity\"} 0",
            "everflame_stage_seconds_count{stage=\"keeping\"} 0",
            "everflame_stage_seconds_bucket{le=\"0.001\",stage=\"delivery\",sink=\"file:///x\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert_eq!(text.matches("# TYPE").count(), 1, "one family\n{text}");
    }
}
