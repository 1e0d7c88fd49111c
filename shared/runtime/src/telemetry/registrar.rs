//! Registers metrics, and keeps a description of each: the registry itself names only metrics that
//! have a value.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Metric, MetricFamily, MetricType};
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// One metric, for its documentation. The metrics page itself omits metrics without a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// For example `revwatch_queue_depth`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// What it counts or measures.
    pub help: String,
}

/// Values that are shown together, from one read of the state. Until the state was read they are
/// absent: a number that starts at zero with every process would look like one that grew.
#[derive(Clone)]
pub struct GaugeSet {
    gauges: IntGaugeVec,
    /// The label values of every series so far, known or not.
    given: Arc<Mutex<BTreeSet<Vec<String>>>>,
}

impl GaugeSet {
    fn new(gauges: IntGaugeVec) -> Self {
        Self {
            gauges,
            given: Arc::default(),
        }
    }

    /// Shows these values, by label values in the order of the labels. A series that was shown
    /// before and is missing now becomes 0: a series that vanishes would look like a failed scrape.
    pub fn show<'a>(&self, values: impl IntoIterator<Item = (Vec<&'a str>, i64)>) {
        let values = values.into_iter();
        self.show_known(values.map(|(labels, value)| (labels, Some(value))), Some(0));
    }

    /// The same of values that may be unknown. Such a series is absent, because 0 would say something else. `missing`
    /// is what a series has that was given before and is missing now.
    pub fn show_known<'a>(
        &self,
        values: impl IntoIterator<Item = (Vec<&'a str>, Option<i64>)>,
        missing: Option<i64>,
    ) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = given.clone();
        for (labels, value) in values {
            let key: Vec<String> = labels.iter().map(|l| (*l).to_owned()).collect();
            self.set(&labels, value);
            left.remove(&key);
            given.insert(key);
        }
        for labels in left {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            self.set(&labels, missing);
        }
    }

    fn set(&self, labels: &[&str], value: Option<i64>) {
        match value {
            Some(value) => self.gauges.with_label_values(labels).set(value),
            // An error means that it was not shown before.
            None => drop(self.gauges.remove_label_values(labels)),
        }
    }
}

/// A share. One of nothing is unknown: it has no series, because 0 would say that all is well.
#[derive(Clone)]
pub struct RatioGauge(GaugeVec);

impl RatioGauge {
    /// Shows the share, or that it is unknown.
    pub fn show(&self, labels: &[&str], share: Option<f64>) {
        match share {
            Some(share) => self.0.with_label_values(labels).set(share),
            // An error means that it was not shown before.
            None => drop(self.0.remove_label_values(labels)),
        }
    }
}

/// Values of the state that never decrease (unless the state is lost), exposed to Prometheus as
/// counters.
#[derive(Clone)]
struct MonotonicGauges(IntGaugeVec);

/// A registry, and the families registered with it.
#[derive(Default)]
pub(super) struct Registrar {
    pub(super) registry: Registry,
    pub(super) families: RefCell<Vec<Family>>,
}

const VALID_NAMES: &str = "metric names and labels are valid: they are written in `metrics.rs`";
const ONCE: &str = "each metric is registered once";

impl Registrar {
    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help))
    }

    pub(super) fn ratio(&self, name: &str, help: &str, labels: &[&str]) -> RatioGauge {
        RatioGauge(self.register(GaugeVec::new(Opts::new(name, help), labels)))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn gauge_set(&self, name: &str, help: &str, labels: &[&str]) -> GaugeSet {
        GaugeSet::new(self.gauges(name, help, labels))
    }

    /// A gauge set that is exposed as counters.
    pub(super) fn counter_set(&self, name: &str, help: &str, labels: &[&str]) -> GaugeSet {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels);
        GaugeSet::new(self.register(gauges.map(MonotonicGauges)).0)
    }

    pub(super) fn seconds(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options))
    }

    pub(super) fn seconds_by(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        label: &str,
    ) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, &[label]))
    }

    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect(VALID_NAMES);
        self.registry
            .register(Box::new(metric.clone()))
            .expect(ONCE);
        // A metric with labels has a family, and so a type, even while it has no value.
        let kind =
            metric
                .collect()
                .first()
                .map_or("untyped", |family| match family.get_field_type() {
                    MetricType::COUNTER => "counter",
                    MetricType::GAUGE => "gauge",
                    MetricType::HISTOGRAM => "histogram",
                    _ => "untyped",
                });
        let family = |desc: &Desc| Family {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        };
        self.families
            .borrow_mut()
            .extend(metric.desc().into_iter().map(family));
        metric
    }
}

impl Collector for MonotonicGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        for family in &mut families {
            family.set_field_type(MetricType::COUNTER);
            for metric in family.mut_metric() {
                let mut counter = Counter::default();
                counter.set_value(metric.get_gauge().get_value());
                let mut counter_set = Metric::from_label(metric.take_label());
                counter_set.set_counter(counter);
                *metric = counter_set;
            }
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_value_is_absent_and_one_that_is_missing_is_what_the_caller_says() {
        let registrar = Registrar::default();
        let gauges = registrar.gauge_set("a_gauge", "A gauge", &["currency"]);
        let shown = || {
            let families = registrar.registry.gather();
            let metrics = families.iter().flat_map(MetricFamily::get_metric);
            let text = |metric: &Metric| {
                let label = metric.get_label()[0].value();
                format!("{label} {}", metric.get_gauge().get_value())
            };
            metrics.map(text).collect::<Vec<_>>().join(", ")
        };
        let (eur, usd) = (vec!["eur"], vec!["usd"]);
        gauges.show_known([(eur.clone(), Some(1)), (usd.clone(), Some(2))], Some(0));
        assert_eq!(shown(), "eur 1, usd 2");
        gauges.show_known([(eur.clone(), None), (usd.clone(), Some(3))], Some(0));
        assert_eq!(shown(), "usd 3");
        // Of nothing, the bound is known.
        gauges.show_known([(usd, Some(3))], Some(0));
        assert_eq!(shown(), "eur 0, usd 3");
        gauges.show_known([(eur, Some(4))], None);
        assert_eq!(shown(), "eur 4");
    }

    #[test]
    fn an_unknown_share_is_not_shown_as_0() {
        for labels in [&[][..], &["24h"]] {
            let registrar = Registrar::default();
            let gauge = registrar.ratio("a_ratio", "A ratio", &["window"][..labels.len()]);
            let shown = || {
                let families = registrar.registry.gather();
                let metrics = families.iter().flat_map(MetricFamily::get_metric);
                let values = metrics.map(|metric| metric.get_gauge().get_value().to_string());
                values.collect::<Vec<_>>().join(" ")
            };
            for (share, expected) in [(None, ""), (Some(0.25), "0.25"), (None, "")] {
                gauge.show(labels, share);
                assert_eq!(shown(), expected);
            }
        }
    }
}
