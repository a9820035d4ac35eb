//! The result of a benchmark: a table for people, JSON for scripts, a histogram log.
use super::error::BenchError;
use super::process::Usage;
use super::verify::Findings;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use serde::Serialize;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Share of a core from which a thread counts as busy all the time.
const BUSY: f64 = 0.93;

/// Percentiles in µs.
#[derive(Clone, Debug, Serialize)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 of 100 are at most this.
    pub p90: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// 999 of 1000 are at most this.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

impl Percentiles {
    /// Of a histogram of ns; `None` when it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

/// What the broker used while it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct BrokerUse {
    /// Cores' worth of CPU.
    pub cpu_share: f64,
    /// CPU µs per counted event (delivery, connection, ...).
    pub cpu_us_per_event: f64,
    /// Resident memory at the start of the measured window, KiB.
    pub rss_kib_before: u64,
    /// Resident memory at the end of it, KiB.
    pub rss_kib_after: u64,
    /// Its own part of that (`RssAnon`), KiB.
    pub anonymous_kib_after: u64,
}

impl BrokerUse {
    /// Between two readings `seconds` apart, in which `events` were counted.
    pub fn between(before: &Usage, after: &Usage, seconds: f64, events: u64) -> Self {
        let cpu = after.cpu_since(before) as f64;
        Self {
            cpu_share: cpu / 1e9 / seconds,
            cpu_us_per_event: cpu / 1e3 / events.max(1) as f64,
            rss_kib_before: before.rss_kib,
            rss_kib_after: after.rss_kib,
            anonymous_kib_after: after.anonymous_kib,
        }
    }
}

/// One more figure of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it is, as a JSON key.
    pub name: &'static str,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// The whole result.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// What was asked for, in words.
    pub setup: String,
    /// What is counted: deliveries, connections, cycles.
    pub event: &'static str,
    /// Events in the measured window.
    pub events: u64,
    /// Length of the measured window.
    pub seconds: f64,
    /// Events per second.
    pub rate: f64,
    /// What verification found, over the whole run.
    pub findings: Findings,
    /// Messages whose acknowledgement never came, refused ones, and acknowledgements of nothing.
    pub unacknowledged: u64,
    /// Deliveries given up because nothing arrived for a while (lost unless they came later).
    pub written_off: u64,
    /// Connections that the broker ended or that could not be opened.
    pub closed: u64,
    /// Latency from the (scheduled) send time.
    pub latency_us: Option<Percentiles>,
    /// How late the generator itself was (open loop).
    pub lateness_us: Option<Percentiles>,
    /// What the broker used, with `--pid`.
    pub broker: Option<BrokerUse>,
    /// CPU share of each load thread.
    pub generator_cpu: Vec<f64>,
    /// Whether the generator, not the broker, set the rate.
    pub generator_limited: bool,
    /// Further figures.
    pub figures: Vec<Figure>,
    /// Whether nothing was lost, duplicated, reordered, corrupt, misrouted, refused or closed.
    pub clean: bool,
}

impl Report {
    /// A result to which a scenario adds what it found.
    pub fn new(scenario: &str, setup: String, event: &'static str, events: u64, seconds: f64) -> Self {
        Self {
            scenario: scenario.into(),
            setup,
            event,
            events,
            seconds,
            rate: events as f64 / seconds.max(1e-9),
            findings: Findings::default(),
            unacknowledged: 0,
            written_off: 0,
            closed: 0,
            latency_us: None,
            lateness_us: None,
            broker: None,
            generator_cpu: Vec::new(),
            generator_limited: false,
            figures: Vec::new(),
            clean: true,
        }
    }

    /// Adds one more figure.
    pub fn figure(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.figures.push(Figure { name, value, unit });
    }

