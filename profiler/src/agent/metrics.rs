//! `/metrics`: the ledger, every loss by reason, queues, costs, in OpenMetrics text. No per-process labels: a node has thousands.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::statistics;
use super::status::{Numbers, Status};
use crate::engine::Group;
use crate::identity::Counters as IdentityCounters;
use crate::ledger::Drop;
use crate::serve::{Answering, Tray};

/// Everything as text.
///
/// # Errors
/// Never in practice: writing into a text does not fail.
pub fn render(registry: &Registry) -> Result<String, fmt::Error> {
    let mut out = String::new();
    text::encode(&mut out, registry)?;
    Ok(out)
}

/// Reads [`Status`] when it is scraped.
#[derive(Debug)]
pub struct StatusCollector(pub Arc<Status>);

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // Copied: a slow scrape must not hold the sampling or the naming thread up.
        let numbers = self.0.numbers().clone();
        let naming = self.0.naming().clone();
        let mut sheet = Sheet(&mut encoder);
        ledger(&mut sheet, &numbers)?;
        losses(&mut sheet, &numbers)?;
        lost_uploads(&mut sheet, self.0.uploads_lost.counts())?;
        unwinding(&mut sheet, &numbers)?;
        identity(&mut sheet, naming.identity)?;
        costs(&mut sheet, &numbers)?;
        page(&mut sheet, &self.0.answers)?;
        statistics::sizes(&mut sheet, &numbers, &naming)?;
        statistics::counters(&mut sheet, &numbers, &naming, &self.0.texts)
    }
}

/// Descriptors and values, in the few shapes that are needed.
pub(super) struct Sheet<'sheet, 'encoder>(pub(super) &'sheet mut DescriptorEncoder<'encoder>);

impl Sheet<'_, '_> {
    /// One counter, or several apart by the label `by`.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        by: &'static str,
        values: &[(&str, u64)],
    ) -> Result<(), fmt::Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        if let ("", [(_, value)]) = (by, values) {
            return ConstCounter::new(*value).encode(metric);
        }
        for (value_name, value) in values {
            ConstCounter::new(*value).encode(metric.encode_family(&[(by, *value_name)])?)?;
        }
        Ok(())
    }

    /// One counter, apart by two labels: what groups are, and what is in them.
    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        by: [&'static str; 2],
        groups: &[Group],
    ) -> Result<(), fmt::Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (group, counts) in groups {
            for (count_name, count) in counts {
                let labels = [(by[0], *group), (by[1], *count_name)];
                ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// One counter of time, which has fractions.
    pub(super) fn seconds(&mut self, name: &str, help: &str, value: f64) -> Result<(), fmt::Error> {
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    /// Several gauges apart by the label `by`.
    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        by: &'static str,
        values: &[(&str, u64)],
    ) -> Result<(), fmt::Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value_name, value) in values {
            ConstGauge::new(*value as f64).encode(metric.encode_family(&[(by, *value_name)])?)?;
        }
        Ok(())
    }

    /// One gauge.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> Result<(), fmt::Error> {
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }
}

fn ledger(sheet: &mut Sheet<'_, '_>, numbers: &Numbers) -> Result<(), fmt::Error> {
    let ledger = &numbers.ledger;
    sheet.counter(
        "everflame_timer_hits_due",
        "Hits that the timers owed, by their own counts",
        "",
        &[("", ledger.due)],
    )?;
    let fates = [
        ("recorded", ledger.recorded),
        ("idle", ledger.idle),
        ("idle_undelivered", ledger.idle_undelivered),
        ("own", ledger.own),
        ("filtered", ledger.filtered),
        ("undelivered", ledger.undelivered),
        ("surplus", ledger.surplus),
    ];
    sheet.counter("everflame_timer_hits", "What became of every timer hit", "fate", &fates)?;
    let dropped: Vec<_> = Drop::ALL.iter().zip(ledger.dropped).map(|(reason, count)| (reason.name(), count)).collect();
    sheet.counter("everflame_timer_hits_dropped", "Hits dropped after they were recorded", "reason", &dropped)
}

fn losses(sheet: &mut Sheet<'_, '_>, numbers: &Numbers) -> Result<(), fmt::Error> {
    let engine = &numbers.engine;
    let records = [
        ("malformed", engine.malformed_records),
        ("side_band_malformed", engine.malformed_side_band),
        ("side_band_lost", engine.side_band_lost),
        ("side_band_gaps", engine.side_band_gaps),
        ("late", engine.late),
        ("kernel_symbols", engine.kernel_symbols_dropped),
        ("cgroups", engine.cgroups_dropped),
        ("throttled", engine.throttled),
    ];
    sheet.counter("everflame_records_lost", "Records that were lost, late or not understood", "reason", &records)?;
    let copies =
        [("missing", engine.copy_missing), ("lost", engine.copies_lost), ("unclaimed", engine.copies_unclaimed)];
    sheet.counter("everflame_stack_copies_lost", "Stack copies that did not serve", "reason", &copies)?;
    let (processes, files) = (&numbers.processes, &numbers.executables);
    let tables = [
        ("processes", processes.too_many),
        ("mappings", processes.mappings_dropped),
        ("executables", files.too_many),
        ("not_opened", files.not_opened),
        ("replaced", files.replaced),
        ("not_closed", files.left_open),
        ("rows", files.refused),
        ("escape_rules", numbers.tables.escapes_refused),
        ("slab", numbers.tables.refused),
    ];
    sheet.counter("everflame_refused", "What a bound or a file kept out of the tables", "what", &tables)?;
    sheet.counter("everflame_executables_evicted", "Executables whose rows made room", "", &[("", files.evicted)])?;
    let (intervals, samples) = numbers.intervals_dropped;
    sheet.counter("everflame_intervals", "Intervals handed on", "", &[("", numbers.intervals)])?;
    sheet.counter("everflame_intervals_dropped", "Intervals dropped: naming was behind", "", &[("", intervals)])?;
    sheet.counter("everflame_interval_samples_dropped", "Samples in them", "", &[("", samples)])
}

fn lost_uploads(sheet: &mut Sheet<'_, '_>, (uploads, samples): (u64, u64)) -> Result<(), fmt::Error> {
    let help = "Uploads that could not be made of their intervals";
    sheet.counter("everflame_uploads_lost", help, "", &[("", uploads)])?;
    sheet.counter("everflame_upload_samples_lost", "Samples in them", "", &[("", samples)])
}

fn unwinding(sheet: &mut Sheet<'_, '_>, numbers: &Numbers) -> Result<(), fmt::Error> {
    let engine = &numbers.engine;
    let stacks =
        [("kernel", engine.finished_in_kernel), ("copy", engine.finished_from_copy), ("no_memory", engine.no_memory)];
    sheet.counter("everflame_user_stacks_finished", "Where user stacks were finished", "where", &stacks)?;
    sheet.counter(
        "everflame_stacks_stale",
        "Stacks walked with tables older than the mappings",
        "",
        &[("", engine.stale)],
    )?;
    sheet.counter(
        "everflame_frames_walked",
        "User frames walked in the kernel",
        "",
        &[("", engine.kernel_walked_frames)],
    )?;
    sheet.counter("everflame_rule_cache_hits", "Of those, rules found in the cache", "", &[("", engine.cache_hits)])?;
    sheet.counter("everflame_unwind_rows_built", "Rows built since the start", "", &[("", numbers.executables.rows)])
}

fn identity(sheet: &mut Sheet<'_, '_>, counters: IdentityCounters) -> Result<(), fmt::Error> {
    // Taken apart by name, so that a new counter can't be forgotten here.
    let IdentityCounters {
        tagged,
        pod_only,
        host,
        container_unknown,
        contradictions,
        waited_in_vain,
        processes_read,
        processes_missed,
        environments_unreadable,
        environment_values_refused,
        notes_dropped,
        processes_refused,
        cgroups_refused,
        cgroup_walks,
        pods_refused,
        api_events,
        api_lists,
        api_errors,
        runtime_requests,
        runtime_errors,
        runtime_dropped,
    } = counters;
    let samples = [("container", tagged), ("pod", pod_only), ("host", host), ("container_unknown", container_unknown)];
    sheet.counter("everflame_identity_samples", "Samples by what is known of their owner", "known", &samples)?;
    let losses = [
        ("contradictions", contradictions),
        ("waited_in_vain", waited_in_vain),
        ("processes_missed", processes_missed),
        ("environments_unreadable", environments_unreadable),
        ("environment_values_refused", environment_values_refused),
        ("notes_dropped", notes_dropped),
        ("processes_refused", processes_refused),
        ("cgroups_refused", cgroups_refused),
        ("pods_refused", pods_refused),
        ("api_errors", api_errors),
        ("runtime_errors", runtime_errors),
        ("runtime_dropped", runtime_dropped),
    ];
    sheet.counter("everflame_identity_losses", "What identity could not find out, and why", "reason", &losses)?;
    let work = [
        ("processes_read", processes_read),
        ("cgroup_walks", cgroup_walks),
        ("api_lists", api_lists),
        ("api_events", api_events),
        ("runtime_requests", runtime_requests),
    ];
    sheet.counter("everflame_identity_work", "What identity did to find out", "what", &work)
}