    /// Draws the conclusions; the last step of making a report.
    #[must_use]
    pub fn concluded(mut self, saturated: bool) -> Self {
        self.clean = self.findings.faults() == 0 && self.unacknowledged == 0 && self.closed == 0;
        let busiest = self.generator_cpu.iter().copied().fold(0.0, f64::max);
        let broker_idles = self.broker.as_ref().is_none_or(|broker| broker.cpu_share < BUSY);
        self.generator_limited = saturated && busiest >= BUSY && broker_idles;
        self
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut rows: Vec<(String, String)> = vec![
            ("scenario".into(), format!("{} ({})", self.scenario, self.setup)),
            (
                "rate".into(),
                format!(
                    "{} {}/s  ({} in {:.2} s)",
                    grouped(self.rate as u64),
                    self.event,
                    grouped(self.events),
                    self.seconds
                ),
            ),
        ];
        for (name, percentiles) in [("latency", &self.latency_us), ("generator late", &self.lateness_us)] {
            if let Some(p) = percentiles {
                let text = format!(
                    "p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} µs",
                    p.p50, p.p90, p.p99, p.p999, p.max
                );
                rows.push((name.into(), text));
            }
        }
        if let Some(broker) = &self.broker {
            let text = format!(
                "{:.3} µs CPU per event, {:.0}% of a core, RSS {} -> {} KiB ({} anonymous)",
                broker.cpu_us_per_event,
                broker.cpu_share * 100.0,
                grouped(broker.rss_kib_before),
                grouped(broker.rss_kib_after),
                grouped(broker.anonymous_kib_after)
            );
            rows.push(("broker".into(), text));
        }
        let shares: Vec<_> =
            self.generator_cpu.iter().map(|share| format!("{:.0}%", share * 100.0)).collect();
        if !shares.is_empty() {
            rows.push(("generator".into(), format!("{} of a core", shares.join(" + "))));
        }
        for figure in &self.figures {
            rows.push((figure.name.replace('_', " "), format!("{:.3} {}", figure.value, figure.unit)));
        }
        rows.push(("verified".into(), self.verdict()));
        if self.generator_limited {
            let text =
                "the generator is the limit: the broker could do more; only its CPU per event says something";
            rows.push(("note".into(), text.into()));
        }
        rows.iter().map(|(name, text)| format!("{name:>18}  {text}\n")).collect()
    }

    /// What verification found, in words.
    pub fn verdict(&self) -> String {
        let f = &self.findings;
        let found: Vec<_> = [
            (f.lost, "lost"),
            (f.duplicated, "duplicated"),
            (f.reordered, "reordered"),
            (f.corrupt, "corrupt"),
            (f.misrouted, "misrouted"),
            (f.wrong_qos, "with the wrong QoS"),
            (self.unacknowledged, "not acknowledged"),
            (self.closed, "connections ended or refused"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", grouped(count)))
        .collect();
        match (found.is_empty(), f.received) {
            (true, 0) => "nothing went wrong".into(),
            (true, received) => format!("all {} deliveries, in order, once, intact", grouped(received)),
            (false, received) => format!("FAILED: {} (of {} received)", found.join(", "), grouped(received)),
        }
    }
}

/// Writes a histogram as an HdrHistogram interval log with one interval (values in ns).
///
/// # Errors
/// The file cannot be written.
pub fn write_histogram_log(
    path: &Path,
    histogram: &Histogram<u64>,
    length: Duration,
) -> Result<(), BenchError> {
    let what = "writing the histogram log";
    let file = File::create(path).map_err(BenchError::io(what))?;
    let mut file = BufWriter::new(file);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("ringmq bench: latency in ns from the scheduled send time")
        .with_start_time(SystemTime::now())
        .begin_log_with(&mut file, &mut serializer)
        .map_err(BenchError::io(what))?;
    log.write_histogram(histogram, Duration::ZERO, length, None)
        .map_err(|e| BenchError::io(what)(std::io::Error::other(format!("{e:?}"))))
}

/// A number with its thousands apart.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn one_loss_fails_the_run_and_shows() {
        let mut report = Report::new("pairs", String::new(), "deliveries", 10, 1.0);
        assert!(report.clone().concluded(true).clean);
        report.findings.lost = 1;
        let report = report.concluded(true);
        assert!(!report.clean && report.verdict().contains("1 lost"));
    }

    #[test]
    fn the_generator_is_the_limit_only_when_it_is_busy_and_the_broker_is_not() {
        let mut report = Report::new("pairs", String::new(), "deliveries", 10, 1.0);
        report.generator_cpu = vec![0.2, 0.99];
        assert!(report.clone().concluded(true).generator_limited);
        assert!(!report.clone().concluded(false).generator_limited);
        let busy = Usage::default();
        report.broker = Some(BrokerUse { cpu_share: 1.0, ..BrokerUse::between(&busy, &busy, 1.0, 1) });
        assert!(!report.concluded(true).generator_limited);
    }
}