/// What the page's answers cost and what they were refused for.
fn page(sheet: &mut Sheet<'_, '_>, answers: &Answering) -> Result<(), fmt::Error> {
    let unread =
        [("stacks", Tray::Stacks), ("sums", Tray::Sums)].map(|(name, tray)| (name, answers.unread_bytes(tray) as u64));
    let help = "Bytes of answers of the page that their readers have not taken yet";
    sheet.gauges("everflame_page_unread_bytes", help, "of", &unread)?;
    let help = "Questions that the page did not answer because of others, or since it took too long";
    sheet.counter("everflame_page_refused", help, "", &[("", answers.refused())])?;
    sheet.seconds("everflame_page_cpu_seconds", "Processor time of answers", answers.cpu_ns() as f64 / 1e9)
}

fn costs(sheet: &mut Sheet<'_, '_>, numbers: &Numbers) -> Result<(), fmt::Error> {
    let seconds = |ns: u64| ns as f64 / 1e9;
    sheet.seconds("everflame_agent_cpu_seconds", "Processor time of the agent", seconds(numbers.agent_cpu_ns))?;
    let programs = seconds(numbers.program_cpu_ns);
    sheet.seconds("everflame_program_cpu_seconds", "Processor time of the eBPF programs", programs)?;
    sheet.gauge("everflame_resident_bytes", "Resident memory of the agent", numbers.resident_bytes as f64)?;
    sheet.gauge("everflame_kernel_bytes", "Memory of BPF maps and perf rings", numbers.kernel_bytes as f64)?;
    let limit = numbers.memory_limit as f64;
    sheet.gauge("everflame_memory_limit_bytes", "Most memory that the agent may take, 0 = no limit", limit)?;
    let governed = &numbers.governed;
    let actions = [
        ("rate_for_cpu", governed.rate_for_cpu),
        ("rate_for_memory", governed.rate_for_memory),
        ("evict", governed.evicted),
    ];
    sheet.counter("everflame_governor_actions", "What was done to stay within the limits", "action", &actions)?;
    let (left_out, refused) = numbers.cgroups_left_out;
    sheet.gauge("everflame_cgroups_left_out", "Cgroups that the kernel does not sample", left_out as f64)?;
    sheet.counter("everflame_cgroups_not_left_out", "Those that found no room in its set", "", &[("", refused)])?;
    sheet.gauge("everflame_cpus_sampled", "CPUs that are sampled", f64::from(numbers.cpus.0))?;
    sheet.gauge("everflame_cpus_online", "CPUs that are online", f64::from(numbers.cpus.1))?;
    sheet.gauge("everflame_frequency_hertz", "Rate in force", f64::from(numbers.frequency_hz.0))?;
    sheet.gauge("everflame_frequency_wanted_hertz", "Rate asked for", f64::from(numbers.frequency_hz.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_and_the_losses_are_there_by_name() {
        let status = Arc::new(Status::default());
        {
            let mut numbers = status.numbers();
            numbers.ledger.due = 100;
            numbers.ledger.recorded = 90;
            numbers.ledger.dropped[0] = 3;
            numbers.ledger.surplus = 2;
            numbers.agent_cpu_ns = 1_500_000_000;
            numbers.frequency_hz = (49, 99);
            numbers.table_sizes.used_bytes = 4096;
            numbers.processes.unknown = 6;
            let mut naming = status.naming();
            naming.identity.contradictions = 4;
            naming.symbolizer.memo_bytes = 77;
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(StatusCollector(status)));
        let text = render(&registry).unwrap();
        for line in [
            "everflame_timer_hits_due_total 100",
            "everflame_timer_hits_total{fate=\"recorded\"} 90",
            "everflame_timer_hits_dropped_total{reason=\"ring_full\"} 3",
            "everflame_timer_hits_total{fate=\"surplus\"} 2",
            "everflame_agent_cpu_seconds_total 1.5",
            "everflame_frequency_hertz 49.0",
            "everflame_frequency_wanted_hertz 99.0",
            "everflame_identity_losses_total{reason=\"contradictions\"} 4",
            "everflame_table_bytes{table=\"unwind_used\"} 4096.0",
            "everflame_table_bytes{table=\"names\"} 77.0",
            "everflame_statistics_total{part=\"processes\",name=\"unknown\"} 6",
            "everflame_uploads_lost_total 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
